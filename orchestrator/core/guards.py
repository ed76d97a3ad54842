"""Objections to an irreversible step: pure functions from facts to sentences. An empty answer means go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from migrations.findings import few
from migrations.plan import Policies
from orchestrator.core.confirming import confirmation
from orchestrator.core.model import Job, Move
from orchestrator.core.states import JobState
from orchestrator.core.wording import counted, duration, in_namespaces, would_stay_behind
from vecfleet import names
from vecfleet.errors import Objection
from vecfleet.tenancy import query_metrics
from vecfleet.tenancy.routes import Route
from vecfleet.tenancy.shadow_reads import Evidence

# A verdict holds for its time. A day later a person should look again.
VERDICT_GOES_STALE_AFTER = timedelta(hours=24)

# An application deletes a few records in passing. A person must confirm that more are meant to be gone.
_FEW, _FEW_SHARE = 10, 0.01
_NAMED = 5  # namespaces that a sentence names; it shortens a longer list


DWELLS_FROM_PERCENT = 25  # seed 003: 5 % is watched, 25 % and 50 % each for a day
ENOUGH = 100  # queries to both sides; fewer prove nothing


def removal_cap(records: int) -> int:
    """Return how many of `records` may be gone or be removed unless a person names a number."""
    return max(_FEW, int(records * _FEW_SHARE))


def may_go(records: int, said: int | None) -> int:
    """Return how many of `records` may be gone: the number that a person `said` for the job, or a few."""
    return removal_cap(records) if said is None else said


def missing_cap(records: int) -> int:
    """Return how many of a source's records may be missing on the side that readers moved to: never most of them.

    An application may delete a few records; a small source may hold no more than that.
    """
    return min(removal_cap(records), records // 2)


def against_leaving_behind(moves: Sequence[Move]) -> list[str]:
    """Return why a person must confirm leaving records behind: they are more than a few of a source, or most of it."""
    much = [move for move in moves if move.left_behind > missing_cap(move.listed)]
    named, rest = much[:_NAMED], much[_NAMED:]
    said = [would_stay_behind(move.left_behind, move.listed, move.source) for move in named]
    if rest:
        left_behind, listed = sum(move.left_behind for move in rest), sum(move.listed for move in rest)
        sources = counted(len(rest), "more source", "more sources")
        said.append(would_stay_behind(left_behind, listed, sources))
    return said


def against_empty(left_behind: Mapping[str, int]) -> list[str]:
    """Return why readers may not move to these empty targets. `left_behind`: the records meant for each."""
    if len(left_behind) > 1:
        return [
            f"{len(left_behind):,} targets are empty: {counted(sum(left_behind.values()), 'record', 'records')} meant "
            "for them were left behind, and their readers would find nothing: " + few(left_behind, quoted=False)
        ]
    return [
        f"{namespace} is empty: {counted(count, 'record', 'records')} meant for it "
        f"{'was' if count == 1 else 'were'} left behind, and its readers would find nothing"
        for namespace, count in left_behind.items()
    ]


@dataclass(frozen=True, slots=True)
class MissingAt:
    """Count of the records that a job wrote to a target and that are missing there.

    `compared`: records found missing one by one so far. `uncounted`: the shortfall of the service's own count, which
    includes records that no batch has compared yet. `said`: the number that a person allowed for this target alone.
    `holds_nothing`: the target is empty or gone.
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
    """Say why the source must stay because of records missing at its targets. None: nothing is against its deletion.

    `missing` counts the move's records at targets for which a person named no number. A number for the job does not
    cover a target that lost most of its records: the person may have meant another target.
    """
    for target in targets:
        allowed = target.said
        if allowed is None:
            allowed = (
                0 if target.holds_nothing else min(may_go(target.written, job.missing_allowed), target.written // 2)
            )
        if target.missing > allowed:
            lost = (
                f"{target.missing} of the {target.written} records written to {target.namespace} "
                f"{'is' if target.missing == 1 else 'are'} not there any more"
            )
            if target.holds_nothing:
                lost = f"{target.namespace} is empty or gone, and {target.written} records were written to it"
            count = target.written if target.holds_nothing else target.missing
            return (
                f"{lost}: the source may be the last place that has them. If the application deleted them there: "
                f"`{confirmation(job.id, count, target.namespace)}`, then `vecfleet retry {job.id} failed`"
            )
    if missing > (missing_cap(move.written) if job.missing_allowed is None else job.missing_allowed):
        return (
            f"{counted(missing, 'record', 'records')} of {move.source} {'is' if missing == 1 else 'are'} not at their "
            f"targets any more; if the application deleted them there: `{confirmation(job.id, missing)}`, then "
            f"`vecfleet retry {job.id} failed`"
        )
    return None


@dataclass(frozen=True, slots=True)
class Step:
    percent: int
    since: datetime
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The last time at which any readers were taken back; `passes` of their job had begun by then."""

    at: datetime
    passes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """Proof of the target to which readers may be moved next; the oldest proof if there are several targets.

    `passes`: passes of the job begun by now. `back`: the last time readers were taken back.
    """

    namespace: str
    verdict_at: datetime
    passes: int
    back: TakenBack | None


def against_proof(proof: Proof, policies: Policies, now: datetime) -> tuple[Objection, str] | None:
    """Say why a proof is too old for readers, and name the command that makes a new one. None: it is recent enough.

    Once readers are back, applications write to the old side, and only another pass reads those writes.
    """
    back = proof.back
    since = f"readers were taken back at {back.at:%Y-%m-%d %H:%M:%S} UTC" if back else ""
    if back and policies.quiet_passes and proof.passes <= back.passes:
        return Objection("pass-missing", f"{since}, and no pass has read the sources since"), "pass"
    if back and proof.verdict_at <= back.at:
        return Objection("verdict-void", f"{since}, and {proof.namespace} was not verified since"), "verify"
    if now - proof.verdict_at > VERDICT_GOES_STALE_AFTER:
        return Objection("verdict-old", f"the verdict on {proof.namespace} is more than 24 hours old"), "verify"
    return None


def against_routes(routes: Sequence[Route]) -> list[Objection]:
    """Object to the deletion of what published routes lead to: their tenants would find nothing there."""
    if not routes:
        return []
    tenants = {names.build(route.creator, route.twin) for route in routes}
    by = few({f"job {route.job}" for route in routes}, quoted=False)
    led = f"{counted(len(tenants), 'tenant', 'tenants')} to what would be deleted: {few(tenants, quoted=False)}"
    return [Objection("tenants-routed", f"routes of {by} lead {led}")]


def leading_on(index: str) -> str:
    """Return the step that leads tenants elsewhere, before what their routes lead to is deleted."""
    return (
        f"lead them elsewhere first: `vecfleet plan index {index} NEW --list FILE`, where FILE names creator and twin "
        "of each namespace, then apply it and cut it over"
    )


@dataclass(frozen=True, slots=True)
class DecommissionFacts:
    """Facts about an index right before it is deleted whole."""

    index: str
    jobs: Sequence[Job]  # jobs that read from it, oldest first
    working: Sequence[int]  # jobs that hold namespaces of it
    held: Mapping[str, int]  # namespace → records listed there now
    protected: bool
    routed: Sequence[Route]  # routes that lead there
    after: timedelta


def against_decommission(facts: DecommissionFacts, now: datetime) -> list[tuple[Objection, str]]:
    """Return every reason why the index may not be deleted yet, each with what to do about it."""
    objections = [
        (Objection("index-at-work", f"job {id} works on it"), f"vecfleet status {id}") for id in facts.working
    ]
    left = [job for job in facts.jobs if job.state is JobState.CLEANED]
    if not left:
        objections.append(
            (
                Objection("index-unmoved", "no job has moved its records and cleaned it up"),
                f"vecfleet plan index {facts.index} NEW",
            )
        )
    for job in left:
        since = job.cut_over_at or job.ended_at or now
        if now < since + facts.after:
            objections.append(
                (
                    Objection("watch-time", f"job {job.id} is watched until {since + facts.after:%Y-%m-%d %H:%M} UTC"),
                    "wait until then",
                )
            )
    if facts.held:
        named = ", ".join(list(facts.held)[:_NAMED]) + (", …" if len(facts.held) > _NAMED else "")
        count = sum(facts.held.values())
        objections.append(
            (Objection("records-left", f"it still holds {in_namespaces(count, len(facts.held))}: {named}"),
             f"vecfleet audit {facts.index}; move them, or vecfleet wipe --index {facts.index} --export FOLDER")
        )  # fmt: skip
    objections += [(reason, leading_on(facts.index)) for reason in against_routes(facts.routed)]
    if facts.protected:
        objections.append(
            (
                Objection("index-protected", "it is protected against deletion"),
                "switch that off in Pinecone's console: Configure index",
            )
        )
    return objections


def complaints(evidence: Evidence) -> list[Objection]:
    """Return the thresholds that the new side exceeds; an empty list if there were too few queries."""
    if evidence.queries < ENOUGH:
        return []
    objections: list[Objection] = []
    if evidence.error_rate > query_metrics.ERROR_RATE:
        said = f"{evidence.error_rate:.1%} of its queries failed, over {query_metrics.ERROR_RATE:.0%}"
        objections.append(Objection("many-errors", said))
    if evidence.p95_ms > query_metrics.P95_WARN_MS:
        said = f"its p95 is up to {evidence.p95_ms:g} ms, over {query_metrics.P95_WARN_MS:g} ms"
        objections.append(Objection("slow-queries", said))
    return objections


def watching(policies: Policies) -> str | None:
    """Say how long the readers of a step are watched before others may follow; None if they are not."""
    if not policies.dwell_seconds:
        return None
    return f"from {DWELLS_FROM_PERCENT} % on, readers are watched for {duration(policies.dwell_seconds)} at each step"


def watched_until(step: Step, policies: Policies, now: datetime) -> datetime | None:
    """Return until when the readers of a step are watched before others may follow; None if they are not now."""
    until = step.since + timedelta(seconds=policies.dwell_seconds)
    return until if DWELLS_FROM_PERCENT <= step.percent < 100 and now < until else None


def against_step(step: Step | None, to_percent: int, policies: Policies, now: datetime) -> list[Objection]:
    """Return why readers may not be moved to `to_percent` yet. A first step or a smaller share is always free."""
    if step is None or step.percent == 0 or to_percent <= step.percent:
        return []
    objections = complaints(step.evidence)
    until = watched_until(step, policies, now)
    if until is not None:
        said = f"{step.percent} % is watched until {until:%Y-%m-%d %H:%M:%S} UTC"
        objections.append(Objection("watch-time", said))
    if policies.shadow_share > 0 and step.evidence.queries < ENOUGH:
        said = f"only {step.evidence.queries} queries were asked of both sides; {ENOUGH} are needed"
        objections.append(Objection("few-queries", said))
    return objections
