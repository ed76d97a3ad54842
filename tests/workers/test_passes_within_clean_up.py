"""Another pass within a clean-up: what it may not touch, and what a person may not do once something is deleted."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator import services
from orchestrator import tables as t
from orchestrator.states import BatchKind, JobState, MoveState
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
    services.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.moves["s"].state is MoveState.PARKED


def another_pass(one: One, *states: JobState) -> None:
    services.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(*states)


@pytest.mark.parametrize("writers", ["delta", "dual"])
@pytest.mark.parametrize("newer", ["newer", None])
def test_what_an_application_did_at_the_target_since_the_clean_up_was_asked_for_is_not_written_over(
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
    assert "since the clean-up was asked for an application may write there" in (one.table.job.reason or "")
    # And once both sides are equal, the clean-up goes on
    (source,) = one.index.fetch("s", ["r03"]).records.values()
    one.index.upsert(TARGET, [theirs.with_metadata({**theirs.metadata, "text": source.metadata["text"]})])
    services.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.CLEANED)
    assert one.ids(TARGET) == sorted([*(record.id for record in twenty_three()), "new"])


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
    with pytest.raises(Refused, match="was asked to be deleted whole"):
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
    services.cut_over(database, job_id, "ana", 100)
    write(one, "s", "new", "by an old route")
    clean_up(one)
    another_pass(one, JobState.NEEDS_ATTENTION)
    for act in (
        lambda: services.reverse(database, job_id, "ana"),
        lambda: services.roll_back(database, job_id, "ana", None),
        lambda: services.cut_over(database, job_id, "ana", 50),
    ):
        with pytest.raises(Refused):
            act()
    # When the record may stay behind, then the clean-up goes on by itself, and leaves it
    services.accept_parked(database, job_id, "ana", None)
    one.until(JobState.CLEANED)
    assert one.ids("s") == ["new"] and one.ids("o") == []
