"""Refusals that keep readers from losing sight of what applications wrote."""

import sqlalchemy as sa

from migrations.findings import few
from orchestrator.core.freshness import fresh_from
from orchestrator.core.model import Job
from orchestrator.core.states import JobState
from orchestrator.core.wording import counted
from orchestrator.ledger import route_table
from vecfleet import names
from vecfleet.errors import Refused


def require_no_detour(connection: sa.Connection, job: Job) -> None:
    """Refuse to lead tenants away from where an older job led them, by records that are older than theirs there."""
    past = route_table.leading_past(connection, job)
    if not past:
        return
    tenants = {names.build(route.creator, route.twin) for route in past}
    by = few({f"job {route.job}" for route in past}, quoted=False)
    there = few({route.new.namespace for route in past}, quoted=False)
    raise Refused(
        f"routes of {by} lead {counted(len(tenants), 'tenant', 'tenants')} of this job to {there}, which this job did "
        "not copy: what was written there since would no longer be found",
        code="tenants-elsewhere",
        next_step=f"make a plan whose sources are these namespaces; of this job keep both sides: `vecfleet finish "
        f"{job.id}`, or `vecfleet rollback {job.id}`",
    )


def require_old_side_read(job: Job) -> None:
    """Refuse to finish a job before a pass has read the last write to the old side, to which readers go no more.

    Under `delta` an application writes there up to the cut-over, and by older routes a while longer. A pass parks by
    name what came since the last one. The sources that a clean-up left were looked at by its guards.
    """
    if job.plan.policies.writers != "delta" or job.state not in (JobState.VERIFIED, JobState.CUT_OVER):
        return
    read_from = fresh_from(job, job.plan.policies)
    if job.cut_over_percent < 100 or read_from is None or (job.as_of is not None and job.as_of >= read_from):
        return
    raise Refused(
        "applications may have written to the old namespaces up to the cut-over, and a while longer by older routes, "
        f"where readers do not look any more: no pass has read them since {read_from:%H:%M:%S} UTC",
        code="pass-missing",
        next_step=f"`vecfleet pass {job.id}` after that time, then finish it; what it finds waits for you by name",
    )
