"""Acts of a person on a job: each is a guard, a compare-and-set and an audit row in one transaction.

The `…_in` functions work in the caller's transaction; the dispatcher uses them to act for a policy.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from migrations.plan import Level
from orchestrator.core.freshness import both_sides_fresh_from, fresh_from, new_side_fresh_from
from orchestrator.core.hooks import Hook
from orchestrator.core.model import Job
from orchestrator.core.states import JOB_ENDED, CheckState, JobState, MoveState
from orchestrator.core.two_persons import TwoPersons
from orchestrator.core.wording import counted
from orchestrator.ledger import audit, batches, checks, cleanup, jobs, moves, parked, passes, rollback, rollout, routes
from orchestrator.ledger.audit import COMMENT
from orchestrator.ledger.database import NOW, Database
from orchestrator.ledger.late_calls import settle_late_calls
from orchestrator.ledger.routes import JobRoute
from orchestrator.services import hooks, refusals
from vecfleet.errors import BadInput, Refused
from vecfleet.tenancy.routes import share_of

MAX_WINDOW = 1_000
MAX_HOURS = 168
MAX_COMMENT = 500


def pause(database: Database, job_id: int, who: str, reason: str = "a person asked") -> None:
    """Pause the job: no new batch is leased, and the job is paused once the batches in flight have ended."""
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        pause_in(connection, job, who, reason)


def pause_in(connection: sa.Connection, job: Job, who: str, reason: str) -> None:
    if job.state in (JobState.PAUSING, JobState.PAUSED):
        return
    refusals.pause(connection, job)
    jobs.advance(connection, job.id, job.state, JobState.PAUSING, reason=reason, resume_to=job.state)
    audit.note(connection, who, "pause", job.id, reason=reason)


def resume(database: Database, job_id: int, who: str) -> None:
    """Go on where the pause interrupted the job."""
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.resume(connection, job)
        assert job.resume_to is not None
        if job.resume_to is JobState.CLEANING:
            cleanup.prove_again(connection, job_id)
        _reads_show_before(connection, job, job.resume_to)
        jobs.advance(connection, job_id, job.state, job.resume_to)
        audit.note(connection, who, "resume", job_id)


def cancel(database: Database, job_id: int, who: str) -> None:
    """Give the job up: batches in flight end, and nothing is removed. `roll_back` removes the written records."""
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.cancel(connection, job)
        jobs.advance(connection, job_id, job.state, JobState.CANCELLING, reason=f"cancelled by {who}")
        audit.note(connection, who, "cancel", job_id)


def finish(database: Database, job_id: int, who: str) -> None:
    """End a proven job and keep both sides: nothing is deleted, and other jobs may use its namespaces."""
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.finish(connection, job)
        jobs.advance(connection, job_id, job.state, JobState.FINISHED, reason=f"finished by {who}: both sides stay")
        audit.note(connection, who, "finish", job_id)


def comment(database: Database, job_id: int, who: str, text: str) -> None:
    """Add a person's words to the job's audit trail. An erasure empties them if they name the tenant."""
    words = " ".join(text.split())
    if not words or len(words) > MAX_COMMENT or not words.isprintable():
        raise BadInput(f"a comment has 1 to {MAX_COMMENT} letters", next_step="write fewer, on one line")
    with database.begin() as connection:
        jobs.get(connection, job_id)
        audit.note(connection, who, COMMENT, job_id, text=words)


def retry(database: Database, job_id: int, who: str, what: str, only: Sequence[int] | None = None) -> int:
    """Retry parked batches (`failed`), batches of undecided parked records (`parked`), or both (`all`).

    `only`: retry just these parked batches. Raises Refused if there is nothing to retry or one of `only` is not parked.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.retry(connection, job)
        count = 0
        if what in ("failed", "all"):
            count += _retry_batches(connection, job_id, only)
            cleanup.prove_again(connection, job_id)
        if what in ("parked", "all"):
            count += parked.retry_records(connection, job_id)
        if count == 0:
            sought = {"failed": "failed batches", "parked": "parked records"}
            raise Refused(
                f"job {job_id} has no {sought.get(what, ' or '.join(sought.values()))} to retry",
                code="nothing-to-retry",
                next_step=refusals.status(job_id),
            )
        goes_on = _state_for_retry(connection, job) if job.state is JobState.NEEDS_ATTENTION else job.state
        _reads_show_before(connection, job, goes_on)
        if job.state is JobState.NEEDS_ATTENTION:
            jobs.advance(connection, job_id, job.state, goes_on)
        elif job.state is JobState.COPIED:
            jobs.advance(
                connection,
                job_id,
                job.state,
                JobState.RUNNING,
                reason=f"{who} retries {counted(count, 'batch', 'batches')}",
            )
        audit.note(connection, who, "retry", job_id, what=what, batches=count)
        return count


def _retry_batches(connection: sa.Connection, job_id: int, only: Sequence[int] | None) -> int:
    waiting = parked.batches(connection, job_id)
    unknown = sorted(set(only or ()) - {batch.id for batch in waiting})
    if unknown:
        raise Refused(
            f"batch {unknown[0]} of job {job_id} is not parked: nothing was changed",
            code="not-parked",
            next_step=f"`vecfleet park list {job_id}`",
        )
    return parked.retry_batches(connection, job_id, [batch for batch in waiting if only is None or batch.id in only])


def _reads_show_before(connection: sa.Connection, job: Job, goes_on: JobState) -> None:
    """Let a rollback that goes on wait until reads show what was written while it, or a batch of it, stood still."""
    if goes_on is JobState.ROLLING_BACK:
        rollback.wait_until(connection, job.id, both_sides_fresh_from(refusals.now(connection), job.waits))


def may_begin(connection: sa.Connection, job: Job) -> bool:
    """Say whether batches of the job may begin now; call wake-ups back while its window is closed.

    A rollback stood still while it was closed. `job` is as it was before this look.
    """
    if not jobs.may_begin(connection, job):
        jobs.recall(connection, job.id)
        return False
    if job.begins_until is not None and job.begins_until <= refusals.now(connection):
        _reads_show_before(connection, job, job.state)
    return True


def _state_for_retry(connection: sa.Connection, job: Job) -> JobState:
    if job.resume_to in (JobState.CLEANING, JobState.ROLLING_BACK):
        return job.resume_to
    opened = moves.counts_by_state(connection, job.id)
    copying = {MoveState.LISTING, MoveState.COPYING, MoveState.REPAIRING}
    return JobState.RUNNING if any(opened.get(state) for state in copying) else JobState.COPIED


def verify(database: Database, job_id: int, who: str, level: Level | None = None) -> int:
    """Check every target again, whatever its verdict is, at the plan's level or at `level`.

    Return the number of targets.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.verify(connection, job, level)
        if refusals.is_within_clean_up(job):
            passes.leave_cleaning(connection, job_id)
        targets = checks.targets_of_moves(connection, job_id, refusals.NOT_CLEANED)
        checks.restart(connection, targets, level)
        settle_late_calls(connection, job_id)
        if job.state is not JobState.COPIED:
            jobs.advance(connection, job_id, job.state, JobState.COPIED, reason=f"{who} asked for a verification")
        audit.note(connection, who, "verify", job_id, targets=len(targets), level=level or job.plan.policies.verify)
        return len(targets)


def another_pass(database: Database, job_id: int, who: str, *, whole: bool = False) -> int:
    """Read every source once more because writers go on; then verify again. Return the number of the pass.

    `whole`: read also sources whose store tells of no write since they were read. Within a clean-up, read only sources
    for which no deletion was sent, and these whole. The clean-up goes on afterwards.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.another_pass(connection, job)
        if refusals.is_within_clean_up(job) and not passes.leave_cleaning(connection, job_id):
            raise Refused(
                "a deletion of every source that is left was sent: a pass might take its effect for deletions by the "
                "application",
                code="nothing-left-to-read",
                next_step=f"`vecfleet retry {job_id} failed` finds out what was deleted",
            )
        if whole or refusals.is_within_clean_up(job):
            passes.forget_readings(connection, job_id)
        number = job.passes + 1
        jobs.change(connection, job_id, quiet_passes=0, passes_allowed=job.passes + job.plan.policies.max_passes)
        jobs.advance(connection, job_id, job.state, JobState.COPIED, reason=f"{who} asked for another pass")
        audit.note(connection, who, "pass", job_id, number=number)
        return number


def cut_over(database: Database, job_id: int, who: str, percent: int) -> list[JobRoute]:
    """Move the readers of `percent` of the twins to the new side. Return all routes."""
    return hooks.with_leave(
        database, lambda connection: cut_over_in(connection, jobs.get(connection, job_id, lock=True), percent, who)
    )


def cut_over_in(connection: sa.Connection, job: Job, percent: int, who: str) -> list[JobRoute]:
    if not 0 < percent <= 100:
        raise BadInput(
            f"{percent} % is not a share of twins",
            next_step=f"give a whole number from 1 to 100; back to 0: `vecfleet reverse {job.id}`",
        )
    refusals.cut_over(connection, job, percent)
    if percent > job.cut_over_percent:
        hooks.use(connection, job, hooks.require(connection, job, Hook.BEFORE_CUT_OVER, who, percent))
    every = routes.ensure(connection, job)
    new = [route.id for route in every if place_of(route, job.salt) < percent]
    routes.set_sides(connection, new=new, old=[route.id for route in every if route.id not in set(new)])
    moves.hand_authority(connection, job.id, [route.new_namespace for route in every if route.id in set(new)])
    # The soak time starts when all readers are on the new side. Nothing is cleaned up before that.
    soaking = {} if percent == 100 else {"cut_over_at": None, "cleaning_at": None}
    if percent != job.cut_over_percent:
        rollout.begin(connection, job, percent)
    jobs.change(connection, job.id, cut_over_percent=percent, **soaking)
    if percent == 100 and job.state is JobState.VERIFIED:
        jobs.advance(connection, job.id, job.state, JobState.CUT_OVER)
    elif percent < 100 and job.state is JobState.CUT_OVER:
        jobs.advance(connection, job.id, job.state, JobState.VERIFIED)
    audit.note(connection, who, "cut over", job.id, percent=percent, routes=len(new))
    return routes.of_job(connection, job.id)


def place_of(route: JobRoute, salt: str) -> float:
    """Return a twin's place, 0 to 100, in the order in which readers move: fixed in a job, unrelated between jobs."""
    return share_of(route.new_namespace, salt)


def reverse(database: Database, job_id: int, who: str) -> list[JobRoute]:
    """Move all readers back to the old side, in any state of the job until a deletion of a source was sent."""
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.reverse(connection, job)
        return reverse_in(connection, job, who)


def reverse_in(connection: sa.Connection, job: Job, who: str, reason: str | None = None) -> list[JobRoute]:
    routes.set_sides(connection, new=[], old=[route.id for route in routes.of_job(connection, job.id)])
    if job.cut_over_percent:
        rollout.begin(connection, job, 0)
    # Checks under way may have read records before the readers were back, so they start again.
    targets = moves.targets_of_job(connection, job.id)
    checks.restart(connection, [target.id for target in targets if target.check_state == CheckState.CHECKING])
    jobs.change(connection, job.id, cut_over_percent=0, cut_over_at=None, cleaning_at=None)
    if job.state is JobState.CUT_OVER:
        why = f"reversed by {who}" + (f": {reason}" if reason else "")
        jobs.advance(connection, job.id, job.state, JobState.VERIFIED, reason=why)
    audit.note(connection, who, "reverse", job.id, **({"why": reason} if reason else {}))
    return routes.of_job(connection, job.id)


def clean_up(database: Database, job_id: int, who: str, *, by_ids: bool) -> None:
    """Delete the sources; read each record again on both sides right before. Raises Refused with every objection."""
    hooks.with_leave(
        database,
        lambda connection: clean_up_in(connection, jobs.get(connection, job_id, lock=True), by_ids=by_ids, who=who),
    )


def clean_up_in(connection: sa.Connection, job: Job, *, by_ids: bool, who: str) -> None:
    jobs.lock_claims(connection)  # from here on no other job takes a source of this one, and leads tenants there
    refusals.clean_up(connection, job)
    step = f"vecfleet cleanup {job.id}"
    agreed = hooks.require_two(connection, TwoPersons.CLEAN_UP, str(job.id), who, step, job.id)
    hooks.use(connection, job, hooks.require(connection, job, Hook.BEFORE_CLEAN_UP, who), agreed)
    every = moves.of_job(connection, job.id, [MoveState.VERIFIED])
    one_by_one = [move.id for move in every if by_ids or move.keeps_some or move.clean_mode == "by_ids"]
    jobs.advance(connection, job.id, job.state, JobState.CLEANING)
    not_before = fresh_from(jobs.get(connection, job.id), job.plan.policies)
    cleanup.prove_again(connection, job.id)  # sources that a pass skipped because their deletion was sent
    cleanup.begin_cleaning(connection, job.id, one_by_one, not_before)
    audit.note(connection, who, "clean up", job.id, sources=[move.source for move in every], by_ids=len(one_by_one))


def roll_back(database: Database, job_id: int, who: str, changed: str | None) -> None:
    """Remove the records that the job wrote, once every written batch was compared.

    `changed` says what happens to records that changed since; None: stop if there are any.
    """
    if changed not in (None, "keep"):
        raise BadInput(f"changed records can be kept, not {changed!r}", next_step="`--changed keep`")
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.roll_back(connection, job)
        back = rollout.taken_back(connection, job_id)
        fresh = [] if back is None else [new_side_fresh_from(back.at, job.waits)]
        if job.state in JOB_ENDED:
            claim_again(connection, job)
        if job.state in JOB_ENDED or job.resume_to is JobState.ROLLING_BACK:  # then it found what others changed
            fresh.append(both_sides_fresh_from(refusals.now(connection), job.waits))
        jobs.change(connection, job_id, changed_records=changed)
        rollback.begin_rolling_back(connection, job_id, max(fresh, default=None))
        settle_late_calls(connection, job_id)
        jobs.advance(connection, job_id, job.state, JobState.ROLLING_BACK)
        audit.note(connection, who, "roll back", job_id, changed=changed)


def claim_again(connection: sa.Connection, job: Job) -> None:
    """Claim the namespaces again that an ended job gave up, to roll it back.

    Raises Refused if one is taken, or if a younger job leads tenants there: with the claims nobody else can any more.
    """
    sources = [move.source for move in moves.of_job(connection, job.id)]
    targets = [target.namespace for target in moves.targets_of_job(connection, job.id)]
    jobs.require_alone(connection, job.plan.digest, but=job.id)
    jobs.claim(connection, job.id, job.source.host, sources, "source")
    jobs.claim(connection, job.id, job.target.host, targets, "target")
    refusals.require_unrouted_targets(connection, job)


def set_lever(database: Database, job_id: int, who: str, lever: str, value: float, target: str | None = None) -> None:
    """Change how hard a running job works, how much it may spend, and how many records it may find missing.

    `window`: batches at once. `pace`: share of the documented limits. `budget`: factor on the estimate.
    `hours`: batches may begin for so long from now, outside their maintenance window, too; 0: in the window alone.
    `passes`: readings of the sources in all. `missing`: how many records of each source the application may have
    deleted since the plan, since the listing or between two passes, in the source or where readers moved to; with a
    `target`, how many of the records written there may be missing, even all of them.
    `doubt` 0: the job table is right about this job although commits were lost.
    """
    if target is not None and lever != "missing":
        raise BadInput(
            f"{lever} belongs to the job, not to a target", next_step=f"`vecfleet set {job_id} {lever} {value:g}`"
        )
    values: dict[str, Any]
    match lever:
        case "window" if 1 <= value <= MAX_WINDOW and value == int(value):
            values = {"batch_window": int(value)}
        case "budget" if value > 0:
            values = {"budget_factor": value}
        case "budget":
            raise BadInput(
                f"a budget of {value:g} is not possible",
                next_step=f"give how many times the estimate may be spent, above 0: `vecfleet set {job_id} budget 3`",
            )
        case "pace" if 0 < value <= 1:
            values = {"pace_share": value}
        case "hours" if 0 <= value <= MAX_HOURS:
            values = {"begins_until": NOW + batches.interval(value * 3_600)}
        case "hours":
            raise BadInput(f"{value:g} hours are not possible", next_step=f"give hours from now, 0 to {MAX_HOURS}")
        case "passes" if value >= 1 and value == int(value):
            values = {"passes_allowed": int(value)}
        case "passes":
            raise BadInput(f"{value:g} passes are not possible", next_step="give a whole number from 1")
        case "missing" if value >= 0 and value == int(value):
            values = {"missing_allowed": int(value)}
        case "missing":
            raise BadInput(f"{value:g} records cannot be missing", next_step="give a whole number from 0")
        case "doubt" if value == 0:
            values = {"doubted_at": None}
        case "doubt":
            raise BadInput(
                f"a doubt can only be ended, not set to {value:g}",
                next_step=f"once you have compared both sides: `vecfleet set {job_id} doubt 0`",
            )
        case "window":
            raise BadInput(
                f"a window of {value:g} is not possible", next_step=f"give a whole number from 1 to {MAX_WINDOW}"
            )
        case "pace":
            raise BadInput(
                f"a pace of {value:g} is not possible", next_step="give a share of the limits above 0, up to 1.0"
            )
        case _:
            raise BadInput(
                f"there is no lever '{lever}'",
                next_step="`window`, `hours`, `pace`, `budget`, `passes`, `missing`, `doubt` or `workers`",
            )
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        if lever == "hours" and job.plan.policies.window is None:
            raise BadInput(
                f"job {job_id} has no maintenance window: its batches begin at any hour",
                next_step=f"`vecfleet pause {job_id}` stops it, `vecfleet resume {job_id}` lets it go on",
            )
        if target is None:
            jobs.change(connection, job_id, **values)
            if lever == "hours":
                _reads_show_before(connection, job, job.state)
        else:
            moves.allow_missing(connection, job_id, target, int(value))
        audit.note(connection, who, "set", job_id, lever=lever, value=value, **({"target": target} if target else {}))
