"""Copy one batch: fetch → route and enrich → check ids where targets are shared → upsert → tally and done.

Safe to run twice: a repeated upsert writes the same records, and new tallies replace the old ones. A worker that dies
before an upsert changed nothing. If it dies after, the lease expires and another worker repeats the batch. The batch's
targets, and the ids it takes in a shared target, are committed before the first upsert. Its tallies and counters are
committed in one transaction at the end.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.core import manifests
from orchestrator.core.model import CopyOutcome, ParkedRecord, Target, TargetTally
from orchestrator.ledger import batches, erasures, moves
from vecfleet.digests import Tally, record_digest
from vecfleet.errors import Refused
from vecfleet.records import Record
from vecfleet.stores.base import Kind
from workers import caps
from workers.choosing import Chosen, choose, left_alone
from workers.erasure_check import ErasureCheck
from workers.placing import Placed, place_all
from workers.repairing import Rewrite, rewrite_of
from workers.target_namespaces import prepare
from workers.unchanged import is_unchanged, versions_of
from workers.vectors import embed
from workers.withdrawing import withdraw
from workers.work import Later, Work


@dataclass
class _Batch:
    """Records on their way to their targets, and the outcome of the others so far."""

    records: Mapping[str, Record]
    groups: Mapping[str, list[Placed]]  # by target namespace
    parked: list[ParkedRecord]
    erased: frozenset[str]
    erasure_check: ErasureCheck
    identical: int = 0
    left_behind: int = 0
    changed: int = 0
    tallies: list[TargetTally] = field(default_factory=list)


def copy_batch(work: Work) -> CopyOutcome:
    """Copy the batch: fetch, place, choose, write, withdraw. Return its outcome, which the caller commits."""
    rewrite = rewrite_of(work)
    versions = versions_of(work)  # before the records: what is written in between is of another version
    if rewrite is None and is_unchanged(work, versions):
        return CopyOutcome(unchanged=True)
    if work.embeddings is not None and not work.leaves_embedding:
        work.embeddings.require_soon()
    records, gone = _fetch(work)
    keeps = work.job.passes == 1 and rewrite is not None and rewrite.lacks(gone)
    if gone and work.job.passes == 1 and not keeps:
        caps.require_few_gone(work, len(gone))
    batch = _place(work, records, rewrite)
    for target in _take_targets(work, batch):
        group = _take_ids(work, target, batch)
        chosen = left_alone(work, target, group) if target.is_authoritative else choose(work, target, group, rewrite)
        _write(work, target, chosen, batch)
    removed = withdraw(work, batch.tallies, gone)
    return CopyOutcome(
        tallies=tuple(batch.tallies),
        parked=tuple(sorted(batch.parked, key=lambda record: record.record_id)),
        written=sum(tally.count for tally in batch.tallies),
        identical=batch.identical,
        gone=len(gone),
        left_behind=batch.left_behind,
        changed=batch.changed + removed,
        removed=removed,
        keeps=keeps,
        erased=batch.erased,
        versions=versions,
        cut=work.embeddings.cut_texts if work.embeddings is not None else 0,
    )


def _place(work: Work, records: Mapping[str, Record], rewrite: Rewrite | None) -> _Batch:
    """Give each record its target and its form, or park it. The text of erased tenants goes nowhere."""
    placed, parked = place_all(work.placer, records)
    erasure_check = ErasureCheck(work.router, work.move.source)
    subjects = {record_id: erasure_check.subjects(records[record_id], placed.get(record_id)) for record_id in records}
    with work.database.once() as connection:
        erased_subjects = erasures.fenced(connection, set().union(*subjects.values()))
    erased = frozenset(record_id for record_id, own in subjects.items() if own & erased_subjects)
    placed = {record_id: placement for record_id, placement in placed.items() if record_id not in erased}
    parked = [record for record in parked if record.record_id not in erased]
    if rewrite is not None:
        placed, parked = rewrite.hold_back(placed, parked)
    copied_before = rewrite is not None or work.job.passes > 1
    placed, without = embed(work, work.placer, records, placed, erasure_check, copied_before=copied_before)
    parked += without
    groups: dict[str, list[Placed]] = defaultdict(list)
    for placement in placed.values():
        groups[placement.target].append(placement)
    return _Batch(records, groups, parked, erased, erasure_check)


def _fetch(work: Work) -> tuple[dict[str, Record], list[str]]:
    """Return the records and the gone ids: those absent from two fetches and, after the wait, from a listing."""
    namespace = work.move.source
    records = work.source.fetch(namespace, work.ids)
    missing = [record_id for record_id in work.ids if record_id not in records]
    if not missing:
        return records, []
    work.look_again(f"{work.move.source} does not return {len(missing)} listed ids yet")
    records |= work.source.fetch(namespace, missing)
    gone = [record_id for record_id in missing if record_id not in records]
    listed = _listed(work, gone)
    if listed:
        raise Refused(
            f"{len(listed)} ids are listed, but the service does not give their records",
            code="records-withheld",
            next_step=f"`vecfleet retry {work.job.id} failed` asks again; if it stays so, ask the service's support",
        )
    return records, gone


def _listed(work: Work, ids: Sequence[str]) -> list[str]:
    """Return those of the ids that a fresh listing shows. Look for them one by one, unless the source lists no id."""
    if work.source.index.info.kind is Kind.POD:
        return []  # a pod cannot list ids; a cap bounds how many may be gone
    if len(ids) > 1:
        page = work.source.page(work.move.source)
        if not page.ids and page.next_token is None:
            return []
    return [record_id for record_id in ids if work.source.is_listed(work.move.source, record_id)]


def _take_targets(work: Work, batch: _Batch) -> list[Target]:
    """Return for each group its target: claimed, on record and created. Park records whose target another job holds."""
    targets: dict[str, Target] = {}
    groups = batch.groups
    place = work.lease.target  # the move's only target, noted when the batch was leased
    if place is not None and place.namespace in groups:
        targets[place.namespace] = place
    to_note, to = groups.keys() - targets.keys(), work.move.to
    if work.job.plan.policies.prefilled and to is not None and place is None:
        to_note |= {to}  # it may hold what the service made of records that are gone
    if to is not None and to_note == {to}:
        owner = groups[to][0].owner if groups.get(to) else None
        with work.database.once() as connection:
            planned = moves.take_planned_target(connection, work.job, work.move, work.lease, owner)
        if planned is not None:
            targets[planned.namespace] = planned
            to_note = set()
    if to_note:
        with work.database.begin() as connection:
            batches.require(connection, work.lease)
            targets |= moves.tied_targets(connection, work.move.id, sorted(to_note))
            for namespace in sorted(to_note - targets.keys()):
                try:
                    owner = groups[namespace][0].owner if groups.get(namespace) else None
                    targets[namespace] = moves.ensure_target(connection, work.job, work.move, namespace, owner)
                except Refused as error:
                    batch.parked += [
                        ParkedRecord(placement.source_id, error.message) for placement in groups.get(namespace, ())
                    ]
            moves.note_targets(connection, work.lease, [target.id for target in targets.values()])
    return [target if target.prepared else prepare(work, target) for target in targets.values()]


def _take_ids(work: Work, target: Target, batch: _Batch) -> list[Placed]:
    """Return the records whose ids this move takes in the target. The policy decides on the others."""
    group = batch.groups.get(target.namespace, [])
    if not target.checks_ids:
        return group
    normalise = work.target.index.normalise
    own = {placement.record.id: record_digest(normalise(batch.records[placement.source_id])) for placement in group}
    with work.database.begin() as connection:
        batches.require(connection, work.lease)
        others = moves.claim_ids(connection, target.id, work.move.id, list(own.items()))
    unknown = [record_id for record_id, digest in others.items() if digest is None]
    held = work.target.fetch(target.namespace, unknown) if unknown else {}
    for placement in group:
        if placement.record.id not in others:
            continue
        there = held.get(placement.record.id)
        same = others[placement.record.id] == own[placement.record.id] or (
            there and record_digest(there) == placement.digest
        )
        match work.job.plan.policies.collisions:
            case "skip":
                batch.left_behind += 1
            case "identical" if same:
                batch.identical += 1
            case _:
                why = f"{target.namespace} holds another record of this id"
                batch.parked.append(ParkedRecord(placement.source_id, why))
    return [placement for placement in group if placement.record.id not in others]


def _write(work: Work, target: Target, chosen: Chosen, batch: _Batch) -> None:
    """Write the chosen records, and note the tally of this batch's records at the target."""
    refused = _upsert(work, target, chosen.sent, batch.erasure_check) if chosen.sent else {}
    own_ids = {placement.record.id: placement.source_id for placement in chosen.sent}
    written = chosen.without({own_ids[record_id]: why for record_id, why in refused.items()})
    batch.parked += written.parked
    batch.changed += len(written.sent)
    tally = tally_of(work.ids, target.id, written.counted, work.target.lsns.get(target.namespace))
    if tally.count:
        batch.tallies.append(tally)


def _upsert(work: Work, target: Target, group: Sequence[Placed], erasure_check: ErasureCheck) -> dict[str, str]:
    """Write the group; return the refused ids, each with its reason.

    Before each request one statement requires that the lease is ours and raises the write sequence. It also requires
    that no tenant in the group was erased meanwhile; else the batch begins again without that tenant's records. A
    request without an answer is repeated, and its first try may still take effect later. Until it no longer can, no
    reader is moved to the target, and no source of the target is deleted.
    """
    subjects = set().union(*(erasure_check.seen(placement.source_id) for placement in group))

    def before() -> None:
        with work.database.once() as connection:
            if not batches.begin_write(connection, work.lease, target.id, subjects):
                raise Later(0, "a tenant was erased meanwhile")
        work.wrote.add(target.id)
        work.sent[target.namespace] = {
            placement.record.id: erasure_check.seen(placement.source_id) for placement in group
        }

    try:
        each = (work.lease.found or {}).get("each", False)
        refused = work.target.upsert(target.namespace, [placement.record for placement in group], before, each=each)
    finally:
        if target.namespace in work.target.unanswered:
            with work.database.begin() as connection:
                moves.note_landing(connection, target.id, work.lands_within_s(work.job.target_lag_s))
    return {record.id: why for record, why in refused}


def tally_of(ids: Sequence[str], target_id: int, group: Sequence[Placed], lsn: int | None = None) -> TargetTally:
    total = Tally.of_digests(placement.digest for placement in group)
    return TargetTally(
        target_id,
        total.count,
        total.digest,
        Tally.of_ids(placement.record.id for placement in group).digest,
        manifests.members_of(ids, {placement.source_id for placement in group}),
        manifests.pack_digests(ids, {placement.source_id: placement.digest for placement in group}),
        lsn,
    )
