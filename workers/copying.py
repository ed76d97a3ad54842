"""Copy one batch: fetch → route and enrich → check ids where targets are shared → upsert → tally and done.

Safe to run twice: the repeated upsert is the same upsert, and what is recorded replaces what was. Dies before an
upsert: nothing happened. Dies after it: the lease runs out, another worker repeats it. Its targets, and the ids it
takes in a shared one, are committed before the first upsert; its tallies and counters in one transaction at the end.
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
    """Everything but the record of it, which the caller commits."""
    records, gone = _fetch(work)
    rewrite = rewrite_of(work)
    if gone and work.job.passes == 1 and not (rewrite is not None and rewrite.lacks(gone)):
        _require_few_gone(work, len(gone))
    placed, parked = place_all(work.placer, records)
    placed, erasure_check, erased = _without_the_erased(work, placed, records)
    parked = [one for one in parked if one.record_id not in erased]
    if rewrite is not None:
        placed, parked = rewrite.hold_back(placed, parked)
    groups: dict[str, list[Placed]] = defaultdict(list)
    for one in placed.values():
        groups[one.target].append(one)
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
                group = [one for one in group if one.source_id not in foreign]
                sent = [one for one in sent if one.source_id not in foreign]
            else:
                group, sent, newer = rewrite.choose(work, target, group)
                parked += newer
                if work.job.passes > 1:  # writers go on: what they changed since is copied along
                    chosen = {one.record.id for one in sent} | rewrite.differing.keys()
                    sent += [one for one in _unlike_recorded(work, target, group) if one.record.id not in chosen]
            newer_there = dict.fromkeys(unlike_written(work, target, sent), why_held(target))
            newer_there |= not_as_written(work, target, sent)
            parked += [ParkedRecord(record_id, why) for record_id, why in sorted(newer_there.items())]
            group = [one for one in group if one.source_id not in newer_there]
            sent = [one for one in sent if one.source_id not in newer_there]
            refused = _upsert(work, target, sent, erasure_check)
            changed += sum(one.record.id not in refused for one in sent)
        parked += [ParkedRecord(one.source_id, refused[one.record.id]) for one in group if one.record.id in refused]
        lsn = work.target.lsns.get(target.namespace)
        tallies.append(tally_of(work.ids, target.id, [one for one in group if one.record.id not in refused], lsn))
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
    """What may be written, the erasure_check it will be asked about again, and the ids of tenants that were erased."""
    erasure_check = ErasureCheck(work.router, work.move.source)
    subjects = {record_id: erasure_check.subjects(records[record_id], placed.get(record_id)) for record_id in records}
    with work.database.once() as connection:
        gone = erasures.fenced(connection, set().union(*subjects.values()))
    erased = frozenset(record_id for record_id, some in subjects.items() if some & gone)
    return {record_id: one for record_id, one in placed.items() if record_id not in erased}, erasure_check, erased


def _fetch(work: Work) -> tuple[dict[str, Record], list[str]]:
    """The records, and the ids that are gone: absent from two fetches and a fresh listing after the freshness wait."""
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
    """Those of these ids that a fresh listing shows: asked for one by one, unless it shows none at all."""
    if work.source.index.info.kind is Kind.POD:
        return []  # a pod lists nothing; how many may be gone without a word is capped
    if len(ids) > 1:
        page = work.source.page(work.move.source)
        if not page.ids and page.next_token is None:
            return []
    return [record_id for record_id in ids if work.source.is_listed(work.move.source, record_id)]


def _take_targets(work: Work, groups: dict[str, list[Placed]]) -> tuple[dict[str, Target], list[ParkedRecord]]:
    """A claimed, noted and existing namespace for each group; records whose target another job holds are parked."""
    targets: dict[str, Target] = {}
    parked: list[ParkedRecord] = []
    place = work.lease.target  # the one of its move, noted with the lease
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
                    parked += [ParkedRecord(one.source_id, error.message) for one in groups[namespace]]
            moves.note_targets(connection, work.lease, [target.id for target in targets.values()])
    for namespace, target in targets.items():
        if not target.prepared:
            targets[namespace] = prepare(work, target)
    return targets, parked


class _Taken:
    """What became of records whose ids are not ours to write in this target."""

    def __init__(self) -> None:
        self.parked: list[ParkedRecord] = []
        self.identical = 0
        self.left_behind = 0


def _take_ids(
    work: Work, target: Target, group: Sequence[Placed], records: dict[str, Record]
) -> tuple[list[Placed], _Taken]:
    """The records whose ids are ours in this target. For the others the plan's policy decides; none is overwritten."""
    digests = [(one.record.id, record_digest(work.target.index.normalise(records[one.source_id]))) for one in group]
    with work.database.begin() as connection:
        batches.require(connection, work.lease)
        others = moves.claim_ids(connection, target.id, work.move.id, digests)
    foreign = [record_id for record_id, digest in others.items() if digest is None]
    held = work.target.fetch(target.namespace, foreign) if foreign else {}
    own, taken = dict(digests), _Taken()
    for one in group:
        if one.record.id not in others:
            continue
        there = held.get(one.record.id)
        same = others[one.record.id] == own[one.record.id] or (there and record_digest(there) == one.digest)
        match work.job.plan.policies.collisions:
            case "skip":
                taken.left_behind += 1
            case "identical" if same:
                taken.identical += 1
            case _:
                taken.parked.append(ParkedRecord(one.source_id, f"{target.namespace} holds another record of this id"))
    return [one for one in group if one.record.id not in others], taken


def _leave(work: Work, target: Target, group: Sequence[Placed]) -> dict[str, str]:
    """Readers have moved here, so nothing is written. Refused is what was not written before and is not equal."""
    new = _unequal(work, target, _unlike(work.recorded(target.id), group))
    return {
        one.record.id: f"readers have moved to {target.namespace}: nothing is written to it any more" for one in new
    }


def _unlike_recorded(work: Work, target: Target, group: Sequence[Placed]) -> Sequence[Placed]:
    """What to write: all of it in the first pass, later what is not as it was when it was written.

    Under `dual` the application writes to the target too: what is equal there already needs nothing, and what a check
    found wanting is not there as it was written.
    """
    dual = work.job.plan.policies.writers == "dual"
    if work.job.passes == 1 and not dual:
        return group
    recorded = work.recorded(target.id)
    if not dual:
        return _unlike(recorded, group)
    with work.database.begin() as connection:
        wanting = differences.to_repair(connection, work.copy_id)
    as_written = {one: digest for one, digest in recorded.items() if work.placer.target_id(one) not in wanting}
    return _unequal(work, target, _unlike(as_written, group))


def _unequal(work: Work, target: Target, group: Sequence[Placed]) -> list[Placed]:
    """Those that the target does not hold, or not equal."""
    held = work.target.fetch(target.namespace, [one.record.id for one in group]) if group else {}
    digests = {record_id: record_digest(record) for record_id, record in held.items()}
    return [one for one in group if digests.get(one.record.id) != one.digest]


def _unlike(recorded: Mapping[str, int], group: Sequence[Placed]) -> list[Placed]:
    return [one for one in group if recorded.get(one.source_id) != manifests.short(one.digest)]


def _withdraw(work: Work, tallies: Sequence[TargetTally], gone: Sequence[str]) -> int:
    """Remove from the targets what an earlier pass wrote there and the source gave up, or sends elsewhere, since.

    Only what still is as we wrote it, and never where readers have moved: the rest stays and shows as extra. The
    intent is committed before each call; dies after it: the repeated batch finds it gone. Returns how many.
    """
    if not work.job.plan.policies.quiet_passes or (work.job.passes == 1 and not gone):
        return 0
    if work.job.doubted_at is not None:  # the source may lack it because it was cleaned up since
        return 0
    kept = {tally.target_id: set(manifests.select(work.ids, tally.members)) for tally in tallies}
    withdrawn: list[tuple[Target, dict[str, int]]] = []
    for target in work.copy_targets:
        if not target.is_authoritative:
            recorded = work.recorded(target.id)
            digests = _left_unrecorded(work, target, [one for one in gone if one not in recorded])
            if work.job.passes > 1:
                left = {one: digest for one, digest in recorded.items() if one not in kept.get(target.id, ())}
                digests |= {work.placer.target_id(one): digest for one, digest in left.items()}
            withdrawn.append((target, digests))
    count = sum(len(digests) for _, digests in withdrawn)
    if count:
        _require_few(work, count)
    for target, digests in withdrawn:
        _remove(work, target, digests)
    return count


def _left_unrecorded(work: Work, target: Target, gone: Sequence[str]) -> dict[str, int]:
    """What an attempt of this batch wrote that died before its record, of ids that the source has no more: they are
    nowhere in the books. Told by the ids that this move took, where others write too, and by what stands in the record.
    """
    ids = [work.placer.target_id(one) for one in gone]
    if ids and target.checks_ids:
        with work.database.begin() as connection:
            ids = sorted(moves.taken(connection, target.id, ids, work.move.id))
    held = work.target.fetch(target.namespace, ids) if ids else {}
    return {
        one: manifests.short(record_digest(record))
        for one, record in held.items()
        if work.placer.makes(record, target.namespace)
    }


def _require_few(work: Work, count: int) -> None:
    """A writer deletes a few records; where many are gone, or all of them, a person must say that it is meant."""
    source = work.move.source
    _require_any(work, "nothing is removed on its account")
    why = f"records of {source} went away after they were copied; what was written of them would be removed"
    _require_under_cap(work, "removed", count, work.move.written, why)


def _require_few_gone(work: Work, count: int) -> None:
    """Listed and then gone is what happens to a few records. Of many, or of all where writers stand still, it is more
    likely that the service does not find the namespace for a while; where writers go on, the next listing tells that.
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
    """Counted over the whole source: batches at work side by side see what each other found."""
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
    ours = {one: held[one] for one in held if manifests.short(record_digest(held[one])) == digests[one]}
    changed = work.target.delete(target.namespace, ours, before)
    free = sorted((digests.keys() - held.keys() | ours.keys()) - set(changed))
    if target.checks_ids and free:  # only now: a record of another move that came earlier would have been removed
        with work.database.begin() as connection:
            batches.require(connection, work.lease)
            moves.release_ids(connection, target.id, work.move.id, free)


def _upsert(work: Work, target: Target, group: Sequence[Placed], erasure_check: ErasureCheck) -> dict[str, str]:
    """Write the group; returns the refused ids, each with why.

    Before each request, in one statement: the lease is ours, nobody in the group was erased meanwhile (else the batch
    begins anew, without them), and the write sequence rises. A request without an answer is repeated, and may take
    effect once more and later: until it no longer can, no reader is moved to the target, and no source of it deleted.
    """
    subjects = set().union(*(erasure_check.seen(one.source_id) for one in group))

    def before() -> None:
        with work.database.once() as connection:
            if not batches.begin_write(connection, work.lease, target.id, subjects):
                raise Later(0, "a tenant was erased meanwhile")
        work.wrote.add(target.id)
        work.sent[target.namespace] = {one.record.id: erasure_check.seen(one.source_id) for one in group}

    try:
        refused = work.target.upsert(target.namespace, [one.record for one in group], before)
    finally:
        if target.namespace in work.target.unanswered:
            with work.database.begin() as connection:
                moves.note_landing(connection, target.id, work.lands_within_s(work.job.target_lag_s))
    return {record.id: why for record, why in refused}


def tally_of(ids: Sequence[str], target_id: int, group: Sequence[Placed], lsn: int | None = None) -> TargetTally:
    total = Tally.of_digests(one.digest for one in group)
    return TargetTally(
        target_id,
        total.count,
        total.digest,
        Tally.of_ids(one.record.id for one in group).digest,
        manifests.members_of(ids, {one.source_id for one in group}),
        manifests.pack_digests(ids, {one.source_id: one.digest for one in group}),
        lsn,
    )
