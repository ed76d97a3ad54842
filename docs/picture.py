"""The pictures of the page in README.md and docs/page.md, of a real job: `python -m docs.picture`.

The demo's own job on a private stack, photographed while it runs. So that there is something to see, the emulator is
asked to take its time over each call. Needs what `make browser` installs.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

from orchestrator.cli.demo import CREATOR, INDEX
from tests.browser.chromium import FLAGS, missing, program

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZE = {"width": 1_180, "height": 1_000}
COLOURS = ("light", "dark")
DELAYS_MS = {"fetch": 700, "upsert": 700}
PROVEN = 9  # of 30 namespaces: enough of each colour
PATIENCE_S = 180.0
NOT_OURS = ("DATABASE_URL", "REDIS_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST")


def vecfleet(environment: Mapping[str, str], *words: str) -> str:
    command = [sys.executable, "-P", "-m", "orchestrator", *words]
    return subprocess.run(
        command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def photograph(environment: Mapping[str, str]) -> None:
    at = environment["PINECONE_CONTROLLER_HOST"]
    for operation, delay in DELAYS_MS.items():
        rule = {"operation": operation, "delay_ms": delay}
        httpx.post(f"{at}/_emulator/faults", json=rule).raise_for_status()
    plan = f"{environment['VECFLEET_HOME']}/plan.yaml"
    vecfleet(environment, "plan", "creators", INDEX, "--creator", CREATOR, "--default", "twin", "--conflicts", "keep",
             "--exclusive", "--out", plan)  # fmt: skip
    vecfleet(environment, "apply", plan, "--no-backup")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program(), args=list(FLAGS))
        windows = []
        for colour in COLOURS:
            window = browser.new_context(color_scheme=colour, viewport=SIZE).new_page()
            window.goto(f"{environment['WEB_URL']}/login#{environment['OPERATOR_TOKEN']}")
            window.wait_for_url(f"{environment['WEB_URL']}/")
            window.goto(f"{environment['WEB_URL']}/jobs/1")
            windows.append((colour, window))
        proven = f"() => document.querySelectorAll('#grid > i.v').length >= {PROVEN}"
        for colour, window in windows:
            window.wait_for_function(proven, timeout=PATIENCE_S * 1_000)
            window.screenshot(path=str(PICTURES / f"job-{colour}.png"))
        browser.close()


def main() -> None:
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    began = time.monotonic()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        own = dict.fromkeys(NOT_OURS, "none") | {
            "VECFLEET_HOME": f"{folder}/home",
            "VECFLEET_ROOT": folder,
            "WORKER_THREADS": "2",
        }
        try:
            lines = vecfleet(own, "up", "--detach")
            joined = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", lines, re.MULTILINE))
            photograph(own | joined)
        finally:
            vecfleet(own, "down", "--erase", "--yes")
    sys.stdout.write(f"wrote {len(COLOURS)} pictures to {PICTURES} in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
