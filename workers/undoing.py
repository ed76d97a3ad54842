"""Roll back before clean-up: remove from the targets the records that the job wrote and nobody changed. Nothing else.

Every written batch is compared first (read-only); only then is anything removed. The intent is committed before each
removal. A repeated batch counts absent records as removed. A changed record stays where it is. No removal is sent
twice: once it was answered, only its effect is checked.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core import manifests
from orchestrator.ledger import batches, cleanup, moves, rollback
from vecfleet.digests import record_digest
from vecfleet.errors import Changed
from vecfleet.records import Record
from workers.cleaning import require_deletion_shown
from workers.placing import place_all
from workers.vectors import place
from workers.work import NotProven, Work


@dataclass
class _Standing:
    """The records at the targets with the ids of one batch, by target: `ours` are as we wrote them, others changed."""

    ours: dict[int, dict[str, Record]] = field(default_factory=lambda: defaultdict(dict))
    changed: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    namespaces: dict[int, str] = field(default_factory=dict)


def compare_batch(work: Work) -> dict[str, Any]:
    """Count the records that are no longer what we wrote. Read-only."""
    standing = _compare(work)
    with work.database.begin() as connection:
        rollback.note_changed(connection, work.lease, standing.changed)
    return {"changed": sum(len(ids) for ids in standing.changed.values())}


def undo_batch(work: Work) -> dict[str, Any]:
    """Delete from the targets the records that are still as we wrote them."""
    standing = _compare(work)
    answered: set[int] = set() if work.lease.answered_at is None else set((work.lease.found or {}).get("answered", ()))
    for target_id, ours in standing.ours.items():
        if target_id in answered:
            continue

        def before(target_id: int = target_id) -> None:
            with work.database.begin() as connection:
                within_s = work.lands_within_s(work.job.target_lag_s)
                cleanup.intend(connection, work.lease, within_s, [target_id])
            work.wrote.add(target_id)

        for changed in work.target.delete(standing.namespaces[target_id], ours, before):
            del ours[changed]
        answered.add(target_id)
        with work.database.begin() as connection:
            batches.note_found(connection, work.lease, {"answered": sorted(answered)})
    left = 0
    for target_id, ours in standing.ours.items():
        left += len(work.target.fetch(standing.namespaces[target_id], list(ours)))
    if left:
        require_deletion_shown(work, work.job.target_lag_s, f"{left} removed records are still answered")
        raise NotProven(f"{left} records are still there after their removal")
    return {"removed": sum(map(len, standing.ours.values()))}


def drop_namespace(work: Work) -> dict[str, Any]:
    """Delete a target namespace that we created, if nothing is left in it. One empty page may be a page that lags."""
    namespace = work.target_row.namespace
    if work.target_row.is_authoritative or work.job.doubted_at is not None:
        return {"dropped": False}  # an application may have written records that are nowhere else
    version = work.target.version(namespace)
    if work.lease.answered_at is not None:
        return {"dropped": True}  # any records there by now are somebody else's
    if work.target.page(namespace).ids:
        if work.job.changed_records is None:
            work.look_again(f"{namespace} still lists ids")
        return {"dropped": False}
    if not work.lease.intended:  # else an earlier attempt looked, and records there now are ours
        work.look_again(f"{namespace} lists no ids, as it should; one more look once reads cannot lag any more")

    def before() -> None:
        with work.database.begin() as connection:
            cleanup.intend(connection, work.lease, work.lands_within_s(work.job.target_lag_s), [work.target_row.id])

    try:
        work.target.delete_namespace(namespace, version, before)
    except Changed:  # somebody wrote to the namespace since
        return {"dropped": False}
    return {"dropped": True}


def _compare(work: Work) -> _Standing:
    with work.database.begin() as connection:
        targets = moves.targets_of_batch(connection, work.copy_id)
        copied = batches.is_copied(connection, work.copy_id)
    at_source = work.source.fetch(work.move.source, work.ids)
    written = {tally.target_id: manifests.select(work.ids, tally.members) for tally in work.tallies}
    standing = _Standing()
    for target in targets:
        # A batch that did not finish may have written any of its ids.
        candidates = written.get(target.id, []) if copied else work.ids
        ids = [work.placer.target_id(record_id) for record_id in candidates]
        if target.checks_ids:
            with work.database.begin() as connection:
                own_ids = moves.taken(connection, target.id, ids, work.move.id)
            ids = [record_id for record_id in ids if record_id in own_ids]
        standing.namespaces[target.id] = target.namespace
        # Written records that the source still has. Rolling back never removes a last copy.
        held_at_source = {
            work.placer.target_id(record_id): digest
            for record_id, digest in work.recorded(target.id).items()
            if record_id in at_source
        }
        held = _held(work, target.namespace, ids)
        digests = {record_id: record_digest(record) for record_id, record in held.items()}
        unlike = {
            record_id
            for record_id, digest in digests.items()
            if held_at_source.get(record_id) != manifests.short(digest)
        }
        # Only these are placed anew: no text is paid for in order to be taken back.
        asked = {
            source_id: record for source_id, record in at_source.items() if work.placer.target_id(source_id) in unlike
        }
        if work.job.plan.policies.embedding is not None:
            asked = _alike_but_for_vectors(work, asked, held)
        now = {placement.record.id: placement for placement in place(work, asked)[0].values()}
        for record_id, record in held.items():
            placement = now.get(record_id)
            as_now = placement is not None and (placement.target, placement.digest) == (
                target.namespace,
                digests[record_id],
            )
            if record_id not in unlike or as_now:
                standing.ours[target.id][record_id] = record
            else:
                standing.changed[target.id].append(record_id)
    return standing


def _alike_but_for_vectors(work: Work, asked: Mapping[str, Record], held: Mapping[str, Record]) -> dict[str, Record]:
    """Return the records that the target may hold as the source has them now. The model is asked about no other."""
    alike: dict[str, Record] = {}
    for source_id, placement in place_all(work.placer, asked)[0].items():
        there = held.get(placement.record.id)
        if there is not None and work.placer.with_values(placement, there.values).digest == record_digest(there):
            alike[source_id] = asked[source_id]
    return alike


def _held(work: Work, namespace: str, ids: list[str]) -> dict[str, Record]:
    """Return the records of these ids that the target holds. An id counts as absent only after the freshness wait."""
    held = work.target.fetch(namespace, ids) if ids else {}
    absent = [record_id for record_id in ids if record_id not in held]
    if absent:
        work.look_again(f"{len(absent)} of {len(ids)} ids are not answered by {namespace}")
        held |= work.target.fetch(namespace, absent)
    return held
