"""Checks: how many there are, as many as the records ask for; and when they begin."""

import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind
from orchestrator.ledger import checks, moves
from orchestrator.ledger.database import Database

OWNERS, BATCHES = 40, 150


def test_a_namespace_split_between_many_owners_has_as_many_checks_as_its_records_need(database: Database) -> None:
    # Given one namespace whose 150 batches each wrote eleven records to every one of forty owners
    table = JobTable(database)
    table.apply(plan_of(planned("__default__", None, BATCHES * OWNERS * 11)))
    table.start()
    with table.by_hand() as connection:
        connection.execute(sa.text("UPDATE move SET state = 'copied', listed_all = true"))
        connection.execute(
            sa.text("INSERT INTO target (job_id, namespace) SELECT :job, 'owner' || n FROM generate_series(1, :n) n"),
            {"job": table.job_id, "n": OWNERS},
        )
        connection.execute(
            sa.text(
                "INSERT INTO batch (job_id, move_id, kind, seq, state, first_id, size, manifest) SELECT :job, :move, "
                "'copy', n, 'done', 'id' || lpad(n::text, 5, '0'), 440, '' FROM generate_series(1, :n) n"
            ),
            {"job": table.job_id, "move": table.move.id, "n": BATCHES},
        )
        connection.execute(
            sa.text(
                "INSERT INTO batch_tally (batch_id, target_id, records, digest, ids_digest) "
                "SELECT batch.id, target.id, 11, 1, 1 FROM batch, target WHERE batch.kind = 'copy'"
            )
        )

        # When they are to be checked
        assert checks.begin(connection, table.job_id, table.plan.policies) == OWNERS

    # Then each owner's 1,650 records are read back in two checks, each batch by one of them
    for target in table.targets.values():
        mine = [row for row in table.rows(BatchKind.VERIFY) if row.target_id == target.id]
        assert [row.size for row in mine] == [91 * 11, 59 * 11]
        copies = [copy_id for row in mine for copy_id in row.copies]
        assert len(copies) == len(set(copies)) == BATCHES
        with table.begin() as connection:
            assert moves.target(connection, target.id).open_checks == 3


def test_a_target_is_checked_once_reads_show_it_or_nothing_else_is_left_to_copy(database: Database) -> None:
    # Given two sources, the first of them copied, and reads that may lag for a minute
    table = JobTable(database)
    table.apply(plan_of(planned("s1", "t1"), planned("s2", "t2")), waits=Waits(target_lag_s=60.0))
    table.listed({"s1": [["a"]], "s2": [["b"]]})
    first, second = table.take()
    table.copy(first, "t1")

    def begin() -> int:
        with table.begin() as connection:
            return checks.begin(connection, table.job_id, table.plan.policies)

    # Then its target waits: a look would come too early, and the second source keeps the workers busy
    assert begin() == 0
    # Until reads show what was written to it
    with table.begin() as connection:
        connection.execute(sa.text("UPDATE target SET last_write_at = last_write_at - interval '61 seconds'"))
    assert begin() == 1
    # And once nothing is left to copy nobody waits: where reads do not lag, the check is done at once
    table.copy(second, "t2")
    assert begin() == 1
