"""Another pass within a clean-up: what it may not touch, and what a person may not do once something is deleted."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind, BatchState, JobState, MoveState
from orchestrator.ledger import tables as t
from orchestrator.services import acts, left_behind
from vecfleet.errors import Refused
from vecfleet.records import Record

Open = Callable[..., One]


@pytest.fixture
def open_job(database_url: str, redis_url: str) -> Iterator[Open]:
    """`open_job(namespaces, *moves, **policies)`: writers go on."""
    with ExitStack() as ending:
        yield lambda *given, **policies: ending.enter_context(
            open_one(database_url, redis_url, *given, **{"writers": "delta", "max_passes": 20, **policies})
        )


def write(one: One, namespace: str, record_id: str, text: str) -> Record:
    """Somebody writes this text into a record, or adds it."""
    held = one.index.fetch(namespace, [record_id]).records.get(record_id, twenty_three()[0])
    written = Record(record_id, held.values, metadata={**held.metadata, "text": text})
    one.index.upsert(namespace, [written])
    return written


def clean_up(one: One, *, by_ids: bool = False) -> None:
    """It is asked for, and stops."""
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.moves["s"].state is MoveState.PARKED


def another_pass(one: One, *states: JobState) -> None:
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(*states)


@pytest.mark.parametrize("writers", ["delta", "dual"])
@pytest.mark.parametrize("newer", ["newer", None])
def test_changes_at_the_target_since_the_clean_up_began_are_kept(
    open_job: Open, writers: str, newer: str | None
) -> None:
    # Given a clean-up without a cut-over that a write to the source stopped
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), writers=writers)
    one.until(JobState.VERIFIED)
    write(one, "s", "r03", "by a client of before")
    clean_up(one)
    # And an application that has gone over to the target meanwhile, and changed or deleted that very record
    if newer is None:
        one.index.delete(TARGET, ["r03"])
    else:
        write(one, TARGET, "r03", newer)
    theirs = one.index.fetch(TARGET, ["r03"]).records
    # When the source is read once more, then a person is asked about it, and theirs stands
    another_pass(one, JobState.NEEDS_ATTENTION)
    assert one.table.parked_ids() == ["r03"]
    assert one.index.fetch(TARGET, ["r03"]).records == theirs


def test_a_target_that_differs_is_not_repaired_once_the_clean_up_was_asked_for(open_job: Open) -> None:
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.until(JobState.VERIFIED)
    write(one, "s", "new", "by a client of before")
    clean_up(one)
    theirs = write(one, TARGET, "r03", "newer")
    another_pass(one, JobState.NEEDS_ATTENTION)
    assert one.index.fetch(TARGET, ["r03"]).records["r03"] == theirs
    assert "applications may have written newer records there" in (one.table.job.reason or "")
    # And once both sides are equal, the clean-up goes on
    (source,) = one.index.fetch("s", ["r03"]).records.values()
    one.index.upsert(TARGET, [theirs.with_metadata({**theirs.metadata, "text": source.metadata["text"]})])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.CLEANED)
    assert one.ids(TARGET) == sorted([*(record.id for record in twenty_three()), "new"])


@pytest.mark.parametrize("by_ids", [False, True])
def test_a_client_whose_routes_are_from_before_the_clean_up_loses_no_write(open_job: Open, by_ids: bool) -> None:
    # Given a clean-up without a cut-over, and a client that may write by the routes it has read for a while yet
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), waits=Waits(routes_stale_s=2.0))
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    for _ in range(5):
        one.deliver()
        one.table.advance()
    # When it writes, then that stops the deletion, and another pass brings it over
    write(one, "s", "r03", "by a client of before")
    one.until(JobState.NEEDS_ATTENTION, JobState.CLEANED)
    assert one.table.job.state is JobState.NEEDS_ATTENTION
    another_pass(one, JobState.CLEANED)
    assert one.ids("s") == []
    assert one.index.fetch(TARGET, ["r03"]).records["r03"].metadata["text"] == "by a client of before"


def test_records_that_are_deleted_by_their_ids_are_not_withdrawn_from_their_target(open_job: Open) -> None:
    # Given a source of which two batches of ids are deleted, and one is not, for a record of it changed
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.until(JobState.VERIFIED)
    write(one, "s", "r21", "changed")
    clean_up(one, by_ids=True)
    assert one.ids("s") == ["r20", "r21", "r22"]
    # When it is read once more, then only what is left is copied, and the clean-up goes on by ids
    another_pass(one, JobState.CLEANED)
    assert one.ids("s") == []
    assert one.ids(TARGET) == [record.id for record in twenty_three()]
    assert one.index.fetch(TARGET, ["r21"]).records["r21"].metadata["text"] == "changed"
    move = one.table.move
    assert (move.written, move.gone, move.deleted, move.clean_mode) == (COUNT, 0, COUNT, "by_ids")


def test_a_source_that_was_asked_to_be_deleted_whole_is_not_read_again(open_job: Open) -> None:
    """Its records may be gone by that call, and would be withdrawn from their targets."""
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.until(JobState.VERIFIED)
    write(one, "s", "new", "by a client of before")
    clean_up(one)
    with one.table.begin() as connection:  # as if the call had come after that
        asked = sa.update(t.batch).where(t.batch.c.kind == BatchKind.CLEAR)
        connection.execute(asked.values(intent_at=sa.func.clock_timestamp()))
    with pytest.raises(Refused, match="a deletion of every source"):
        another_pass(one)
    assert one.table.move.state is MoveState.PARKED and one.ids(TARGET) == [record.id for record in twenty_three()]


def test_no_reader_goes_back_to_a_source_that_is_deleted_while_another_is_read_once_more(open_job: Open) -> None:
    records = twenty_three()
    other = planned("o", "creator_ana_twin_o", 3)
    one = open_job(
        {"s": records, "o": records[:3]}, planned("s", TARGET, COUNT), other, cut_over="operator", soak_seconds=0
    )
    database, job_id = one.table.database, one.table.job_id
    one.until(JobState.VERIFIED)
    acts.cut_over(database, job_id, "ana", 100)
    write(one, "s", "new", "by an old route")
    clean_up(one)
    another_pass(one, JobState.NEEDS_ATTENTION)
    for act in (
        lambda: acts.reverse(database, job_id, "ana"),
        lambda: acts.roll_back(database, job_id, "ana", None),
        lambda: acts.cut_over(database, job_id, "ana", 50),
    ):
        with pytest.raises(Refused):
            act()
    # When the record may stay behind, then the clean-up goes on by itself, and leaves it
    left_behind.accept_records(database, job_id, "ana", None)
    one.until(JobState.CLEANED)
    assert one.ids("s") == ["new"] and one.ids("o") == []


def goes_on(one: One) -> None:
    """It ends cleaned, and no policy waits on the way."""
    one.work_until(
        lambda: (
            one.table.job.state in (JobState.CLEANED, JobState.NEEDS_ATTENTION)
            or (one.table.job.reason or "").startswith("the policy waits")
        )
    )
    assert one.table.job.state is JobState.CLEANED, one.table.job.reason
    assert {move.state for move in one.table.moves.values()} == {MoveState.CLEANED}


def as_if_asked(one: One, namespace: str, kind: BatchKind) -> None:
    """Put on record that the parked deletions of this source were asked for before."""
    (row,) = (row for row in one.table.rows(kind, namespace) if row.state == BatchState.PARKED)
    one.table.set_batch(row.id, intent_at=sa.func.clock_timestamp())


@pytest.mark.parametrize("by_ids", [True, False])
def test_a_deletion_that_was_asked_for_and_parked_is_looked_at_when_the_clean_up_goes_on(
    open_job: Open, by_ids: bool
) -> None:
    # Given a source whose deletion was asked for and then parked, and one that a write stopped
    records = twenty_three()
    other = "creator_ana_twin_o"
    one = open_job({"s": records, "o": records[:3]}, planned("s", TARGET, COUNT), planned("o", other, 3))
    one.until(JobState.VERIFIED)
    if by_ids:
        write(one, "s", "r21", "changed")
    else:
        write(one, "s", "new", "by a client of before")
    write(one, "o", "r01", "newer")
    clean_up(one, by_ids=by_ids)
    as_if_asked(one, "s", BatchKind.REMOVE if by_ids else BatchKind.CLEAR)
    # When what stood against it is taken away, and the other one is read once more
    if by_ids:
        one.index.upsert("s", [records[21]])
    else:
        one.index.delete("s", ["new"])
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    # Then the clean-up goes on to its end
    goes_on(one)
    assert one.ids("s") == one.ids("o") == []
    assert one.ids(TARGET) == [record.id for record in records]
    assert one.index.fetch(other, ["r01"]).records["r01"].metadata["text"] == "newer"


def test_a_verification_where_every_source_was_asked_to_be_deleted_whole_lets_the_clean_up_go_on(
    open_job: Open,
) -> None:
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.until(JobState.VERIFIED)
    write(one, "s", "new", "by a client of before")
    clean_up(one)
    as_if_asked(one, "s", BatchKind.CLEAR)
    one.index.delete("s", ["new"])
    acts.verify(one.table.database, one.table.job_id, "ana")
    goes_on(one)
    assert one.ids("s") == [] and one.ids(TARGET) == [record.id for record in twenty_three()]


@pytest.mark.parametrize(("gone", "changed"), [(["r20", "r21", "r22"], "r03"), (["r20"], "r21")])
def test_records_whose_deletion_is_in_lost_commits_are_not_withdrawn_from_their_target(
    open_job: Open, gone: list[str], changed: str
) -> None:
    # Given a job in doubt whose lost commits hold the deletion of these records, and a write that stops the clean-up
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.until(JobState.VERIFIED)
    one.table.put(doubted_at=sa.func.clock_timestamp())
    one.index.delete("s", gone)
    write(one, "s", changed, "changed")
    clean_up(one, by_ids=True)
    # When a person ends the doubt and asks for another pass
    acts.set_lever(one.table.database, one.table.job_id, "ana", "doubt", 0)
    another_pass(one, JobState.CLEANED, JobState.NEEDS_ATTENTION)
    # Then they stay where they are left
    assert one.ids(TARGET) == [record.id for record in twenty_three()]


def test_a_source_that_is_empty_by_our_own_doing_is_listed_as_empty(open_job: Open) -> None:
    # Given a source of fewer records than were planned, all deleted by their ids, and a write that stops the clean-up
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT + 1))
    one.until(JobState.VERIFIED)
    write(one, "s", "new", "by a client of before")
    clean_up(one, by_ids=True)
    assert one.ids("s") == ["new"]
    # When its writer takes the record back, and the source is read once more
    one.index.delete("s", ["new"])
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    # Then it lists no ids, and the clean-up goes on to its end
    goes_on(one)
    assert one.ids(TARGET) == [record.id for record in twenty_three()]
