"""The fleet against loops that people write: seed 000's, and the official SDK's over REST and gRPC with threads.

    python -m benchmarks.peers [--quick] [--peer module:function]

All copy the same namespaces on one emulator, in turns; the order is reversed each round, and the emulator says whether
each copy is byte-equal. Then they do it all once more, with every answer a little late. The loops prove
nothing and remember nothing: who kills one begins anew. The fleet has two processes and the loops have one, so the CPU
of a record stands beside the rate.

Last come the tools of others (`benchmarks/tools.py`), which are not loops of ours: their work differs from the fleet's.

Another loop is plugged in by a function that is given an `Order` and gives a function: a namespace's name → how many of
its records it copied.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import sdk_loops, seed_loop, tools
from benchmarks.data import Load, fill, require_byte_equal
from benchmarks.figures import Figure
from benchmarks.fleet import Running, copied, drop, late, running
from benchmarks.loops import Order, client_of, record_bytes, timed
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report

JUDGED = 3_072  # the dimension that the reach was set for
# Some seconds of work for the fleet, as the loops have their window.
WHOLE, QUICK = ((1_536, 80_000), (JUDGED, 60_000)), ((JUDGED, 24_000),)
ROUNDS, QUICK_ROUNDS = 5, 3
DELAYS_MS = (0, 30)
SPREAD = 12
FLEET = "fleet"

Peer = Callable[[Order], Callable[[str], int]]
PEERS: dict[str, Peer] = {
    "seed 000's loop": seed_loop.peer,
    "SDK loop, REST": sdk_loops.rest,
    "SDK loop, gRPC": sdk_loops.grpc,
}


def measure(quick: bool) -> Iterator[Figure]:
    return measured(quick, PEERS)


def measured(quick: bool, peers: Mapping[str, Peer]) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for dimension, records in QUICK if quick else WHOLE:
            load = Load(f"peers-{dimension}", dimension, records, spread=SPREAD)
            fill(fleet.settings, load)
            _round(fleet, load, {}, 0)  # connections, and the pace, which begins at half
            for delay_ms in DELAYS_MS:
                with late(fleet, load.index, delay_ms):
                    rounds = [_round(fleet, load, peers, number) for number in range(QUICK_ROUNDS if quick else ROUNDS)]
                yield from _figures(rounds, dimension, delay_ms)
            client_of(fleet).indexes.delete(load.index)
        yield from tools.measured(fleet, quick)


# Records a second, and milliseconds of CPU for one.
Rates = dict[str, tuple[float, float]]


def _round(fleet: Running, load: Load, peers: Mapping[str, Peer], number: int) -> Rates:
    """Everyone's turn. A loop's window may end before its last namespace."""
    sources, client = list(load.namespaces), client_of(fleet)

    def of_fleet() -> tuple[float, float]:
        times = copied(fleet, load.index, sources, FLEET)
        _checked(fleet, load, FLEET, len(sources))
        return times.per_second, times.cpu_ms

    def of_loop(peer: Peer) -> tuple[float, float]:
        order = Order(client, load.index, "peer", record_bytes(client, load))
        times = timed(peer(order), sources)
        _checked(fleet, load, "peer", times.namespaces)
        return times.per_second, times.cpu_ms

    turns: dict[str, Callable[[], tuple[float, float]]] = {FLEET: of_fleet}
    turns |= {name: lambda peer=peer: of_loop(peer) for name, peer in peers.items()}  # type: ignore[misc]
    found = {name: turns[name]() for name in (turns if number % 2 == 0 else reversed(turns))}
    return {name: found[name] for name in turns}


def _checked(fleet: Running, load: Load, creator: str, namespaces: int) -> None:
    sources = list(load.namespaces)[:namespaces]
    require_byte_equal(fleet.settings, load, creator, sources)
    drop(fleet, load.index, sources, creator)


def _figures(rounds: list[Rates], dimension: int, delay_ms: int) -> Iterator[Figure]:
    about = f"{dimension:,}-d, {f'answers {delay_ms} ms late' if delay_ms else 'answers at once'}"
    for name in rounds[0]:
        yield Figure.of(f"{name}, {about}", "records/s", [one[name][0] for one in rounds])
        yield Figure.of(f"CPU of {name}, {about}", "ms/record", [one[name][1] for one in rounds])
        if name != FLEET:
            reach = REACHES.get(f"fleet / {name}") if dimension == JUDGED else None
            ratios = [one[FLEET][0] / one[name][0] for one in rounds]
            yield Figure.of(f"fleet / {name}, {about}", "×", ratios, reach)


def named(place: str) -> Peer:
    """The function at `module:function`."""
    module, _, function = place.partition(":")
    found: Peer = getattr(import_module(module), function)
    return found


def main() -> int:
    arguments = parser("python -m benchmarks.peers", __doc__)
    arguments.add_argument("--peer", action="append", default=[], metavar="MODULE:FUNCTION", help="one more loop")
    given = arguments.parse_args()
    peers = PEERS | {place: named(place) for place in given.peer}
    return report({"peers": lambda quick: measured(quick, peers)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
