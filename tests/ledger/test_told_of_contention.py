"""Others at work in the job table are told as what they are, and not as a server that is gone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.errors import Busy, Unreachable

PATIENCE_S = 60.0  # Postgres looks for deadlocks after 1 s; two cores under a load of twenty need this


def test_of_two_who_wait_for_each_other_one_is_told_so_and_may_try_again(database: Database, table: JobTable) -> None:
    jobs = table.job_id, table.apply(plan_of(planned("s2", "t2")))
    both_hold_one = Barrier(2)

    def take(first: int, second: int) -> str | None:
        try:
            with database.begin() as connection:
                hold(connection, first)
                both_hold_one.wait(PATIENCE_S)
                hold(connection, second)
        except Busy as error:
            assert error.next_step is not None and error.next_step.startswith("try again")
            return error.message
        return None

    # When two transactions take the same two rows, each in the other's order
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(take, jobs, reversed(jobs)))
    # Then one went through, and the other heard why it did not
    assert sorted(said, key=bool) == [
        None,
        "the job table is busy: this and another process each waited for rows that the other held, so nothing was "
        "changed",
    ]


def test_a_row_that_somebody_holds_too_long_is_told_so(database: Database, table: JobTable) -> None:
    with held(database, table.job_id), pytest.raises(Busy, match="held rows that this one needed"):
        with database.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '10ms'"))
            hold(connection, table.job_id)


def test_a_server_that_is_not_there_does_not_answer() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(Unreachable, match="does not answer") as caught, nowhere.begin():
        pass
    assert not isinstance(caught.value, Busy)


def test_what_it_refuses_is_told_in_its_words(database: Database) -> None:
    with (
        pytest.raises(Unreachable, match=r"the job table refuses: .*read-only") as caught,
        database.begin() as connection,
    ):
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        connection.execute(sa.update(t.job).values(reason="x"))
    assert not isinstance(caught.value, Busy)


@contextmanager
def held(database: Database, job_id: int) -> Iterator[None]:
    with database.begin() as connection:
        hold(connection, job_id)
        yield


def hold(connection: sa.Connection, job_id: int) -> None:
    connection.execute(sa.select(t.job.c.id).where(t.job.c.id == job_id).with_for_update())
