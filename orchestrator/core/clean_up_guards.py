"""Objections to deleting the sources of a job: pure functions from facts to sentences. An empty answer means go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from migrations.findings import few
from migrations.plan import LEVELS, Level, Policies
from orchestrator.core.guards import VERDICT_GOES_STALE_AFTER, against_routes, leading_on
from orchestrator.core.model import Job, Move, Target
from orchestrator.core.states import CHECK_PASSED, JobState, MoveState
from orchestrator.core.wording import being, counted, parked_records_wait
from vecfleet.errors import Objection
from vecfleet.tenancy.routes import Route


@dataclass(frozen=True, slots=True)
class CleanUpFacts:
    """Facts in the job table right before a clean-up."""

    job: Job
    policies: Policies
    moves: Sequence[Move]
    targets: Sequence[Target]
    undecided: int
    parked_batches: int
    claimed_elsewhere: Mapping[str, int]  # sources of this job, each with another live job that reads or writes it
    readers_moved: bool  # any reader, now or before
    routed: Sequence[Route]  # routes of other jobs that lead to sources of this one


@dataclass(frozen=True, slots=True)
class _Finding:
    """An objection about one namespace. `several`: the sentence about several such namespaces, `{}` their count."""

    namespace: str
    alone: Objection
    several: str


def _summed_up(findings: Iterable[_Finding]) -> list[Objection]:
    """Return one objection for each cause: about several namespaces it gives their count and names a few."""
    causes: dict[tuple[str, str], list[_Finding]] = {}
    for finding in findings:
        causes.setdefault((finding.alone.code, finding.several), []).append(finding)
    return [
        Objection(code, f"{several.format(f'{len(each):,}')}: {few((it.namespace for it in each), quoted=False)}")
        if len(each) > 1
        else each[0].alone
        for (code, several), each in causes.items()
    ]


def against_clean_up(facts: CleanUpFacts, now: datetime) -> list[Objection]:
    """Return every reason why the sources may not be deleted yet."""
    objections = [
        *against_state(facts.job, facts.policies, now, readers_moved=facts.readers_moved),
        *_against_accounts(facts),
        *_against_verdicts(facts, now),
    ]
    waiting = [Objection("records-parked", parked_records_wait(facts.undecided))] if facts.undecided else []
    if facts.parked_batches:
        parked = counted(facts.parked_batches, "batch is parked", "batches are parked")
        waiting.append(Objection("batches-parked", parked))
    objections += [reason for reason in waiting if reason != facts.job.reason]  # the job's own reason is shown already
    objections += _summed_up(
        _Finding(
            name, Objection("source-claimed", f"job {other} works on {name}"), f"job {other} works on {{}} sources"
        )
        for name, other in facts.claimed_elsewhere.items()
    )
    return objections + against_routes(facts.routed)


def way_to_clean_up(facts: CleanUpFacts, now: datetime, moving_on: str) -> str:
    """Return the command that removes the first objection, or that shows how long the objection lasts.

    `moving_on`: the command that moves the other readers, or that is due before.
    """
    job = facts.job
    if facts.undecided or facts.parked_batches:
        return f"vecfleet park list {job.id}"
    if job.state in (JobState.PLANNED, JobState.RUNNING, JobState.COPIED):
        return f"vecfleet status {job.id} --watch"
    by_state = against_state(job, facts.policies, now, readers_moved=facts.readers_moved)
    if job.state is JobState.VERIFIED and by_state and job.cut_over_percent < 100:
        return moving_on
    if not by_state and _against_verdicts(facts, now):
        return f"vecfleet verify {job.id} --watch"
    if facts.routed:
        ways = [] if job.cut_over_percent else [f"`vecfleet cutover {job.id} --percent 100` leads on whose name stays"]
        ways += [leading_on(job.plan.source.typed), f"or keep both sides: `vecfleet finish {job.id}`"]
        return "; ".join(ways)
    blocking = next(iter(facts.claimed_elsewhere.values()), job.id) if not by_state else job.id
    return f"vecfleet status {blocking}"


def against_state(job: Job, policies: Policies, now: datetime, *, readers_moved: bool) -> list[Objection]:
    """Return the objections to a clean-up that the job's row shows.

    Once a person moved any reader, a plan without a cut-over counts as one with it: its routes lead readers.
    """
    if job.state in (JobState.PLANNED, JobState.RUNNING, JobState.COPIED):
        return [Objection("not-verified", f"the job {being(job.state)}: its targets are not verified")]
    if job.state is JobState.NEEDS_ATTENTION and job.resume_to is not JobState.CLEANING:
        return [Objection("attention-needed", f"the job needs attention: {job.reason}")]
    if policies.cut_over == "none" and not readers_moved:
        return []
    if job.cut_over_percent < 100 or job.cut_over_at is None:
        return [Objection("readers-on-source", f"readers are cut over at {job.cut_over_percent} %, not 100 %")]
    soaked = job.cut_over_at + timedelta(seconds=policies.soak_seconds)
    said = f"the soak time lasts until {soaked:%Y-%m-%d %H:%M:%S %Z}"
    return [Objection("soak-time", said)] if now < soaked else []


def _against_accounts(facts: CleanUpFacts) -> list[Objection]:
    findings: list[_Finding] = []
    for move in facts.moves:
        if move.state not in (MoveState.VERIFIED, MoveState.CLEANING, MoveState.CLEANED, MoveState.PARKED):
            said = f"{move.source} {being(move.state)}, not verified"
            several = "{} sources are not verified"
            findings.append(_Finding(move.source, Objection("source-unverified", said), several))
        elif move.listed != move.settled:
            said = f"{move.source}: {move.listed} listed but {move.settled} accounted for"
            several = "{} sources have other counts of listed records than of records accounted for"
            findings.append(_Finding(move.source, Objection("accounts-open", said), several))
    return _summed_up(findings)


def against_landing(target: Target, now: datetime) -> Objection | None:
    """Say why a target cannot be trusted yet: an upsert to it was not answered and may still overwrite records.

    A verdict from before `lands_by` does not count; the dispatcher has such a target checked again.
    """
    if target.lands_by is None:
        return None
    if now >= target.lands_by:
        checked = target.verdict_at is not None and target.verdict_at >= target.lands_by
        late = f"{target.namespace} is to be checked again: a late upsert may have taken effect there"
        return None if checked else Objection("upsert-landed", late)
    until = f"{target.lands_by:%H:%M:%S %Z}"
    return Objection(
        "upsert-may-land", f"an upsert to {target.namespace} was not answered and may take effect until {until}"
    )


def proving(job: Job) -> Policies:
    """Return the policies for proving the job's targets: the plan's, but without queries once a clean-up is asked for.

    From then on the old side lacks deleted records, so its answers to queries prove nothing.
    """
    policies = job.plan.policies
    if job.cleaning_at is None or policies.verify != "content+query":
        return policies
    return policies.model_copy(update={"verify": "content"})


def reaches(target: Target, level: Level) -> bool:
    """Say whether the verdict on a target reaches this level."""
    made = (target.verdict or {}).get("level", level)
    return LEVELS.index(made) >= LEVELS.index(level)


def _against_verdicts(facts: CleanUpFacts, now: datetime) -> list[Objection]:
    found = ((target.namespace, _against_verdict(target, facts.policies.verify, now)) for target in facts.targets)
    return _summed_up(_Finding(name, against, _SEVERAL[against.code]) for name, against in found if against is not None)


_SEVERAL = {
    "upsert-may-land": "{} targets had an upsert that was not answered and may still take effect",
    "upsert-landed": "{} targets are to be checked again: a late upsert may have taken effect there",
    "verdict-missing": "{} targets have no verdict that they hold everything",
    "verdict-void": "{} targets were written to since their verdicts, which are void",
    "verdict-old": "the verdicts on {} targets are more than 24 hours old",
    "verdict-shallow": "the verdicts on {} targets are of a lower level than the plan asks for",
}


def _against_verdict(target: Target, wanted: Level, now: datetime) -> Objection | None:
    landing, name = against_landing(target, now), target.namespace
    if landing is not None:
        return landing
    if target.check_state not in CHECK_PASSED or target.verdict_at is None:
        return Objection("verdict-missing", f"{name} has no verdict that it holds everything")
    if target.sequence != target.check_sequence:
        return Objection("verdict-void", f"the verdict on {name} is void: it was written to since")
    if now - target.verdict_at > VERDICT_GOES_STALE_AFTER:
        return Objection("verdict-old", f"the verdict on {name} is more than 24 hours old")
    if not reaches(target, wanted):
        level = (target.verdict or {})["level"]
        return Objection("verdict-shallow", f"the verdict on {name} is of level {level}; the plan asks for {wanted}")
    return None
