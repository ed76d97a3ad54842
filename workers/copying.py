"""Copy one batch: fetch → route and enrich → check ids where targets are shared → upsert → tally and done.

Safe to run twice: the repeated upsert is the same upsert, and what is recorded replaces what was. Dies before an
upsert: nothing happened. Dies after it: the lease expires, and another worker repeats the batch. Its targets, and the
ids it takes in a shared one, are committed before the first upsert. Its tallies and counters are committed in one
transaction at the end.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from orchestrator.core import manifests
from orchestrator.core.guards import may_go
from orchestrator.core.model import CopyOutcome, ParkedRecord, Target, TargetTally
from orchestrator.core.states import BatchKind
from orchestrator.ledger import batches, cleanup, differences, erasures, moves
from vecfleet.digests import Tally, record_digest
from vecfleet.errors import NeedsOperator, Refused
from vecfleet.records import Record
from vecfleet.stores.base import Kind
from workers.doubting import unlike_written
from workers.erasure_check import ErasureCheck, wait_for_erasures
from workers.foreign import as_the_source_is_now, held_by_others, not_as_written
from workers.placing import Placed, place_all
from workers.repairing import rewrite_of, why_held
from workers.target_namespaces import prepare
from workers.work import Later, Work


def copy_batch(work: Work) -> CopyOutcome:
    """Copy the batch and return its outcome, which the caller commits."""
    records, gone = _fetch(work)
    rewrite = rewrite_of(work)
    if gone and work.job.passes == 1 and not (rewrite is not None and rewrite.lacks(gone)):
        _require_few_gone(work, len(gone))
    placed, parked = place_all(work.placer, records)
    placed, erasure_check, erased = _without_the_erased(work, placed, records)
    parked = [record for record in parked if record.record_id not in erased]
    if rewrite is not None:
        placed, parked = rewrite.hold_back(placed, parked)
    groups: dict[str, list[Placed]] = defaultdict(list)
    for item in placed.values():
        groups[item.target].append(item)
    targets, unplaceable = _take_targets(work, groups)
    parked += unplaceable
    tallies: list[TargetTally] = []
    identical = left_behind = changed = 0
    for namespace, target in targets.items():
        group = groups[namespace]
        if target.checks_ids:
            group, taken = _take_ids(work, target, group, records)
            parked += taken.parked
            identical += taken.identical
            left_behind += taken.left_behind
        if target.is_authoritative:
            refused = _leave(work, target, group)
        else:
            if rewrite is None:
                if work.job.plan.policies.writers == "dual":
                    group = as_the_source_is_now(work, target, group)
                sent = _unlike_recorded(work, target, group)
                foreign = held_by_others(work, target, sent)
                parked += [ParkedRecord(record_id, why_held(target)) for record_id in sorted(foreign)]
                group = [item for item in group if item.source_id not in foreign]
                sent = [item for item in sent if item.source_id not in foreign]
            else:
                group, sent, newer = rewrite.choose(work, target, group)
                parked += newer
                if work.job.passes > 1:  # writers go on: what they changed since is copied along
                    chosen = {item.record.id for item in sent} | rewrite.differing.keys()
                    sent += [item for item in _unlike_recorded(work, target, group) if item.record.id not in chosen]
            newer_there = dict.fromkeys(unlike_written(work, target, sent), why_held(target))
            newer_there |= not_as_written(work, target, sent)
            parked += [ParkedRecord(record_id, why) for record_id, why in sorted(newer_there.items())]
            group = [item for item in group if item.source_id not in newer_there]
            sent = [item for item in sent if item.source_id not in newer_there]
            refused = _upsert(work, target, sent, erasure_check)
            changed += sum(item.record.id not in refused for item in sent)
        parked += [ParkedRecord(item.source_id, refused[item.record.id]) for item in group if item.record.id in refused]
        lsn = work.target.lsns.get(target.namespace)
        tallies.append(tally_of(work.ids, target.id, [item for item in group if item.record.id not in refused], lsn))
    tallies = [tally for tally in tallies if tally.count]
    removed = _withdraw(work, tallies, gone)
    return CopyOutcome(
        tallies=tuple(tallies),
        parked=tuple(sorted(parked, key=lambda record: record.record_id)),
        written=sum(tally.count for tally in tallies),
        identical=identical,
        gone=len(gone),
        left_behind=left_behind,
        changed=changed + removed,
        removed=removed,
        keeps=rewrite is not None and work.job.passes == 1 and rewrite.lacks(gone),
        erased=erased,
    )


def _without_the_erased(
    work: Work, placed: dict[str, Placed], records: dict[str, Record]
) -> tuple[dict[str, Placed], ErasureCheck, frozenset[str]]:
    """Return the records that may be written, the check to ask before writing, and the ids of erased tenants."""
    erasure_check = ErasureCheck(work.router, work.move.source)
    subjects = {record_id: erasure_check.subjects(records[record_id], placed.get(record_id)) for record_id in records}
    with work.database.once() as connection:
        erased_subjects = erasures.fenced(connection, set().union(*subjects.values()))
    erased = frozenset(record_id for record_id, own in subjects.items() if own & erased_subjects)
    return {record_id: item for record_id, item in placed.items() if record_id not in erased}, erasure_check, erased


def _fetch(work: Work) -> tuple[dict[str, Record], list[str]]:
    """Return the records, and the gone ids: absent from two fetches and, after the freshness wait, from a listing."""
    namespace = work.move.source
    records = work.source.fetch(namespace, work.ids)
    missing = [record_id for record_id in work.ids if record_id not in records]
    if not missing:
        return records, []
    work.look_again(f"{len(missing)} listed ids are not answered yet")
    records |= work.source.fetch(namespace, missing)
    gone = [record_id for record_id in missing if record_id not in records]
    listed = _listed(work, gone)
    if listed:
        raise Refused(
            f"{len(listed)} ids are listed, but the service does not give their records",
            next_step=f"`vecfleet retry {work.job.id} failed` asks again; if it stays so, ask the service's support",
        )
    return records, gone


def _listed(work: Work, ids: Sequence[str]) -> list[str]:
    """Return the ids that a fresh listing shows. Ask for them one by one, unless it shows none at all."""
    if work.source.index.info.kind is Kind.POD:
        return []  # a pod lists nothing; a cap bounds how many may be gone
    if len(ids) > 1:
        page = work.source.page(work.move.source)
        if not page.ids and page.next_token is None:
            return []
    return [record_id for record_id in ids if work.source.is_listed(work.move.source, record_id)]


def _take_targets(work: Work, groups: dict[str, list[Placed]]) -> tuple[dict[str, Target], list[ParkedRecord]]:
    """Return a claimed, noted and existing namespace for each group; park records whose target another job holds."""
    targets: dict[str, Target] = {}
    parked: list[ParkedRecord] = []
    place = work.lease.target  # its move's target, noted with the lease
    if place is not None and place.namespace in groups:
        targets[place.namespace] = place
    to_note, to = groups.keys() - targets.keys(), work.move.to
    if to is not None and to_note == {to}:
        owner = groups[to][0].owner
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
                    owner = groups[namespace][0].owner
                    targets[namespace] = moves.ensure_target(connection, work.job, work.move, namespace, owner)
                except Refused as error:
                    parked += [ParkedRecord(item.source_id, error.message) for item in groups[namespace]]
            moves.note_targets(connection, work.lease, [target.id for target in targets.values()])
    for namespace, target in targets.items():
        if not target.prepared:
            targets[namespace] = prepare(work, target)
    return targets, parked


class _Taken:
    """The outcome for records whose ids are not ours to write in this target."""

    def __init__(self) -> None:
        self.parked: list[ParkedRecord] = []
        self.identical = 0
        self.left_behind = 0


def _take_ids(
    work: Work, target: Target, group: Sequence[Placed], records: dict[str, Record]
) -> tuple[list[Placed], _Taken]:
    """Return the records whose ids are ours in this target. The policy decides on the others; none is overwritten."""
    digests = [(item.record.id, record_digest(work.target.index.normalise(records[item.source_id]))) for item in group]
    with work.database.begin() as connection:
        batches.require(connection, work.lease)
        others = moves.claim_ids(connection, target.id, work.move.id, digests)
    foreign = [record_id for record_id, digest in others.items() if digest is None]
    held = work.target.fetch(target.namespace, foreign) if foreign else {}
    own, taken = dict(digests), _Taken()
    for item in group:
        if item.record.id not in others:
            continue
        there = held.get(item.record.id)
        same = others[item.record.id] == own[item.record.id] or (there and record_digest(there) == item.digest)
        match work.job.plan.policies.collisions:
            case "skip":
                taken.left_behind += 1
            case "identical" if same:
                taken.identical += 1
            case _:
                taken.parked.append(ParkedRecord(item.source_id, f"{target.namespace} holds another record of this id"))
    return [item for item in group if item.record.id not in others], taken


def _leave(work: Work, target: Target, group: Sequence[Placed]) -> dict[str, str]:
    """Write nothing, because readers have moved here. Refuse records that were not written before and differ there."""
    unwritten = _unequal(work, target, _unlike(work.recorded(target.id), group))
    return {
        item.record.id: f"readers have moved to {target.namespace}: nothing is written to it any more"
        for item in unwritten
    }


def _unlike_recorded(work: Work, target: Target, group: Sequence[Placed]) -> Sequence[Placed]:
    """Return the records to write: all in the first pass; later those that are not as they were when written.

    Under `dual` the application writes to the target too. A record that is equal there already needs nothing. A record
    that a check found wanting is not there as it was written.
    """
    dual = work.job.plan.policies.writers == "dual"
    if work.job.passes == 1 and not dual:
        return group
    recorded = work.recorded(target.id)
    if not dual:
        return _unlike(recorded, group)
    with work.database.begin() as connection:
        wanting = differences.to_repair(connection, work.copy_id)
    as_written = {
        source_id: digest for source_id, digest in recorded.items() if work.placer.target_id(source_id) not in wanting
    }
    return _unequal(work, target, _unlike(as_written, group))


def _unequal(work: Work, target: Target, group: Sequence[Placed]) -> list[Placed]:
    """Return the records that are missing at the target or differ there."""
    held = work.target.fetch(target.namespace, [item.record.id for item in group]) if group else {}
    digests = {record_id: record_digest(record) for record_id, record in held.items()}
    return [item for item in group if digests.get(item.record.id) != item.digest]


def _unlike(recorded: Mapping[str, int], group: Sequence[Placed]) -> list[Placed]:
    return [item for item in group if recorded.get(item.source_id) != manifests.short(item.digest)]


def _withdraw(work: Work, tallies: Sequence[TargetTally], gone: Sequence[str]) -> int:
    """Remove from the targets the records that an earlier pass wrote and the source gave up, or sends elsewhere, since.

    Removes only what still is as we wrote it, and nothing where readers have moved: the rest stays and shows as extra.
    The intent is committed before each call; dies after it: the repeated batch finds it gone. Returns how many.
    """
    if not work.job.plan.policies.quiet_passes or (work.job.passes == 1 and not gone):
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
        _require_few(work, count)
    for target, digests in withdrawn:
        _remove(work, target, digests)
    return count


def _left_unrecorded(work: Work, target: Target, gone: Sequence[str]) -> dict[str, int]:
    """Return records that a crashed attempt of this batch wrote and that the source no longer has: id → short digest.

    They are nowhere on record: known by the ids that this move took, where others write too, and by their own content.
    """
    ids = [work.placer.target_id(source_id) for source_id in gone]
    if ids and target.checks_ids:
        with work.database.begin() as connection:
            ids = sorted(moves.taken(connection, target.id, ids, work.move.id))
    held = work.target.fetch(target.namespace, ids) if ids else {}
    return {
        record_id: manifests.short(record_digest(record))
        for record_id, record in held.items()
        if work.placer.makes(record, target.namespace)
    }


def _require_few(work: Work, count: int) -> None:
    """Raise NeedsOperator if many records, or all, are gone: a writer deletes a few. A person must confirm more."""
    source = work.move.source
    _require_any(work, "nothing is removed on its account")
    why = f"records of {source} went away after they were copied; what was written of them would be removed"
    _require_under_cap(work, "removed", count, work.move.written, why)


def _require_few_gone(work: Work, count: int) -> None:
    """Raise NeedsOperator if many listed records are gone, or all of them while writers stand still.

    A few may go. If many do, the service probably does not find the namespace for a while. Where writers go on, the
    next listing tells whether all are gone.
    """
    source, job = work.move.source, work.job
    if not job.plan.policies.quiet_passes:
        _require_any(work, "what it held is not counted as gone")
    why = f"records of {source} were listed and are not there any more; they would count as gone"
    _require_under_cap(work, "lacking", count, max(work.move.planned, work.move.listed), why)


def _require_any(work: Work, otherwise: str) -> None:
    source = work.move.source
    if work.source.index.info.kind is not Kind.POD and not work.source.page(source).ids:
        with work.database.begin() as connection:
            wait_for_erasures(connection, source)
        raise NeedsOperator(
            f"{source} lists no ids any more: {otherwise}",
            next_step=f"restore it and resume, or `vecfleet cancel {work.job.id}`",
        )


def _require_under_cap(work: Work, what: str, count: int, of: int, why: str) -> None:
    """Raise NeedsOperator if the count over the whole source, of all batches at work, is above the cap."""
    job = work.job
    allowed = may_go(of, job.missing_allowed)
    with work.database.begin() as connection:
        total = cleanup.add_up(connection, work.lease, (BatchKind.COPY,), what, count)
        if total > allowed:
            wait_for_erasures(connection, work.move.source)
            raise NeedsOperator(
                f"{total} {why}", next_step=f"if that is meant, `vecfleet set {job.id} missing {total}` and resume"
            )


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
    if target.checks_ids and free:  # only now: a record of another move that came earlier would have been removed
        with work.database.begin() as connection:
            batches.require(connection, work.lease)
            moves.release_ids(connection, target.id, work.move.id, free)


def _upsert(work: Work, target: Target, group: Sequence[Placed], erasure_check: ErasureCheck) -> dict[str, str]:
    """Write the group; return the refused ids, each with its reason.

    Before each request one statement requires that the lease is ours and raises the write sequence. It also requires
    that nobody in the group was erased meanwhile; else the batch begins anew, without them. A request without an answer
    is repeated. It may take effect once more and later: until it no longer can, no reader is moved to the target, and
    no source of it deleted.
    """
    subjects = set().union(*(erasure_check.seen(item.source_id) for item in group))

    def before() -> None:
        with work.database.once() as connection:
            if not batches.begin_write(connection, work.lease, target.id, subjects):
                raise Later(0, "a tenant was erased meanwhile")
        work.wrote.add(target.id)
        work.sent[target.namespace] = {item.record.id: erasure_check.seen(item.source_id) for item in group}

    try:
        refused = work.target.upsert(target.namespace, [item.record for item in group], before)
    finally:
        if target.namespace in work.target.unanswered:
            with work.database.begin() as connection:
                moves.note_landing(connection, target.id, work.lands_within_s(work.job.target_lag_s))
    return {record.id: why for record, why in refused}


def tally_of(ids: Sequence[str], target_id: int, group: Sequence[Placed], lsn: int | None = None) -> TargetTally:
    total = Tally.of_digests(item.digest for item in group)
    return TargetTally(
        target_id,
        total.count,
        total.digest,
        Tally.of_ids(item.record.id for item in group).digest,
        manifests.members_of(ids, {item.source_id for item in group}),
        manifests.pack_digests(ids, {item.source_id: item.digest for item in group}),
        lsn,
    )
