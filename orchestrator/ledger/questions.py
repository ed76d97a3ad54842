"""Which vectors both sides are asked about, and which of their answers went from one to the other."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator import manifests
from orchestrator import tables as t
from orchestrator.ledger.checks import ASKED_AT_ONCE
from orchestrator.states import BatchKind, BatchState

_B, _TALLY = t.batch.c, t.batch_tally.c


@dataclass(frozen=True, slots=True)
class Question:
    """A record that a move wrote to a target: ask both sides for its neighbours."""

    move_id: int
    record_id: str


def questions(connection: sa.Connection, target_id: int, salt: str, sample: int, part: int) -> list[Question]:
    """The `part`th `ASKED_AT_ONCE` of a target's sample: spread over its copy batches, and the same each time."""
    shuffled = sa.func.md5(sa.cast(_TALLY.batch_id, sa.Text) + salt)
    rows = connection.execute(
        sa.select(_TALLY.batch_id, _TALLY.records, _TALLY.members, _B.move_id)
        .join(t.batch, _B.id == _TALLY.batch_id)
        .where(_TALLY.target_id == target_id)
        .order_by(shuffled)
        .limit(sample)
    ).all()
    places = ((row, nth) for nth in range(sample) for row in rows if nth < row.records)
    mine = list(islice(places, part * ASKED_AT_ONCE, min((part + 1) * ASKED_AT_ONCE, sample)))
    held = _manifests(connection, sorted({row.batch_id for row, _ in mine}))
    found = []
    for row, nth in mine:
        ids = manifests.select(manifests.unpack(held[row.batch_id]), row.members)
        found.append(Question(row.move_id, ids[_mixed(nth, len(ids))]))
    return found


def _mixed(nth: int, count: int) -> int:
    """From the middle outwards: the first ids of a batch often belong to one document."""
    return (count // 2 + nth) % count


def _manifests(connection: sa.Connection, batch_ids: Sequence[int]) -> dict[int, bytes]:
    rows = connection.execute(sa.select(_B.id, _B.manifest).where(_B.id.in_(batch_ids)))
    return {row.id: row.manifest for row in rows}


def went(
    connection: sa.Connection, move_id: int, target_id: int, listings: range, record_ids: Sequence[str]
) -> set[str]:
    """Which of these ids of a source this move wrote to this target.

    The copy batches that one pass listed are runs of ids in byte order, so the one that may hold an id is the last of
    them to begin at or before it.
    """
    asked = sa.func.unnest(sa.cast(list(record_ids), ARRAY(sa.Text))).column_valued("asked")
    by_batch: dict[int, set[str]] = defaultdict(set)
    for listed_in in listings:
        holder = (
            sa.select(_B.id)
            .where(_B.move_id == move_id, _B.kind == BatchKind.COPY, _B.state != BatchState.SPLIT)
            .where(_B.listed_in == listed_in, _B.first_id <= asked)
            .order_by(_B.first_id.desc())
            .limit(1)
            .scalar_subquery()
        )
        for row in connection.execute(sa.select(asked.label("id"), holder.label("batch"))):
            by_batch[row.batch].add(row.id)
    rows = connection.execute(
        sa.select(_B.id, _B.manifest, _TALLY.members)
        .join(t.batch_tally, _TALLY.batch_id == _B.id)
        .where(_B.id.in_([batch_id for batch_id in by_batch if batch_id is not None]), _TALLY.target_id == target_id)
    )
    return {
        record_id
        for row in rows
        for record_id in set(manifests.select(manifests.unpack(row.manifest), row.members)) & by_batch[row.id]
    }
