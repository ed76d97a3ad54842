"""Releases of the SDK work with the emulator, each in an environment of its own, which `make compat` makes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.conftest import ENVIRONMENTS

HERE = Path(__file__).resolve().parent
RELEASES = (HERE / "releases.txt").read_text("utf-8").split()
WITHOUT_GRPC = ("5.0.1",)  # it cannot be installed with gRPC
WAYS = [(release, "rest") for release in RELEASES]
WAYS += [(release, "grpc") for release in RELEASES if release not in WITHOUT_GRPC]
STEPS = ["control plane", "data plane", "namespaces", "deleted"]


@pytest.mark.parametrize(("release", "transport"), [*WAYS, ("ours", "rest"), ("ours", "grpc")])
def test_a_release_of_the_sdk_works_with_the_emulator(
    emulated: Callable[..., str], release: str, transport: str
) -> None:
    python = Path(sys.executable) if release == "ours" else ENVIRONMENTS / release / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment with SDK {release}; `make compat` makes it")
    smoke = [str(python), str(HERE / "smoke.py"), emulated(), transport]
    ended = subprocess.run(smoke, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    has_namespaces = release == "ours" or int(release.split(".")[0]) >= 7
    assert ended.stdout.splitlines() == [step for step in STEPS if has_namespaces or step != "namespaces"]
