"""What the job table knows of a whole index, for the commands that empty or delete one."""

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.ledger import audit, jobs
from orchestrator.model import Job


def live_on(connection: sa.Connection, host: str) -> list[int]:
    """Jobs that hold namespaces of this index."""
    query = sa.select(t.claim.c.job_id).where(t.claim.c.index_host == host).distinct().order_by(t.claim.c.job_id)
    return list(connection.execute(query).scalars())


def note_wipe(connection: sa.Connection, who: str, index: str, records: int, namespaces: int) -> None:
    """The intent to empty an index, committed before the first deletion."""
    audit.note(connection, who, "wipe", None, index=index, records=records, namespaces=namespaces)


def read_by(connection: sa.Connection, index: str) -> list[Job]:
    """Jobs that read from this index of the vector database, in the order of their making."""
    every = jobs.every(connection)
    return [job for job in every if job.source.name == index and job.plan.source.store == "pinecone"]


def note_decommission(connection: sa.Connection, who: str, index: str, jobs: list[int]) -> None:
    """The intent to delete an index, committed before the deletion."""
    audit.note(connection, who, "decommission", None, index=index, jobs=jobs)
