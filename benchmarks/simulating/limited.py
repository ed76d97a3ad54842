"""Workers and a service with limits, on a counted clock: the real lane, the real pace in a real Redis, the emulator's
own limiters. Modelled: what a way takes (to Redis, to the service, back), and how late a sleeping thread wakes up.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from unittest.mock import patch

from redis import Redis

from benchmarks.simulating.kernel import Kernel
from benchmarks.simulating.parts import CLOCK_OF_REDIS, Uncounted
from emulator.calls import Call
from emulator.errors import Refusal
from emulator.limits import Limits as Enforced
from orchestrator.telemetry.counters import Counters
from vecfleet.errors import RateLimited
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, IdPage, Index, IndexInfo, Kind, Limits, Usage, Written
from workers.lane import Lane
from workers.leases import Held
from workers.pace import Pace

BEGINS_AT = 1_800_000_000.0
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Way:
    """The seconds that a way takes: at least `least`, `more` on the mean; one of `rarely` up to `stall` besides."""

    least: float
    more: float
    rarely: float = 0.0
    stall: float = 0.0

    def drawn(self, chance: random.Random) -> float:
        stalled = chance.random() * self.stall if chance.random() < self.rarely else 0.0
        return self.least + chance.expovariate(1 / self.more) + stalled


@dataclass(frozen=True, slots=True)
class Network:
    """The ways of a call. `megabyte`: what a megabyte takes on its way out."""

    redis: Way
    waking: Way
    out: Way
    service: Way
    back: Way
    megabyte: float = 0.0015


# As measured on two cores: half of the calls reach the emulator 0.8 ms after they were let go, one of fifty after 4 ms.
HERE = Network(
    redis=Way(0.0003, 0.0002),
    waking=Way(0.0001, 0.0002, 0.01, 0.006),
    out=Way(0.0005, 0.0003, 0.03, 0.010),
    service=Way(0.001, 0.0005),
    back=Way(0.0005, 0.0003, 0.03, 0.010),
)
# A service in another place, whose answers differ by tens of milliseconds.
FAR = Network(
    redis=Way(0.0006, 0.0002),
    waking=Way(0.0001, 0.0002, 0.01, 0.006),
    out=Way(0.010, 0.001, 0.02, 0.010),
    service=Way(0.010, 0.008),
    back=Way(0.010, 0.001, 0.02, 0.010),
)


@dataclass
class Counted:
    """The service's book: calls carried out and refused since `begin`, and how much they took by their `measure`."""

    begin: float
    measure: Callable[[Call], float]
    carried_out: int = 0
    refused: int = 0
    used: float = 0.0


@dataclass
class World:
    """One simulation. All that is drawn is drawn from the seed."""

    seed: int
    network: Network
    kernel: Kernel = field(default_factory=lambda: Kernel(1))

    asked_redis: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._begins_at = BEGINS_AT + self.chance.random()  # anywhere in a second

    @property
    def now(self) -> float:
        return self._begins_at + self.kernel.now

    def monotonic(self) -> float:
        return self.now

    def pass_by(self, *ways: Way, besides: float = 0.0) -> None:
        self.kernel.sleep(besides + sum(way.drawn(self.chance) for way in ways))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell the pace and the lane this time, and lead the pace to a Redis that is told it too."""
        with ExitStack() as held:
            for module in ("workers.pace.time", "workers.lane.time"):
                held.enter_context(patch(module, self))
            held.enter_context(patch("workers.pace.Redis", _redis_of(self)))
            held.enter_context(patch("workers.calls.random", self.chance))
            yield


class Lease:
    """Stands where a lane has its lease: it lasts, and sleeps in counted time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wait(self, seconds: float) -> None:
        self._world.pass_by(self._world.network.waking, besides=seconds)

    def require(self, seconds: float) -> None: ...


class Service:
    """An index that answers every call alike, and refuses what its limits do not let pass.

    A record's text is its size in an upsert.
    """

    fetch_room = 1_000
    limits = Limits()
    info = IndexInfo("limited", Kind.DENSE, 8, "cosine", host="limited.local")

    def __init__(self, world: World, limits: Enforced, counted: Counted) -> None:
        self._world, self._limits, self._counted = world, limits, counted

    def request_bytes(self, record: Record) -> int:
        return cast(int, record.metadata["bytes"])

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        self._carry_out(Call("list", "limited", namespace))
        return IdPage([], None, Usage())

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        self._carry_out(Call("fetch", "limited", namespace))
        return Fetched({}, Usage())

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        self._carry_out(Call("upsert", "limited", namespace, bytes_in=sum(map(self.request_bytes, records))))
        return Written(len(records))

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        self._carry_out(Call("delete", "limited", namespace, ids=ids))
        return Usage()

    def _carry_out(self, call: Call) -> None:
        network, counted = self._world.network, self._counted
        self._world.pass_by(network.out, besides=call.bytes_in / 1e6 * network.megabyte)
        counts = self._world.kernel.now >= counted.begin
        try:
            self._limits.admit(call, by_metadata=False)
        except Refusal as refusal:
            counted.refused += counts
            self._world.pass_by(network.back)
            raise RateLimited(refusal.message) from refusal
        counted.carried_out += counts
        counted.used += counts * counted.measure(call)
        self._world.pass_by(network.service, network.back)


def lane_of(world: World, pace: Pace, service: Service, share: float) -> Lane:
    index, held, counters = cast(Index, service), cast(Held, Lease(world)), cast(Counters, Uncounted())
    return Lane(index, pace, counters, share, held, deadline_s=20.0)


def _redis_of(world: World) -> type[Redis]:
    class Told(Redis):
        """A Redis whose scripts see the counted time, a short way off."""

        def register_script(self, script: Any) -> Any:
            ours = super().register_script(CLOCK_OF_REDIS + script)

            def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
                way = world.network.redis.drawn(world.chance)
                world.asked_redis += 1
                world.kernel.sleep(way / 2)
                answer = ours(keys=keys, args=[*args, f"{world.now * _US:.0f}"])
                world.kernel.sleep(way / 2)
                return answer

            return run

    return Told


def record_of(size: int) -> Record:
    metadata: Mapping[str, Any] = {"bytes": size}
    return Record("id", b"", metadata=dict(metadata))
