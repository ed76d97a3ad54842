"""Readers move, and with them the aliases that lead to their old places; and what applications tell of it.

The job table decides, in one transaction; the aliases follow it. Dies in between: the routes say where each alias
should lead, and the next cut-over or reversal leads it there.
"""

from orchestrator.bootstrap import Fleet
from orchestrator.core.guards import complaints
from orchestrator.core.model import Job
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs, rollout, routes
from orchestrator.ledger.database import Database
from orchestrator.ledger.routes import Route
from orchestrator.services import acts, guard_facts
from vecfleet.stores.base import Aliased
from vecfleet.tenancy.shadow_reads import Evidence


def cut_over(parts: Fleet, job_id: int, who: str, percent: int) -> list[Route]:
    """Move the readers of so many per cent of the twins to the new side. Returns all routes. Safe to repeat."""
    with parts.database.begin() as connection:
        index = _aliased(parts, jobs.get(connection, job_id))
    leading = index.aliases() if index is not None else {}
    with parts.database.begin() as connection:
        acts.cut_over_in(connection, jobs.get(connection, job_id, lock=True), percent=percent, who=who)
        routes.note_aliases(connection, job_id, leading)
    lead_aliases(parts, job_id)
    return _routes(parts, job_id)


def reverse(parts: Fleet, job_id: int, who: str) -> list[Route]:
    """Move all readers back to the old side, and their aliases. Returns all routes. Safe to repeat."""
    found = acts.reverse(parts.database, job_id, who)
    lead_aliases(parts, job_id)
    return found


def roll_back(parts: Fleet, job_id: int, who: str, changed: str | None) -> None:
    """As `services.roll_back`, once no alias leads to what it removes: a reversal may have died before it led them."""
    lead_aliases(parts, job_id)
    acts.roll_back(parts.database, job_id, who, changed)


def record_evidence(parts: Fleet, job_id: int, evidence: Evidence) -> None:
    """Note what shadow reads told; where the policy takes the readers back for it, their aliases go too."""
    bad = note_evidence(parts.database, job_id, evidence)
    with parts.database.begin() as connection:
        back = not jobs.get(connection, job_id).cut_over_percent
    if bad or back:  # or they were taken back before, by one that died before the aliases were led
        lead_aliases(parts, job_id)


def lead_aliases(parts: Fleet, job_id: int) -> None:
    """Lead each alias where its route's readers are. One that a person removed, or led elsewhere, is left alone.

    Again, where somebody moved readers meanwhile: of two at once, who comes last sees what both decided.
    """
    led: list[Route] | None = None
    while (found := _routes(parts, job_id)) != led:
        _lead(parts, job_id, found)
        led = found


def _routes(parts: Fleet, job_id: int) -> list[Route]:
    with parts.database.begin() as connection:
        return routes.of_job(connection, job_id)


def _lead(parts: Fleet, job_id: int, found: list[Route]) -> None:
    followed = [(alias, old, route) for route in found for alias, old in route.aliases.items()]
    if not followed:
        return
    with parts.database.begin() as connection:
        index = _aliased(parts, jobs.get(connection, job_id))
    if index is None:
        return
    leading = index.aliases()
    for alias, old, route in followed:
        wanted, other = (route.new_namespace, old) if route.side == "new" else (old, route.new_namespace)
        if leading.get(alias) == other:
            index.point_alias(alias, wanted)


def _aliased(parts: Fleet, job: Job) -> Aliased | None:
    """The index of a job whose two sides are in it, where it has aliases: none leads from one index into another."""
    if not job.plan.same_index or job.plan.source.store != "pinecone":
        return None
    index = parts.store.open(job.source)
    return index if isinstance(index, Aliased) else None


def note_evidence(database: Database, job_id: int, evidence: Evidence) -> list[str]:
    """Add what shadow reads told. Takes the readers back where that is bad and the policy says so. Returns why.

    Dies before the commit: the evidence is not noted, and whoever sent it sends it again.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        if not job.cut_over_percent:
            return []
        rollout.add_evidence(connection, job_id, evidence)
        step = rollout.current(connection, job_id)
        bad = complaints(step.evidence) if step is not None else []
        movable = job.state in (JobState.VERIFIED, JobState.CUT_OVER) and not guard_facts.cleaned_any(connection, job)
        if not bad or not movable or job.plan.policies.bad_step != "reverse":
            return []
        acts.reverse_in(connection, job, "policy", reason="; ".join(bad))
        return bad
