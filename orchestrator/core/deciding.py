"""Decide the next commands of a job from a snapshot and the time. Pure: the dispatcher gathers, asks and applies."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from migrations.plan import Policies
from orchestrator.core.freshness import next_pass_at, readable_from
from orchestrator.core.model import Job
from orchestrator.core.reading import RollBackProgress
from orchestrator.core.states import (
    CHECKING,
    CLEANING,
    COPYING,
    JOB_EDGES,
    JOB_WORKING,
    ROLLING_BACK,
    BatchKind,
    BatchState,
    CheckState,
    JobState,
    MoveState,
)
from orchestrator.core.wording import counted, parked_records_wait


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """Facts about one job in the job table at this moment."""

    job: Job
    policies: Policies
    moves: Mapping[MoveState, int]
    batches: Mapping[tuple[BatchKind, BatchState], int]
    undecided: int
    targets: Mapping[str, int]
    void: tuple[int, ...]
    differing: int
    changed: int = 0  # records that the last pass found new, changed or gone
    over_budget: str | None = None
    landing: bool = False  # an unanswered deletion may still take effect: its namespaces stay claimed
    readers_moved: bool = False  # any reader, now or before: only the target may hold some records
    roll_back: RollBackProgress | None = None
    may_write: bool = False  # a client that follows freezes may still write by routes from before this one

    def unsettled(self, *kinds: BatchKind) -> int:
        return sum(n for (kind, state), n in self.batches.items() if kind in kinds and state is not BatchState.PARKED)

    def parked(self, *kinds: BatchKind) -> int:
        return sum(self.batches.get((kind, BatchState.PARKED), 0) for kind in kinds)

    @property
    def leased(self) -> int:
        return sum(n for (_, state), n in self.batches.items() if state is BatchState.LEASED)


@dataclass(frozen=True, slots=True)
class To:
    """Change the job's state."""

    state: JobState
    reason: str | None = None
    resume_to: JobState | None = None


@dataclass(frozen=True, slots=True)
class Freeze:
    """Note that every client that asks for the routes from now on finds the sources frozen."""


@dataclass(frozen=True, slots=True)
class Start:
    """Create the listing batch of every move."""


@dataclass(frozen=True, slots=True)
class EndPass:
    """Note that every source was read once more, and whether the pass was `quiet`: it found no change."""

    quiet: bool


@dataclass(frozen=True, slots=True)
class NextPass:
    """List and read every source again; copy the changes."""


@dataclass(frozen=True, slots=True)
class CheckTargets:
    """Start to check every target that is ready for it."""


@dataclass(frozen=True, slots=True)
class CheckAgain:
    """Check these targets again: their verdicts are void."""

    target_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repair:
    """Copy the differing batches again."""


@dataclass(frozen=True, slots=True)
class CutOver:
    """Move all readers to the new side, as the policy says."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Delete the old side, as the policy says; a person passes the same guards."""


@dataclass(frozen=True, slots=True)
class AddClears:
    """Add the batch that deletes a move's namespace once every record of it was read again."""


@dataclass(frozen=True, slots=True)
class AddUndos:
    """Delete the records that the job wrote, because nothing stands against the rollback."""


@dataclass(frozen=True, slots=True)
class AddDrops:
    """Delete the namespaces that we created."""


Command = (
    To
    | Freeze
    | Start
    | EndPass
    | NextPass
    | CheckTargets
    | CheckAgain
    | Repair
    | CutOver
    | CleanUp
    | AddClears
    | AddUndos
    | AddDrops
)


def decide(snapshot: JobSnapshot, now: datetime) -> list[Command]:
    """Return the next commands, with at most one change of state; the next tick sees its effect."""
    if snapshot.over_budget is not None and JobState.PAUSING in JOB_EDGES[snapshot.job.state]:
        return [To(JobState.PAUSING, snapshot.over_budget, snapshot.job.state)]
    match snapshot.job.state:
        case JobState.PLANNED:
            return _planned(snapshot, now)
        case JobState.RUNNING:
            return _running(snapshot)
        case JobState.COPIED:
            return _copied(snapshot, now)
        case JobState.VERIFIED | JobState.CUT_OVER if snapshot.void:
            return [CheckAgain(snapshot.void), To(JobState.COPIED, "a target was written to after its verdict")]
        case JobState.VERIFIED if snapshot.job.cut_over_percent == 100:
            return [CutOver()]  # only the verdict is new: all readers were moved before
        case JobState.VERIFIED if snapshot.policies.cut_over == "auto":
            # The policy leaves readers alone once a person has moved any of them.
            return [] if snapshot.readers_moved else [CutOver()]
        case JobState.VERIFIED | JobState.CUT_OVER if goes_on_cleaning(snapshot):
            return [CleanUp()]  # a clean-up was asked for; another pass or verification interrupted it
        case JobState.VERIFIED if snapshot.policies.cut_over == "none" and not snapshot.readers_moved:
            return _maybe_clean_up(snapshot, snapshot.job.verified_at, now)
        case JobState.CUT_OVER:
            return _maybe_clean_up(snapshot, snapshot.job.cut_over_at, now)
        case JobState.CLEANING:
            return _cleaning(snapshot)
        case JobState.ROLLING_BACK:
            return _rolling_back(snapshot)
        case JobState.PAUSING if snapshot.leased == 0:
            return [To(JobState.PAUSED, snapshot.job.reason, snapshot.job.resume_to)]
        case JobState.CANCELLING if snapshot.leased == 0 and not snapshot.landing:
            return [To(JobState.CANCELLED, snapshot.job.reason)]
        case JobState.NEEDS_ATTENTION:
            return _attended(snapshot)
        case _:
            return []


def _planned(snapshot: JobSnapshot, now: datetime) -> list[Command]:
    """Start the job once its sources may be read. A client that asks for the routes later finds them frozen."""
    if snapshot.may_write and snapshot.job.frozen_at is None:
        return [Freeze()]
    readable = readable_from(snapshot.job, snapshot.policies)
    return [] if readable is not None and now < readable else [Start(), To(JobState.RUNNING)]


def goes_on_cleaning(snapshot: JobSnapshot) -> bool:
    """Say whether a requested clean-up was interrupted and goes on now. Taking readers back ends a clean-up."""
    unread = snapshot.policies.cut_over == "none" and not snapshot.readers_moved
    done = JobState.VERIFIED if unread else JobState.CUT_OVER
    return snapshot.job.cleaning_at is not None and snapshot.job.state is done


def _running(snapshot: JobSnapshot) -> list[Command]:
    if snapshot.unsettled(*COPYING):
        return [] if snapshot.policies.quiet_passes else [CheckTargets()]
    return _parked_copies(snapshot) or [To(JobState.COPIED)]


def _parked_copies(snapshot: JobSnapshot) -> list[Command]:
    parked = snapshot.parked(*COPYING)
    if not parked:
        return []
    reason = counted(parked, "batch is parked", "batches are parked")
    return [To(JobState.NEEDS_ATTENTION, reason, JobState.RUNNING)]


def _copied(snapshot: JobSnapshot, now: datetime) -> list[Command]:
    if snapshot.unsettled(*COPYING):
        return [To(JobState.RUNNING, "batches are open again")]
    if snapshot.parked(*COPYING):
        return _parked_copies(snapshot)
    if snapshot.policies.quiet_passes and snapshot.job.passes_ended < snapshot.job.passes:
        return [EndPass(quiet=snapshot.changed == 0)]
    if snapshot.job.quiet_passes < snapshot.policies.quiet_passes:
        not_before = next_pass_at(snapshot.job) if snapshot.job.quiet_passes else None
        return _next_pass(snapshot.job) if not_before is None or now >= not_before else []
    if snapshot.void:
        return [CheckAgain(snapshot.void)]
    if snapshot.targets.get(CheckState.WAITING):
        return [CheckTargets()]
    if snapshot.targets.get(CheckState.CHECKING):
        parked = snapshot.parked(*CHECKING)
        if parked and not snapshot.unsettled(*CHECKING):
            return [
                To(JobState.NEEDS_ATTENTION, counted(parked, "check is parked", "checks are parked"), JobState.COPIED)
            ]
        return []
    differing = snapshot.targets.get(CheckState.MISMATCHED, 0)
    if differing and snapshot.policies.writers == "dual":
        return _differing_under_dual(snapshot, differing)
    if differing and snapshot.job.doubted_at is not None:
        return [To(JobState.NEEDS_ATTENTION, _in_doubt(snapshot.job, differing), JobState.COPIED)]
    if differing and snapshot.job.cleaning_at is not None:
        return [To(JobState.NEEDS_ATTENTION, _within_clean_up(snapshot.job, differing), JobState.COPIED)]
    if differing:
        rounds_left = snapshot.job.repairs < snapshot.policies.repair_rounds
        if snapshot.differing and rounds_left:
            return [
                Repair(),
                To(JobState.RUNNING, "repairing " + counted(differing, "target that differs", "targets that differ")),
            ]
        return [To(JobState.NEEDS_ATTENTION, _differ(differing), JobState.COPIED)]
    if snapshot.undecided:
        return [To(JobState.NEEDS_ATTENTION, parked_records_wait(snapshot.undecided), JobState.COPIED)]
    if not snapshot.targets.get(CheckState.VERIFIED):
        return [To(JobState.NEEDS_ATTENTION, "not verified: nothing was copied", JobState.COPIED)]
    return [To(JobState.VERIFIED)]


def _differing_under_dual(snapshot: JobSnapshot, differing: int) -> list[Command]:
    """Start another pass. The application may have written to one side just before the other; the pass sees both.

    Ask a person if passes find nothing new and a target still differs, for example because somebody else writes to it.
    """
    if snapshot.job.quiet_passes < snapshot.policies.quiet_passes + snapshot.policies.repair_rounds:
        return _next_pass(snapshot.job)
    return [To(JobState.NEEDS_ATTENTION, _differ(differing), JobState.COPIED)]


def _differ(targets: int) -> str:
    return counted(targets, "target differs from its sources", "targets differ from their sources")


def _in_doubt(job: Job, differing: int) -> str:
    """Say why nothing is repaired: a lost commit may have moved readers, and then targets may hold newer records."""
    return (
        f"{_differ(differing)}, and commits of the job table were lost: `vecfleet report {job.id}` lists what differs; "
        f"if applications wrote none of these records, `vecfleet set {job.id} doubt 0` and `vecfleet verify {job.id}`: "
        "a repair then replaces them"
    )


def _within_clean_up(job: Job, differing: int) -> str:
    """Say why nothing is repaired: once a clean-up is asked for, an application may write to the targets alone."""
    return (
        f"{_differ(differing)}; applications may have written newer records there after the clean-up was asked for: "
        f"`vecfleet report {job.id}` lists what differs; make both sides equal and `vecfleet verify {job.id}`, "
        f"or `vecfleet cancel {job.id}`, which keeps the sources that are left"
    )


def _next_pass(job: Job) -> list[Command]:
    if job.passes < job.passes_allowed:
        return [
            NextPass(),
            To(JobState.RUNNING, f"pass {job.passes + 1}: writers go on"),
        ]
    reason = (
        f"{job.passes} passes, and the sources still change: allow more by "
        f"`vecfleet set {job.id} passes {job.passes + job.plan.policies.max_passes}` and resume, or stop the writers"
    )
    return [To(JobState.PAUSING, reason, JobState.COPIED)]


def _maybe_clean_up(snapshot: JobSnapshot, since: datetime | None, now: datetime) -> list[Command]:
    if snapshot.policies.clean_up != "auto" or since is None:
        return []
    soaked = now - since >= timedelta(seconds=snapshot.policies.soak_seconds)
    return [CleanUp()] if soaked else []


def _cleaning(snapshot: JobSnapshot) -> list[Command]:
    if snapshot.unsettled(*CLEANING):
        return [AddClears()]
    if snapshot.moves.get(MoveState.CLEANING):
        return [AddClears()]
    parked = snapshot.moves.get(MoveState.PARKED, 0)
    if parked:
        reason = counted(parked, "source was not deleted: a guard refused", "sources were not deleted: a guard refused")
        return [To(JobState.NEEDS_ATTENTION, reason, JobState.CLEANING)]
    return [To(JobState.CLEANED)]


def _rolling_back(snapshot: JobSnapshot) -> list[Command]:
    progress = snapshot.roll_back
    assert progress is not None
    if snapshot.unsettled(*ROLLING_BACK):
        return []
    parked = snapshot.parked(*ROLLING_BACK)
    if parked:
        reason = counted(parked, "batch of the roll back is parked", "batches of the roll back are parked")
        return [To(JobState.NEEDS_ATTENTION, reason, JobState.ROLLING_BACK)]
    if progress.changed and snapshot.job.changed_records is None:
        records = counted(progress.changed, "record at the targets is", "records at the targets are")
        reason = f"refused: {records} no longer what the job wrote"
        return [To(JobState.NEEDS_ATTENTION, reason, JobState.ROLLING_BACK)]
    if progress.not_undone:
        return [AddUndos()]
    if progress.drops < progress.droppable:
        return [AddDrops()]
    return [To(JobState.ROLLED_BACK)]


def _attended(snapshot: JobSnapshot) -> list[Command]:
    """Resume a job where it stopped if a person has removed what stopped it."""
    back = snapshot.job.resume_to
    if back is None or back not in JOB_WORKING:
        return []
    if back is JobState.ROLLING_BACK:
        return []
    after = decide(_as_if(snapshot, back), datetime.min.replace(tzinfo=UTC))
    stuck = any(isinstance(command, To) and command.state is JobState.NEEDS_ATTENTION for command in after)
    return [] if stuck else [To(JobState.RUNNING if back is JobState.RUNNING else back)]


def _as_if(snapshot: JobSnapshot, state: JobState) -> JobSnapshot:
    return replace(snapshot, job=replace(snapshot.job, state=state))
