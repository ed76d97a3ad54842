"""Move readers and the aliases that lead to their old places, and note the evidence of shadow reads.

The job table decides in one transaction; then the aliases follow. If the process dies in between, the routes on record
say where each alias should point, and the next cut-over or reversal points it there.
"""

import sqlalchemy as sa

from orchestrator.bootstrap import Fleet
from orchestrator.core.guards import complaints
from orchestrator.core.model import Job
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs, rollout, routes
from orchestrator.ledger.database import Database
from orchestrator.ledger.routes import JobRoute
from orchestrator.services import acts, hooks, refusals
from vecfleet.errors import Refused
from vecfleet.stores.base import Aliased
from vecfleet.tenancy.shadow_reads import Evidence


def cut_over(parts: Fleet, job_id: int, who: str, percent: int, *, since: int | None = None) -> list[JobRoute]:
    """Move the readers of `percent` of the twins to the new side. Return all routes. Safe to repeat.

    `since`: the share that the person saw before. Raises Refused if it is another by now: a smaller share than the
    present one would take readers back.
    """
    with parts.database.begin() as connection:
        index = _aliased(parts, jobs.get(connection, job_id))
    leading = index.aliases() if index is not None else {}

    def move_readers(connection: sa.Connection) -> None:
        job = jobs.get(connection, job_id, lock=True)
        if since is not None and since != job.cut_over_percent != percent:
            raise Refused(
                f"nothing was changed: {job.cut_over_percent} % of the readers are on the new side by now, not "
                f"{since} %",
                code="readers-moved-meanwhile",
                next_step=f"see /jobs/{job_id}, and decide again",
            )
        acts.cut_over_in(connection, job, percent, who)
        routes.note_aliases(connection, job_id, leading)

    hooks.with_leave(parts.database, move_readers)
    lead_aliases(parts, job_id)
    return _routes(parts, job_id)


def reverse(parts: Fleet, job_id: int, who: str) -> list[JobRoute]:
    """Move all readers and their aliases back to the old side. Return all routes. Safe to repeat."""
    reversed_routes = acts.reverse(parts.database, job_id, who)
    lead_aliases(parts, job_id)
    return reversed_routes


def roll_back(parts: Fleet, job_id: int, who: str, changed: str | None) -> None:
    """Point the aliases back, which a reversal that died may not have done; then roll back as `acts.roll_back` does."""
    lead_aliases(parts, job_id)
    acts.roll_back(parts.database, job_id, who, changed)


def record_evidence(parts: Fleet, job_id: int, evidence: Evidence) -> None:
    """Note the evidence of shadow reads; if the policy then takes the readers back, move their aliases too."""
    bad = note_evidence(parts.database, job_id, evidence)
    with parts.database.begin() as connection:
        back = not jobs.get(connection, job_id).cut_over_percent
    if bad or back:  # `back`: an earlier call took the readers back and died before it moved the aliases
        lead_aliases(parts, job_id)


def lead_aliases(parts: Fleet, job_id: int) -> None:
    """Point each alias to the side of its route's readers. Leave an alias that a person removed or moved alone.

    Repeats if somebody moved readers meanwhile, so that the last of two simultaneous calls sees both decisions.
    """
    led: list[JobRoute] | None = None
    while (present := _routes(parts, job_id)) != led:
        _lead(parts, job_id, present)
        led = present


def _routes(parts: Fleet, job_id: int) -> list[JobRoute]:
    with parts.database.begin() as connection:
        return routes.of_job(connection, job_id)


def _lead(parts: Fleet, job_id: int, present: list[JobRoute]) -> None:
    followed = [(alias, old, route) for route in present for alias, old in route.aliases.items()]
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
    """Return the index that holds both sides of a job, if its store has aliases. No alias leads into another index."""
    if not job.plan.same_index or not job.plan.source.store.startswith("pinecone"):
        return None
    index = parts.store_named(job.plan.source.store).open(job.source)
    return index if isinstance(index, Aliased) else None


def note_evidence(database: Database, job_id: int, evidence: Evidence) -> list[str]:
    """Add the evidence of shadow reads. Take the readers back if it is bad and the policy says so; return why.

    If the process dies before the commit, the evidence is not noted, and its sender sends it again.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        if not job.cut_over_percent:
            return []
        rollout.add_evidence(connection, job_id, evidence)
        step = rollout.current(connection, job_id)
        bad = complaints(step.evidence) if step is not None else []
        movable = job.state in (JobState.VERIFIED, JobState.CUT_OVER) and not refusals.cleaned_any(connection, job)
        if not bad or not movable or job.plan.policies.bad_step != "reverse":
            return []
        acts.reverse_in(connection, job, "policy", reason="; ".join(bad))
        return list(bad)
