"""A repair writes exactly where it must: nobody's newer record is written over."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, One

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import parked, status
from orchestrator.ledger import tables as t
from orchestrator.services import acts, left_behind
from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores.base import Written
from vecfleet.stores.memory import MemoryIndex

Upserts = Callable[[], list[str]]


@pytest.fixture
def upserts(monkeypatch: pytest.MonkeyPatch) -> Upserts:
    """The ids that were sent to the target since the last time somebody asked."""
    original, sent = MemoryIndex.upsert, list[str]()

    def upsert(index: MemoryIndex, namespace: str, records: list[Record]) -> Written:
        if namespace == TARGET:
            sent.extend(record.id for record in records)
        return original(index, namespace, records)

    monkeypatch.setattr(MemoryIndex, "upsert", upsert)

    def since() -> list[str]:
        found = sorted(sent)
        sent.clear()
        return found

    return since


def claimed(one: One, record_id: str) -> None:
    """The record holds another creator's name: a conflict, which parks it."""
    (record,) = one.index.fetch("s", [record_id]).records.values()
    one.index.upsert("s", [record.with_metadata({"text": "a", "creator_id": "somebody else"})])


def fix_at_source(one: One, record_id: str) -> None:
    (record,) = one.index.fetch("s", [record_id]).records.values()
    one.index.upsert("s", [record.with_metadata({"text": "fixed"})])


def undecided(one: One) -> list[str]:
    with one.table.begin() as connection:
        return [one.record_id for one in parked.records(connection, one.table.job_id) if one.accepted_at is None]


def test_a_repair_writes_exactly_what_was_found_wanting(one: One, upserts: Upserts) -> None:
    one.until(JobState.COPIED)
    upserts()
    (damaged,) = one.index.fetch(TARGET, ["r11"]).records.values()
    one.index.delete(TARGET, ["r07"])
    MemoryIndex.upsert(one.index, TARGET, [Record("r11", bytes(len(damaged.values)), metadata=damaged.metadata)])
    upserts()
    one.until(JobState.VERIFIED)
    assert upserts() == ["r07", "r11"]
    assert one.table.job.repairs == 1


def test_a_repair_writes_over_nothing_that_came_since_the_check(one: One, upserts: Upserts) -> None:
    # Given two records lost at their target and two damaged there, and a check that found it
    one.until(JobState.COPIED)
    held = one.index.fetch(TARGET, ["r07", "r08", "r11", "r12"]).records
    one.index.delete(TARGET, ["r07", "r08"])
    one.index.upsert(TARGET, [held[record_id].with_metadata({"text": "damaged"}) for record_id in ("r11", "r12")])
    one.until(JobState.RUNNING)

    # When somebody writes one of each before the repair does
    theirs = {record_id: held[record_id].with_metadata({"text": "theirs"}) for record_id in ("r07", "r11")}
    one.index.upsert(TARGET, list(theirs.values()))
    upserts()
    one.until(JobState.COPIED)

    # Then the repair leaves those to the next check, and writes the others
    assert upserts() == ["r08", "r12"]
    assert one.index.fetch(TARGET, list(theirs)).records == theirs


def test_a_difference_is_named_with_the_parts_in_which_it_is_one(one: One) -> None:
    one.until(JobState.COPIED)
    (damaged,) = one.index.fetch(TARGET, ["r11"]).records.values()
    one.index.upsert(TARGET, [Record("r11", bytes(len(damaged.values)), metadata={"text": "other"})])
    one.index.upsert(TARGET, [Record("r12", damaged.values, metadata={"text": "other"})])
    one.work_until(lambda: one.table.job.repairs)
    with one.table.begin() as connection:
        found = connection.exec_driver_sql("SELECT record_id, parts FROM finding ORDER BY 1").all()
    assert [tuple(row) for row in found] == [("r11", "values, metadata"), ("r12", "metadata")]


def test_what_a_person_let_stay_behind_stays_behind_when_its_batch_is_repaired(one: One, upserts: Upserts) -> None:
    # Given a verified job, one record of which was left behind and has been fixed at its source since
    claimed(one, "r03")
    one.until(JobState.NEEDS_ATTENTION)
    left_behind.accept_records(one.table.database, one.table.job_id, "ana", ["r03"])
    one.until(JobState.VERIFIED)
    fix_at_source(one, "r03")
    upserts()

    # When its neighbour is lost at the target and repaired
    one.index.delete(TARGET, ["r04"])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)

    # Then it still is what the person decided
    assert upserts() == ["r04"]
    assert undecided(one) == []
    move = one.table.move
    assert (move.written, move.parked, move.left_behind, move.settled) == (COUNT - 1, 0, 1, COUNT)


def test_a_retried_record_alone_is_written(one: One, upserts: Upserts) -> None:
    claimed(one, "r03")
    one.until(JobState.NEEDS_ATTENTION)
    upserts()
    fix_at_source(one, "r03")
    acts.retry(one.table.database, one.table.job_id, "ana", "parked")
    one.until(JobState.VERIFIED)
    assert upserts() == ["r03"]
    assert one.table.move.written == COUNT


def test_a_retried_record_is_not_written_over_one_that_came_to_the_target_meanwhile(one: One) -> None:
    # Given a parked record, and an application that wrote that very id at the target since
    claimed(one, "r03")
    one.until(JobState.NEEDS_ATTENTION)
    fix_at_source(one, "r03")
    (record,) = one.index.fetch("s", ["r03"]).records.values()
    newer = record.with_metadata({"text": "newer"})
    one.index.upsert(TARGET, [newer])

    # When the parked record is retried, then it stays parked, and what is there stays as it is
    acts.retry(one.table.database, one.table.job_id, "ana", "parked")
    one.until(JobState.NEEDS_ATTENTION)
    assert one.index.fetch(TARGET, ["r03"]).records["r03"].metadata == newer.metadata
    with one.table.begin() as connection:
        (only,) = parked.records(connection, one.table.job_id)
    assert (only.record_id, only.reason) == ("r03", f"{TARGET} holds another record of this id by now")


def test_a_parked_batch_can_be_left_behind_whole_and_everything_else_is_cleaned_up(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch that the service refuses to have read
    original = MemoryIndex.fetch

    def refuse(index: MemoryIndex, namespace: str, ids: list[str]) -> object:
        if namespace == "s" and "r10" in ids:
            raise BadRequest("these cannot be read")
        return original(index, namespace, ids)

    monkeypatch.setattr(MemoryIndex, "fetch", refuse)
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.job.reason == "1 batch is parked"
    (batch,) = [row for row in one.table.rows(BatchKind.COPY) if row.state == BatchState.PARKED]

    # When a person lets its records stay behind
    assert left_behind.accept_batches(one.table.database, one.table.job_id, "ana", [batch.id]) == batch.size
    one.until(JobState.VERIFIED)

    # Then they are accounted for, one by one, and a clean-up deletes all but them
    move = one.table.move
    assert (move.parked, move.left_behind, move.settled) == (0, batch.size, COUNT)
    assert undecided(one) == []
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.CLEANED)
    monkeypatch.undo()
    assert one.ids("s") == [f"r{number}" for number in range(10, 20)]


def test_a_batch_that_wrote_before_it_was_parked_and_left_behind_is_no_intruder_and_is_rolled_back(one: One) -> None:
    # Given a batch of which one record was written, and that then could not be finished
    one.table.advance()
    one.deliver()
    lease, *rest = one.table.take()
    for other in rest:
        one.table.requeue(other)
    one.deliver()
    (record,) = one.index.fetch("s", ["r03"]).records.values()
    added = {"creator_id": "ana", "twin_id": "s", "migrated_from": "s"}
    one.table.target(lease, TARGET)
    one.index.upsert(TARGET, [record.with_metadata({**record.metadata, **added})])
    one.table.park(lease)
    one.until(JobState.NEEDS_ATTENTION)

    # When it is left behind, then what it wrote is set aside, not called an intruder
    left_behind.accept_batches(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.VERIFIED)
    verdict = one.table.targets[TARGET].verdict
    assert verdict is not None
    assert (verdict["extra"], verdict["set_aside"]) == (0, 1)

    # And rolling back takes it along
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.ROLLED_BACK)
    assert one.ids(TARGET) == []


def test_what_a_verification_cost_stays_when_it_is_made_anew(one: One) -> None:
    one.until(JobState.VERIFIED)
    with one.table.begin() as connection:
        before = status.spent(connection, one.table.job_id)
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)
    with one.table.begin() as connection:
        after = status.spent(connection, one.table.job_id)
    for kind in (BatchKind.VERIFY, BatchKind.SURVEY):
        assert after[kind].requests == 2 * before[kind].requests > 0
        assert after[kind].read_units == 2 * before[kind].read_units
        assert after[kind].began == before[kind].began


def test_a_source_that_looks_empty_takes_nothing_from_its_target_and_nothing_from_the_books(one: One) -> None:
    # Given a copied job that lost a record at its target, and then its whole source
    one.until(JobState.COPIED)
    one.index.delete(TARGET, ["r07"])
    one.index.delete_namespace("s")

    # When it is verified and repaired
    one.until(JobState.NEEDS_ATTENTION)

    # Then nothing was removed, and that they were written is on record still
    assert one.table.job.reason == "1 target differs from its sources"
    assert len(one.ids(TARGET)) == COUNT - 1
    move = one.table.move
    assert (move.written, move.gone, move.settled) == (COUNT, 0, COUNT)
    verdict = one.table.targets[TARGET].verdict
    assert verdict is not None
    assert (verdict["expected"], verdict["missing"], verdict["extra"]) == (COUNT, 1, 0)


def test_a_parked_repair_that_is_retried_writes_what_it_was_about_and_nothing_else(one: One, upserts: Upserts) -> None:
    # Given a record that stays behind, whose id somebody wrote at the target, and another one that is lost there
    claimed(one, "r03")
    one.until(JobState.NEEDS_ATTENTION)
    left_behind.accept_records(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.VERIFIED)
    fix_at_source(one, "r03")
    (record,) = one.index.fetch("s", ["r03"]).records.values()
    theirs = record.with_metadata({"text": "theirs"})
    one.index.upsert(TARGET, [theirs])
    one.index.delete(TARGET, ["r07"])

    # When its repair is parked, and retried
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.RUNNING)
    (lease,) = one.table.take()
    one.table.park(lease)
    one.until(JobState.NEEDS_ATTENTION)
    upserts()
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.VERIFIED)

    # Then the lost one is there again, and theirs is as they wrote it
    assert upserts() == ["r07"]
    assert one.index.fetch(TARGET, ["r03"]).records["r03"] == theirs


def test_a_repair_without_record_digests_rewrites_only_differing_records(one: One, upserts: Upserts) -> None:
    one.until(JobState.VERIFIED)
    with one.table.begin() as connection:
        connection.execute(sa.update(t.batch_tally).values(record_digests=None))
    (record,) = one.index.fetch(TARGET, ["r11"]).records.values()
    one.index.upsert(TARGET, [record.with_metadata({**record.metadata, "text": "damaged"})])
    upserts()
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.RUNNING)
    one.until(JobState.VERIFIED)
    assert upserts() == ["r11"]
