"""Hosts made of network namespaces: each has its own loopback address and one virtual cable to this machine."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.core.states import BatchKind, BatchState
from orchestrator.embedded.process import Process
from tests.stories.launching import REPOSITORY
from tests.stories.world import World

START_S = 120.0
SKEWED_CLOCK = Path(__file__).with_name("skewed_clock.c")
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
        self._clock: list[str] = []
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
        return ["ip", "netns", "exec", self.name, *self._clock]

    def shift_clock(self, seconds: int) -> None:
        """Let what is started here from now on read another time of day. Needs a C compiler."""
        library = self._folder / "skewed_clock.so"
        if not library.exists():
            command = ["cc", "-shared", "-fPIC", "-o", str(library), str(SKEWED_CLOCK), "-ldl"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_S)
        self._clock = ["env", f"LD_PRELOAD={library}", f"CLOCK_SHIFT_SECONDS={seconds}"]

    def start_worker(self, world: World) -> Process:
        """Start a worker here, one of the world's."""
        name = f"worker{len(world.workers) + 1}"
        world.workers.append(self.launch(world, name, "worker"))
        return world.workers[-1]

    def launch(self, world: World, name: str, *words: str, **settings: str) -> Process:
        """Type `vecfleet WORDS` here, with the world's settings and these."""
        command = [*self.within(), sys.executable, "-m", "orchestrator", *words]
        log = world.folder / f"{name}.log"
        return Process.launch(name, command, log=log, cwd=REPOSITORY, env={**world.env, **settings})

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


@contextmanager
def hosts_of(world: World, count: int) -> Iterator[list[Host]]:
    """Make hosts from which the world's services are reached. Skips the test where that is not permitted."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    addresses = [world.env[name] for name in ("DATABASE_URL", "REDIS_URL", "PINECONE_CONTROLLER_HOST")]
    data_plane = [info.host for info in world.fleet.store.indexes()]
    ports = {urlsplit(address if "//" in address else f"//{address}").port for address in (*addresses, *data_plane)}
    made: list[Host] = []
    try:
        for number in range(1, count + 1):
            made.append(Host(world.folder, number, sorted(port for port in ports if port)))
        yield made
    finally:
        world.close()
        for host in made:
            host.remove()


def at_work(world: World, job_id: int, kind: BatchKind | None = None) -> dict[int, set[int]]:
    """Return the batches on lease by the pid of the worker that has them."""
    by_pid: dict[int, set[int]] = {}
    for batch in world.batches(job_id, BatchState.LEASED, kind=kind):
        by_pid.setdefault(int(batch["lease_owner"].split(":")[1]), set()).add(batch["id"])
    return by_pid


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=60)
