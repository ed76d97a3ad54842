"""Ids that a check found missing, extra, different or changed, packed; and a few of each kind to show.

A check of a hundred million records may find as many differences. They go to the job table in runs, and a repair reads
them back one copy batch at a time.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from orchestrator.core import manifests
from orchestrator.core.model import Finding
from orchestrator.core.reading import Since
from orchestrator.core.states import CheckState
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from orchestrator.ledger.deletions import UNTOUCHED

_D, _F, _T = t.difference.c, t.finding.c, t.target.c
# Ids to show of each kind: enough to see what is wrong. The counts stay exact.
SAMPLE_IDS = 20
# Kinds of finding that copying again repairs. Extra and changed records are not ours.
_REPAIRABLE = ("missing", "different")


def note(connection: sa.Connection, target_id: int, check_id: int, findings: Sequence[Finding]) -> None:
    """Keep all findings, packed by copy batch and kind, and up to `SAMPLE_IDS` of each kind and target to show."""
    packed: dict[tuple[int | None, str], dict[str, int | None]] = defaultdict(dict)
    for finding in findings:
        packed[finding.copy_id, finding.kind][finding.record_id] = finding.digest
    if not packed:
        return
    connection.execute(
        sa.insert(t.difference),
        [
            {
                "target_id": target_id,
                "check_id": check_id,
                "copy_id": copy_id,
                "kind": kind,
                "size": len(seen),
                "manifest": manifests.pack(list(seen)),
                "digests": _pack_digests(seen),
            }
            for (copy_id, kind), seen in packed.items()
        ],
    )
    _show(connection, target_id, findings)


def _pack_digests(seen: Mapping[str, int | None]) -> bytes | None:
    told = {record_id: digest for record_id, digest in seen.items() if digest is not None}
    return manifests.pack_digests(list(seen), told) if len(told) == len(seen) else None


def _show(connection: sa.Connection, target_id: int, findings: Sequence[Finding]) -> None:
    shown: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(sa.select(_F.kind, _F.record_id).where(_F.target_id == target_id)):
        shown[row.kind].add(row.record_id)
    rows = []
    for finding in findings:
        known = shown[finding.kind]
        if len(known) < SAMPLE_IDS and finding.record_id not in known:
            known.add(finding.record_id)
            rows.append(
                {
                    "target_id": target_id,
                    "copy_id": finding.copy_id,
                    "kind": finding.kind,
                    "record_id": finding.record_id,
                    "parts": finding.parts,
                }
            )
    if rows:
        connection.execute(sa.insert(t.finding), rows)


def forget(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    """Delete the findings on these targets, which are checked again."""
    connection.execute(sa.delete(t.finding).where(among(_F.target_id, target_ids)))
    connection.execute(sa.delete(t.difference).where(among(_D.target_id, target_ids)))


def remove_ids(connection: sa.Connection, target_id: int, ids: Collection[str]) -> None:
    """Delete the findings on these ids, which were erased, also from the samples of the target's verdict."""
    verdict = connection.execute(sa.select(_T.verdict).where(_T.id == target_id)).scalar_one() or {}
    samples = [sample for sample in verdict.get("samples", ()) if sample["id"] not in ids]
    if len(samples) < len(verdict.get("samples", ())):
        kept = verdict | {"samples": samples}
        connection.execute(sa.update(t.target).where(_T.id == target_id).values(verdict=kept))
    connection.execute(sa.delete(t.finding).where(_F.target_id == target_id, among(_F.record_id, ids)))
    for row in connection.execute(sa.select(_D.id, _D.manifest, _D.digests).where(_D.target_id == target_id)).all():
        record_ids = manifests.unpack(row.manifest)
        seen = manifests.select_digests(record_ids, None, row.digests)
        rest = [record_id for record_id in record_ids if record_id not in ids]
        if not rest:
            connection.execute(sa.delete(t.difference).where(_D.id == row.id))
        elif len(rest) < len(record_ids):
            digests = _pack_digests({record_id: seen.get(record_id) for record_id in rest})
            packed = {"size": len(rest), "manifest": manifests.pack(rest), "digests": digests}
            connection.execute(sa.update(t.difference).where(_D.id == row.id).values(**packed))


def forget_changed(connection: sa.Connection, job_id: int, check_id: int | None = None) -> None:
    """Delete the findings of changed records, of the whole job or of one check that runs again."""
    targets = sa.select(_T.id).where(_T.job_id == job_id)
    changed = sa.delete(t.difference).where(_D.kind == "changed", _D.target_id.in_(targets))
    if check_id is not None:
        connection.execute(changed.where(_D.check_id == check_id))
        return
    connection.execute(changed)
    connection.execute(sa.delete(t.finding).where(_F.kind == "changed", _F.target_id.in_(targets)))


def samples(connection: sa.Connection, target_ids: Sequence[int]) -> dict[int, list[Finding]]:
    """Return the ids to show, by target."""
    by_target: dict[int, list[Finding]] = {}
    query = sa.select(t.finding).where(among(_F.target_id, target_ids)).order_by(_F.kind, _F.record_id)
    for row in connection.execute(query):
        by_target.setdefault(row.target_id, []).append(Finding(row.kind, row.record_id, row.copy_id, row.parts))
    return by_target


def copies_to_repair(connection: sa.Connection, job_id: int) -> list[int]:
    """Return the copy batches to repair: some of their records are missing or different at a mismatched target.

    Skip authoritative targets, because records that differ there are newer.
    """
    rows = connection.execute(
        sa.select(_D.copy_id)
        .join(t.target, _T.id == _D.target_id)
        .join(t.batch, sa.and_(t.batch.c.id == _D.copy_id, UNTOUCHED))
        .where(_T.job_id == job_id, _T.check_state == CheckState.MISMATCHED, _T.authority == "source")
        .where(_D.copy_id.is_not(None), _D.kind.in_(_REPAIRABLE))
        .distinct()
        .order_by(_D.copy_id)
    )
    return list(rows.scalars())


def to_repair(connection: sa.Connection, copy_id: int) -> dict[str, int | None]:
    """Return the ids of a copy batch's records to repair, as at the target, with the short digest that the check saw.

    None for an id: the check saw no record, or its digest is not on record.
    """
    repairable = (_D.copy_id == copy_id, _D.kind.in_(_REPAIRABLE))
    seen: dict[str, int | None] = {}
    # A survey may miss a record that a reading saw: the reading's "different" comes last and counts.
    query = sa.select(_D.manifest, _D.digests).where(*repairable).order_by(_D.kind.desc())
    for row in connection.execute(query):
        ids = manifests.unpack(row.manifest)
        seen |= dict.fromkeys(ids) | manifests.select_digests(ids, None, row.digests)
    return seen


_WHAT = {"missing": "removed", "different": "changed", "extra": "added", "changed": "changed"}


def since(connection: sa.Connection, job_id: int, limit: int) -> Since:
    """Count records that changed since they were proven or written, and name at most `limit` of them.

    The last verification found those at targets that readers moved to; a rollback found the others.
    """
    told = sa.and_(_T.job_id == job_id, _T.authority == "target", _T.verdict.is_not(None))
    totals = connection.execute(
        sa.select(
            *(
                sa.func.coalesce(sa.func.sum(sa.cast(_T.verdict[kind].astext, sa.BigInteger)), 0).label(kind)
                for kind in ("missing", "different", "extra")
            )
        ).where(told)
    ).one()
    first = (
        sa.select(_T.namespace, _D.kind, _D.manifest)
        .join(t.target, _T.id == _D.target_id)
        .where(sa.or_(told, sa.and_(_T.job_id == job_id, _D.kind == "changed")))
        .order_by(_T.namespace, _D.id)
        .limit(limit)
    )
    rows = connection.execute(first).all() if limit else []
    # Both the survey and the reading name a missing record.
    shown = dict.fromkeys(
        (row.namespace, record_id, _WHAT[row.kind])
        for row in rows
        for record_id in manifests.unpack(row.manifest)[:limit]
    )
    return Since(
        int(totals.missing),
        int(totals.different) + counted(connection, job_id, "changed"),
        int(totals.extra),
        tuple(shown)[:limit],
    )


def counted(connection: sa.Connection, job_id: int, kind: str) -> int:
    """Return the number of a job's records of this kind."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_D.size), 0)).join(t.target, _T.id == _D.target_id)
    return int(connection.execute(query.where(_T.job_id == job_id, _D.kind == kind)).scalar_one())


def listed(connection: sa.Connection, job_id: int, kind: str, limit: int) -> list[tuple[str, str]]:
    """Return the first `limit` records of this kind as (namespace, id)."""
    query = (
        sa.select(_T.namespace, _D.manifest)
        .join(t.target, _T.id == _D.target_id)
        .where(_T.job_id == job_id, _D.kind == kind)
        .order_by(_T.namespace, _D.id)
        .limit(limit)
    )
    records = [
        (row.namespace, record_id)
        for row in connection.execute(query)
        for record_id in manifests.unpack(row.manifest)[:limit]
    ]
    return records[:limit]
