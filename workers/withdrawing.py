"""Withdraw records: remove from the targets those that an earlier pass wrote and that the source no longer has.

Removes only records that are still as this job wrote them. The intent is committed before each call. If the worker dies
after that commit, the repeated batch finds the records gone.
"""

from collections.abc import Mapping, Sequence

from orchestrator.core import manifests
from orchestrator.core.model import Target, TargetTally
from orchestrator.ledger import batches, cleanup, moves
from vecfleet.digests import record_digest
from workers import caps
from workers.vectors import makes
from workers.work import Work


def withdraw(work: Work, tallies: Sequence[TargetTally], gone: Sequence[str]) -> int:
    """Remove records that an earlier pass wrote and that the source no longer has, or now sends elsewhere.

    Return how many. Changed records stay, and so does every record of a target that readers were moved to: these show
    as extra.
    """
    policies = work.job.plan.policies
    if not (policies.quiet_passes or policies.prefilled) or (work.job.passes == 1 and not gone):
        return 0
    if work.job.doubted_at is not None:  # the source may lack records because of a clean-up since
        return 0
    kept = {tally.target_id: set(manifests.select(work.ids, tally.members)) for tally in tallies}
    withdrawn: list[tuple[Target, dict[str, int]]] = []
    for target in work.copy_targets:
        if not target.is_authoritative:
            recorded = work.recorded(target.id)
            digests = _left_unrecorded(work, target, [source_id for source_id in gone if source_id not in recorded])
            if work.job.passes > 1:
                left = {
                    source_id: digest
                    for source_id, digest in recorded.items()
                    if source_id not in kept.get(target.id, ())
                }
                digests |= {work.placer.target_id(source_id): digest for source_id, digest in left.items()}
            withdrawn.append((target, digests))
    count = sum(len(digests) for _, digests in withdrawn)
    if count:
        caps.require_few_withdrawn(work, count)
    for target, digests in withdrawn:
        _remove(work, target, digests)
    return count


def _left_unrecorded(work: Work, target: Target, gone: Sequence[str]) -> dict[str, int]:
    """Return records that a crashed attempt of this batch wrote and that the source no longer has: id → short digest.

    No tally names these records. They are known by their content and, in a shared target, by the ids this move took.
    In the first pass over an index that the service filled, each is what it made of a record that was deleted since.
    """
    ids = [work.placer.target_id(source_id) for source_id in gone]
    if ids and target.checks_ids:
        with work.database.begin() as connection:
            ids = sorted(moves.taken(connection, target.id, ids, work.move.id))
    held = work.target.fetch(target.namespace, ids) if ids else {}
    return {
        record_id: manifests.short(record_digest(record))
        for record_id, record in held.items()
        if (work.job.plan.policies.prefilled and work.job.passes == 1) or makes(work, record, target.namespace)
    }


def _remove(work: Work, target: Target, digests: Mapping[str, int]) -> None:
    def before() -> None:
        with work.database.begin() as connection:
            cleanup.intend(connection, work.lease, work.lands_within_s(work.job.target_lag_s), [target.id])
        work.wrote.add(target.id)

    held = work.target.fetch(target.namespace, list(digests)) if digests else {}
    ours = {
        record_id: held[record_id]
        for record_id in held
        if manifests.short(record_digest(held[record_id])) == digests[record_id]
    }
    changed = work.target.delete(target.namespace, ours, before)
    free = sorted((digests.keys() - held.keys() | ours.keys()) - set(changed))
    if target.checks_ids and free:  # not earlier: a record that another move then wrote would have been removed
        with work.database.begin() as connection:
            batches.require(connection, work.lease)
            moves.release_ids(connection, target.id, work.move.id, free)
