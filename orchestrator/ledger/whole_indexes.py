"""Jobs on a whole index, and the intents to empty or delete one."""

from datetime import timedelta

import sqlalchemy as sa

from migrations.plan import IndexRef, Plan
from orchestrator.core.guards import against_routes, leading_on
from orchestrator.core.model import Job
from orchestrator.core.states import JOB_ENDED
from orchestrator.ledger import audit, index_acts, jobs, route_table
from orchestrator.ledger import tables as t
from vecfleet.connections import PINECONE
from vecfleet.errors import Refused

# Longer than the time from a plan's check to its job: no plan checked while the index was there is applied after this.
_GOING_FOR = timedelta(minutes=15)
# A deletion is sent and waited for within this time of its note, or not at all: a plan may use the index after that.
GOES_WITHIN_S = 600.0
_J, _A = t.job.c, t.audit.c


def live_on(connection: sa.Connection, host: str) -> list[int]:
    """Return live jobs that read or write this index, also jobs that have no namespace of it yet."""
    claimed = sa.select(t.claim.c.job_id).where(t.claim.c.index_host == host)
    either = sa.or_(_J.source["host"].astext == host, _J.target["host"].astext == host)
    working = sa.select(_J.id).where(either, _J.state.not_in(JOB_ENDED))
    return sorted(connection.execute(claimed.union(working)).scalars())


def require_unused(connection: sa.Connection, index: str, host: str) -> None:
    """Raise Refused if a live job uses the index, a wipe or the service's filling is under way, or routes lead there.

    No other job claims a part of it until the transaction ends, and without a claim no job leads tenants there.
    """
    jobs.lock_claims(connection)
    busy = live_on(connection, host)
    if busy:
        raise Refused(
            f"job {busy[0]} works on {index}",
            code="index-at-work",
            next_step=f"end it first: `vecfleet status {busy[0]}`",
        )
    index_acts.require_not_wiped(connection, host)
    index_acts.require_not_filled(connection, index)
    objections = against_routes(route_table.leading_to(connection, host, index))
    if objections:
        raise Refused(objections=objections, next_step=leading_on(index))


def require_staying(connection: sa.Connection, plan: Plan) -> None:
    """Raise Refused if an index of this plan is being deleted. Call this in the transaction that took the claims."""
    going = sa.select(_A.payload["index"].astext, _A.who, _A.at + _GOING_FOR).where(
        _A.action == "decommission", _A.at > sa.func.clock_timestamp() - _GOING_FOR
    )
    meant = {ref.typed for ref in (plan.source, plan.target) if _in_the_vector_database(ref)}
    for index, who, until in connection.execute(going.order_by(_A.id.desc())):
        if index in meant:
            raise Refused(
                f"the index {index} is being deleted, by {who}",
                code="index-being-deleted",
                next_step=f"if it was created again, or kept after all, apply the plan after {until:%H:%M} UTC",
            )


def require_filled_anew(connection: sa.Connection, plan: Plan, filled_by: str) -> None:
    """Raise Refused if a job began with what this conversion or import made: others may write there by now.

    A job takes all of it for its own, writes over it and removes it.
    """
    query = sa.select(sa.func.max(_J.id)).where(_J.filled_by == filled_by)
    other = connection.execute(query).scalar_one()
    if other is not None:
        raise Refused(
            f"job {other} began with what the service made for this plan; others may have written to "
            f"{plan.target.typed} since",
            code="filling-used",
            next_step=_filled_anew(plan),
        )


def take_filled(connection: sa.Connection, job_id: int, plan: Plan, filled_by: str) -> None:
    """Record with what a new job begins, in its own transaction. Raises Refused if another job began with it.

    No other job is made until the transaction ends: of two at once, the second sees the first.
    """
    jobs.lock_claims(connection)
    require_filled_anew(connection, plan, filled_by)
    jobs.change(connection, job_id, filled_by=filled_by)


def _filled_anew(plan: Plan) -> str:
    """Say how the store fills the target anew. An index that took an import may hold more, and is not to be deleted."""
    if plan.policies.bulk is None:
        return (
            "make a plan into another new index; or, if nobody needs this one, delete it in Pinecone's console and "
            "apply again"
        )
    return (
        "make the plan again: into another new index; or into this one, once nobody needs the namespaces of the import "
        "and they are deleted"
    )


def note_wipe(
    connection: sa.Connection, who: str, index: str, host: str, records: int, namespaces: int, lands_s: float
) -> int:
    """Note the intent to empty an index, and hold it; commit this before the first deletion. Return the hold's number.

    From the commit on no job claims anything in the index. Raises Refused if a job uses it.
    """
    require_unused(connection, index, host)
    audit.note(connection, who, "wipe", None, index=index, records=records, namespaces=namespaces)
    return index_acts.begin_wipe(connection, index, host, who, lands_s)


def read_by(connection: sa.Connection, index: str) -> list[Job]:
    """Return the jobs that read from this index of the vector database (its full name), oldest first."""
    every = jobs.every(connection)
    return [job for job in every if _in_the_vector_database(job.plan.source) and job.plan.source.typed == index]


def note_decommission(connection: sa.Connection, who: str, index: str, host: str, moved: list[int]) -> None:
    """Note the intent to delete an index; commit it before the deletion. Raises Refused if a job uses the index.

    The deletion is sent within `GOES_WITHIN_S` of the time before this call, or never. From the commit on no plan with
    this index is applied, for so long that no plan checked before can still be applied.
    """
    require_unused(connection, index, host)
    audit.note(connection, who, "decommission", None, index=index, jobs=moved)


def _in_the_vector_database(ref: IndexRef) -> bool:
    return ref.store.startswith(PINECONE)
