"""`vecfleet notices` shows who is told, what waits, and sends it again."""

import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from terminal import Vecfleet

from orchestrator.ledger import notices
from orchestrator.ledger import tables as t


def test_what_was_given_up_is_shown_and_sent_again(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given nobody who is told, then a receiver that was given up
    nobody = vecfleet("notices")
    assert nobody.code == 0 and "nobody is told" in nobody.out
    with table.begin() as connection:
        notices.subscribe(connection, {"ops": ["job"]})
    table.apply(plan_of(planned("s", "t")))
    with table.begin() as connection:
        connection.execute(sa.update(t.notice).values(due_at=None, attempts=100, answer="HTTP 500"))

    shown = vecfleet("notices")
    assert "ops" in shown.out and "HTTP 500" in shown.out and "next: vecfleet notices --again" in shown.out

    # When a person sends it again, then it waits to be sent
    again = vecfleet("notices", "--again", "--json").json
    assert again["made_due"] == 1
    [row] = again["receivers"]
    assert (row["receiver"], row["waiting"], row["given_up"]) == ("ops", 1, 0)
