"""A deletion that was not answered: it is never repeated blind, and never forgotten before it can no longer land."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import cleanup
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.services import acts
from vecfleet.errors import RateLimited, TimedOut, Unavailable, Unreachable
from vecfleet.records import Record
from vecfleet.stores.base import IdPage, Usage
from workers.lane import Lane
from workers.leases import Held, Leaving

NEW = Record("r03", twenty_three()[3].values, metadata={"text": "written after the deletion took effect"})
DEADLINE_S = 1.0


@pytest.fixture
def one(database_url: str, redis_url: str) -> Iterator[One]:
    with open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT)) as one:
        one.process.settings = one.process.settings.model_copy(update={"request_deadline_seconds": DEADLINE_S})
        yield one


class Answers:
    """The fate of the deletions asked of an index: the first ones as planned, the others as they should."""

    def __init__(self, one: One, monkeypatch: pytest.MonkeyPatch, *planned: str, then: Record | None = None) -> None:
        self.one, self.planned, self.then = one, list(planned), then
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.late: list[tuple[str, tuple[str, ...]]] = []
        delete, delete_namespace = one.index.delete, one.index.delete_namespace
        self._really = lambda name, ids: delete(name, ids) if ids else delete_namespace(name)
        monkeypatch.setattr(one.index, "delete", lambda name, ids: self._answer(name, tuple(ids)))
        monkeypatch.setattr(one.index, "delete_namespace", lambda name: self._answer(name, ()))

    def _answer(self, namespace: str, ids: Sequence[str]) -> Usage:
        self.asked.append((namespace, tuple(ids)))
        match self.planned.pop(0) if self.planned else "carried out":
            case "carried out, answer lost":
                self._really(namespace, ids)
                if self.then is not None:
                    self.one.index.upsert(namespace, [self.then])
                raise TimedOut
            case "late":
                self.late.append((namespace, tuple(ids)))
                raise TimedOut
            case "answered in vain":
                return Usage()
            case "refused":
                raise RateLimited(retry_after=0.01)
            case _:
                return self._really(namespace, ids)

    def land(self) -> None:
        """Carry out what was asked for and not carried out yet."""
        while self.late:
            self._really(*self.late.pop())


@pytest.mark.parametrize("by_ids", [False, True])
def test_what_is_written_after_a_deletion_whose_answer_was_lost_is_not_deleted(
    one: One, monkeypatch: pytest.MonkeyPatch, by_ids: bool
) -> None:
    # Given a deletion that is carried out, an answer that is lost, and an application that writes then
    one.until(JobState.VERIFIED)
    answers = Answers(one, monkeypatch, "carried out, answer lost", then=NEW)

    # When the clean-up comes to its end
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    one.until(JobState.NEEDS_ATTENTION)

    # Then the new record is there, and no deletion was asked for a second time
    assert one.index.fetch("s", ["r03"]).records == {"r03": one.index.normalise(NEW)}
    assert len(answers.asked) == len(set(answers.asked))


@pytest.mark.parametrize("by_ids", [False, True])
def test_nobody_takes_the_batch_before_an_unanswered_deletion_can_no_longer_land(
    one: One, monkeypatch: pytest.MonkeyPatch, by_ids: bool
) -> None:
    # Given a deletion whose answer did not come, and which the service may still carry out
    one.until(JobState.VERIFIED)
    answers = Answers(one, monkeypatch, "late")
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    one.work_until(lambda: answers.late)
    kind = BatchKind.REMOVE if by_ids else BatchKind.CLEAR
    [waiting] = [row for row in one.table.rows(kind) if row.lands_by is not None]

    # When it lands just in time, then the batch is worked only after it, and the job ends with nothing deleted twice
    assert waiting.state == BatchState.READY
    answers.land()
    one.until(JobState.CLEANED)
    [done] = [row for row in one.table.rows(kind) if row.id == waiting.id]
    assert done.looked_at >= waiting.lands_by
    assert len(answers.asked) == len(set(answers.asked))
    assert one.ids("s") == []


@pytest.mark.parametrize("by_ids", [False, True])
def test_a_deletion_that_left_long_after_its_intent_may_land_as_late_as_one_that_left_at_once(
    one: One, monkeypatch: pytest.MonkeyPatch, by_ids: bool
) -> None:
    # Given a worker that put its intent on record, and stood still before its call left, which is not answered
    one.until(JobState.VERIFIED)
    delete, left = one.index.delete, list[datetime]()
    kind = BatchKind.REMOVE if by_ids else BatchKind.CLEAR

    def stood_still(*_: object) -> Usage:
        if left:
            return delete("s", one.ids("s"))
        for row in one.table.rows(kind):
            if row.intent_at is not None:
                one.table.set_batch(row.id, lands_by=row.intent_at)
        left.append(datetime.now(UTC))
        raise TimedOut

    monkeypatch.setattr(one.index, "delete" if by_ids else "delete_namespace", stood_still)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)

    # When it gives the batch back
    one.work_until(lambda: left)

    # Then nobody takes it up before that call can no longer land
    [waiting] = [row for row in one.table.rows(kind) if row.error_class == "TimedOut"]
    assert waiting.lands_by >= left[0] + timedelta(seconds=DEADLINE_S)


def test_a_deletion_that_was_refused_is_asked_for_again_after_another_look(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that takes no deletion just now, which deletes nothing
    one.until(JobState.VERIFIED)
    answers = Answers(one, monkeypatch, "refused")
    fetched = len(one.table.rows(BatchKind.REMOVE))
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=True)

    # When it takes them again, then the job is cleaned, without waiting for a call that was never carried out
    one.until(JobState.CLEANED)
    assert len(answers.asked) == len(one.table.rows(BatchKind.REMOVE)) + 1
    assert fetched == 0 and one.ids("s") == []


def test_a_job_that_is_given_up_keeps_its_names_while_a_deletion_may_still_land(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a deletion without an answer, and a person who gives the job up
    one.until(JobState.VERIFIED)
    answers = Answers(one, monkeypatch, "late")
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.work_until(lambda: answers.late)
    one.table.put(state=JobState.CANCELLING)

    # When the dispatcher decides, then the job does not end yet, and its names are nobody else's
    one.table.advance()
    assert one.table.job.state is JobState.CANCELLING and _claims(one)

    # And once the call can no longer land, it does
    one.until(JobState.CANCELLED)
    assert not _claims(one)


def test_a_removal_of_a_roll_back_is_not_repeated_blind_either(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a roll back whose first removal is carried out, its answer lost, and an application that writes there then
    one.until(JobState.VERIFIED)
    foreign = replace(NEW, metadata={"text": "the application's"})
    answers = Answers(one, monkeypatch, "carried out, answer lost", then=foreign)
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)

    # When it goes on, then what came there is still there
    one.until(JobState.ROLLED_BACK, JobState.NEEDS_ATTENTION)
    assert one.index.fetch(TARGET, ["r03"]).records == {"r03": one.index.normalise(foreign)}
    assert len(answers.asked) == len(set(answers.asked))


def test_a_removal_that_had_no_effect_is_looked_at_and_asked_for_again_once_a_person_retries_it(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a roll back of which a removal is answered and removes nothing, until it is parked
    one.until(JobState.VERIFIED)
    answers = Answers(one, monkeypatch, "answered in vain")
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.ROLLED_BACK, JobState.NEEDS_ATTENTION)
    [undo] = [row for row in one.table.rows(BatchKind.UNDO) if row.state == BatchState.PARKED]
    assert "are still there after their removal" in undo.error_text
    asked, (target, removed) = len(answers.asked), answers.asked[0]
    # And an application that writes one of its records since
    foreign = replace(NEW, id=removed[0], metadata={"text": "the application's"})
    one.index.upsert(TARGET, [foreign])

    # When a person retries it
    assert acts.retry(one.table.database, one.table.job_id, "ana", "failed") == 1
    one.until(JobState.ROLLED_BACK, JobState.NEEDS_ATTENTION)

    # Then a look comes first, and all the others are asked for once more and gone
    assert answers.asked[asked:] == [(target, removed[1:])]
    assert one.table.job.state is JobState.ROLLED_BACK
    assert one.index.fetch(TARGET, list(removed)).records == {foreign.id: one.index.normalise(foreign)}


def test_a_roll_back_goes_on_at_the_target_that_it_had_not_come_to(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch of two tenants, of which one is removed, and a service that takes nothing right after
    records = [
        record.with_metadata({"creator_id": "zoe", "twin_id": f"t{place % 2}"})
        for place, record in enumerate(twenty_three()[:10])
    ]
    with open_one(database_url, redis_url, {"s": records}, planned("s", None, 10)) as one:
        one.until(JobState.VERIFIED)
        lane_delete = Lane.delete
        before_second = iter([False, True])

        def stop_before_the_second(lane: Lane, *told: Any) -> list[str]:
            if next(before_second, False):
                raise Unavailable
            return lane_delete(lane, *told)

        monkeypatch.setattr(Lane, "delete", stop_before_the_second)
        answers = Answers(one, monkeypatch)

        # When the job is rolled back
        acts.roll_back(one.table.database, one.table.job_id, "ana", None)
        one.until(JobState.ROLLED_BACK, JobState.NEEDS_ATTENTION)

        # Then both are removed, each asked for once
        assert one.table.job.state is JobState.ROLLED_BACK
        removed = [name for name, ids in answers.asked if ids]
        assert sorted(removed) == ["creator_zoe_twin_t0", "creator_zoe_twin_t1"]


def test_a_roll_back_goes_on_at_the_target_whose_removal_was_intended_and_not_sent(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch of two tenants, and a worker told to stop between the intent of the second removal and its call
    records = [
        record.with_metadata({"creator_id": "zoe", "twin_id": f"t{place % 2}"})
        for place, record in enumerate(twenty_three()[:10])
    ]
    with open_one(database_url, redis_url, {"s": records}, planned("s", None, 10)) as one:
        one.until(JobState.VERIFIED)
        intend, require, intents = cleanup.intend, Held.require, list[int]()

        def intended(connection: sa.Connection, lease: Lease, *told: Any) -> None:
            intend(connection, lease, *told)
            intents.append(lease.id)

        def stops(held: Held, seconds: float) -> None:
            if len(intents) == 2:
                intents.append(0)
                raise Leaving
            require(held, seconds)

        monkeypatch.setattr(cleanup, "intend", intended)
        monkeypatch.setattr(Held, "require", stops)
        answers = Answers(one, monkeypatch)

        # When the job is rolled back
        acts.roll_back(one.table.database, one.table.job_id, "ana", None)
        one.until(JobState.ROLLED_BACK, JobState.NEEDS_ATTENTION)

        # Then both are removed, each asked for once
        assert one.table.job.state is JobState.ROLLED_BACK, one.table.rows(BatchKind.UNDO)[0].error_text
        removed = [name for name, ids in answers.asked if ids]
        assert sorted(removed) == ["creator_zoe_twin_t0", "creator_zoe_twin_t1"]


def test_a_drop_that_was_answered_is_not_asked_for_again_though_reads_do_not_show_who_came(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a roll back whose drop of the target is answered, and a record of it that fails
    one.until(JobState.VERIFIED)
    answers = Answers(one, monkeypatch)
    finish, failed = cleanup.finish, list[bool]()
    foreign = replace(NEW, metadata={"text": "the application's"})

    def cannot_record(connection: sa.Connection, lease: Lease, *rest: Any) -> None:
        if lease.kind is BatchKind.DROP and not failed:
            failed.append(True)
            raise Unreachable("the job table does not answer")
        finish(connection, lease, *rest)

    monkeypatch.setattr(cleanup, "finish", cannot_record)
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.work_until(lambda: failed)

    # When somebody writes there, which a listing does not show yet, and the drop is taken up again
    one.index.upsert(TARGET, [foreign])
    monkeypatch.setattr(one.index, "list_ids", lambda *_, **__: IdPage([], None, Usage()))
    one.until(JobState.ROLLED_BACK)

    # Then it was asked for once, and the record is there
    assert answers.asked.count((TARGET, ())) == 1
    assert one.index.fetch(TARGET, ["r03"]).records == {"r03": one.index.normalise(foreign)}


def test_a_worker_whose_deletion_outlived_its_lease_says_so(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a worker that loses its lease between its deletion and the record of it, in a job that is paused by then
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=True)
    delete = one.index.delete

    def and_loses_its_lease(namespace: str, ids: Sequence[str]) -> Usage:
        usage = delete(namespace, ids)
        acts.pause(one.table.database, one.table.job_id, "ana")
        one.table.put(reason="paused for the night")
        monkeypatch.setattr(Held, "require", _lost)
        return usage

    monkeypatch.setattr(one.index, "delete", and_loses_its_lease)

    # When it finds out, then the deletion is on record and the job says which namespace to look at
    one.deliver()
    with one.table.begin() as connection:
        noted = connection.execute(sa.select(t.audit.c.payload).where(t.audit.c.action == "late deletion")).scalars()
        assert [payload["namespace"] for payload in noted] == ["s"]
    reason = one.table.job.reason or ""
    assert "may have deleted records of s late" in reason and reason.startswith("paused for the night; ")


def test_a_source_without_records_is_not_deleted_blind_after_a_pause_either(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a source of which nothing was to be copied, and the deletion of its empty namespace without an answer
    moves = (planned("s", TARGET, COUNT), planned("empty", "creator_ana_twin_empty"))
    with open_one(database_url, redis_url, {"s": twenty_three()}, *moves) as one:
        one.index.create_namespace("empty", None)
        one.process.settings = one.process.settings.model_copy(update={"request_deadline_seconds": DEADLINE_S})
        one.until(JobState.VERIFIED)
        acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
        answers = Answers(one, monkeypatch)
        one.work_until(lambda: one.table.rows(BatchKind.CLEAR, "empty"))
        answers.planned = ["late", "late"]
        one.work_until(lambda: [late for late in answers.late if late[0] == "empty"])
        [before] = one.table.rows(BatchKind.CLEAR, "empty")

        # When a person pauses the job, and resumes it
        acts.pause(one.table.database, one.table.job_id, "ana")
        one.work_until(lambda: one.table.job.state is JobState.PAUSED)
        acts.resume(one.table.database, one.table.job_id, "ana")

        # Then what the call may still do is not forgotten
        [after] = one.table.rows(BatchKind.CLEAR, "empty")
        assert before.lands_by is not None and (after.intent_at, after.lands_by) == (before.intent_at, before.lands_by)


def _lost(held: Held, seconds: float) -> None:
    raise LeaseLost


def _claims(one: One) -> int:
    with one.table.begin() as connection:
        count: int = connection.execute(sa.select(sa.func.count()).select_from(t.claim)).scalar_one()
    return count
