"""How many checks there are: as many as the records ask for, however many batches wrote them."""

import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.core.states import BatchKind
from orchestrator.ledger import checks, moves
from orchestrator.ledger.database import Database

OWNERS, BATCHES = 40, 150


def test_a_namespace_split_between_many_owners_has_as_many_checks_as_its_records_need(database: Database) -> None:
    # Given one namespace whose 150 batches each wrote eleven records to every one of forty owners
    table = JobTable(database)
    table.apply(plan_of(planned("__default__", None, BATCHES * OWNERS * 11)))
    table.start()
    with table.begin() as connection:
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
