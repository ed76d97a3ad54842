"""Clean up: delete a source only after reading both sides again and finding every record of it at its target.

A reading counts only if it could already show the last write that the plan permitted (`core.freshness`). The intent to
delete is committed before each deletion, with the readings that it rests on. A worker that dies before that commit
changed nothing. If it dies after, the batch waits until the deletion has taken effect or never will. The next worker
finds some records gone, proves the others again and goes on; the listing at the end confirms the deletion.

A failed proof parks the batch with its reason and deletes nothing. If a proof is too old to delete a whole namespace,
both sides are read again. If that takes too long once more, the records are deleted by their ids, which costs write
units by size.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from orchestrator.core import manifests
from orchestrator.core.freshness import fresh_from, next_look_s
from orchestrator.ledger import checks, cleanup, deletions
from vecfleet.digests import Tally, record_digest
from vecfleet.records import Record
from vecfleet.stores.base import Conditional, Kind
from workers import caps
from workers.doubting import require_at_targets
from workers.old_names import is_our_alias, leave_alias
from workers.placing import Placed
from workers.unchanged import UNTOLD, newest_write
from workers.vectors import place_unproven
from workers.work import Later, NotProven, NotWhole, Work

# Copy batches whose manifests are read at once: some thousand ids in memory.
_PAGE = 50
# Time from the first record read again to the call that deletes the namespace. Changes at the target meanwhile are not
# seen.
# At half the pace some 3 million vectors of 3,072 dimensions are read again in this time.
_PROOF_KEEPS_S = 900.0


def recheck_batch(work: Work) -> dict[str, Any]:
    """Prove that every record of this batch is in its target, equal, before a namespace is deleted whole. Read-only."""
    _require_fresh_reads(work)
    if work.lease.intended and is_our_alias(work):
        return dict(_ProvenBatch({}).found())  # the namespace is deleted: its old name leads to the target
    if work.move.proof_lsn is None:
        last_write = newest_write(work)
        with work.database.begin() as connection:
            cleanup.note_proof_lsn(connection, work.lease, last_write)
    return dict(_prove(work).found())


def remove_batch(work: Work) -> dict[str, Any]:
    """Delete this batch's written ids from the source, each proven right before.

    Once a deletion was answered, it is not sent again: only check that the records are gone. A read may still show an
    older state, and records written since must stay.
    """
    _require_fresh_reads(work)
    proof = None
    if work.lease.answered_at is None:
        proof = _prove(work)
        changed = work.source.delete(work.move.source, proof.records, before=lambda: _intend(work))
        if changed:
            raise NotProven(f"{len(changed)} records of {work.move.source} were written to after their proof and stay")
    written = _written_ids(work)
    left = work.source.fetch(work.move.source, written)
    if left:
        require_deletion_shown(work, work.job.source_lag_s, f"{len(left)} deleted records are still answered")
        raise NotProven(f"{len(left)} records of {work.move.source} are still there after their deletion")
    return (proof.found() if proof else dict(work.lease.found or {})) | {"deleted": len(written)}


def clear_namespace(work: Work) -> dict[str, Any]:
    """Delete the source namespace whole: only if its ids now are exactly those that the rechecks proved.

    If the plan leaves an alias, one request first asks whether the alias exists already. If it does, the namespace is
    deleted: listing the old name shows the target, and a deletion would go through the alias. If the source was deleted
    by ids, list the ids that are left instead.
    """
    _require_fresh_reads(work)
    namespace = work.move.source
    if work.move.clean_mode == "by_ids":
        _require_only_what_stays(work)
        return {"deleted": 0}
    copied = _copied(work)
    if is_our_alias(work):
        return {"deleted": copied.count}
    if work.lease.answered_at is None or work.job.doubted_at is not None:
        _delete_whole(work, copied)
    if _list(work, namespace).count:
        require_deletion_shown(work, work.job.source_lag_s, f"{namespace} is deleted but still lists ids")
        raise NotProven(f"{namespace} still lists ids after its deletion")
    leave_alias(work)
    return {"deleted": copied.count}


def _delete_whole(work: Work, expected: Tally) -> None:
    """Delete the namespace if its ids are the `expected` ones. An earlier attempt may have deleted it."""
    namespace = work.move.source
    version = work.source.version(namespace)
    listed = _list(work, namespace)
    already_deleted = work.lease.intended and listed.count == 0
    if already_deleted and work.job.doubted_at is not None:
        work.look_again(f"{namespace} lists no ids, and whether its deletion was asked for is in doubt")
    if not already_deleted and work.job.doubted_at is not None and listed.count < expected.count:
        # Each recheck found the missing records at their target.
        work.look_again(f"{namespace} lists {listed.count} of {expected.count} ids")
        if listed.count:
            raise NotWhole(f"{namespace} lists {listed.count} of {expected.count} ids", by_ids=True)
        already_deleted = True
    if already_deleted or work.lease.answered_at is not None:
        return
    if listed != expected:
        work.look_again(f"the ids listed in {namespace} are not yet those that were copied")
        raise NotProven(
            f"{namespace} lists {listed.count} ids, which are not the {expected.count} that were copied and proven"
        )
    counted = _require_complete_listing(work, listed.count)
    if expected.count or work.move.proof_lsn is not None:
        _require_fresh_proof(work, version)
    work.source.delete_namespace(namespace, version, before=lambda: _intend_whole(work, listed.count, counted))


def _require_fresh_reads(work: Work) -> None:
    """Raise Later until reads show the last write to the source that the plan permitted. No earlier reading counts."""
    from_ = fresh_from(work.job, work.job.plan.policies)
    if from_ is None:
        raise NotProven("readers were taken back, so applications may write to the source: nothing is deleted")
    left = (from_ - work.lease.leased_at).total_seconds()
    if left > 0:
        raise Later(left, "reads may not show the last write to the source yet")


def _require_complete_listing(work: Work, listed: int) -> int | None:
    """Raise NotWhole if the service counts more records than it lists: the others would be deleted unread.

    Returns the service's count, which costs one request. A count lags, so a difference matters only after the freshness
    wait and another listing. Then the proven records are deleted by ids, and all others stay. A database is not asked:
    its listing is complete, and its count may be an estimate.
    """
    namespace = work.move.source
    if isinstance(work.source.index, Conditional):
        return None
    told = work.source.count(namespace)
    if told > listed:
        why = f"{namespace} lists {listed:,} records, but the service counts {told:,}"
        work.look_again(why)
        raise NotWhole(f"{why}: records that are not listed stay", by_ids=True)
    return told


def _require_only_what_stays(work: Work) -> None:
    """List once after the last deletion by ids. Raise NotProven if records came to the source since it was listed.

    Those records are nowhere else. A record that was meant to stay may be gone: that is not ours to judge. A pod cannot
    list its ids, so nothing is checked there. Memory holds the listed ids, unless they are exactly those meant to stay.
    """
    move = work.move
    if work.source.index.info.kind is Kind.POD:
        return
    listed = _list(work, move.source)
    with work.database.begin() as connection:
        deletions.note_listing(connection, work.lease, work.job, listed=listed.count)
    if listed == _tally(ids for _, ids in _of_copies(work)):
        return
    unknown = {record_id for page in work.source.ids(move.source) for record_id in page}
    listed_now = len(unknown)
    for _, ids in _of_copies(work):
        unknown.difference_update(ids)
    # The job table knows how many ids were gone when they were copied, but not which.
    more = max(len(unknown), listed_now - move.left_behind - move.identical - move.parked)
    if more > 0:
        work.look_again(f"{more} ids are listed in {move.source} beside those that stay there")
        raise NotProven(
            f"{move.source} holds {more} records that were not copied: they came to it since it was listed; "
            f"move them with a plan of their own, then `vecfleet retry {move.job_id} failed`"
        )


def _require_fresh_proof(work: Work, version: int | None) -> None:
    """Raise unless the second reading is recent and the source was not written to since it began.

    Only some services give the number of the last write. If it was given at only one of the two times, the proven
    records may have changed meanwhile. With a `version` the store itself compares, so nothing else is asked.
    """
    namespace, noted = work.move.source, work.move.proof_lsn
    with work.database.once() as connection:
        _require_young_proof(connection, work)
    last_write = newest_write(work) if version is None else version
    if last_write == noted:
        return
    if noted in (None, UNTOLD):
        raise NotWhole(f"the service gives the last write to {namespace} now, but gave none when the reading began")
    if last_write == UNTOLD:
        work.look_again(f"the service no longer gives the last write to {namespace}")
        raise NotProven(f"the service no longer gives the last write to {namespace}: a retry reads it anew")
    if work.lease.intended:
        work.look_again(f"{namespace} was written to, perhaps by our own deletion that is under way")
    raise NotProven(f"{namespace} was written to while it was read again: a retry reads it anew")


def _require_young_proof(connection: sa.Connection, work: Work) -> None:
    age_s, read_from = deletions.oldest_proof(connection, work.move.id)
    if read_from is None and not work.move.written:
        return  # no record was copied, so none had to be read again
    from_ = fresh_from(work.job, work.job.plan.policies)
    if from_ is None or read_from is None or read_from < from_:
        raise NotWhole("its records were read before reads could show the last write to it")
    if age_s > _PROOF_KEEPS_S:
        raise NotWhole(f"its proof was {age_s / 60:.0f} minutes old right before the deletion")


def require_deletion_shown(work: Work, lag_s: float, why: str) -> None:
    """Raise Later until reads must show a deletion that the store answered, in this attempt or an earlier one."""
    answered = work.lease.answered_at
    since = 0.0 if answered is None else (work.lease.leased_at - answered).total_seconds()
    if answered is None or since < lag_s:
        raise Later(next_look_s(since, lag_s, often=work.job.plan.is_small), why)


def _copied(work: Work) -> Tally:
    """Return the tally of the source ids that the move wrote."""
    return _tally(ids for ids, _ in _of_copies(work))


def _tally(runs: Iterable[Iterable[str]]) -> Tally:
    return sum((Tally.of_ids(ids) for ids in runs), Tally())


def _of_copies(work: Work) -> Iterator[tuple[set[str], list[str]]]:
    """Yield, for each copy batch of the move, the source ids that the batch wrote and the other ids of its manifest."""
    last = 0
    while True:
        with work.database.once() as connection:
            rows = checks.written_page(connection, work.move.id, last, _PAGE)
        read = 0
        for batch_id, tallies in groupby(rows, key=lambda row: row[0]):
            last, read = batch_id, read + 1
            ids: list[str] = []
            written: set[str] = set()
            for _, manifest, members, target_id in tallies:
                ids = ids or manifests.unpack(manifest)
                if target_id is not None:
                    written.update(manifests.select(ids, members))
            yield written, [record_id for record_id in ids if record_id not in written]
        if read < _PAGE:
            return


def _list(work: Work, namespace: str) -> Tally:
    return _tally(work.source.ids(namespace))


def _intend(work: Work) -> None:
    with work.database.begin() as connection:
        cleanup.intend(connection, work.lease, work.lands_within_s(work.job.source_lag_s))
        deletions.note_reading(connection, work.lease, work.job)


def _intend_whole(work: Work, listed: int, counted: int | None) -> None:
    """Commit the intent right before the deletion. The call may have waited for the pace, so check the proof's age."""
    with work.database.begin() as connection:
        _require_young_proof(connection, work)
        cleanup.intend(connection, work.lease, work.lands_within_s(work.job.source_lag_s))
        deletions.note_whole(connection, work.lease, work.job, listed=listed, counted=counted)


def _written_ids(work: Work) -> list[str]:
    return sorted({record_id for tally in work.tallies for record_id in manifests.select(work.ids, tally.members)})


@dataclass(frozen=True, slots=True)
class _ProvenBatch:
    """The records of a batch that may be deleted from the source; counts of those missing or changed at targets.

    Counts only targets that readers were moved to.
    """

    records: dict[str, Record]
    missing: Counter[int] = field(default_factory=Counter)  # by target
    changed: int = 0

    def found(self) -> dict[str, Any]:
        missing_at = {str(target_id): count for target_id, count in self.missing.items()}
        return {"proven": len(self.records), "missing_at": missing_at, "changed": self.changed}


def _prove(work: Work) -> _ProvenBatch:
    """Return the records of this batch that are in the source now, each proven to be in its target.

    While the source is authoritative, each record must be equal at its target now. Once readers were moved to a target,
    the application changes and deletes records there. Then the proof is the verdict from the time of the move. It holds
    for a record whose source still is what was copied.

    Raises NotProven otherwise, also if a record vanished from the source before its deletion was intended.
    """
    written = _written_ids(work)
    records = work.source.fetch(work.move.source, written)
    gone = len(written) - len(records)
    if gone and not work.lease.intended:
        work.look_again(f"{work.move.source} does not return {gone} records that were copied")
        if work.job.doubted_at is None:
            raise NotProven(f"{gone} records of {work.move.source} vanished since they were copied")
        require_at_targets(work, {record_id for record_id in written if record_id not in records})
        with work.database.begin() as connection:
            cleanup.presume_intent(connection, work.lease)
    placed, parked = place_unproven(work, records)
    if parked:
        raise NotProven(f"{len(parked)} records of {work.move.source} changed since they were copied")
    compared = _compare(work, placed)
    if compared.different:
        work.look_again(f"{len(compared.different)} records differ between {work.move.source} and their target")
        raise NotProven(
            f"{len(compared.different)} records of {work.move.source} are not equal at their target"
            + (", and the source is not what was copied either" if compared.changed else "")
            + _of_a_model(work)
        )
    return _ProvenBatch(records, caps.missing_if_few(work, compared.missing), compared.changed)


def _of_a_model(work: Work) -> str:
    """Say what else may be the reason where a model was asked for the vectors, and how a person goes on then."""
    if not work.embeds or not any(target.is_authoritative for target in work.copy_targets):
        return ""
    return (
        "; if nobody changed the source, its model gives other vectors for the same texts by now, and the copied ones "
        f"are nowhere any more: `vecfleet finish {work.job.id}` leaves both sides as they are"
    )


@dataclass
class _Compared:
    """A batch's records whose comparison failed, and counts of those missing or changed where readers have moved."""

    different: list[str] = field(default_factory=list)
    missing: Counter[int] = field(default_factory=Counter)
    changed: int = 0


def _compare(work: Work, placed: dict[str, Placed]) -> _Compared:
    authoritative = {target.namespace: target.id for target in work.copy_targets if target.is_authoritative}
    as_copied = {namespace: work.recorded(target_id) for namespace, target_id in authoritative.items()}
    groups: dict[str, list[Placed]] = defaultdict(list)
    for placement in placed.values():
        groups[placement.target].append(placement)
    compared = _Compared()
    for namespace, group in groups.items():
        held = work.target.fetch(namespace, [placement.record.id for placement in group])
        for placement in group:
            there = held.get(placement.record.id)
            if there is not None and record_digest(there) == placement.digest:
                continue
            if as_copied.get(namespace, {}).get(placement.source_id) != manifests.short(placement.digest):
                compared.different.append(placement.source_id)
            if namespace in as_copied:
                if there is None:
                    compared.missing[authoritative[namespace]] += 1
                compared.changed += there is not None
    return compared
