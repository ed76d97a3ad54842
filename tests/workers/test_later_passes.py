"""Writers go on: what a later pass may write, take back and leave alone, and what it must not believe from before."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core import manifests
from orchestrator.core.next_steps import next_steps
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import copies, erased_ids, listings, status
from orchestrator.services import acts, left_behind
from vecfleet.errors import Refused
from vecfleet.records import Record
from workers import runner

SHARED = "creator_ana"
Open = Callable[..., One]


@pytest.fixture
def open_job(database_url: str, redis_url: str) -> Iterator[Open]:
    """`open_job(namespaces, *moves, **policies)`."""
    with ExitStack() as ending:
        yield lambda *given, **policies: ending.enter_context(open_one(database_url, redis_url, *given, **policies))


def change(one: One, namespace: str, record_id: str, text: str) -> Record:
    """Somebody writes this text into a record."""
    (record,) = one.index.fetch(namespace, [record_id]).records.values()
    changed = record.with_metadata({**record.metadata, "text": text})
    one.index.upsert(namespace, [changed])
    return changed


def next_pass(one: One, *states: JobState) -> None:
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(JobState.RUNNING)
    one.until(*states)


def two_sources_with_an_equal_record(open_job: Open) -> tuple[One, str, str]:
    """Verified: one source wrote `same`, and of the other it counts as identical. Which is which."""
    first, *_ = twenty_three()
    same = Record("same", first.values, metadata={"text": "the same"})
    one = open_job(
        {"s1": [first, same], "s2": [Record("other", first.values), same]},
        planned("s1", SHARED, 2),
        planned("s2", SHARED, 2),
        collisions="identical",
        writers="delta",
        max_passes=20,
    )
    one.until(JobState.VERIFIED)
    (owner,) = [move.source for move in one.table.moves.values() if move.written == 2]
    (other,) = [move.source for move in one.table.moves.values() if move.identical == 1]
    return one, owner, other


def test_a_record_that_was_identical_to_one_that_changed_since_is_not_called_so_any_more(open_job: Open) -> None:
    one, owner, other = two_sources_with_an_equal_record(open_job)
    change(one, owner, "same", "the owner's alone")
    next_pass(one, JobState.NEEDS_ATTENTION)
    assert one.table.moves[other].identical == 0
    assert one.table.parked_ids() == ["same"]
    assert one.index.fetch(SHARED, ["same"]).records["same"].metadata["text"] == "the owner's alone"


def test_an_id_whose_record_went_away_is_free_for_the_other_source_that_has_it(open_job: Open) -> None:
    one, owner, other = two_sources_with_an_equal_record(open_job)
    one.index.delete(owner, ["same"])
    next_pass(one, JobState.VERIFIED)
    assert one.table.moves[other].written == 2
    assert one.index.fetch(SHARED, ["same"]).records["same"].metadata["migrated_from"] == other


def test_what_a_stranger_wrote_where_a_worked_batch_never_did_is_not_written_over(open_job: Open) -> None:
    # Given a record that could not be enriched, so that it was let stay behind
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), writers="delta", max_passes=20)
    (record,) = one.index.fetch("s", ["r03"]).records.values()
    one.index.upsert("s", [record.with_metadata({"creator_id": "somebody else"})])
    one.until(JobState.NEEDS_ATTENTION)
    left_behind.accept_records(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.VERIFIED)

    # When a stranger writes that id at the target, and the record is fixed at the source
    strangers = record.with_metadata({"text": "a stranger's"})
    one.index.upsert(TARGET, [strangers])
    one.index.upsert("s", [record.with_metadata({"text": "fixed"})])
    next_pass(one, JobState.VERIFIED)

    # Then the stranger's stands, and the other is set aside
    assert one.index.fetch(TARGET, ["r03"]).records["r03"] == strangers
    assert one.table.parked_ids() == ["r03"]


def test_under_dual_a_difference_does_not_hide_that_another_record_was_deleted_meanwhile(open_job: Open) -> None:
    # Given both sides equal, and then a record that is damaged at the target
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), writers="dual", max_passes=20)
    one.until(JobState.VERIFIED)
    change(one, TARGET, "r05", "damaged")
    passes = one.table.job.passes
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.work_until(lambda: one.table.job.passes > passes)

    # When, before the pass that copies it, a record of the same batch is deleted at the source
    one.index.delete("s", ["r07"])
    one.until(JobState.VERIFIED)

    # Then the first is copied again, and the copy of the other is removed
    assert one.index.fetch(TARGET, ["r05"]).records["r05"].metadata["text"] == "text 5"
    assert one.ids(TARGET) == one.ids("s")


class Killed(BaseException):
    """The worker is gone."""


@pytest.mark.parametrize("collisions", ["fail", "prefix"])
@pytest.mark.parametrize("writers", ["delta", "dual"])
def test_what_a_worker_wrote_before_it_died_does_not_outlive_its_source(
    open_job: Open, monkeypatch: pytest.MonkeyPatch, writers: str, collisions: str
) -> None:
    """Nobody has it on record: it used to stand there as an extra record for ever."""
    one = open_job(
        {"s": twenty_three()}, planned("s", TARGET, COUNT), writers=writers, max_passes=20, collisions=collisions
    )
    # Given workers that die after their upserts and before the record of them
    one.table.advance()
    one.deliver()
    upsert_and_die(one, monkeypatch)
    assert len(one.ids(TARGET)) == COUNT

    # When one of their records is deleted at the source before they are replaced
    one.index.delete("s", ["r07"])
    replace_the_dead(one)
    one.until(JobState.VERIFIED)

    # Then it is gone at the target, too
    assert_a_twin_each(one, "s:" if collisions == "prefix" else "")
    assert (one.table.move.written, one.table.move.gone) == (COUNT - 1, 1)


@pytest.mark.parametrize("collisions", ["fail", "prefix"])
@pytest.mark.parametrize("writers", ["delta", "dual"])
def test_a_change_that_a_worker_wrote_before_it_died_does_not_outlive_its_source(
    open_job: Open, monkeypatch: pytest.MonkeyPatch, writers: str, collisions: str
) -> None:
    """On record is what stood there before the change, which is no reason to take it for a stranger's."""
    one = open_job(
        {"s": twenty_three()}, planned("s", TARGET, COUNT), writers=writers, max_passes=20, collisions=collisions
    )
    prefix = "s:" if collisions == "prefix" else ""
    one.until(JobState.VERIFIED)
    # Given a later pass, whose workers die after they wrote a change and before the record of it
    change(one, "s", "r07", "changed")
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(JobState.RUNNING)
    one.deliver()
    upsert_and_die(one, monkeypatch)
    (twin,) = one.index.fetch(TARGET, [f"{prefix}r07"]).records.values()
    assert twin.metadata["text"] == "changed"

    # When the changed record is deleted at the source before they are replaced
    one.index.delete("s", ["r07"])
    replace_the_dead(one)
    one.until(JobState.VERIFIED)

    # Then it is gone at the target, too
    assert_a_twin_each(one, prefix)


def test_what_somebody_made_of_a_twin_is_not_removed_with_its_record(open_job: Open) -> None:
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), writers="delta", max_passes=20)
    one.until(JobState.VERIFIED)
    (twin,) = one.index.fetch(TARGET, ["r07"]).records.values()
    strangers = twin.with_metadata({"text": "a stranger's"})
    one.index.upsert(TARGET, [strangers])
    one.index.delete("s", ["r07"])
    next_pass(one, JobState.NEEDS_ATTENTION)
    assert one.index.fetch(TARGET, ["r07"]).records["r07"] == strangers


def upsert_and_die(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(copies, "finish_copy", lambda *_: (_ for _ in ()).throw(Killed))
        for wakeup in one.table.dispatch():
            with pytest.raises(Killed):
                runner.run(one.process, wakeup.batch_id, wakeup.generation)


def replace_the_dead(one: One) -> None:
    for row in one.table.rows():
        if row.state == BatchState.LEASED:
            one.table.expire(row)
    one.table.reap()


def assert_a_twin_each(one: One, prefix: str) -> None:
    assert one.ids(TARGET) == [prefix + record_id for record_id in one.ids("s")]


@pytest.mark.parametrize("writers", ["delta", "dual"])
def test_readers_that_were_taken_back_return_only_after_another_pass(open_job: Open, writers: str) -> None:
    # Given readers who were moved, and back: their application may have written at the old side since
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), writers=writers, cut_over="operator")
    database, job_id = one.table.database, one.table.job_id

    def cut_over() -> None:
        acts.cut_over(database, job_id, "ana", 100)

    def refused() -> None:
        with pytest.raises(Refused, match=r"readers were taken back at .* no pass") as found:
            cut_over()
        assert found.value.next_step is not None and f"`vecfleet pass {job_id}`" in found.value.next_step
        with database.begin() as connection:
            assert next_steps(status.reading(connection, job_id, namespaces=0))[0] == f"vecfleet pass {job_id}"

    one.until(JobState.VERIFIED)
    cut_over()
    acts.reverse(database, job_id, "ana")
    refused()

    # When it is only verified, then nothing was read of what is at the old side
    acts.verify(database, job_id, "ana")
    one.until(JobState.VERIFIED)
    refused()

    # When it is read once more, then what was proven is what it holds
    next_pass(one, JobState.VERIFIED)
    cut_over()
    acts.reverse(database, job_id, "ana")

    # And what was written there since is found before any reader misses it
    change(one, "s", "r03", "written after the reversal")
    next_pass(one, JobState.NEEDS_ATTENTION)
    assert one.table.parked_ids() == ["r03"]


def test_a_listing_ends_that_comes_after_an_erasure_emptied_whole_batches(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to begin again at the first batch for ever, looking for a new id behind all known ones."""
    # Given a source of 25 batches, of which an erasure emptied six
    (sample, *_) = twenty_three()
    ids = [f"r{number:03d}" for number in range(250)]
    one = open_job({"s": [Record(id, sample.values) for id in ids]}, planned("s", TARGET, 250), writers="delta")
    one.until(JobState.VERIFIED)
    erased = {row.id: manifests.unpack(row.manifest) for row in one.table.rows(BatchKind.COPY)[:6]}
    for copy_id, struck in erased.items():
        one.index.delete("s", struck)
        one.index.delete(TARGET, struck)
        with one.table.begin() as connection:
            erased_ids.remove_ids(connection, copy_id, dict.fromkeys(struck))
    # And an application that adds a record behind all others
    one.index.upsert("s", [Record("z", sample.values)])
    asked = 0

    def manifest_page(*given: object) -> object:
        nonlocal asked
        asked += 1
        assert asked < 100, "the listing does not end"
        return original(*given)  # type: ignore[arg-type]

    original = listings.manifest_page
    monkeypatch.setattr(listings, "manifest_page", manifest_page)

    # When the source is read again
    next_pass(one, JobState.VERIFIED)

    # Then the new record has arrived, and the erased ones stay away
    assert one.ids(TARGET)[0] == "r060" and "z" in one.index.fetch(TARGET, ["z"]).records
    move = one.table.move
    assert (move.listed, move.written, move.erased) == (251, 191, 60)
