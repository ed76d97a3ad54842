"""Simulate the pace against limiters of two shapes: how much of an allowance is used, and how often it is refused.

    python -m benchmarks.pacing [--seeds 20] [--quick]

Each life is a fleet of 1, 4 or 16 processes that asks for one kind of call as often as it may. The lane, the pace and
its scripts in a private Redis are the real ones, and so are the emulator's limiters; ways take as long as was measured
(`benchmarks/simulating/limited.py`), on a clock that is only counted. A minute counts, after ten seconds.

`beside another client`: it uses a part of the limit that swings between nothing and a half, and neither tells the
other; the fleet is allowed the other half. `far`: a service in another place.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from redis import Redis

from benchmarks.figures import Figure
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from benchmarks.simulating.limited import FAR, HERE, Counted, Network, Service, World, lane_of, record_of
from emulator.calls import Call
from emulator.errors import Refusal
from emulator.limits import Limits as Enforced
from orchestrator.embedded.redis import Redis as RedisServer
from vecfleet.errors import RateLimited
from workers.lane import Lane
from workers.pace import Pace

WARM_UP_S, COUNTED_S = 10.0, 60.0
SHAPES, PROCESSES = ("window", "bucket"), (1, 4, 16)
USED, REFUSED = REACHES["allowance used"], REACHES["answered 429"]
_SWING_S = 20.0  # the other client's use goes up and down once in this time


@dataclass(frozen=True, slots=True)
class Asking:
    """A kind of call. `limits`: the emulator's setting; `per_s`: what it then allows; `threads` a process."""

    name: str
    limits: str
    per_s: float
    threads: int
    once: Callable[[Lane, random.Random], object]
    other: Call  # of the client that is not seen
    measure: Callable[[Call], float] = lambda _: 1.0
    counted_s: float = COUNTED_S

    @property
    def share(self) -> float:
        return float(self.limits.removeprefix("x"))


def _batch(lane: Lane, chance: random.Random) -> object:
    """Write the records of one fetch, each of about 30 kB: six upserts."""
    size = int(30_000 * chance.uniform(0.97, 1.03))
    return lane.upsert("ours", [record_of(size) for _ in range(10_800_000 // size)], lambda: None)


def _deletion(lane: Lane, chance: random.Random) -> object:
    count = 1_000 if chance.random() < 0.75 else chance.randint(100, 1_000)
    return lane.delete("ours", {str(n): record_of(1) for n in range(count)}, lambda: None)


KINDS = (
    Asking("list", "x0.1", 20, 1, lambda lane, _: lane.page("ours"), Call("list", "limited", "ours")),
    Asking("fetch", "x0.1", 10, 8, lambda lane, _: lane.fetch("ours", ["id"]), Call("fetch", "limited", "ours")),
    Asking(
        "calls of upserts",
        "x0.1",
        10,
        8,
        lambda lane, _: lane.upsert("ours", [record_of(1_000)], lambda: None),
        Call("upsert", "limited", "ours", bytes_in=1_000),
    ),
    Asking(
        "bytes of upserts",
        "x1",
        50e6,
        8,
        _batch,
        Call("upsert", "limited", "ours", bytes_in=500_000),
        lambda call: call.bytes_in,
    ),
    # Of one deletion in two seconds many are needed to count refusals by the thousand.
    Asking(
        "ids of deletions",
        "x0.1",
        500,
        4,
        _deletion,
        Call("delete", "limited", "ours", ids=["id"] * 50),
        lambda call: len(call.ids),
        counted_s=600.0,
    ),
)


@dataclass(frozen=True, slots=True)
class Lived:
    """One life: the part of what was allowed that was used, the part of the calls that was refused."""

    used: float
    refused: float
    asked_redis: float


def life(
    redis_url: str,
    seed: int,
    kind: Asking,
    shape: str,
    processes: int,
    network: Network = HERE,
    *,
    beside: bool = False,
) -> Lived:
    """Let a fleet work for the counted time."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    world = World(seed, network)
    enforced = Enforced(kind.limits, shape, clock=lambda: world.now)
    counted = Counted(WARM_UP_S, kind.measure)
    share = kind.share / 2 if beside else kind.share
    with world.told():
        for number in range(processes):
            pace, service = Pace(redis_url), Service(world, enforced, counted)
            for thread in range(kind.threads):
                chance = random.Random(f"{seed} {number} {thread}")
                world.kernel.spawn(_worker(world, lane_of(world, pace, service, share), kind, chance))
        if beside:
            world.kernel.spawn(_other(world, enforced, kind))
        world.kernel.run(lambda: world.kernel.now < WARM_UP_S + kind.counted_s)
    calls = counted.carried_out + counted.refused
    allowed = kind.per_s * kind.counted_s * (0.5 if beside else 1.0)
    return Lived(counted.used / allowed, counted.refused / max(1, calls), world.asked_redis / max(1, calls))


def _worker(world: World, lane: Lane, kind: Asking, chance: random.Random) -> Callable[[], None]:
    def work() -> None:
        world.kernel.sleep(chance.random() * 0.1)
        while True:
            try:
                kind.once(lane, chance)
            except RateLimited as error:  # the batch is put off
                world.kernel.sleep(error.retry_after or 1.0)
            world.kernel.sleep(chance.uniform(0.002, 0.01))

    return work


def _other(world: World, enforced: Enforced, kind: Asking) -> Callable[[], None]:
    """Another client: evenly spaced calls, of a rate that swings between nothing and half of the limit."""
    amount = kind.measure(kind.other)

    def work() -> None:
        while True:
            part = 0.25 * (1 + math.sin(2 * math.pi * world.kernel.now / _SWING_S))
            world.kernel.sleep(min(1.0, amount / max(1e-9, part * kind.per_s)))
            with suppress(Refusal):
                enforced.admit(kind.other, by_metadata=False)

    return work


def simulated(seeds: int, quick: bool) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, RedisServer(Path(folder), durable=False) as redis:
        for kind in KINDS:
            for shape in SHAPES:
                for processes in (4,) if quick else PROCESSES:
                    name = f"{kind.name}, {shape}, {processes} processes"
                    yield from _of(name, [life(redis.url, seed, kind, shape, processes) for seed in range(seeds)])
                name = f"{kind.name}, {shape}, beside another client"
                lives = [life(redis.url, seed, kind, shape, 4, beside=True) for seed in range(seeds)]
                yield from _of(name, lives)
                if not quick:
                    lives = [life(redis.url, seed, kind, shape, 4, FAR) for seed in range(seeds)]
                    yield from _of(f"{kind.name}, {shape}, far", lives)


def _of(name: str, lives: list[Lived]) -> Iterator[Figure]:
    for what, reach, samples in (
        ("used of what is allowed", USED, [one.used for one in lives]),
        ("answered 429", REFUSED, [one.refused for one in lives]),
    ):
        spread = (min(samples), max(samples))
        yield Figure(f"{name}: {what}", mean(samples), "×", reach, tuple(samples), spread)
    yield Figure(f"{name}: asked Redis", mean(one.asked_redis for one in lives), "a call")


def measure(quick: bool) -> Iterator[Figure]:
    return simulated(2 if quick else 20, quick)


def main() -> int:
    arguments = parser("python -m benchmarks.pacing", __doc__)
    arguments.add_argument("--seeds", type=int, default=20, help="lives of each case")
    given = arguments.parse_args()
    return report({"pacing": lambda quick: simulated(given.seeds, quick)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
