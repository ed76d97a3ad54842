"""Roll back before clean-up: remove from the targets what the job wrote and nobody changed. Nothing else.

First every written batch is compared (read-only); only then is anything removed. The intent is committed before each
removal; a repeated batch finds what it removed absent, which is what it wants. A changed record stays where it is. None
is asked for twice: after a removal that was answered only its effect is looked for.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core import manifests
from orchestrator.ledger import batches, cleanup, moves, rollback
from vecfleet.digests import record_digest
from vecfleet.errors import Changed
from vecfleet.records import Record
from workers.cleaning import wait_for_deletion
from workers.placing import place_all
from workers.work import NotProven, Work


@dataclass
class _Standing:
    """What stands at the targets under the ids of one batch: as we wrote it, or changed since. By target id."""

    ours: dict[int, dict[str, Record]] = field(default_factory=lambda: defaultdict(dict))
    changed: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    namespaces: dict[int, str] = field(default_factory=dict)


def compare_batch(work: Work) -> dict[str, Any]:
    """Count what is no longer what we wrote. Read-only."""
    standing = _compare(work)
    with work.database.begin() as connection:
        rollback.note_changed(connection, work.lease, standing.changed)
    return {"changed": sum(len(ids) for ids in standing.changed.values())}


def undo_batch(work: Work) -> dict[str, Any]:
    """Delete from the targets what is still as we wrote it."""
    standing = _compare(work)
    asked: set[int] = set() if work.lease.answered_at is None else set((work.lease.found or {}).get("asked", ()))
    for target_id, ours in standing.ours.items():
        if target_id in asked:
            continue

        def before(target_id: int = target_id) -> None:
            asked.add(target_id)
            with work.database.begin() as connection:
                within_s = work.lands_within_s(work.job.target_lag_s)
                cleanup.intend(connection, work.lease, within_s, [target_id])
                batches.note_found(connection, work.lease, {"asked": sorted(asked)})
            work.wrote.add(target_id)

        for changed in work.target.delete(standing.namespaces[target_id], ours, before):
            del ours[changed]
    left = 0
    for target_id, ours in standing.ours.items():
        left += len(work.target.fetch(standing.namespaces[target_id], list(ours)))
    if left:
        wait_for_deletion(work, work.job.target_lag_s, f"{left} removed records are still answered")
        raise NotProven(f"{left} records are still there after their removal")
    return {"removed": sum(map(len, standing.ours.values()))}


def drop_namespace(work: Work) -> dict[str, Any]:
    """Delete a target namespace that we created, if nothing is left in it: one empty page may be a page that lags."""
    namespace = work.target_row.namespace
    if work.target_row.is_authoritative or work.job.doubted_at is not None:
        return {"dropped": False}  # an application may have written there what is nowhere else
    version = work.target.version(namespace)
    if work.lease.answered_at is not None:
        return {"dropped": True}  # what is there by now is somebody else's
    if work.target.page(namespace).ids:
        if work.job.changed_records is None:
            work.look_again(f"{namespace} still lists ids")
        return {"dropped": False}
    if not work.lease.intended:  # else that was asked before, and what is there now came by us
        work.look_again(f"{namespace} lists no ids, as it should; one more look once reads cannot lag any more")

    def before() -> None:
        with work.database.begin() as connection:
            cleanup.intend(connection, work.lease, work.lands_within_s(work.job.target_lag_s), [work.target_row.id])

    try:
        work.target.delete_namespace(namespace, version, before)
    except Changed:  # somebody wrote there since
        return {"dropped": False}
    return {"dropped": True}


def _compare(work: Work) -> _Standing:
    with work.database.begin() as connection:
        targets = moves.targets_of_batch(connection, work.copy_id)
        copied = batches.is_copied(connection, work.copy_id)
    at_source = work.source.fetch(work.move.source, work.ids)
    placed_at_source, _ = place_all(work.placer, at_source)
    placed = {one.record.id: one for one in placed_at_source.values()}
    written = {tally.target_id: manifests.select(work.ids, tally.members) for tally in work.tallies}
    standing = _Standing()
    for target in targets:
        # A batch that did not finish may have written any of its ids.
        candidates = written.get(target.id, []) if copied else work.ids
        ids = [work.placer.target_id(record_id) for record_id in candidates]
        if target.checks_ids:
            with work.database.begin() as connection:
                mine = moves.taken(connection, target.id, ids, work.move.id)
            ids = [record_id for record_id in ids if record_id in mine]
        standing.namespaces[target.id] = target.namespace
        # What was written there, as far as the source still has the record: removing its last copy is never undoing.
        held_at_source = {
            work.placer.target_id(record_id): digest
            for record_id, digest in work.recorded(target.id).items()
            if record_id in at_source
        }
        for record_id, record in _held(work, target.namespace, ids).items():
            one, digest = placed.get(record_id), record_digest(record)
            as_written = held_at_source.get(record_id) == manifests.short(digest)
            ours = as_written or (one is not None and one.target == target.namespace and one.digest == digest)
            if ours:
                standing.ours[target.id][record_id] = record
            else:
                standing.changed[target.id].append(record_id)
    return standing


def _held(work: Work, namespace: str, ids: list[str]) -> dict[str, Record]:
    """What the target holds of these. An id that is not answered counts as absent only after the freshness wait."""
    held = work.target.fetch(namespace, ids) if ids else {}
    absent = [record_id for record_id in ids if record_id not in held]
    if absent:
        work.look_again(f"{len(absent)} of {len(ids)} ids are not answered by {namespace}")
        held |= work.target.fetch(namespace, absent)
    return held
