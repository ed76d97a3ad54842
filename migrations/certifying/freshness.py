"""Questions about what shows when, and about the numbers of writes."""

from collections.abc import Callable
from functools import partial

from migrations.certifying.question import Asker, Question, Scratch, vector
from migrations.certifying.wire import Reply

_WRITTEN, _INDEXED = "x-pinecone-request-lsn", "x-pinecone-max-indexed-lsn"
_SHOWS, _SHOWS_NOT = "within the freshness wait", "not within the freshness wait"
_LOOKS = 5


def _ids(asker: Asker, namespace: str) -> list[str]:
    return [item["id"] for item in asker.wire.list_ids(namespace).body.get("vectors") or ()]


def _when(shows: bool) -> str:
    return _SHOWS if shows else _SHOWS_NOT


def _write_fetched(asker: Asker) -> str:
    asker.wire.upsert("shows-fetched", [vector("a")])
    return _when(asker.eventually(lambda: "a" in asker.fetched("shows-fetched", "a")))


def _write_listed(asker: Asker) -> str:
    asker.wire.upsert("shows-listed", [vector("a")])
    return _when(asker.eventually(lambda: _ids(asker, "shows-listed") == ["a"]))


def _deletion_fetched(asker: Asker) -> str:
    asker.written("gone-fetched", vector("a"), vector("b"))
    asker.wire.delete("gone-fetched", ["a"])
    return _when(asker.eventually(lambda: "a" not in asker.fetched("gone-fetched", "a", "b")))


def _deletion_listed(asker: Asker) -> str:
    asker.written("gone-listed", vector("a"), vector("b"))
    asker.wire.delete("gone-listed", ["a"])
    return _when(asker.eventually(lambda: _ids(asker, "gone-listed") == ["b"]))


def _stays_shown(asker: Asker) -> str:
    asker.written("stays", vector("a"))
    later = [vector("a", 9, 9, 9, 9)]
    asker.wire.upsert("stays", later)

    def first() -> float:
        return float(asker.fetched("stays", "a")["a"]["values"][0])

    if not asker.eventually(lambda: first() == 9.0):
        return _SHOWS_NOT
    back = sum(first() != 9.0 for _ in range(_LOOKS))
    return f"{back} of {_LOOKS} reads went back" if back else "in every read after"


def _stats(asker: Asker) -> str:
    asker.written("in-stats", vector("a"), vector("b"), vector("c"))

    def count() -> int | None:
        named = (asker.wire.stats().body.get("namespaces") or {}).get("in-stats") or {}
        told = named.get("vectorCount")
        return int(told) if told is not None else None

    return _when(asker.eventually(lambda: count() == 3))


def _lsn_written(asker: Asker) -> str:
    first = asker.wire.upsert("lsn", [vector("a")]).lsn(_WRITTEN)
    second = asker.wire.upsert("lsn", [vector("b")]).lsn(_WRITTEN)
    if first is None or second is None:
        return "none"
    return "a larger one each time" if second > first else "not a larger one each time"


def _lsn_deleted(asker: Asker) -> str:
    asker.written("lsn-deleted", vector("a"))
    return "one" if asker.wire.delete("lsn-deleted", ["a"]).lsn(_WRITTEN) is not None else "none"


def _lsn_queried(asker: Asker) -> str:
    written = asker.written("lsn-queried", vector("a")).lsn(_WRITTEN)

    def told() -> int | None:
        return asker.wire.query("lsn-queried", vector("a")["values"]).lsn(_INDEXED)

    if told() is None:
        return "none"
    reached = asker.eventually(lambda: (told() or 0) >= (written or 0))
    return "one that reaches the write's" if reached else "one that stays below the write's"


def _lsn_grows(asker: Asker) -> str:
    def told() -> int:
        return asker.wire.query("lsn-grows", vector("a")["values"]).lsn(_INDEXED) or 0

    def grew(before: int) -> bool:
        return told() > before

    asker.written("lsn-grows", vector("a", k="old"), vector("b"))
    asker.eventually(partial(grew, 0))
    writes: dict[str, Callable[[], Reply]] = {
        "an upsert": lambda: asker.wire.upsert("lsn-grows", [vector("c")]),
        "an update": lambda: asker.wire.update("lsn-grows", "a", {"k": "new"}),
        "a deletion": lambda: asker.wire.delete("lsn-grows", ["b"]),
    }
    told_by = []
    for name, write in writes.items():
        before = told()
        write()
        if asker.eventually(partial(grew, before)):
            told_by.append(name)
    return ", ".join(told_by) or "nothing"


QUESTIONS = (
    Question(
        "write-shows-in-fetch",
        "When does a fetch show what was written?",
        _SHOWS,
        "no check, and no deletion, rests on a read before FRESHNESS_WAIT_SECONDS are over",
        Scratch.VECTORS,
        _write_fetched,
    ),
    Question(
        "write-shows-in-list",
        "When does a list show what was written?",
        _SHOWS,
        "a source is listed for good once FRESHNESS_WAIT_SECONDS are over",
        Scratch.VECTORS,
        _write_listed,
    ),
    Question(
        "deletion-shows-in-fetch",
        "When does a fetch no longer show what was deleted?",
        _SHOWS,
        "a clean-up and an erasure are confirmed by reads",
        Scratch.VECTORS,
        _deletion_fetched,
    ),
    Question(
        "deletion-shows-in-list",
        "When does a list no longer name what was deleted?",
        _SHOWS,
        "a clean-up and an erasure are confirmed by lists",
        Scratch.VECTORS,
        _deletion_listed,
    ),
    Question(
        "reads-go-forward",
        "Is a write that one fetch showed shown by those after it?",
        "in every read after",
        "what a proof has seen at a target is there",
        Scratch.VECTORS,
        _stays_shown,
    ),
    Question(
        "stats-show",
        "When do the statistics count what was written?",
        _SHOWS,
        "counts of the service are hints, and a job's page says how far they are behind",
        Scratch.VECTORS,
        _stats,
    ),
    Question(
        "lsn-of-upserts",
        "Which number does an upsert over REST tell of its write?",
        "a larger one each time",
        "shadow reads wait by it until a query has seen a write",
        Scratch.VECTORS,
        _lsn_written,
    ),
    Question(
        "lsn-of-deletions",
        "Which number does a deletion over REST tell?",
        "one",
        "shadow reads wait by it until a query has seen a deletion",
        Scratch.VECTORS,
        _lsn_deleted,
    ),
    Question(
        "lsn-of-queries",
        "Which number does a query tell of the writes that it has seen?",
        "one that reaches the write's",
        "a query by which two sides are compared has seen the last write of both",
        Scratch.VECTORS,
        _lsn_queried,
    ),
    Question(
        "lsn-grows",
        "Which writes let the number grow that a query tells?",
        "an upsert, an update, a deletion",
        "a source whose number stays is not read again, and may be deleted whole",
        Scratch.VECTORS,
        _lsn_grows,
    ),
)
