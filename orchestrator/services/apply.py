"""Apply: make a job with its claims and moves from a reviewed plan, in one transaction.

Nothing is written before the transaction, except that an absent target index is created empty. A crash after the
commit costs nothing: the dispatcher finds the job. A dry run stops before the first write.
"""

from dataclasses import dataclass, replace

from migrations import reversing
from migrations.ownership import OwnershipSnapshot, look_up_again
from migrations.plan import Plan, PlannedMove
from migrations.recipes import check_plan, survey_again
from migrations.routing import Ownership
from orchestrator.bootstrap import Fleet
from orchestrator.core.freshness import Waits
from orchestrator.ledger import audit, index_acts, jobs, whole_indexes
from orchestrator.services import bulk_import, conversion, fillings
from orchestrator.services.fillings import OnWait
from orchestrator.telemetry import tracing
from vecfleet.connections import full_name
from vecfleet.errors import Refused
from vecfleet.stores.base import Backup, BulkFiles, IndexInfo
from vecfleet.stores.encoded_ids import seen

# Three times the batches that the default workers hold, so that no worker waits for the dispatcher's next tick.
DEFAULT_WINDOW = 48
BACKUP_MISSING = "backup-missing"
# Live readers share the index unless the plan says otherwise: half of each documented limit stays for them.
SHARED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan that fits the present stores, with its indexes. `target` is None if the index must be created."""

    plan: Plan
    source: IndexInfo
    target: IndexInfo | None
    ownership: Ownership

    @property
    def moves(self) -> tuple[PlannedMove, ...]:
        return self.plan.moves


def way_back(plan: Plan, backup: Backup | None = None) -> str:
    """Say how a person undoes the plan's job, before its clean-up and after."""
    after = reversing.way_back(plan)
    if backup is not None:
        return (
            f"until clean-up `vecfleet rollback`; after it {after}, or the whole index as it was, under "
            f"another name, by `vecfleet backup restore {backup.id} {full_name(plan.source.store, 'NAME')}`"
        )
    return f"until clean-up `vecfleet rollback`; after it {after}"


def check(fleet: Fleet, plan: Plan) -> Checked:
    """Check that the plan still fits. Read-only. Raises Refused with every objection to applying it now."""
    snapshot: OwnershipSnapshot | None = None
    if plan.ownership is not None:
        snapshot = look_up_again(plan.ownership, fleet.settings)
    encoded = plan.policies.encoded_ids
    source = seen(fleet.store_named(plan.source.store), encoded)
    into = seen(fleet.store_named(plan.target.store), encoded) if plan.target.store != plan.source.store else None
    survey = survey_again(source, plan, root=fleet.settings.vecfleet_root, into=into)
    objections = check_plan(plan, survey, snapshot)
    if plan.keeps_files:
        objections += folders_that_are_tenants(fleet, plan.target.index)
    if objections:
        raise Refused(
            "the plan no longer fits the stores: " + "; ".join(objections),
            code="plan-outdated",
            next_step="look at it with `vecfleet audit`, then make the plan again",
            objections=objections,
        )
    target = survey.target if not plan.same_index else survey.source
    return Checked(
        plan=plan,
        source=plan.source.named(survey.source),
        target=plan.target.named(target) if target is not None else None,
        ownership=snapshot.ownership if snapshot else Ownership(),
    )


def folders_that_are_tenants(fleet: Fleet, folder: str) -> list[str]:
    """Object to a folder that an erasure made. No erasure looks there, so other tenants' records in it would stay."""
    if not fleet.folders.is_handed_out(folder):
        return []
    return [f"the folder {folder!r} is a tenant's own, made by `vecfleet forget --export`: no erasure looks there"]


def apply(
    fleet: Fleet,
    plan: Plan,
    *,
    who: str,
    backup: Backup | None = None,
    no_backup: bool = False,
    on_wait: OnWait | None = None,
) -> int:
    """Start a job and return its id. Raises Refused if a guard or another job stands in the way.

    `on_wait` is called while the service converts or imports the source, if the plan says so; None: nobody waits.
    """
    if not (backup or no_backup or plan.keeps_files):
        raise Refused(
            f"there is no backup: after clean-up the only way back is {reversing.way_back(plan)}",
            code=BACKUP_MISSING,
            next_step="take one with `--backup`, or by `vecfleet plan export`; without any: `--no-backup`",
        )
    with tracing.span("apply", moves=len(plan.moves), records=plan.records) as note:
        job_id = _apply(fleet, plan, who, backup, on_wait)
        note(job=job_id)
    return job_id


def _apply(fleet: Fleet, plan: Plan, who: str, backup: Backup | None, on_wait: OnWait | None) -> int:
    from orchestrator.queue import require_broker  # loads Celery: a plan is read without it

    database = fleet.database
    require_broker(fleet.celery)
    with database.begin() as connection:
        # This check comes first: else a target with a live job's records would only be reported as not empty.
        jobs.require_alone(connection, plan.digest)
        jobs.require_not_done(connection, plan.digest)
    filled: _Filled | None = None
    if plan.policies.converted:
        with fillings.noting(fleet, plan, who, on_wait) as noted:
            checked, target, filled = _converted(fleet, plan, who, noted)
    elif plan.policies.bulk is not None:
        with fillings.noting(fleet, plan, who, on_wait) as noted:
            checked, target, filled = _bulk_imported(fleet, plan, plan.policies.bulk, who, noted)
    else:
        checked = check(fleet, plan)
        target = checked.target or _create_target(fleet, plan, checked.source)
    with database.begin() as connection:
        job_id = jobs.insert_job(
            connection,
            plan,
            source=checked.source,
            target=target,
            way_back=way_back(plan, backup),
            ownership=checked.ownership,
            created_by=who,
            batch_window=DEFAULT_WINDOW,
            pace_share=1.0 if plan.policies.exclusive else SHARED_SHARE,
            waits=_waits(fleet, plan, checked.source, target),
            traceparent=tracing.position(),
        )
        whole_indexes.require_staying(connection, plan)
        if filled is not None:
            whole_indexes.take_filled(connection, job_id, plan, filled.by)
            if filled.ended:
                index_acts.settle(connection, filled.noted)
        audit.note(
            connection, who, audit.APPLIED, job_id, plan=plan.digest, moves=len(plan.moves), records=plan.records
        )
    return job_id


@dataclass(frozen=True, slots=True)
class _Filled:
    """The key of the conversion or import that filled the target, what was noted of it, and whether all there ended."""

    by: str
    noted: index_acts.Filling
    ended: bool


def _converted(fleet: Fleet, plan: Plan, who: str, on_wait: OnWait | None) -> tuple[Checked, IndexInfo, _Filled]:
    """Have the service convert the source, or wait for the conversion that an earlier apply began.

    It may take hours, so the plan is checked before it and after it.
    """
    begun = conversion.find(fleet, plan)
    if begun is None:
        checked = check(fleet, plan)
        conversion.require_absent(plan, checked.target)
        with fillings.asking(fleet, plan, checked.source.host, who) as noted:
            begun = conversion.begin(fleet, plan, checked.source, on_wait)
    else:
        with fleet.database.begin() as connection:
            whole_indexes.require_filled_anew(connection, plan, begun.id)
        noted = fillings.go_on(fleet, plan, who, begun.created_at)
    conversion.finish(fleet, plan, begun, on_wait)
    checked = check(fleet, plan)
    target = conversion.require_made(plan, checked.target)
    fillings.require_none_erased(fleet, plan, target, noted)
    conversion.require_all_planned(fleet, plan, target)
    return checked, target, _Filled(begun.id, noted, fillings.has_ended(fleet.accounts, noted))


def _bulk_imported(
    fleet: Fleet, plan: Plan, files: BulkFiles, who: str, on_wait: OnWait | None
) -> tuple[Checked, IndexInfo, _Filled]:
    """Have the service import the plan's files, or wait for the import that an earlier apply began."""
    wait = bulk_import.require_wait(files, on_wait)
    begun = bulk_import.find(fleet, plan, files)
    if begun is not None:
        with fleet.database.begin() as connection:
            whole_indexes.require_filled_anew(connection, plan, begun.key)
        noted = fillings.go_on(fleet, plan, who, begun.created_at)
        begun = bulk_import.finish(fleet, plan, begun, wait)
    checked = check(fleet, plan)
    target = checked.target or _create_target(fleet, plan, checked.source)
    if begun is None:
        bulk_import.require_new(fleet, plan, target)
        with fillings.asking(fleet, plan, target.host, who) as noted:
            begun = bulk_import.begin(fleet, plan, files, target)
        begun = bulk_import.finish(fleet, plan, begun, wait)
    fillings.require_none_erased(fleet, plan, target, noted)
    if plan.create_target is not None:
        conversion.require_all_planned(fleet, plan, target)
    return checked, target, _Filled(begun.key, noted, fillings.has_ended(fleet.accounts, noted))


def _waits(fleet: Fleet, plan: Plan, source: IndexInfo, target: IndexInfo) -> Waits:
    """Return the waits that this job keeps to its end; 0 for a store whose reads show every write at once."""

    def lag_s(store: str, info: IndexInfo) -> float:
        lags = fleet.store_named(store).open(info).limits.reads_lag
        return fleet.settings.freshness_wait_seconds if lags else 0.0

    return Waits(
        source_lag_s=lag_s(plan.source.store, source),
        target_lag_s=lag_s(plan.target.store, target),
        routes_stale_s=fleet.settings.routes_stale_seconds,
    )


def _create_target(fleet: Fleet, plan: Plan, source: IndexInfo) -> IndexInfo:
    new = plan.create_target
    assert new is not None, "check_plan refuses a plan whose target is gone and not to be created"
    like = replace(
        plan.target_like(plan.target.shape(source)),
        tags=source.tags if new.tags is None else new.tags,
        deletion_protection=new.deletion_protection,
        read_capacity=new.read_capacity,
    )
    created = fleet.store_named(plan.target.store).create_like(plan.target.index, like, new.cloud, new.region)
    return plan.target.named(created)
