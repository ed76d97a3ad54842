"""Results of a target's checks, gathered for its verdict, and the records that both sides are queried about."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.plan import Policies
from orchestrator.core import manifests
from orchestrator.core.agreement import Summary
from orchestrator.core.model import TargetTally
from orchestrator.core.states import CHECKING, BatchKind, BatchState, CheckState
from orchestrator.core.verdicts import CheckEvidence
from orchestrator.ledger import checks, differences, moves
from orchestrator.ledger import tables as t
from orchestrator.ledger.checks import ASKED_AT_ONCE
from orchestrator.ledger.database import among

_T, _B, _TALLY = t.target.c, t.batch.c, t.batch_tally.c
_ASKED = ("overlap", "drift", "old_ms", "new_ms", "old_recall", "new_recall")


def judgeable(connection: sa.Connection, job_id: int, policies: Policies) -> list[CheckEvidence]:
    """Return the evidence of every target whose check batches are all done."""
    targets = moves.targets_of_job(connection, job_id, _T.check_state == CheckState.CHECKING, _T.open_checks == 0)
    ids = [target.id for target in targets]
    if not ids:
        return []
    expected = checks.expected_of(connection, ids)
    figures = _figures(connection, ids)
    samples = differences.samples(connection, ids)
    queries, unasked = _answers(connection, ids)
    nothing = TargetTally(0, 0, 0, 0, None)
    return [
        CheckEvidence(
            target=target,
            expected=expected.get(target.id, nothing),
            found_count=int(figures[target.id].counted or 0),
            found_digest=int(figures[target.id].digest or 0),
            listed_count=_maybe_int(figures[target.id].listed),
            listed_ids_digest=_maybe_int(figures[target.id].ids_digest),
            surveys=figures[target.id].surveys,
            # Both the survey and the reading name a missing record.
            missing=max(int(figures[target.id].unlisted or 0), int(figures[target.id].unread or 0)),
            extra=int(figures[target.id].extra or 0),
            different=int(figures[target.id].different or 0),
            samples=tuple(samples.get(target.id, ())),
            level=target.check_level or policies.verify,  # type: ignore[arg-type]
            counted=_maybe_int(figures[target.id].told),
            listings=int(figures[target.id].listings or 1),
            set_aside=int(figures[target.id].set_aside or 0),
            added=int(figures[target.id].added or 0),
            queries=tuple(queries.get(target.id, ())),
            unasked=unasked.get(target.id),
            least_overlap=policies.query_overlap,
            gate=policies.embedding.gate if policies.embedding is not None else None,
        )
        for target in targets
        if target.id in figures
    ]


def _figures(connection: sa.Connection, target_ids: Sequence[int]) -> dict[int, sa.Row[Any]]:
    def figure(name: str, kind: BatchKind) -> Any:
        return sa.func.sum(sa.cast(_B.found[name].astext, sa.Numeric)).filter(_B.kind == kind)

    rows = connection.execute(
        sa.select(
            _B.target_id,
            sa.func.count().filter(_B.kind == BatchKind.SURVEY).label("surveys"),
            figure("count", BatchKind.VERIFY).label("counted"),
            (figure("digest", BatchKind.VERIFY) % checks.MODULUS).label("digest"),
            figure("count", BatchKind.SURVEY).label("listed"),
            figure("ids_digest", BatchKind.SURVEY).label("ids_digest"),
            figure("missing", BatchKind.SURVEY).label("unlisted"),
            figure("missing", BatchKind.VERIFY).label("unread"),
            figure("extra", BatchKind.SURVEY).label("extra"),
            figure("different", BatchKind.VERIFY).label("different"),
            figure("told", BatchKind.SURVEY).label("told"),
            figure("listings", BatchKind.SURVEY).label("listings"),
            figure("set_aside", BatchKind.SURVEY).label("set_aside"),
            figure("added", BatchKind.SURVEY).label("added"),
        )
        .where(among(_B.target_id, target_ids), _B.kind.in_(CHECKING), _B.state == BatchState.DONE)
        .group_by(_B.target_id)
    )
    return {row.target_id: row for row in rows}


def _answers(
    connection: sa.Connection, target_ids: Sequence[int]
) -> tuple[dict[int, list[Mapping[str, Any]]], dict[int, str]]:
    """Return the answers of both sides, and why a target could not be queried."""
    queries: dict[int, list[Mapping[str, Any]]] = {}
    unasked: dict[int, str] = {}
    asked = sa.and_(among(_B.target_id, target_ids), _B.kind == BatchKind.QUERY, _B.state == BatchState.DONE)
    for row in connection.execute(sa.select(_B.target_id, _B.found).where(asked).order_by(_B.target_id, _B.seq)):
        queries.setdefault(row.target_id, []).extend(row.found.get("queries", ()))
        if row.found.get("unasked"):
            unasked[row.target_id] = row.found["unasked"]
    return queries, unasked


def asked(connection: sa.Connection, job_id: int) -> Summary | None:
    """Sum up the last answers of both sides of a job, over all targets; None if no question was asked."""
    elements = sa.func.jsonb_array_elements(_B.found["queries"])
    question = elements.table_valued(sa.column("value", JSONB), joins_implicitly=True).c.value
    each = (
        sa.select(*(sa.cast(question[name].astext, sa.Double).label(name) for name in _ASKED))
        .select_from(t.batch)
        .where(_B.job_id == job_id, _B.kind == BatchKind.QUERY, _B.state == BatchState.DONE)
        .subquery()
        .c
    )
    comparable = each.overlap.is_not(None)
    row = connection.execute(
        sa.select(
            sa.func.count().label("asked"),
            sa.func.count(each.overlap).label("compared"),
            sa.func.count().filter(each.new_ms.is_(None)).label("refused"),
            sa.func.count()
            .filter(each.new_ms.is_not(None), each.overlap.is_(None), each.new_recall.is_(None))
            .label("pointless"),
            sa.func.min(each.overlap).label("overlap_worst"),
            sa.func.avg(each.overlap).label("overlap_mean"),
            sa.func.coalesce(sa.func.max(each.drift).filter(comparable), 0.0).label("drift_worst"),
            sa.func.coalesce(sa.func.avg(each.drift).filter(comparable), 0.0).label("drift_mean"),
            *(
                summed(each[f"{side}_recall"]).label(f"{side}_recall_{name}")
                for side in ("old", "new")
                for name, summed in (("worst", sa.func.min), ("mean", sa.func.avg))
            ),
            *(
                sa.func.coalesce(sa.func.percentile_cont(share).within_group(each[f"{side}_ms"]), 0.0).label(
                    f"{side}_p{share * 100:.0f}_ms"
                )
                for side in ("old", "new")
                for share in (0.5, 0.95)
            ),
        )
    ).one()
    return Summary(**row._mapping) if row.asked else None


def _maybe_int(value: Any) -> int | None:
    return None if value is None else int(value)


@dataclass(frozen=True, slots=True)
class SampledRecord:
    """A record that a move wrote to a target. Both sides are asked for its nearest records."""

    move_id: int
    record_id: str


def questions(connection: sa.Connection, target_id: int, salt: str, sample: int, part: int) -> list[SampledRecord]:
    """Return part `part` (`ASKED_AT_ONCE` records) of a target's sample, spread over its copy batches.

    Repeated calls return the same records.
    """
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
    sampled = []
    for row, nth in mine:
        ids = manifests.select(manifests.unpack(held[row.batch_id]), row.members)
        sampled.append(SampledRecord(row.move_id, ids[_mixed(nth, len(ids))]))
    return sampled


def _mixed(nth: int, count: int) -> int:
    """Return a position that starts at the middle: the first ids of a batch often belong to one document."""
    return (count // 2 + nth) % count


def _manifests(connection: sa.Connection, batch_ids: Sequence[int]) -> dict[int, bytes]:
    rows = connection.execute(sa.select(_B.id, _B.manifest).where(among(_B.id, batch_ids)))
    return {row.id: row.manifest for row in rows}


def went(
    connection: sa.Connection, move_id: int, target_id: int, listings: range, record_ids: Sequence[str]
) -> set[str]:
    """Return the ids of a source that this move wrote to this target.

    The copy batches of one pass are runs of ids in byte order, so the last batch that begins at or before an id may
    hold that id.
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
        .where(among(_B.id, [batch_id for batch_id in by_batch if batch_id is not None]), _TALLY.target_id == target_id)
    )
    return {
        record_id
        for row in rows
        for record_id in set(manifests.select(manifests.unpack(row.manifest), row.members)) & by_batch[row.id]
    }
