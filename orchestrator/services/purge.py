"""Let go of what ended jobs needed while they ran. The way back and the report do not need it."""

from orchestrator.ledger import audit, jobs, retention
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused

# A worker that was frozen this long and wrote since is not taken back any more: far over any lease and deadline.
LEAST_DAYS = 1.0
# Batches of one transaction: a second's work, so that nobody waits for a lock.
_AT_ONCE = 5_000


def purge(database: Database, job_id: int, who: str) -> int:
    """Delete the batches of an ended job, with their ids and digests. Returns how many. Raises NotFound, Refused.

    Dies at any line: what is gone is counted in what the job spent; run again, it goes on.
    """
    with database.begin() as connection:
        jobs.get(connection, job_id, lock=True)
        stays = retention.why_it_stays(connection, job_id, LEAST_DAYS)
        if stays is not None:
            raise Refused(f"job {job_id} keeps its batches: {stays}", next_step=f"vecfleet status {job_id}")
        retention.let_go_of_ids(connection, job_id)
        retention.shorten_verdicts(connection, job_id)
        audit.note(connection, who, "purge", job_id)
    deleted = 0
    while True:
        with database.begin() as connection:
            jobs.get(connection, job_id, lock=True)  # a late write of a frozen worker is taken back, or comes too late
            some = retention.drop_batches(connection, job_id, _AT_ONCE)
        if not some:
            return deleted
        deleted += some
