"""Refusals: each function raises Refused if the act of its name may not be done on a job now. They write nothing.

They read the facts from the job table and ask the guards. `acts` asks right before the act; the page asks before it
offers the button. While the job's row is locked, the answer holds until the transaction ends.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from migrations import reversing
from migrations.checks import EITHER
from migrations.plan import Level
from orchestrator.core.clean_up_guards import (
    CleanUpFacts,
    against_clean_up,
    against_landing,
    against_state,
    proving,
    reaches,
    way_to_clean_up,
)
from orchestrator.core.guards import Proof, against_empty, against_proof, against_routes, against_step, leading_on
from orchestrator.core.model import Job
from orchestrator.core.next_steps import moving_on
from orchestrator.core.states import (
    CHECK_PASSED,
    CLEANING,
    JOB_EDGES,
    JOB_ENDED,
    JOB_WORKING,
    BatchKind,
    JobState,
    MoveState,
)
from orchestrator.core.wording import being
from orchestrator.ledger import batches, checks, cleanup, jobs, moves, parked, rollout, route_table, routes
from orchestrator.ledger import status as job_status
from orchestrator.services import readers
from vecfleet.connections import full_name
from vecfleet.errors import Objection, Refused
from vecfleet.stores.documents import Layout
from vecfleet.tenancy.routes import share_of

RETRIED = JOB_WORKING | {JobState.NEEDS_ATTENTION}
"""States of a job in which a person decides about its parked batches and records."""
NOT_CLEANED = frozenset(MoveState) - {MoveState.CLEANED}
"""States of moves whose targets are proven again. A cleaned move's target was proven when its source was deleted."""
_VERIFIABLE = (JobState.COPIED, JobState.VERIFIED, JobState.NEEDS_ATTENTION, JobState.CUT_OVER)
_PASSABLE = (JobState.VERIFIED, JobState.CUT_OVER)


def status(job_id: int) -> str:
    return f"`vecfleet status {job_id}`"


def _not_now(job: Job, code: str, why: str) -> Refused:
    return Refused(why, code=code, next_step=status(job.id))


def pause(connection: sa.Connection, job: Job) -> None:
    if job.state not in (JobState.PAUSING, JobState.PAUSED) and JobState.PAUSING not in JOB_EDGES[job.state]:
        raise _not_now(job, "nothing-to-pause", f"a job that {being(job.state)} has nothing to pause")


def resume(connection: sa.Connection, job: Job) -> None:
    if job.state not in (JobState.PAUSING, JobState.PAUSED) or job.resume_to is None:
        raise _not_now(job, "not-paused", f"job {job.id} {being(job.state)}, not paused")


def cancel(connection: sa.Connection, job: Job) -> None:
    """Refuse while readers are on the new side, unless a clean-up began: its routes outlive the job."""
    if JobState.CANCELLING not in JOB_EDGES[job.state]:
        raise _not_now(job, "not-cancellable", f"a job that {being(job.state)} cannot be cancelled")
    if job.cut_over_percent and not cleaned_any(connection, job):
        first = "" if job.cut_over_percent == 100 else f"{_moving_all(connection, job)}, and then "
        raise Refused(
            f"readers are cut over at {job.cut_over_percent} %: without the job they would find the old namespaces, "
            "which lack what was written to the new ones since",
            code="readers-on-target",
            next_step=f"`vecfleet reverse {job.id}` takes them back, then cancel it; or {first}"
            f"`vecfleet finish {job.id}` keeps them on the new side, once the job is verified",
        )


def finish(connection: sa.Connection, job: Job) -> None:
    """Refuse unless the copy is proven and no batch is at work, or a clean-up stopped and its other sources stay."""
    if job.state is JobState.FINISHED:
        raise Refused(
            f"job {job.id} is finished already", code="not-finishable", next_step=f"`vecfleet report {job.id}`"
        )
    stopped = job.state is JobState.NEEDS_ATTENTION and job.resume_to is JobState.CLEANING
    if JobState.FINISHED not in JOB_EDGES[job.state] or (job.state is JobState.NEEDS_ATTENTION and not stopped):
        raise Refused(
            f"job {job.id} {being(job.state)}: a job is finished once it is verified",
            code="not-finishable",
            next_step=status(job.id),
        )
    if 0 < job.cut_over_percent < 100:
        raise Refused(
            f"readers are cut over at {job.cut_over_percent} %: all or none of them must be on the new side",
            code="readers-split",
            next_step=f"`vecfleet reverse {job.id}`, or {_moving_all(connection, job)}",
        )
    _require_landed(connection, job)
    readers.require_old_side_read(job)


def retry(connection: sa.Connection, job: Job) -> None:
    if job.state not in RETRIED:
        raise _not_now(job, "nothing-to-retry", f"a job that {being(job.state)} has nothing to retry")


def verify(connection: sa.Connection, job: Job, level: Level | None = None) -> None:
    within = is_within_clean_up(job)
    if not within and (job.state not in _VERIFIABLE or job.resume_to is JobState.ROLLING_BACK):
        raise _not_now(
            job,
            "not-verifiable",
            f"a job that {being(job.state)} cannot be verified: it must be copied, and not yet cleaned up",
        )
    if within:
        _require_landed(connection, job)
    if level == "content+query" and "parquet" in (job.plan.source.store, job.plan.target.store):
        raise Refused(
            "a folder of files answers no queries",
            code="no-queries",
            next_step=f"`vecfleet verify {job.id} --level content`",
        )
    if level == "content+query":
        _require_comparable(job)


def _require_comparable(job: Job) -> None:
    layout = Layout.of(job.target)
    if layout is not None and layout.scores_by_either:
        raise Refused(EITHER, code="no-queries", next_step=f"`vecfleet verify {job.id} --level content`")


def is_within_clean_up(job: Job) -> bool:
    """Say whether the clean-up has stopped before its end, with nothing in flight."""
    return job.state in (JobState.NEEDS_ATTENTION, JobState.PAUSED) and job.resume_to is JobState.CLEANING


def _require_landed(connection: sa.Connection, job: Job) -> None:
    if batches.any_landing(connection, job.id):
        raise Refused(
            "a deletion without an answer may still take effect",
            code="deletion-may-land",
            next_step="try again in a minute",
        )


def accept_batches(connection: sa.Connection, job: Job, batch_ids: Sequence[int] | None) -> None:
    """Refuse to leave the records of another kind of batch behind, because they were copied already."""
    waiting = [batch for batch in parked.batches(connection, job.id) if batch_ids is None or batch.id in batch_ids]
    if any(batch.kind is BatchKind.COPY for batch in waiting):
        return
    for batch in waiting:
        raise Refused(
            f"batch {batch.id} is a {batch.kind} batch, and only copy batches leave records behind; "
            f"{'its source stays as it is' if batch.kind in CLEANING else 'it is needed'} while it is parked",
            code="no-copy-batch",
            next_step=f"`vecfleet retry {job.id} failed --batch {batch.id}`"
            + (f", or `vecfleet finish {job.id}`: the sources that are left stay" if batch.kind in CLEANING else ""),
        )
    raise Refused(
        f"job {job.id} has no such parked copy batch", code="not-parked", next_step=f"`vecfleet park list {job.id}`"
    )


def undo_left_behind(connection: sa.Connection, job: Job) -> None:
    """Refuse once sources were deleted, or while written records are removed."""
    phase = job.resume_to if job.state in (JobState.PAUSING, JobState.PAUSED, JobState.NEEDS_ATTENTION) else job.state
    if job.state in JOB_ENDED | {JobState.CANCELLING} or phase in (JobState.CLEANING, JobState.ROLLING_BACK):
        raise Refused(
            f"job {job.id} {being(job.state)}: decisions to leave records behind can be changed until clean-up",
            code="decision-late",
            next_step=status(job.id),
        )
    if cleaned_any(connection, job):
        raise Refused(
            "sources were deleted: records that were left behind stay there",
            code="sources-deleted",
            next_step=status(job.id),
        )


def another_pass(connection: sa.Connection, job: Job) -> None:
    if not job.plan.policies.quiet_passes:
        raise Refused(
            f"the plan of job {job.id} stops the writers: its sources are read once",
            code="writers-stopped",
            next_step=f"`vecfleet verify {job.id}` reads the targets back again",
        )
    within = is_within_clean_up(job)
    if job.state not in _PASSABLE and not within:
        raise _not_now(job, "no-pass", f"a job that {being(job.state)} has no pass to add")
    if within:
        _require_landed(connection, job)


def cut_over(connection: sa.Connection, job: Job, percent: int) -> None:
    if job.state not in (JobState.VERIFIED, JobState.CUT_OVER):
        raise _not_now(job, "not-verified", f"job {job.id} {being(job.state)}: only a verified job is cut over")
    if percent < 100 and cleaned_any(connection, job):
        raise _not_now(job, "sources-deleted", "sources are deleted: no reader goes back to them")
    _require_cut_over(connection, job, percent, now(connection))


def reverse(connection: sa.Connection, job: Job) -> None:
    if job.state in (JobState.FINISHED, JobState.CANCELLED):
        raise Refused(
            f"job {job.id} is {job.state}: other jobs may have its old namespaces by now",
            code=f"job-{job.state}",
            next_step=f"`vecfleet plan reverse {job.id}` plans a way back",
        )
    moved = bool(job.cut_over_percent) or job.state in (JobState.VERIFIED, JobState.CUT_OVER)
    if not moved or cleaned_any(connection, job):
        raise _not_now(
            job, "not-reversible", f"job {job.id} {being(job.state)}: a cut-over is reversed before clean-up"
        )


def clean_up(connection: sa.Connection, job: Job) -> None:
    """Raise Refused with every objection to a clean-up, and the command that removes the first one."""
    if job.state in JOB_ENDED:
        why = "both sides stay" if job.state is JobState.FINISHED else "there is nothing to clean up"
        raise Refused(
            f"job {job.id} {being(job.state)}: {why}", code="not-cleanable", next_step=f"`vecfleet report {job.id}`"
        )
    left = set(checks.targets_of_moves(connection, job.id, NOT_CLEANED))
    every = moves.of_job(connection, job.id)
    sources, index = [move.source for move in every], full_name(job.plan.source.store, job.source.name)
    at = now(connection)
    facts = CleanUpFacts(
        job=job,
        policies=proving(job),
        moves=every,
        targets=[target for target in moves.targets_of_job(connection, job.id) if target.id in left],
        undecided=parked.undecided(connection, job.id),
        parked_batches=sum(1 for batch in parked.batches(connection, job.id)),
        claimed_elsewhere=jobs.claimed_elsewhere(connection, job),
        readers_moved=routes.any_moved(connection, job.id),
        routed=route_table.leading_to(connection, job.source.host, index, sources, but=job),
    )
    objections = against_clean_up(facts, at)
    if not objections and JobState.CLEANING not in JOB_EDGES[job.state]:
        objections = [Objection("not-cleanable", f"the job {being(job.state)}")]
    if objections:
        moving = moving_on(job_status.reading(connection, job.id, namespaces=0))
        raise Refused(objections=objections, next_step=way_to_clean_up(facts, at, moving))


def clean_up_by_state(connection: sa.Connection, job: Job) -> None:
    """Guard as `clean_up` does, but by the job's row and readers, which is cheap for any number of namespaces."""
    readers_moved = routes.any_moved(connection, job.id)
    objections = against_state(job, job.plan.policies, now(connection), readers_moved=readers_moved)
    if objections:
        raise Refused(objections=objections, next_step=status(job.id))


def roll_back(connection: sa.Connection, job: Job) -> None:
    # A paused job is resumed or cancelled first: its batches in flight must end, because an undo must not race a copy.
    paused = job.state in (JobState.PAUSING, JobState.PAUSED)
    # Only a late write takes a job from rolled back to rolling back. A person has nothing left to undo then, and
    # another job may have written the same records since.
    ended = job.state in (JobState.CLEANED, JobState.ROLLED_BACK)
    cleaned = cleaned_any(connection, job)
    if paused or ended or JobState.ROLLING_BACK not in JOB_EDGES[job.state] or cleaned:
        cancels = JobState.CANCELLING in JOB_EDGES[job.state] and not cleaned
        see = f"cancel it first, or see {status(job.id)}" if cancels else status(job.id)
        raise Refused(
            f"job {job.id} {being(job.state)}: rolling back works on copied data before clean-up",
            code="not-revertible",
            next_step=_after_the_end(job) if ended else see,
        )
    if job.cut_over_percent:
        raise Refused(
            f"readers are cut over at {job.cut_over_percent} %",
            code="readers-on-target",
            next_step=f"`vecfleet plan reverse {job.id}`"
            if job.state in JOB_ENDED
            else f"`vecfleet reverse {job.id}` first",
        )
    if batches.any_copy_leased(connection, job.id):
        raise Refused(
            "a copy is still in flight: an undo must not race it",
            code="copy-in-flight",
            next_step="try again in a minute",
        )
    _require_landed(connection, job)
    require_unrouted_targets(connection, job)


def _after_the_end(job: Job) -> str:
    """Return the way back of a job that is over: a plan of its own, or a look where nothing is left to take back."""
    return reversing.way_back(job.plan, job.id) if job.state is JobState.CLEANED else f"`vecfleet report {job.id}`"


def require_unrouted_targets(connection: sa.Connection, job: Job) -> None:
    """Refuse to remove what the job wrote where routes of a younger job lead: those tenants read it there."""
    index = full_name(job.plan.target.store, job.target.name)
    targets = [target.namespace for target in moves.targets_of_job(connection, job.id)]
    leading = route_table.leading_to(connection, job.target.host, index, targets, but=job)
    objections = against_routes([route for route in leading if (route.job or 0) > job.id])
    if objections:
        raise Refused(objections=objections, next_step=f"{leading_on(index)}; or leave what job {job.id} wrote there")


def cleaned_any(connection: sa.Connection, job: Job) -> bool:
    """Say whether sources are being deleted, or a deletion was ever sent, which may still take effect."""
    states = moves.counts_by_state(connection, job.id)
    begun = bool(states.get(MoveState.CLEANING) or states.get(MoveState.CLEANED))
    return begun or job.resume_to is JobState.CLEANING or cleanup.any_intended(connection, job.id)


def _moving_all(connection: sa.Connection, job: Job) -> str:
    """Return the command that moves the other readers too, and from when on it is open or what is due before."""
    all_of_them = f"`vecfleet cutover {job.id} --percent 100`"
    until = rollout.watched_until(connection, job.id, job.plan.policies, now(connection))
    if until is not None:
        return f"{all_of_them} from {until:%Y-%m-%d %H:%M:%S} UTC on"
    due = f"`{moving_on(job_status.reading(connection, job.id, namespaces=0))}`"
    return all_of_them if due == all_of_them else f"{due}, then {all_of_them}"


def now(connection: sa.Connection) -> datetime:
    moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return moment


def _require_cut_over(connection: sa.Connection, job: Job, percent: int, now: datetime) -> None:
    """Raise Refused if `percent` of the readers may not be on the new side yet. Writes nothing."""
    _require_verdicts(connection, job, percent, now)
    _require_records(connection, job, percent)
    readers.require_no_detour(connection, job)
    _require_step(connection, job, percent, now)


def _require_records(connection: sa.Connection, job: Job, percent: int) -> None:
    """Refuse to move readers to a target that is empty because its records were left behind."""
    there = {route.new_namespace for route in routes.of_job(connection, job.id) if route.side == "new"}
    objections = against_empty(
        {
            namespace: count
            for namespace, count in parked.left_empty(connection, job.id).items()
            if namespace not in there and share_of(namespace, job.salt) < percent
        }
    )
    if objections:
        raise Refused(
            "; ".join(objections),
            next_step=f"`vecfleet park undo {job.id} --all`, then `vecfleet retry {job.id} parked` copies them",
            objections=tuple(objections),
        )


def _require_verdicts(connection: sa.Connection, job: Job, percent: int, now: datetime) -> None:
    """Require a valid verdict on every target, and a recent one on each target that readers move to now."""
    back = rollout.taken_back(connection, job.id)
    there = {route.new_namespace for route in routes.of_job(connection, job.id) if route.side == "new"}
    for target in moves.targets_of_job(connection, job.id):
        landing = against_landing(target, now)
        if landing is not None:
            raise Refused(landing, next_step=f"cut over then; `vecfleet status {job.id} --watch` follows it")
        valid = target.check_state in CHECK_PASSED and target.sequence == target.check_sequence
        why, command = Objection("verdict-missing", f"{target.namespace} has no valid verdict"), "verify"
        if valid and target.verdict_at is not None and reaches(target, proving(job).verify):
            gains = target.namespace not in there and share_of(target.namespace, job.salt) < percent
            proof = Proof(target.namespace, target.verdict_at, job.passes, back)
            against = against_proof(proof, job.plan.policies, now) if gains else None
            if against is None:
                continue
            why, command = against
        raise Refused(why, next_step=f"`vecfleet {command} {job.id}`, then cut over")


def _require_step(connection: sa.Connection, job: Job, percent: int, now: datetime) -> None:
    step = rollout.current(connection, job.id) if job.cut_over_percent else None
    objections = against_step(step, percent, job.plan.policies, now)
    if objections:
        raise Refused(objections=objections, next_step=f"wait, or take the readers back: `vecfleet reverse {job.id}`")
