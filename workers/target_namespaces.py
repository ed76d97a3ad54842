"""Prepare a target namespace for its first record: create it, or note the ids that it holds already."""

from orchestrator.core.model import Target
from orchestrator.ledger import moves
from vecfleet.digests import Tally
from workers.erasure_check import drop_if_empty, subjects_of
from workers.work import Later, Work

# Ids held before the job that are read at once while they are added up.
_HELD_PAGE = 5_000
# Within this time of a batch's first lease, another batch may be about to record that it has made the namespace.
_MAKER_S = 1.0


def prepare(work: Work, target: Target) -> Target:
    """Create the namespace with the source's filterable fields and the added keys, or note the ids it holds already.

    Safe to repeat and to race: no batch upserts into a target before this is on record. So an id listed here that no
    move has taken was there before the job. A crash between the creation and its record leaves `created_by_us` false:
    rolling back then keeps an empty namespace, which is harmless. A worker that was frozen until its tenant was erased
    leaves no namespace behind: it checks lease and erasure fence before the call, and the fence again after the call.
    """
    subjects = subjects_of(target.namespace)
    with work.database.once() as connection:
        if not moves.may_prepare(connection, work.lease, subjects):
            raise _erased_meanwhile(target)
    _remove_the_alias_left(work, target)
    created = work.target.index.create_namespace(target.namespace, _schema(work))
    if created:
        with work.database.once() as connection:
            on_record = moves.prepared_unless_erased(connection, target.id, subjects)
        if on_record is None:
            drop_if_empty(work.target.index, target.namespace)  # needs no lease, which may be over by now
            raise _erased_meanwhile(target)
        return on_record
    # Under `dual` the application wrote the target's records, as it wrote their counterparts in the source. In an index
    # that the service filled for this job, all that it made is the job's.
    policies = work.job.plan.policies
    foreign = policies.writers != "dual" and not policies.prefilled
    lags = foreign and work.target.index.limits.reads_lag
    if lags:
        _let_its_maker_say_so(work, target)
    held = _note_held(work, target) if foreign else Tally()
    if lags:
        _require_fresh(work, target)
    with work.database.begin() if held.count else work.database.once() as connection:
        return moves.prepared(connection, target.id, created_by_us=policies.prefilled, held=held)


def _remove_the_alias_left(work: Work, target: Target) -> None:
    """Remove the alias of this name that the plan being taken back left, if it leads to this move's source.

    The namespace needs the name. An alias that leads elsewhere is not ours: it stays, and the namespace cannot be
    created. Safe to repeat. If the worker dies right after, the name leads nowhere until the next attempt creates the
    namespace.
    """
    if work.job.plan.takes_back and work.target.alias(target.namespace) == work.move.source:
        work.target.point_alias(target.namespace, None)


def _erased_meanwhile(target: Target) -> Later:
    return Later(0, f"the tenant of {target.namespace} was erased meanwhile")


def _let_its_maker_say_so(work: Work, target: Target) -> None:
    """Raise Later on a batch's first visit: a namespace that another batch created is on record within moments.

    Without this wait the namespace would count as older than the job.
    """
    left = min(_MAKER_S, work.settings.freshness_wait_seconds) - work.lease.age_seconds
    if left > 0 and not _answered_for(work, target):
        raise Later(left, f"{target.namespace} exists; in a moment it is known whether this job created it")


def _require_fresh(work: Work, target: Target) -> None:
    """Raise Later until the freshness wait is over, unless another worker has put the namespace on record by now.

    After the wait the namespace's listing counts as complete: all other ids are ours to write. The other worker may
    have created the namespace.
    """
    if not _answered_for(work, target):
        work.look_again(
            f"{target.namespace} existed before: its ids are listed again once reads show all that was written to it",
            often=False,
        )


def _answered_for(work: Work, target: Target) -> bool:
    with work.database.once() as connection:
        return moves.target(connection, target.id).prepared


def _note_held(work: Work, target: Target) -> Tally:
    """Note the ids that the target holds and no move has taken; return their tally.

    A listing may end early, and an id that is not noted here would count as ours to write. So the target is listed
    until a listing shows nothing new.
    """
    while _note_listed(work, target):
        pass
    held = Tally()
    after: str | None = None
    while True:
        with work.database.begin() as connection:
            ids = moves.held_before(connection, target.id, after, _HELD_PAGE)
        held += Tally.of_ids(ids)
        if len(ids) < _HELD_PAGE:
            return held
        after = ids[-1]


def _note_listed(work: Work, target: Target) -> int:
    """List the target once; return how many ids were not noted before.

    Return 0 once another worker has found that the target held no ids. From then on batches take no ids before they
    write, so this would note their ids by mistake.
    """
    new_ids = 0
    for page in work.target.ids(target.namespace):
        with work.database.begin() as connection:
            current = moves.target(connection, target.id)
            if current.prepared and not current.checks_ids:
                return 0
            new_ids += moves.note_held_before(connection, target.id, page)
    return new_ids


def _schema(work: Work) -> dict[str, object] | None:
    source = work.source.index.namespace(work.job.plan.schema_from or work.move.source)
    if source is None or not source.schema:
        return None
    plan = work.job.plan
    fields = dict(source.schema.get("fields", {}))
    if plan.policies.metadata_map is not None:
        fields = plan.policies.metadata_map.fields(fields, backward=bool(plan.takes_back))
    if plan.policies.enrich:
        fields |= {key: {"filterable": True} for key in ("creator_id", "twin_id", "migrated_from")}
    return {**source.schema, "fields": fields}
