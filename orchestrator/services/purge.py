"""Delete the batches that ended jobs needed while they ran. The way back and the report do not need them."""

from orchestrator.ledger import audit, jobs, retention
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused

# A late write of a worker that was frozen this long is not undone. It is far longer than any lease and deadline.
LEAST_DAYS = 1.0
# Batches deleted in one transaction: about a second's work, so that nobody waits long for a lock.
_AT_ONCE = 5_000


def purge(database: Database, job_id: int, who: str) -> int:
    """Delete the batches of an ended job, with their ids and digests. Return their number. Raises NotFound, Refused.

    If the process dies at any line, the next run goes on. The cost of deleted batches stays with the job.
    """
    with database.begin() as connection:
        jobs.get(connection, job_id, lock=True)
        stays = retention.why_it_stays(connection, job_id, LEAST_DAYS)
        if stays is not None:
            raise Refused(
                f"job {job_id} keeps its batches: {stays}", code="batches-needed", next_step=f"vecfleet status {job_id}"
            )
        retention.let_go_of_ids(connection, job_id)
        retention.shorten_verdicts(connection, job_id)
        audit.note(connection, who, "purge", job_id)
    deleted = 0
    while True:
        with database.begin() as connection:
            jobs.get(
                connection, job_id, lock=True
            )  # a late write is undone before this, or comes too late to be undone
            dropped = retention.drop_batches(connection, job_id, _AT_ONCE)
        if not dropped:
            return deleted
        deleted += dropped
