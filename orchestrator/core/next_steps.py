"""Commands that a person can type next, for each state of a job. Pure, and the only place that knows these commands.

The terminal prints them as `next:`, `--json` as `next_steps`, the web page as its links.
"""

from datetime import datetime, timedelta

from orchestrator.core.budget import as_much_again, over_budget
from orchestrator.core.following import anybody_follows
from orchestrator.core.guards import against_proof
from orchestrator.core.hooks import holding, way_on
from orchestrator.core.model import JobColumns
from orchestrator.core.reading import JobRow, Reading
from orchestrator.core.states import JOB_EDGES, JOB_WORKING, CheckState, JobState, MoveState
from orchestrator.core.wording import POLICY_WAITS, WORKER, plan_keeping

_S = JobState
MOVING = JOB_WORKING | {_S.PLANNED, _S.PAUSING, _S.CANCELLING}
"""States that a job leaves by itself while its fleet runs."""
_COPIES = frozenset({"namespaces", "index", "stores"})
"""Recipes of which both sides often stay: a person is told how to end them without a deletion."""


def next_steps(reading: Reading) -> tuple[str, ...]:
    """Return commands, the likeliest first; at least one for every state. A hook that holds the job is asked again."""
    steps = _by_state(reading)
    way = way_on(reading.job.id, reading.job.reason)
    if way is None:
        return steps
    held = holding(reading.job.reason) is not None  # then there is nothing to watch
    return (way, *(step for step in steps if step != way and not (held and step.endswith("--watch"))))


def _by_state(reading: Reading) -> tuple[str, ...]:
    job = reading.job
    watch = f"vecfleet status {job.id} --watch"
    match job.state:
        case _S.NEEDS_ATTENTION:
            return _attention(reading)
        case _S.PAUSED:
            first = (*_lacking(job), *reading.confirmations, *_levers(reading))
            return (*first, f"vecfleet resume {job.id}", *_passing(reading), _giving_up(reading))
        case _S.VERIFIED | _S.CUT_OVER if job.cleaning_at is not None:  # the clean-up goes on by itself
            return (*_objected(reading), watch)
        case _S.VERIFIED if job.cut_over_percent == 100:  # the verdict is new: the job returns to cut over by itself
            return (watch, f"vecfleet reverse {job.id}")
        case _S.VERIFIED if (due := _before_moving(reading)) is not None:
            return (due, f"vecfleet {'reverse' if job.cut_over_percent else 'rollback'} {job.id}")
        case _S.VERIFIED if reading.watched_until:
            return (f"vecfleet report {job.id}", f"vecfleet reverse {job.id}")
        case _S.VERIFIED if job.cut_over_percent:
            return (f"vecfleet cutover {job.id} --percent 100", f"vecfleet reverse {job.id}")
        case _S.VERIFIED if moves_readers(reading) == "operator":
            cut_over = f"vecfleet cutover {job.id} --percent 100"
            on = [f"vecfleet pass {job.id}"] if job.policies.writers == "delta" else []
            ends = [f"vecfleet finish {job.id}"] if job.recipe in _COPIES else []
            ways = (*on, *ends, cut_over) if is_copy(reading) else (cut_over, *on, *ends)
            return (*ways, f"vecfleet rollback {job.id}")
        case _S.VERIFIED if keeps_in_step(job):
            return (f"vecfleet pass {job.id}", f"vecfleet finish {job.id}", f"vecfleet rollback {job.id}")
        case _S.VERIFIED if job.policies.cut_over == "none" and job.policies.clean_up == "operator":
            finish, cleanup, rollback = (f"vecfleet {act} {job.id}" for act in ("finish", "cleanup", "rollback"))
            # Both a copy and a move end here, so finishing comes first: it deletes nothing. A reverse plan is there to
            # delete its old side.
            return (cleanup, finish, rollback) if job.recipe == "reverse" else (finish, cleanup, rollback)
        case _S.CUT_OVER if job.policies.clean_up == "operator":
            if soaks_until(job, reading.now):
                return (f"vecfleet report {job.id}", f"vecfleet reverse {job.id}", f"vecfleet finish {job.id}")
            return (f"vecfleet cleanup {job.id}", f"vecfleet reverse {job.id}", f"vecfleet finish {job.id}")
        case _S.CUT_OVER:
            return (watch, f"vecfleet reverse {job.id}")
        case _S.CANCELLED | _S.FINISHED if not job.cut_over_percent and job.cleaning_at is None:
            ways = (f"vecfleet report {job.id}", f"vecfleet rollback {job.id}")
            return ways[::-1] if reading.conflicting else ways
        case _S.ROLLED_BACK if reading.conflicting:
            return (plan_keeping(job.recipe, job.command), f"vecfleet report {job.id}")
        case _S.CLEANED | _S.FINISHED | _S.CANCELLED | _S.ROLLED_BACK:
            return (f"vecfleet report {job.id}",)
        case _:
            return (*missing_processes(reading), watch)


def is_copy(reading: Reading) -> bool:
    """Say whether a verified job is likely a plain copy: no reader has moved, and no application asks for the routes.

    Its recipe copies names that a person chose, and so both sides may be wanted.
    """
    return reading.job.recipe in _COPIES and not reading.job.cut_over_percent and not anybody_follows(reading)


def keeps_in_step(job: JobRow) -> bool:
    """Say whether a verified job is a copy that follows its sources: applications use them, so none is deleted."""
    return _may_stay(job) and job.policies.writers == "delta"


def of_a_copy(job: JobRow) -> str | None:
    """Say what a person decides about a verified copy; None if its old side is to be deleted."""
    if not _may_stay(job):
        return None
    if keeps_in_step(job):
        return f"another `vecfleet pass {job.id}` takes along what writers did since"
    return "a person decides whether both sides stay or the old is deleted"


def _may_stay(job: JobRow) -> bool:
    """Say whether both sides may stay: no policy moves readers or deletes, and it is no way back from another job."""
    return _moves_nobody(job) and job.policies.clean_up == "operator" and job.recipe != "reverse"


def _giving_up(reading: Reading) -> str:
    """Return the command that gives the job up. Until its clean-up begins, readers on the new side go back first."""
    job, states = reading.job, reading.totals.namespaces
    begun = job.resume_to is _S.CLEANING or states.get(MoveState.CLEANING) or states.get(MoveState.CLEANED)
    return f"vecfleet {'reverse' if job.cut_over_percent and not begun else 'cancel'} {job.id}"


def going_back(job: JobColumns, *, deleting: bool) -> str:
    """Return the command with which a job that has not ended is taken back. `deleting`: its clean-up had begun."""
    ends = job.state in (_S.CLEANING, _S.CANCELLING, _S.ROLLING_BACK)
    if ends or (deleting and _S.CANCELLING not in JOB_EDGES[job.state]):
        return f"vecfleet status {job.id} --watch"
    if job.cut_over_percent and not deleting:
        return f"vecfleet reverse {job.id}"
    undone = _S.ROLLING_BACK in JOB_EDGES[job.state] and job.state not in (_S.PAUSING, _S.PAUSED) and not deleting
    return f"vecfleet {'rollback' if undone else 'cancel'} {job.id}"


def taking_back(job: JobColumns) -> tuple[str, ...]:
    """Return the commands that take back all that a job wrote, the one first that its state allows now."""
    first, undo = going_back(job, deleting=job.cleaning_at is not None), f"vecfleet rollback {job.id}"
    return (first,) if first == undo else (first, undo)


def _lacking(job: JobRow) -> list[str]:
    """Return the command that tells what a worker lacks; without it a resumed job pauses again."""
    return ["vecfleet doctor"] if (job.reason or "").startswith(WORKER) else []


def _levers(reading: Reading) -> list[str]:
    """Return the limits to raise before a paused job resumes; otherwise it pauses again."""
    job, levers = reading.job, []
    if reading.spent and over_budget(job.estimate, job.budget_factor, reading.spent):
        levers.append(f"vecfleet set {job.id} budget {as_much_again(job.estimate, reading.spent)}")
    if job.resume_to is _S.COPIED and _passes_ran_out(job):
        levers.append(f"vecfleet set {job.id} passes {job.passes + job.policies.max_passes}")
    return levers


def _passes_ran_out(job: JobRow) -> bool:
    """Say whether the sources still change and no pass is left to read them: a resumed job would pause again."""
    return job.policies.quiet_passes > 0 and job.passes >= job.passes_allowed


def moves_readers(reading: Reading) -> str:
    """Return who moves the readers on: as the plan says, until a person moves any. Then it is a person."""
    by_person = reading.job.cut_over_percent or (reading.proof and reading.proof.back)
    return "operator" if by_person else reading.job.policies.cut_over


def _moves_nobody(job: JobRow) -> bool:
    """Say whether the plan moves no reader, and no person did."""
    return job.policies.cut_over == "none" and not job.cut_over_percent


def soaks_until(job: JobRow, now: datetime) -> datetime | None:
    """Return the end of the soak time; None once it is over, or where a clean-up does not wait for it.

    Without any cut-over only the policy waits: a person who asks for the clean-up knows who reads the old.
    """
    since = job.verified_at if _moves_nobody(job) else job.cut_over_at
    if since is None or (_moves_nobody(job) and job.policies.clean_up == "operator"):
        return None
    soaked = since + timedelta(seconds=job.policies.soak_seconds)
    return soaked if now < soaked else None


def moving_on(reading: Reading) -> str:
    """Return the command that moves all readers of a verified job, or that is due before.

    Where the policy moves them, or moved readers are watched first, it is the one that shows this.
    """
    job = reading.job
    if (due := _before_moving(reading)) is not None:
        return due
    if moves_readers(reading) == "auto":
        return f"vecfleet status {job.id} --watch"
    return f"vecfleet status {job.id}" if reading.watched_until else f"vecfleet cutover {job.id} --percent 100"


def _before_moving(reading: Reading) -> str | None:
    """Return the command without which no further reader may move; None if nothing is due."""
    if reading.empty_targets and moves_readers(reading) != "none":
        return f"vecfleet park undo {reading.job.id} --all"
    return _renewal(reading)


def _renewal(reading: Reading) -> str | None:
    """Return the command that makes a new proof if the present one is too old to move readers on."""
    job, proof = reading.job, reading.proof
    against = against_proof(proof, job.policies, reading.now) if proof is not None else None
    return None if against is None else f"vecfleet {against[1]} {job.id}"


def missing_processes(reading: Reading) -> tuple[str, ...]:
    """Return the commands that start, in another terminal, the processes that a working job lacks."""
    if reading.job.state not in MOVING:
        return ()
    if not reading.led:
        return ("vecfleet dispatcher",)
    return ("vecfleet worker", "vecfleet doctor") if nobody_works(reading) else ()


# A running worker takes a wake-up in milliseconds, or holds other leases.
_ANSWERED_WITHIN_S = 3.0


def nobody_works(reading: Reading) -> bool:
    """Say whether wake-ups wait but no worker takes any."""
    since = reading.unanswered_since
    if reading.leased or since is None:
        return False
    return (reading.now - since).total_seconds() > _ANSWERED_WITHIN_S


def deciding(job: JobColumns, undecided: int, conflicting: int) -> list[str]:
    """Return the commands that settle parked records. What needs another plan leads to taking the job back."""
    return [
        *([f"vecfleet park accept {job.id} --all"] if undecided else []),
        *([f"vecfleet retry {job.id} parked"] if undecided > conflicting else []),
        *(taking_back(job)[:1] if conflicting else []),
    ]


def _passing(reading: Reading) -> list[str]:
    """Return the pass that copies a write made during a clean-up; the clean-up can then go on."""
    job = reading.job
    stopped = job.resume_to is _S.CLEANING and reading.parked_batches > 0
    return [f"vecfleet pass {job.id}"] if stopped and job.policies.quiet_passes else []


def _objected(reading: Reading) -> list[str]:
    """Return what a person can do if a guard stops a policy. Few objections go away by themselves."""
    job = reading.job
    if not (job.reason or "").startswith(POLICY_WAITS):
        return []
    listing = [f"vecfleet park list {job.id}"] if reading.parked_batches or reading.undecided else []
    return [*listing, f"vecfleet verify {job.id}"]


def _attention(reading: Reading) -> tuple[str, ...]:
    job = reading.job
    steps: list[str] = []
    if reading.parked_batches or reading.undecided:
        steps.append(f"vecfleet park list {job.id}")
    steps += _passing(reading)
    steps += reading.confirmations
    if reading.parked_batches:
        steps.append(f"vecfleet retry {job.id} failed")
    steps += deciding(job, reading.undecided, reading.conflicting)
    if steps and job.resume_to is _S.CLEANING:
        steps.append(f"vecfleet finish {job.id}")  # keeps what a guard refuses to delete
    if steps:
        return tuple(steps)
    if job.resume_to is _S.ROLLING_BACK:
        return (f"vecfleet rollback {job.id} --changed keep",)
    if job.resume_to is _S.CLEANING:
        return (f"vecfleet cleanup {job.id}",)
    if job.cleaning_at is not None:  # the clean-up may have deleted records: only a reverse plan restores them
        return (f"vecfleet report {job.id}", f"vecfleet verify {job.id}", _giving_up(reading))
    if job.resume_to is _S.COPIED and not set(reading.targets) - {CheckState.EMPTY}:  # another check proves no more
        undo = [f"vecfleet park undo {job.id} --all"] if reading.totals.left_behind else []
        return (f"vecfleet report {job.id}", *undo, _giving_up(reading))
    return (f"vecfleet report {job.id}", f"vecfleet verify {job.id}", f"vecfleet rollback {job.id}")
