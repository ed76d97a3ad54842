"""A migration in miniature by our own clients: records are copied, proven, copied back, and proven again."""

import random
from collections.abc import Callable, Sequence
from functools import partial

from migrations.certifying.question import DIMENSION, Asker, Question, Scratch, bits, kind_of
from vecfleet.digests import Tally
from vecfleet.records import Record, Sparse
from vecfleet.stores import rules
from vecfleet.stores.base import Index, Kind, Usage

_RECORDS = 150  # more than one page of ids
_PROVEN = f"{_RECORDS} records proven there, {_RECORDS} back"
_SEED = 210


def _records(kind: Kind) -> list[Record]:
    chance = random.Random(_SEED)
    return [_record(f"record-{number:03}", kind, chance) for number in range(_RECORDS)]


def _record(id: str, kind: Kind, chance: random.Random) -> Record:
    values = b"" if kind is Kind.SPARSE else bits([chance.gauss(0, 1) for _ in range(DIMENSION)])
    sparse = None
    if kind is not Kind.DENSE:
        entries = sorted(chance.sample(range(2**32), 3))
        sparse = Sparse(b"".join(index.to_bytes(4, "little") for index in entries), bits([0.5, 0.25, chance.random()]))
    return Record(id, values, sparse, {"text": f"the text of {id}", "page": float(len(id)), "tags": ["a", "b"]})


def _there_and_back(scratch: Scratch, transport: str) -> Callable[[Asker], str]:
    """Return the question whether records survive a migration by this transport, to another namespace and back."""

    def ask(asker: Asker) -> str:
        lane = asker.lanes[transport]
        old, new, back = (f"{transport}-{part}" for part in ("old", "new", "back"))
        records = [lane.normalise(record) for record in _records(kind_of(scratch))]
        wanted = Tally.of(records)
        _write(asker, lane, old, records)
        there = _copied(asker, lane, old, new, wanted)
        returned = _copied(asker, lane, new, back, wanted)
        return f"{there} records proven there, {returned} back"

    return ask


def _copied(asker: Asker, lane: Index, source: str, target: str, wanted: Tally) -> int:
    """Copy a namespace, and return how many records the target then holds if their digests are those wanted, else 0."""
    asker.eventually(lambda: Tally.of(_read(asker, lane, source)) == wanted)
    _write(asker, lane, target, _read(asker, lane, source))
    proven = asker.eventually(lambda: Tally.of(_read(asker, lane, target)) == wanted)
    return wanted.count if proven else 0


def _write(asker: Asker, lane: Index, namespace: str, records: Sequence[Record]) -> None:
    most = Usage(requests=1, write_units=2 * rules.write_units(sum(map(rules.billed_bytes, records))))
    asker.paid(most, lambda: lane.upsert(namespace, records))


def _read(asker: Asker, lane: Index, namespace: str) -> list[Record]:
    """Return the records of a namespace that its list names, at most a little more than there are to be."""
    ids: list[str] = []
    token: str | None = None
    while len(ids) <= _RECORDS:
        page = asker.paid(_PAGE, partial(lane.list_ids, namespace, token))
        ids += page.ids
        token = page.next_token
        if token is None:
            break
    most = Usage(requests=2, read_units=rules.fetch_units(len(ids)))
    return [*asker.paid(most, lambda: lane.fetch(namespace, ids)).records.values()]


_PAGE = Usage(requests=1, read_units=1.0)
_BECAUSE = "this is what a migration does"

QUESTIONS = tuple(
    Question(
        f"migration-{scratch}-{transport}",
        f"Do {_RECORDS} records survive a migration over {name}, there and back, by their digests?",
        _PROVEN,
        _BECAUSE,
        scratch,
        _there_and_back(scratch, transport),
    )
    for scratch in (Scratch.VECTORS, Scratch.HYBRID, Scratch.SPARSE, Scratch.DOCUMENTS)
    for transport, name in (("grpc", "gRPC"), ("rest", "REST"))
    if (scratch, transport) != (Scratch.DOCUMENTS, "grpc")
)
