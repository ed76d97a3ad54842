"""A namespace is deleted whole on a young proof of both its sides, and otherwise not at all, or by ids."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import BatchKind, JobState
from orchestrator.queue import TASKS
from orchestrator.services import acts
from vecfleet.records import Record
from vecfleet.stores.base import IdPage, Matches, NamespaceInfo
from vecfleet.stores.memory import MemoryIndex
from workers import cleaning, runner


def time_passes(one: One, minutes: int) -> None:
    """The fleet was down for so long after the source was read again."""
    ago = timedelta(minutes=minutes)
    for row in one.table.rows(BatchKind.RECHECK):
        one.table.set_batch(row.id, looked_at=row.looked_at - ago, done_at=row.done_at - ago)
    began = one.table.job.created_at - ago
    one.table.put(created_at=began, started_at=began)


def never_listed(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """A listing of the source that lacks these, whenever it is made."""
    original = MemoryIndex.list_ids

    def list_ids(index: MemoryIndex, namespace: str, *rest: Any, **named: Any) -> IdPage:
        page = original(index, namespace, *rest, **named)
        shown = [id for id in page.ids if namespace != "s" or id not in hidden]
        return IdPage(shown, page.next_token, page.usage)

    monkeypatch.setattr(MemoryIndex, "list_ids", list_ids)


def test_records_that_are_counted_and_not_listed_are_not_deleted_unread(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing lacked them when they were to be copied, and again when their namespace was to be deleted."""
    one.until(JobState.VERIFIED)
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [Record("hidden", record.values)])
    never_listed(monkeypatch, "hidden")
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.CLEANED)
    assert list(one.index.fetch("s", ["r07", "hidden"]).records) == ["hidden"]
    assert (one.table.move.clean_mode, one.table.move.deleted) == ("by_ids", COUNT)
    assert one.table.move.reason == "s lists 23 records, but the service counts 24: records that are not listed stay"


def test_a_count_that_lags_for_a_moment_is_waited_for(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    one.read_again()
    original, told = MemoryIndex.namespace, [COUNT + 5]

    def namespace(index: MemoryIndex, name: str) -> NamespaceInfo | None:
        return NamespaceInfo(name, told.pop(), None) if told else original(index, name)

    monkeypatch.setattr(MemoryIndex, "namespace", namespace)
    one.until(JobState.CLEANED)
    assert (told, one.table.move.clean_mode) == ([], "whole")
    assert "s" not in [space.name for space in one.index.namespaces()]


def test_a_target_that_was_lost_while_the_fleet_was_away_keeps_its_source(one: One) -> None:
    """Its proof was three days old, and only the source was looked at once more: both copies were gone."""
    one.read_again()
    time_passes(one, 3 * 24 * 60)
    one.index.delete_namespace(TARGET)
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == COUNT
    assert {row.error_text for row in one.table.rows(BatchKind.RECHECK)} >= {
        "10 records of s are not equal at their target"
    }


@pytest.mark.parametrize("told", [True, False])
def test_a_proof_that_grew_old_is_made_anew_without_anybody_asking(one: One, told: bool) -> None:
    # Given a service that numbers its writes, or does not, and a fleet that was down before the deletion
    one.read_again()
    if not told:
        with one.table.begin() as connection:
            connection.execute(sa.text("UPDATE move SET proof_lsn = NULL"))
    time_passes(one, 20)

    # When it is back, then it says why it waits, reads everything once more, and deletes the namespace whole
    one.deliver()
    assert one.table.move.reason == "its proof was 20 minutes old right before the deletion"
    one.until(JobState.CLEANED)
    assert [row.attempts for row in one.table.rows(BatchKind.RECHECK)] == [2, 2, 2]
    assert (one.table.move.clean_mode, one.table.move.deleted, one.table.move.reason) == ("whole", COUNT, None)
    assert one.index.namespace("s") is None


def test_a_source_that_takes_longer_to_read_than_a_proof_keeps_is_deleted_by_ids(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a deletion that may have been asked for before, and readings that are too old whenever they are done
    monkeypatch.setattr(cleaning, "_PROOF_KEEPS_S", 0.0)
    one.read_again()
    (clear,) = one.table.rows(BatchKind.CLEAR)
    one.table.set_batch(clear.id, intent_at=sa.func.clock_timestamp())

    # When it was tried twice, then each batch is proven and deleted by itself, and none misses what may be gone
    one.until(JobState.CLEANED)
    assert None not in [row.intent_at for row in one.table.rows(BatchKind.REMOVE)]
    assert (one.table.move.clean_mode, one.table.move.deleted) == ("by_ids", COUNT)
    assert one.table.move.reason == "its proof was 0 minutes old right before the deletion"
    assert (one.ids("s"), len(one.ids(TARGET))) == ([], COUNT)
    assert one.table.rows(BatchKind.RECHECK) == []


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let the service tell the number of the last write with its answers, or not."""
    original, tells = MemoryIndex.query, [True]

    def query(index: MemoryIndex, *asked: Any, **named: Any) -> Matches:
        answer = original(index, *asked, **named)
        return answer if tells[0] else replace(answer, lsn=None)

    monkeypatch.setattr(MemoryIndex, "query", query)
    return lambda told: tells.__setitem__(0, told)


def test_a_last_write_that_is_not_told_any_more_proves_nothing(one: One, telling: Callable[[bool], None]) -> None:
    """Absent, it used to count as unchanged; here the record was changed after it was read again."""
    # Given a source that was read again, while the service told its last write
    one.read_again()
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [Record("r07", record.values, metadata={"text": "newer"})])

    # When the service does not tell it any more, then nothing is deleted
    telling(False)
    one.until(JobState.NEEDS_ATTENTION)
    assert one.index.fetch("s", ["r07"]).records["r07"].metadata == {"text": "newer"}
    assert one.table.move.reason == "the service no longer gives the last write to s: a retry reads it anew"

    # And once the change is undone, a retry reads it anew: a source without such numbers is cleaned up as ever
    one.index.upsert("s", [record])
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert (one.table.move.clean_mode, one.index.namespace("s")) == ("whole", None)


def test_a_last_write_that_is_told_only_once_all_is_read_again_proves_nothing(
    one: One, telling: Callable[[bool], None]
) -> None:
    """Nobody knows what was written between the reading and the telling."""
    # Given a source that was read again, while the service did not tell its last write, and changed since
    telling(False)
    one.read_again()
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [Record("r07", record.values, metadata={"text": "newer"})])

    # When the service tells it from now on, then everything is read once more, and the change is seen
    telling(True)
    one.deliver()
    assert one.table.move.reason == "the service gives the last write to s now, but gave none when the reading began"
    one.until(JobState.NEEDS_ATTENTION)
    assert one.index.fetch("s", ["r07"]).records["r07"].metadata == {"text": "newer"}


def test_a_last_write_that_is_told_from_the_second_batch_on_proves_nothing(
    one: One, telling: Callable[[bool], None]
) -> None:
    """The number that a later batch hears is that of a write after the first batch was read."""
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    (record,) = one.index.fetch("s", ["r07"]).records.values()

    # Given that the batches are read one after another, and a record of the first is changed before the second
    telling(False)
    first, *others = one.table.dispatch()
    runner.run(one.process, first.batch_id, first.generation, [TASKS[first.kind][1]])
    one.index.upsert("s", [Record("r07", record.values, metadata={"text": "newer"})])
    telling(True)
    for wakeup in others:
        runner.run(one.process, wakeup.batch_id, wakeup.generation, [TASKS[wakeup.kind][1]])

    # Then the change is seen before anything is deleted
    one.until(JobState.NEEDS_ATTENTION)
    assert one.index.fetch("s", ["r07"]).records["r07"].metadata == {"text": "newer"}


def test_an_empty_source_beside_others_needs_no_proof(database_url: str, redis_url: str) -> None:
    moves = planned("s", TARGET), planned("t", f"{TARGET}_2", COUNT)
    with open_one(database_url, redis_url, {"t": twenty_three()}, *moves) as one:
        one.index.create_namespace("s", None)
        one.until(JobState.VERIFIED)
        acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
        one.until(JobState.CLEANED)
        assert one.index.namespace("s") is None
        assert one.table.moves["s"].proof_lsn is None
