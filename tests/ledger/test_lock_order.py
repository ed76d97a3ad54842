"""The dispatcher and the workers take their locks in one order: the job's row, then batches, then targets and moves."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import sqlalchemy as sa
from stages import a_job, target_of

from orchestrator import late_writes
from orchestrator import tables as t
from orchestrator.ledger import jobs
from orchestrator.ledger.database import Database


def test_a_late_write_is_noted_while_the_dispatcher_pronounces_a_verdict(database: Database) -> None:
    # Given a worker that woke up without its lease
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    table.copy(lease, "t-s")
    target = target_of(table)

    # When it notes its late write in the middle of the dispatcher's transaction on the same target
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            jobs.get(connection, table.job_id, lock=True)
            noted = pool.submit(late_writes.note_late_write, table.database, lease, [target.id])
            sleep(0.3)
            connection.execute(sa.update(t.target).where(t.target.c.id == target.id).values(check_state="verified"))
        noted.result(timeout=30)

    # Then neither is the other's deadlock, and the verdict is void
    assert target_of(table).sequence == target.sequence + 1
