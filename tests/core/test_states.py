"""The transition tables: what may become what, on paper and in the job table; everything else is refused."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from enum import StrEnum
from itertools import product

import pytest
import sqlalchemy as sa
from job_table import JobTable, lift_the_edges, plan_of, planned

from orchestrator.core.states import (
    BATCH_EDGES,
    BATCH_IN_FLIGHT,
    BATCH_OPEN,
    CHECK_EDGES,
    JOB_EDGES,
    JOB_ENDED,
    JOB_PAUSABLE,
    JOB_WORKING,
    KINDS_OF,
    MOVE_EDGES,
    BatchKind,
    BatchState,
    CheckState,
    JobState,
    MoveState,
    why,
)
from orchestrator.ledger import jobs, moves, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused

TABLES = [
    pytest.param(JOB_EDGES, JobState, JobState.PLANNED, id="job"),
    pytest.param(MOVE_EDGES, MoveState, MoveState.PENDING, id="move"),
    pytest.param(BATCH_EDGES, BatchState, BatchState.READY, id="batch"),
    pytest.param(CHECK_EDGES, CheckState, CheckState.WAITING, id="target"),
]
Edges = Mapping[StrEnum, Mapping[StrEnum, str]]


def reachable(edges: Edges, start: StrEnum) -> set[StrEnum]:
    found, waiting = {start}, [start]
    while waiting:
        fresh = set(edges[waiting.pop()]) - found
        found |= fresh
        waiting += fresh
    return found


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=2)
    yield database
    database.dispose()


@pytest.mark.parametrize(("edges", "states", "start"), TABLES)
def test_the_table_names_every_state_and_each_can_be_reached(
    edges: Edges, states: type[StrEnum], start: StrEnum
) -> None:
    assert set(edges) == set(states)
    assert reachable(edges, start) == set(states)


@pytest.mark.parametrize(("edges", "states", "start"), TABLES)
def test_every_edge_says_who_causes_it_and_why(edges: Edges, states: type[StrEnum], start: StrEnum) -> None:
    for state, targets in edges.items():
        for to, sentence in targets.items():
            assert to in states and to != state
            assert len(sentence.split()) >= 3, f"{state} → {to}: {sentence!r}"


@pytest.mark.parametrize(("edges", "states", "start"), TABLES)
def test_no_state_but_an_ended_one_is_a_dead_end(edges: Edges, states: type[StrEnum], start: StrEnum) -> None:
    for state in states:
        ended = {"cleaned", "cancelled", "rolled_back", "done", "split", "verified"}
        assert reachable(edges, state) & ended, f"{state} never ends"
        assert edges[state] or state in ended


def test_a_job_that_ended_does_nothing_more_but_take_back_what_it_wrote() -> None:
    assert frozenset({"cleaned", "finished", "cancelled", "rolled_back"}) == JOB_ENDED
    for state in JOB_ENDED:
        assert set(JOB_EDGES[state]) <= {JobState.ROLLING_BACK}
    for ended in (MoveState.CLEANED, MoveState.ROLLED_BACK):
        assert not MOVE_EDGES[ended]
    assert not BATCH_EDGES[BatchState.SPLIT]


def test_what_was_deleted_is_never_rolled_back() -> None:
    assert reachable(JOB_EDGES, JobState.CLEANED) == {JobState.CLEANED}
    assert reachable(MOVE_EDGES, MoveState.CLEANED) == {MoveState.CLEANED}


def test_nothing_is_deleted_before_it_is_verified() -> None:
    """Without the state `verified`, and the pauses and calls for attention behind it, nothing leads to cleaning."""
    before = {
        state: [to for to in targets if to is not JobState.VERIFIED]
        for state, targets in JOB_EDGES.items()
        if state not in (JobState.PAUSING, JobState.PAUSED, JobState.NEEDS_ATTENTION)
    }
    found, waiting = {JobState.PLANNED}, [JobState.PLANNED]
    while waiting:
        fresh = set(before.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    assert JobState.COPIED in found
    assert JobState.CLEANING not in found


def test_a_job_is_paused_only_where_it_works_and_resumes_where_it_was() -> None:
    assert JOB_PAUSABLE == JOB_WORKING
    for state in (JobState.PAUSING, JobState.PAUSED):
        assert set(JOB_EDGES[state]) >= JOB_WORKING


def test_each_kind_of_batch_has_a_job_state_that_works_it() -> None:
    assert set().union(*KINDS_OF.values()) == set(BatchKind)
    assert set(KINDS_OF) == JOB_WORKING


def test_destructive_work_has_states_of_its_own() -> None:
    harmless = KINDS_OF[JobState.RUNNING] | KINDS_OF[JobState.COPIED]
    destructive = {BatchKind.CLEAR, BatchKind.REMOVE, BatchKind.UNDO, BatchKind.DROP}
    assert not harmless & destructive
    assert not KINDS_OF[JobState.CLEANING] & KINDS_OF[JobState.ROLLING_BACK]


def test_open_batches_are_those_that_may_still_land() -> None:
    assert set(BATCH_OPEN) == set(BatchState) - {BatchState.DONE, BatchState.PARKED, BatchState.SPLIT}
    assert BATCH_IN_FLIGHT < BATCH_OPEN


def test_a_job_takes_exactly_the_edges_of_the_table(database: Database) -> None:
    # Given a job, put into each of its states in turn
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))

    for from_, to in product(JobState, JobState):
        table.put(state=from_)

        # When it is asked to become each of the others
        # Then it does where the table has that edge, with its sentence; else it is refused and stays
        if why(from_, to):
            with table.begin() as connection:
                assert jobs.advance(connection, table.job_id, from_, to)
            assert table.job.state is to
        else:
            with pytest.raises(Refused, match=f"{from_} cannot become {to}"), table.begin() as connection:
                jobs.advance(connection, table.job_id, from_, to)
            assert table.job.state is from_


def test_of_two_deciders_the_slower_one_changes_nothing(database: Database) -> None:
    # Given two who saw a running job
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.start()

    # When one pauses it and the other, a moment later, finds it copied
    with table.begin() as connection:
        assert jobs.advance(connection, table.job_id, JobState.RUNNING, JobState.PAUSING, reason="lunch")
    with table.begin() as connection:
        changed = jobs.advance(connection, table.job_id, JobState.RUNNING, JobState.COPIED, reason="done")

    # Then the second is told so, and the pause stands
    assert changed is False
    assert (table.job.state, table.job.reason) == (JobState.PAUSING, "lunch")


def test_the_moves_of_a_job_take_exactly_the_edges_of_the_table(database: Database) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    for from_, to in product(MoveState, MoveState):
        with table.by_hand() as connection:
            connection.execute(sa.update(t.move).values(state=from_))
        if to in MOVE_EDGES[from_]:
            with table.begin() as connection:
                assert moves.advance(connection, table.job_id, from_, to) == 1
            assert table.move.state is to
        else:
            with pytest.raises(AssertionError, match="no edge"), table.begin() as connection:
                moves.advance(connection, table.job_id, from_, to)
            assert table.move.state is from_


@pytest.mark.parametrize("name", transitions.MACHINES)
def test_the_job_table_itself_takes_exactly_the_edges_of_the_table(database: Database, name: str) -> None:
    # Given a row of each machine
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.start()
    column, edges = transitions.MACHINES[name]
    with table.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO target (job_id, namespace) VALUES ({table.job_id}, 't')"))
        for from_, to in product(edges, edges):
            # When a statement that knows no table of ours takes it from one state to another
            with connection.begin_nested():
                lift_the_edges(connection)
                connection.execute(sa.text(f"UPDATE {name} SET {column} = '{from_}'"))
                connection.execute(sa.text("SET LOCAL session_replication_role = origin"))
            allowed = to == from_ or to in edges[from_]
            refusal = pytest.raises(sa.exc.IntegrityError, match=f"no edge leads from {from_} to {to}")
            # Then it may where there is an edge, and else the database names both
            with nullcontext() if allowed else refusal, connection.begin_nested():
                connection.execute(sa.text(f"UPDATE {name} SET {column} = '{to}'"))


@pytest.mark.parametrize(("name", "states"), [("job", JobState), ("move", MoveState), ("batch", BatchState)])
def test_the_job_table_itself_refuses_a_state_nobody_knows(
    database: Database, name: str, states: type[StrEnum]
) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.start()
    for state in states:
        with table.by_hand() as connection:
            connection.execute(sa.text(f"UPDATE {name} SET state = '{state}'"))
    with pytest.raises(sa.exc.IntegrityError), table.begin() as connection:
        connection.execute(sa.text(f"UPDATE {name} SET state = 'lost'"))
