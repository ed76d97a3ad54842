"""Judge the evidence of a check. Pure. No verdict without evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrations.embedding import Gate
from migrations.plan import Level
from orchestrator.core.agreement import Summary, summarise
from orchestrator.core.model import Finding, Target, TargetTally
from orchestrator.core.quality import UNJUDGED, against_quality, quality
from orchestrator.core.states import CheckState
from orchestrator.core.wording import counted


@dataclass(frozen=True, slots=True)
class CheckEvidence:
    """Expectations and results of one target's check.

    `counted`: the service's own count, a hint. `set_aside`: listed ids of parked records, which an earlier attempt may
    have written. `added`: records that the application wrote to both sides since. `queries`: the answers of both sides,
    question by question. `gate`: of a plan that embeds, what the answers of two models must reach.
    """

    target: Target
    expected: TargetTally
    found_count: int
    found_digest: int
    listed_count: int | None
    listed_ids_digest: int | None
    surveys: int
    missing: int
    extra: int
    different: int
    samples: tuple[Finding, ...]
    level: Level = "content"
    counted: int | None = None
    listings: int = 1
    set_aside: int = 0
    added: int = 0
    queries: tuple[Mapping[str, Any], ...] = ()
    unasked: str | None = None
    least_overlap: float = 0.0
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a target's check as of its write sequence, with the evidence for it.

    `verified`: the target holds exactly what it should. `mismatched`: it does not. `empty`: nothing was written and
    nothing is there, so nothing is proven.
    """

    state: CheckState
    reason: str
    evidence: dict[str, Any]


def judge(evidence: CheckEvidence) -> Verdict:
    """Return a verdict: verified only if all that its level compares matches the tallies, and no other record is there.

    A target that readers moved to is authoritative: it was proven before, and the verdict lists the changes since.
    `counted` decides nothing: if the count differed from the listing, the listing was repeated.
    """
    expected, target, asked = evidence.expected, evidence.target, summarise(evidence.queries)
    facts: dict[str, Any] = {
        "level": evidence.level,
        "sequence": target.check_sequence,
        "expected": expected.count,
        "read": evidence.found_count,
        "listed": evidence.listed_count,
        "counted": evidence.counted,
        "listings": evidence.listings,
        "held_before": target.held_before,
        "set_aside": evidence.set_aside,
        "added": evidence.added,
        "digest": f"{expected.digest:032x}",
        "digest_read": f"{evidence.found_digest:032x}",
        "missing": evidence.missing,
        "extra": evidence.extra,
        "different": evidence.different,
        "samples": [_shown(sample) for sample in evidence.samples],
    }
    if evidence.level == "content+query":
        facts["queries"] = asked.to_json() if asked else None

    def answer(state: CheckState, reason: str) -> Verdict:
        return Verdict(state, reason, facts | {"verified": state is CheckState.VERIFIED, "reason": reason})

    if target.sequence != target.check_sequence:
        return answer(CheckState.MISMATCHED, "it was written to while it was checked")
    if evidence.surveys == 0 or evidence.listed_count is None:
        return answer(CheckState.MISMATCHED, "not verified: its ids were not listed")
    if expected.count == 0 and evidence.listed_count == 0:
        return answer(CheckState.EMPTY, "not verified: nothing was written to it")
    if target.is_authoritative and evidence.listed_count:
        return answer(CheckState.VERIFIED, _since_the_switch(evidence))
    if evidence.missing or evidence.extra or evidence.different:
        return answer(
            CheckState.MISMATCHED, f"{evidence.missing} missing, {evidence.extra} extra, {evidence.different} different"
        )
    same_content = (evidence.found_count, evidence.found_digest) == (expected.count, expected.digest)
    same_ids = (evidence.listed_count, evidence.listed_ids_digest) == (expected.count, expected.ids_digest)
    if not same_ids or not (same_content or evidence.level == "ids"):
        return answer(CheckState.MISMATCHED, "its records do not add up to what was written")
    if evidence.level == "ids":
        return answer(
            CheckState.VERIFIED,
            f"{counted(expected.count, 'id', 'ids')} listed, none missing and none extra; no record was read",
        )
    equal = f"{counted(expected.count, 'record', 'records')} read back and equal"
    if evidence.added:
        equal += f"; {evidence.added} more were written to both sides since"
    if evidence.level == "content":
        return answer(CheckState.VERIFIED, f"{equal}; {UNJUDGED}" if evidence.gate else equal)
    if evidence.gate is not None:
        objection = against_quality(evidence.gate, asked, evidence.unasked)
        said = f"; {quality(asked)}" if asked is not None else ""
        if objection:
            return answer(CheckState.MISMATCHED, f"{equal}, but {objection}{said}")
        return answer(CheckState.VERIFIED, f"{equal}{said or f'; {UNJUDGED}'}")
    objection = _against_answers(evidence, asked)
    if objection:
        return answer(CheckState.MISMATCHED, f"{equal}, but {objection}")
    assert asked is not None
    agreeing = counted(asked.compared, "query agrees", "queries agree")
    return answer(CheckState.VERIFIED, f"{equal}; {agreeing} with the source, the worst to {asked.overlap_worst:.0%}")


def _since_the_switch(evidence: CheckEvidence) -> str:
    counts = (evidence.missing, "removed"), (evidence.different, "changed"), (evidence.extra, "added")
    since = ", ".join(f"{count} {what}" for count, what in counts if count)
    proven = f"{counted(evidence.expected.count, 'record was', 'records were')} proven before readers moved"
    return f"{proven}; since then {since}" if since else f"{proven}, and nothing changed since"


def _against_answers(evidence: CheckEvidence, asked: Summary | None) -> str | None:
    """Say why the queries prove nothing, or that they prove a disagreement. None: both sides agree."""
    if evidence.unasked:
        return f"its queries are not verified: {evidence.unasked}"
    if asked is None or asked.overlap_worst is None:
        return "its queries are not verified: none could be compared"
    if asked.overlap_worst < evidence.least_overlap:
        return (
            f"a query agrees with the source to {asked.overlap_worst:.0%} only, "
            f"and the plan asks for {evidence.least_overlap:.0%}"
        )
    return None


def _shown(sample: Finding) -> dict[str, str]:
    return {"kind": sample.kind, "id": sample.record_id} | ({"parts": sample.parts} if sample.parts else {})
