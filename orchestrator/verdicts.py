"""What the evidence of a check means. Pure. No verdict without evidence."""

from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.checks import Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a target holds exactly what it should, as of its write sequence, and what was compared.

    `state` is `verified`, `mismatched`, or `empty`: nothing was written and nothing is there, so nothing is proven.
    """

    state: str
    reason: str
    evidence: dict[str, Any]


def judge(evidence: Evidence) -> Verdict:
    """Verified only if every id and every byte read back is as the tallies say, and nothing else is there.

    Once readers were moved to a target it tells the truth: it was proven before, and what differs since is listed.
    """
    expected, target = evidence.expected, evidence.target
    facts: dict[str, Any] = {
        "level": "content",
        "sequence": target.check_sequence,
        "expected": expected.count,
        "read": evidence.found_count,
        "listed": evidence.listed_count,
        "digest": f"{expected.digest:032x}",
        "digest_read": f"{evidence.found_digest:032x}",
        "missing": evidence.missing,
        "extra": evidence.extra,
        "different": evidence.different,
        "samples": [{"kind": sample.kind, "id": sample.record_id} for sample in evidence.samples],
    }

    def answer(state: str, reason: str) -> Verdict:
        return Verdict(state, reason, facts | {"verified": state == "verified", "reason": reason})

    if target.sequence != target.check_sequence:
        return answer("mismatched", "it was written to while it was checked")
    if evidence.surveys == 0 or evidence.listed_count is None:
        return answer("mismatched", "not verified: its ids were not listed")
    if expected.count == 0 and evidence.listed_count == 0:
        return answer("empty", "not verified: nothing was written to it")
    if target.tells_the_truth and evidence.listed_count:
        return answer("verified", _since_the_switch(evidence))
    if evidence.missing or evidence.extra or evidence.different:
        return answer(
            "mismatched", f"{evidence.missing} missing, {evidence.extra} extra, {evidence.different} different"
        )
    same_content = (evidence.found_count, evidence.found_digest) == (expected.count, expected.digest)
    same_ids = (evidence.listed_count, evidence.listed_ids_digest) == (expected.count, expected.ids_digest)
    if not (same_content and same_ids):
        return answer("mismatched", "its records do not add up to what was written")
    return answer("verified", f"{expected.count} records read back and equal")


def _since_the_switch(evidence: Evidence) -> str:
    counts = (evidence.missing, "removed"), (evidence.different, "changed"), (evidence.extra, "added")
    since = ", ".join(f"{count} {what}" for count, what in counts if count)
    proven = f"{evidence.expected.count} records were proven before readers moved"
    return f"{proven}; since then {since}" if since else f"{proven}, and nothing changed since"
