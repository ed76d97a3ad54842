"""A worker that lost its lease may have written after all: it is on record, in whatever state its job is by then."""

import sqlalchemy as sa
from stages import a_job, target_of

from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, late_writes


def test_once_readers_have_moved_the_job_says_where_an_older_record_may_stand(database: Database) -> None:
    # Given a job whose readers were moved while one of its workers was frozen
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (late,) = table.take()
    table.copy(late, "t-s")
    table.advance(2)
    for check in table.take():
        table.check(check)
    table.advance()
    acts.cut_over(table.database, table.job_id, "ana", 100)
    # When that worker wakes up and tells that it may have written
    late_writes.note_late_write(table.database, late, [target_of(table).id])
    # Then the job says so, and the audit
    assert f"older records of batch {late.id} to 1 target after readers had moved there" in (table.job.reason or "")
    with table.begin() as connection:
        noted = connection.execute(sa.select(t.audit.c.payload).where(t.audit.c.action == "late write")).scalar_one()
    assert noted == {"batch": late.id, "targets": [target_of(table).id]}
