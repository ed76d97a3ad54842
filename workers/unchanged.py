"""Tell without reading records that a later pass need not read a source, or a batch of one, again. Read-only.

A version is compared for equality alone. Of rows it was read before the records and never lags: whatever was committed
after that first look, by however old a transaction, makes it differ, and so does a row that is gone. Of a namespace of
Pinecone it is the number of the newest write that a query shows, and each read lags by itself: a source is left alone
only if its last reading began one freshness wait after a look first showed that number (`core.freshness`). The look of
this pass may lag as a reading of this pass may, so two quiet passes are a wait apart as ever.

Only a whole copy is left as it is: no record of it was parked, left behind or erased, or counts as identical to another
source's, and of a batch none is gone either.
"""

import struct

from orchestrator.core.freshness import reading_shows
from orchestrator.ledger import passes
from vecfleet.errors import WrongKind
from vecfleet.records import Record
from vecfleet.stores.base import Conditional, Kind
from workers.work import Work

UNTOLD = -1  # stands for a newest write whose number the service did not give; real numbers are not below 0
_LEFT = ("gone", "parked", "left_behind")


def begin_reading(work: Work) -> bool:
    """Begin the pass's reading of the source; return False if nobody wrote to it since it was read.

    The look comes before any reading, and is on record with the copy batches that it opens again, in one transaction.
    A worker that dies before that changed nothing. After it, the next one goes on with the listing.
    """
    job, move = work.job, work.move
    if not _may_ask(work):
        return True
    version = _version(work)
    shown = reading_shows(move.source_version_at, move.source_read_at, job.source_lag_s)
    if version is not None and version == move.source_version and shown and _is_whole(work) and job.passes > 1:
        return False
    with work.database.begin() as connection:
        passes.begin_reading(connection, work.lease, version)
    return True


def _may_ask(work: Work) -> bool:
    """Say whether a look is due, once for each listing. Under `dual` a pass compares both sides, so it reads both."""
    began = (work.lease.found or {}).get(passes.BEGAN)
    if work.job.plan.policies.writers != "delta" or began:
        return False
    return work.move.last_id is None if work.job.passes == 1 else work.move.source_version is not None


def _is_whole(work: Work) -> bool:
    move = work.move
    left = move.parked or move.left_behind or move.erased or move.identical
    return work.job.doubted_at is None and not left


def _texts_change(work: Work) -> bool:
    """Say whether texts are read from a table: what is made of a record then changes without a write to its source."""
    embedding = work.job.plan.policies.embedding
    return embedding is not None and embedding.rows is not None and embedding.rows.table is not None


def _version(work: Work) -> str | None:
    """Return what any write to the source changes, as its store tells it in one request; None if it tells nothing."""
    if _texts_change(work):
        return None
    version = work.source.versions(work.move.source, None)
    if version is not None:
        return version
    number = newest_write(work)
    return None if number == UNTOLD else str(number)


def newest_write(work: Work) -> int:
    """Return the number of the newest write that a query of the source shows, or UNTOLD.

    It is unknown for pods, folders and sparse indexes: their answers may lack the number.
    """
    info, version = work.source.index.info, work.source.version(work.move.source)
    if version is not None:
        return version
    if isinstance(work.source.index, Conditional) or info.kind in (Kind.POD, Kind.SPARSE) or not info.dimension:
        return UNTOLD
    any_vector = Record("", struct.pack(f"<{info.dimension}f", 1.0, *[0.0] * (info.dimension - 1)))
    try:
        answer, _ = work.source.ask(work.move.source, any_vector, top_k=1)
    except WrongKind:  # the index answers no queries
        return UNTOLD
    return UNTOLD if answer.lsn is None else answer.lsn


def versions_of(work: Work) -> str | None:
    """Return the versions of the batch's rows; None where no pass would ask, or the store tells none.

    Under `dual` a pass compares both sides, so it reads both.
    """
    if work.job.plan.policies.writers != "delta" or _texts_change(work):
        return None
    return work.source.versions(work.move.source, work.ids)


def is_unchanged(work: Work, versions: str | None) -> bool:
    """Say whether the batch was copied whole and no row of it has changed since."""
    found = work.lease.found or {}
    known = work.job.passes > 1 and work.job.doubted_at is None
    if not known or versions is None or found.get("versions") != versions:
        return False
    whole = found.get("written", 0) + found.get("identical", 0) == len(work.ids)
    return whole and not any(found.get(name) for name in _LEFT)
