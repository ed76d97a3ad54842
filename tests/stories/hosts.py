"""Hosts made of network namespaces: each has its own loopback address and one virtual cable to this machine."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.embedded.process import Process
from tests.stories.launching import REPOSITORY

START_S = 120.0
LOOPBACK = "127.0.0.1"


def why_not() -> str | None:
    """Return why no network namespace can be made here; None where one can."""
    name = f"vecfleet-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "exec", name, "true")
        _ip("netns", "delete", name)
    except FileNotFoundError:
        return "there is no `ip` (iproute2) here"
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    return None


class Host:
    """A host whose loopback address leads to the services of this machine, over a cable that can be cut."""

    def __init__(self, folder: Path, number: int, ports: Sequence[int]) -> None:
        self.name = f"vf{os.getpid()}h{number}"
        self._cable = f"vf{os.getpid() % 100_000}c{number}"
        self._folder = folder
        here, there = (f"10.{200 + number}.{os.getpid() % 250}.{side}" for side in (1, 2))
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("address", "add", f"{here}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{there}/30", "dev", "eth0")):
            _ip("-n", self.name, *words)
        _ip("-n", self.name, "link", "set", "eth0", "up")
        self._carriers = [
            self._carry("outside", [], here, LOOPBACK, ports),
            self._carry("inside", self.within(), LOOPBACK, here, ports),
        ]

    def within(self) -> list[str]:
        """Return what a command begins with to run on this host; it keeps its pid."""
        return ["ip", "netns", "exec", self.name]

    def cut_off(self) -> None:
        """Nothing passes any more, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def heal(self) -> None:
        _ip("link", "set", self._cable, "up")

    def remove(self) -> None:
        """The cable goes with the namespace."""
        for carrier in self._carriers:
            carrier.stop(patience_s=10)
        _ip("netns", "delete", self.name)

    def _carry(self, side: str, begin: list[str], listen: str, connect: str, ports: Sequence[int]) -> Process:
        log = self._folder / f"{self.name}-{side}.log"
        command = [*begin, sys.executable, "-m", "tests.stories.forwarding", listen, connect, *map(str, ports)]
        process = Process.launch(side, command, log=log, cwd=REPOSITORY, env=os.environ)
        process.wait_until(lambda: "ready" in log.read_text(), START_S)
        return process


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=60)
