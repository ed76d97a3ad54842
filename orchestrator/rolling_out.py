"""What applications tell of a cut-over while it goes on, and what follows from it."""

from orchestrator import services
from orchestrator.ledger import jobs, steps
from orchestrator.ledger.database import Database
from orchestrator.states import JobState
from orchestrator.stepping import complaints
from vecfleet.tenancy.evidence import Evidence


def note_evidence(database: Database, job_id: int, evidence: Evidence) -> list[str]:
    """Add what shadow reads told. Takes the readers back where that is bad and the policy says so. Returns why.

    Dies before the commit: the evidence is not noted, and whoever sent it sends it again.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        if not job.cut_over_percent:
            return []
        steps.add_evidence(connection, job_id, evidence)
        step = steps.current(connection, job_id)
        bad = complaints(step.evidence) if step is not None else []
        movable = job.state in (JobState.VERIFIED, JobState.CUT_OVER) and not services.cleaned_any(connection, job)
        if not bad or not movable or job.plan.policies.bad_step != "reverse":
            return []
        services.reverse_in(connection, job, "policy", reason="; ".join(bad))
        return bad
