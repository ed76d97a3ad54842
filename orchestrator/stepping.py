"""Whether a roll-out may take its next step: a pure decision on how long it dwelt and what shadow reads told."""

from datetime import datetime, timedelta

from migrations.plan import Policies
from orchestrator.ledger.steps import Step
from vecfleet.tenancy import thresholds
from vecfleet.tenancy.evidence import Evidence

DWELLS_FROM_PERCENT = 25  # seed 003: 5 % is watched, 25 % and 50 % each for a day
ENOUGH = 100  # queries asked of both sides; fewer are an anecdote


def complaints(evidence: Evidence) -> list[str]:
    """What speaks against the new side, by the thresholds; nothing where too little was asked."""
    if evidence.queries < ENOUGH:
        return []
    found = []
    if evidence.error_rate > thresholds.ERROR_RATE:
        found.append(f"{evidence.error_rate:.1%} of its queries failed, over {thresholds.ERROR_RATE:.0%}")
    if evidence.p95_ms > thresholds.P95_WARN_MS:
        found.append(f"its p95 is up to {evidence.p95_ms:g} ms, over {thresholds.P95_WARN_MS:g} ms")
    return found


def against_step(step: Step | None, to_percent: int, policies: Policies, now: datetime) -> list[str]:
    """Why the readers may not be moved so far yet. Nothing speaks against a smaller share, nor against a first step."""
    if step is None or step.percent == 0 or to_percent <= step.percent:
        return []
    found = complaints(step.evidence)
    until = step.since + timedelta(seconds=policies.dwell_seconds)
    if step.percent >= DWELLS_FROM_PERCENT and now < until:
        found.append(f"{step.percent} % is watched until {until:%Y-%m-%d %H:%M:%S} UTC")
    if policies.shadow_share > 0 and step.evidence.queries < ENOUGH:
        found.append(f"only {step.evidence.queries} queries were asked of both sides; {ENOUGH} are needed")
    return found
