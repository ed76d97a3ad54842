"""What the evidence of a check means. Pure. No verdict without evidence."""

from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.checks import Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a target holds exactly what it should, as of its write sequence, and what was compared."""

    verified: bool
    reason: str
    evidence: dict[str, Any]


def judge(evidence: Evidence) -> Verdict:
    """Verified only if every id and every byte read back is as the tallies say, and nothing else is there."""
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

    def answer(verified: bool, reason: str) -> Verdict:
        return Verdict(verified, reason, facts | {"verified": verified, "reason": reason})

    if target.sequence != target.check_sequence:
        return answer(False, "it was written to while it was checked")
    if evidence.surveys == 0 or evidence.listed_count is None:
        return answer(False, "not verified: its ids were not listed")
    if expected.count == 0:
        return answer(False, "not verified: there is nothing in it to prove")
    if evidence.missing or evidence.extra or evidence.different:
        return answer(False, f"{evidence.missing} missing, {evidence.extra} extra, {evidence.different} different")
    same_content = (evidence.found_count, evidence.found_digest) == (expected.count, expected.digest)
    same_ids = (evidence.listed_count, evidence.listed_ids_digest) == (expected.count, expected.ids_digest)
    if not (same_content and same_ids):
        return answer(False, "its records do not add up to what was written")
    return answer(True, f"{expected.count} records read back and equal")
