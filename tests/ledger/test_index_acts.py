"""A wipe holds its index against jobs, and what the service fills before a job begins is certified by no erasure."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa
from job_table import ELSEWHERE, INDEX, JobTable, plan_of, planned
from stages import PATIENCE_S, somebody_waits, verified

from orchestrator.core.states import JobState
from orchestrator.ledger import anonymise, erasures, index_acts, whole_indexes
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.ledger.index_acts import Filling
from orchestrator.services import acts
from vecfleet.errors import Refused

LANDS_S, FRESHNESS_S = 30.0, 60.0


def wipe(database: Database) -> int:
    with database.begin() as connection:
        return whole_indexes.note_wipe(connection, "ana", INDEX.name, INDEX.host, 3, 1, LANDS_S)


def passes(database: Database, seconds: float) -> None:
    """The wipe stands still for so long."""
    with database.begin() as connection:
        connection.execute(sa.update(t.index_act).values(until=t.index_act.c.until - timedelta(seconds=seconds)))


def apply(database: Database) -> None:
    JobTable(database).apply(plan_of(planned("s", "t")))


def test_while_an_index_is_emptied_no_job_takes_a_namespace_of_it(database: Database) -> None:
    hold = wipe(database)

    with pytest.raises(Refused, match=f"ana empties {INDEX.name}") as refused:
        apply(database)

    assert refused.value.code == "index-being-wiped"
    # But one of another index, and any once the wipe is over
    JobTable(database).apply(plan_of(planned("s", "t"), target=ELSEWHERE), source=ELSEWHERE, target=ELSEWHERE)
    with database.begin() as connection:
        index_acts.end(connection, hold)
    apply(database)


def test_a_job_that_is_over_takes_nothing_back_from_an_index_that_is_emptied(database: Database) -> None:
    over = verified(database, cut_over="none")
    acts.finish(database, over.job_id, "ana")
    wipe(database)

    with pytest.raises(Refused, match="empties"):
        acts.roll_back(database, over.job_id, "ana", None)

    assert over.job.state is JobState.FINISHED


def test_a_wipe_that_stood_still_lets_go_once_nothing_of_it_can_take_effect_and_deletes_no_more(
    database: Database,
) -> None:
    hold = wipe(database)
    # When its next deletion might take effect after its hold is over
    passes(database, index_acts._HOLD_S + 1)
    # Then it is not sent, though nobody else may begin yet
    with database.begin() as connection, pytest.raises(Refused, match="this stood still for more than 120 s"):
        index_acts.go_on(connection, hold, LANDS_S)
    with pytest.raises(Refused, match="empties"):
        apply(database)
    # And once none can, a job may begin
    passes(database, LANDS_S)
    apply(database)


def test_each_deletion_puts_the_end_of_the_hold_off(database: Database) -> None:
    hold = wipe(database)
    for _ in range(3):
        passes(database, index_acts._HOLD_S - 1)
        with database.begin() as connection:
            index_acts.go_on(connection, hold, LANDS_S)
    with pytest.raises(Refused, match="empties"):
        apply(database)


@pytest.mark.parametrize("turn", range(5))
def test_of_a_wipe_and_a_job_at_once_one_is_refused(database: Database, turn: int) -> None:
    barrier = Barrier(2)

    def at_once(what: object) -> bool:
        barrier.wait()
        try:
            what(database)  # type: ignore[operator]
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(at_once, (wipe, apply)))

    assert sorted(won) == [False, True]


def fill(database: Database, plan: str = "sha256:1", begun_at: datetime | None = None) -> Filling:
    with database.begin() as connection:
        return index_acts.note_filling(connection, "documents", INDEX.name, plan, "ana", begun_at)


def begun(database: Database) -> tuple[int, sa.Row[tuple[object, ...]]]:
    """An erasure: its number and its row."""
    with database.begin() as connection:
        number = erasures.begin(connection, "a digest", "ana")
    with database.begin() as connection:
        erasures.note_leases(connection, number, LANDS_S)
        return number, erasures.require_begun(connection, number, "a digest")


def test_a_filling_that_is_asked_for_anew_is_not_taken_for_the_one_that_came_to_nothing(database: Database) -> None:
    # Given a filling that was noted, and that somebody looks up at the service
    fill(database)
    with database.begin() as connection:
        connection.execute(sa.update(t.index_act).values(begun_at=t.index_act.c.begun_at - timedelta(hours=1)))
        (earlier,) = index_acts.fillings(connection)

    # When it is asked for again before that look says that there is none
    fill(database)
    with database.begin() as connection:
        index_acts.settle(connection, earlier)

        # Then it stands, since now
        (anew,) = index_acts.fillings(connection)
    assert anew.id == earlier.id and anew.begun_at - earlier.begun_at > timedelta(minutes=59)


def test_no_erasure_ends_while_the_service_fills_an_index_or_right_after(database: Database) -> None:
    fill(database)
    applied_again = fill(database)
    _, row = begun(database)
    with database.begin() as connection, pytest.raises(Refused, match="the service fills documents") as refused:
        index_acts.require_no_filling_since(connection, row.at)
    assert refused.value.code == "filling-under-way" and index_acts_of(database) == 1

    # When the job begins meanwhile, then what the service wrote was looked at by nobody
    with database.begin() as connection:
        index_acts.settle(connection, applied_again)
        with pytest.raises(Refused, match="documents was filled by the service meanwhile"):
            index_acts.require_no_filling_since(connection, row.at)
        assert index_acts.filled(connection) == {"documents"}

    # And the next erasure waits until reads show it
    number, row = begun(database)
    with database.begin() as connection:
        index_acts.require_no_filling_since(connection, row.at)
        assert 0 < erasures.wait_s(connection, number, LANDS_S, FRESHNESS_S) <= FRESHNESS_S


@pytest.mark.parametrize("ends_first", ["the older", "the newer", "the older, for which another process goes on"])
def test_the_end_of_one_import_is_not_the_end_of_another_into_the_same_index(
    database: Database, ends_first: str
) -> None:
    # Given two plans whose files the service imports into one index
    older, newer = fill(database, "sha256:1"), fill(database, "sha256:2")
    if ends_first == "the older, for which another process goes on":
        older = fill(database, "sha256:1", older.begun_at)
    ended, left = (newer, older) if ends_first == "the newer" else (older, newer)
    # When the job of one begins
    with database.begin() as connection:
        index_acts.settle(connection, ended)
        assert [filling.plan_digest for filling in index_acts.fillings(connection)] == [left.plan_digest]
    # Then an erasure still has no certificate: the other import may bring the tenant's records
    _, row = begun(database)
    with database.begin() as connection, pytest.raises(Refused, match="the service fills documents"):
        index_acts.require_no_filling_since(connection, row.at)
    with database.begin() as connection:
        index_acts.settle(connection, left)
        assert index_acts.fillings(connection) == []


def index_acts_of(database: Database) -> int:
    with database.begin() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(t.index_act)).scalar_one()


@pytest.mark.parametrize("index", ["documents", INDEX.name])
def test_nobody_empties_an_index_that_the_service_fills_or_reads(database: Database, index: str) -> None:
    fill(database)
    with (
        database.begin() as connection,
        pytest.raises(Refused, match=f"the service converts {INDEX.name} into documents"),
    ):
        whole_indexes.note_wipe(connection, "ana", index, f"{index}.local", 3, 1, LANDS_S)


def the_filling(database: Database) -> index_acts.Filling:
    with database.begin() as connection:
        (filling,) = index_acts.fillings(connection)
    return filling


def test_one_that_was_given_up_is_named_and_holds_up_nothing(database: Database) -> None:
    fill(database)
    filling = the_filling(database)
    _, row = begun(database)
    with database.begin() as connection:
        index_acts.give_up(connection, filling, "ana", "its account is gone")
    with database.begin() as connection:
        index_acts.require_no_filling_since(connection, row.at)
        index_acts.require_not_filled(connection, "documents")
        (said,) = index_acts.residual(connection)
        assert said.startswith("documents: the service was asked at") and "ana gave it up at" in said
        assert index_acts.filled(connection) == set() and index_acts.shown(connection) == []
    # And a second time, or once it is over, it is not
    with database.begin() as connection, pytest.raises(Refused, match="changed meanwhile"):
        index_acts.give_up(connection, the_filling(database), "bo", "its account is gone")
    with database.begin() as connection:
        index_acts.settle(connection, filling)
        assert index_acts.residual(connection) == [] and index_acts.filled(connection) == {"documents"}


def test_one_that_began_anew_since_a_person_read_of_it_is_not_given_up(database: Database) -> None:
    fill(database)
    read = the_filling(database)
    fill(database)
    with database.begin() as connection, pytest.raises(Refused, match="began anew") as refused:
        index_acts.give_up(connection, read, "ana", "its account is gone")
    assert refused.value.code == "filling-changed" and not the_filling(database).is_given_up


def test_a_filling_whose_end_is_not_committed_yet_is_known_to_an_erasure_that_begins_meanwhile(
    database: Database,
) -> None:
    # Given a filling that another process is ending: its transaction is still open
    noted = fill(database)

    def begins_and_looks() -> tuple[sa.Row[tuple[object, ...]], set[str]]:
        _, row = begun(database)
        with database.begin() as connection:
            return row, anonymise.indexes(connection)

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:
            index_acts.settle(connection, noted)
            # When an erasure begins meanwhile, and asks where records of the tenant may be
            erasure = pool.submit(begins_and_looks)
            somebody_waits(JobTable(database), unless=erasure)
        row, known = erasure.result(PATIENCE_S)

    # Then it knows of the index that was filled, whose end is no objection to its certificate
    with database.begin() as connection:
        index_acts.require_no_filling_since(connection, row.at)
    assert known == {"documents"}
