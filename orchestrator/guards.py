"""What stands against an irreversible step: pure functions from facts to sentences. An empty answer means go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote

from migrations.plan import LEVELS, Level, Policies
from orchestrator.ledger.steps import TakenBack
from orchestrator.model import Job, Move, Target
from orchestrator.states import JobState, MoveState
from orchestrator.wording import being, counted, in_namespaces, wait_for_a_decision

# A verdict says what was true when it was made; a day later a person should look again (design §7).
VERDICT_GOES_STALE_AFTER = timedelta(hours=24)

# More than this is not what an application does in passing: a person must say that it is meant (design §8).
_FEW, _FEW_SHARE = 10, 0.01
_NAMED = 5  # namespaces named where more are meant


def removal_cap(records: int) -> int:
    """How many of so many records may be gone, or be removed, without a person naming a number."""
    return max(_FEW, int(records * _FEW_SHARE))


def may_go(records: int, said: int | None) -> int:
    """How many of so many records may be gone: what a person `said` of the job, or a few."""
    return removal_cap(records) if said is None else said


def missing_cap(records: int) -> int:
    """How many of a source's records may be missing where readers have moved to: never most of them.

    A few are what an application deletes; of a source of a few, they would be all there is.
    """
    return min(removal_cap(records), records // 2)


@dataclass(frozen=True, slots=True)
class MissingAt:
    """How many of the records that a job wrote to a target are missing there.

    `compared` were found missing one by one, so far. `uncounted`: by so many the service counts fewer than there should
    be, those that no batch has looked for yet included. `said`: what a person allowed of this target alone.
    `holds_nothing`: it is empty, or gone.
    """

    namespace: str
    compared: int
    written: int
    said: int | None
    holds_nothing: bool
    uncounted: int = 0

    @property
    def missing(self) -> int:
        return max(self.compared, min(self.uncounted, self.written))


def against_missing(job: Job, move: Move, missing: int, targets: Sequence[MissingAt]) -> str | None:
    """Why records that are missing where readers have moved to keep their source from being deleted. None: they do not.

    `missing` of the move, at targets of which a person said nothing. What was said of the job is no answer for a target
    that lost most of what was written to it: it may have been said of another one.
    """
    for target in targets:
        allowed = target.said
        if allowed is None:
            allowed = (
                0 if target.holds_nothing else min(may_go(target.written, job.missing_allowed), target.written // 2)
            )
        if target.missing > allowed:
            lost = (
                f"{target.missing} of the {target.written} records written to {target.namespace} are not there any more"
            )
            if target.holds_nothing:
                lost = f"{target.namespace} is empty or gone, and {target.written} records were written to it"
            count = target.written if target.holds_nothing else target.missing
            return (
                f"{lost}: their source may be the last place that has them. If the application deleted them there: "
                f"`vecfleet set {job.id} missing {count} --target {quote(target.namespace)}`, then retry"
            )
    if missing > (missing_cap(move.written) if job.missing_allowed is None else job.missing_allowed):
        return (
            f"{missing} records of {move.source} are not at their targets any more; if the application deleted "
            f"them there: `vecfleet set {job.id} missing N`, then retry"
        )
    return None


@dataclass(frozen=True, slots=True)
class CleanUpFacts:
    """What the job table knows right before a clean-up."""

    job: Job
    policies: Policies
    moves: Sequence[Move]
    targets: Sequence[Target]
    undecided: int
    parked_batches: int
    claimed_elsewhere: Sequence[str]  # sources of this job that another live job reads or writes


def against_clean_up(facts: CleanUpFacts, now: datetime) -> list[str]:
    """Every reason why the sources may not be deleted yet."""
    objections = [
        *against_state(facts.job, facts.policies, now),
        *_against_accounts(facts),
        *_against_verdicts(facts, now),
    ]
    waiting = [wait_for_a_decision(facts.undecided)] if facts.undecided else []
    if facts.parked_batches:
        waiting.append(counted(facts.parked_batches, "batch is parked", "batches are parked"))
    objections += [one for one in waiting if one != facts.job.reason]  # that one is said already
    objections += [f"another live job works on {name}" for name in facts.claimed_elsewhere]
    return objections


def way_to_clean_up(facts: CleanUpFacts, now: datetime) -> str:
    """The command that takes the first of the objections out of the way, or shows how long it stays."""
    job = facts.job
    if facts.undecided or facts.parked_batches:
        return f"vecfleet park list {job.id}"
    if job.state in (JobState.PLANNED, JobState.RUNNING, JobState.COPIED):
        return f"vecfleet status {job.id} --watch"
    if job.state is JobState.VERIFIED and against_state(job, facts.policies, now):
        return f"vecfleet cutover {job.id} --percent 100"
    if not against_state(job, facts.policies, now) and _against_verdicts(facts, now):
        return f"vecfleet verify {job.id} --watch"
    return f"vecfleet status {job.id}"


@dataclass(frozen=True, slots=True)
class Proof:
    """How old the proof of a target is to which readers may be moved next: the oldest where there are several.

    `passes` of the job have begun by now; `back` tells of readers that were taken back.
    """

    namespace: str
    verdict_at: datetime
    passes: int
    back: TakenBack | None


def against_proof(proof: Proof, policies: Policies, now: datetime) -> tuple[str, str] | None:
    """Why it is too old for readers, and the command that makes a new one. None: it is not.

    What applications wrote in the old places once their readers were back, only another pass reads.
    """
    back = proof.back
    since = f"readers were taken back at {back.at:%Y-%m-%d %H:%M:%S} UTC" if back else ""
    if back and policies.quiet_passes and proof.passes <= back.passes:
        return f"{since}, and no pass has read the sources since", "pass"
    if back and proof.verdict_at <= back.at:
        return f"{since}, and {proof.namespace} was not verified since", "verify"
    if now - proof.verdict_at > VERDICT_GOES_STALE_AFTER:
        return f"the verdict on {proof.namespace} is more than 24 hours old", "verify"
    return None


@dataclass(frozen=True, slots=True)
class DecommissionFacts:
    """What is known of an index right before it is deleted whole."""

    index: str
    jobs: Sequence[Job]  # that read from it, in the order of their making
    working: Sequence[int]  # jobs that hold namespaces of it
    held: Mapping[str, int]  # namespace → records listed there now
    protected: bool
    after: timedelta


def against_decommission(facts: DecommissionFacts, now: datetime) -> list[tuple[str, str]]:
    """Every reason why the index may not be deleted yet, each with what to do about it."""
    found = [(f"job {id} works on it", f"vecfleet status {id}") for id in facts.working]
    left = [job for job in facts.jobs if job.state is JobState.CLEANED]
    if not left:
        found.append(("no job has moved what is in it and cleaned it up", f"vecfleet plan index {facts.index} NEW"))
    for job in left:
        since = job.cut_over_at or job.ended_at or now
        if now < since + facts.after:
            found.append((f"job {job.id} is watched until {since + facts.after:%Y-%m-%d %H:%M} UTC", "wait until then"))
    if facts.held:
        named = ", ".join(list(facts.held)[:_NAMED]) + (", …" if len(facts.held) > _NAMED else "")
        count = sum(facts.held.values())
        found.append(
            (f"it still holds {in_namespaces(count, len(facts.held))}: {named}",
             f"vecfleet audit {facts.index}; move them, or vecfleet wipe --index {facts.index} --export FOLDER")
        )  # fmt: skip
    if facts.protected:
        found.append(("it is protected against deletion", "switch that off in Pinecone's console: Configure index"))
    return found


def against_state(job: Job, policies: Policies, now: datetime) -> list[str]:
    """What the job's row alone says against a clean-up."""
    if job.state in (JobState.PLANNED, JobState.RUNNING, JobState.COPIED):
        return [f"the job {being(job.state)}: its targets are not verified"]
    if job.state is JobState.NEEDS_ATTENTION and job.resume_to is not JobState.CLEANING:
        return [f"the job needs attention: {job.reason}"]
    if policies.cut_over == "none":
        return []
    if job.cut_over_percent < 100 or job.cut_over_at is None:
        return [f"readers are cut over at {job.cut_over_percent} %, not 100 %"]
    soaked = job.cut_over_at + timedelta(seconds=policies.soak_seconds)
    return [f"the soak time lasts until {soaked:%Y-%m-%d %H:%M:%S %Z}"] if now < soaked else []


def _against_accounts(facts: CleanUpFacts) -> list[str]:
    objections = []
    for move in facts.moves:
        if move.state not in (MoveState.VERIFIED, MoveState.CLEANING, MoveState.CLEANED, MoveState.PARKED):
            objections.append(f"{move.source} {being(move.state)}, not verified")
        elif move.listed != move.settled:
            objections.append(f"{move.source}: {move.listed} listed but {move.settled} accounted for")
    return objections


def against_landing(target: Target, now: datetime) -> str | None:
    """Why nothing may rest on a target yet: an upsert to it was not answered, and may write over what comes now.

    Nor on a verdict from before it could no longer land; the dispatcher has such a target checked again.
    """
    if target.lands_by is None:
        return None
    if now >= target.lands_by:
        checked = target.verdict_at is not None and target.verdict_at >= target.lands_by
        return None if checked else f"{target.namespace} is to be checked again: a late upsert may have landed there"
    return f"an upsert to {target.namespace} was not answered and may take effect until {target.lands_by:%H:%M:%S %Z}"


def proving(job: Job) -> Policies:
    """How its targets are proven: as the plan says, but without queries once a clean-up was asked for.

    The old side would answer them without what is deleted of it.
    """
    policies = job.plan.policies
    if job.cleaning_at is None or policies.verify != "content+query":
        return policies
    return policies.model_copy(update={"verify": "content"})


def reaches(target: Target, level: Level) -> bool:
    """Whether the verdict on a target was made as far as this level."""
    made = (target.verdict or {}).get("level", level)
    return LEVELS.index(made) >= LEVELS.index(level)


def _against_verdicts(facts: CleanUpFacts, now: datetime) -> list[str]:
    objections = []
    wanted = facts.policies.verify
    for target in facts.targets:
        landing = against_landing(target, now)
        if landing is not None:
            objections.append(landing)
        elif target.check_state not in ("verified", "empty") or target.verdict_at is None:
            objections.append(f"{target.namespace} has no verdict that it holds everything")
        elif target.sequence != target.check_sequence:
            objections.append(f"the verdict on {target.namespace} is void: it was written to since")
        elif now - target.verdict_at > VERDICT_GOES_STALE_AFTER:
            objections.append(f"the verdict on {target.namespace} is more than 24 hours old")
        elif not reaches(target, wanted):
            level = (target.verdict or {})["level"]
            objections.append(f"the verdict on {target.namespace} is of level {level}; the plan asks for {wanted}")
    return objections
