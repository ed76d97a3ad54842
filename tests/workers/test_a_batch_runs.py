"""The life of a batch in a worker: every error becomes a decision on record, and every wake-up may come twice."""

import os
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, One

from orchestrator.core import manifests
from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.core.wording import WORKER
from orchestrator.ledger import erased_ids, parked
from orchestrator.ledger.database import Database
from orchestrator.services import acts, left_behind
from vecfleet import errors as e
from vecfleet.digests import Tally
from vecfleet.records import Record
from vecfleet.stores.base import Fetched
from vecfleet.stores.memory import MemoryIndex
from workers import runner
from workers.process import WorkerProcess
from workers.work import Later, NotProven


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_runs_from_its_plan_to_its_end_however_often_each_wake_up_is_delivered(one: One, times: int) -> None:
    # Given a job, every wake-up of which is delivered once (twice)
    before = Tally.of_ids(one.ids("s"))

    # When it runs
    one.until(JobState.VERIFIED, times=times)

    # Then every record is at the target, each counted once, and the source is untouched
    assert Tally.of_ids(one.ids(TARGET)) == before == Tally.of_ids(one.ids("s"))
    move = one.table.move
    assert (move.listed, move.written, move.settled, move.batches) == (COUNT, COUNT, COUNT, 3)
    assert all(row.attempts == 1 for row in one.table.rows())

    # And after clean-up the source is gone, the target is as it was
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=times == 2)
    one.until(JobState.CLEANED, times=times)
    assert one.ids("s") == []
    assert Tally.of_ids(one.ids(TARGET)) == before


def test_a_job_is_rolled_back_to_where_it_began(one: One) -> None:
    one.until(JobState.VERIFIED)
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.ROLLED_BACK, times=2)
    assert one.index.namespace(TARGET) is None
    assert len(one.ids("s")) == COUNT


def test_a_record_that_somebody_changed_at_the_target_stops_the_roll_back(one: One) -> None:
    one.until(JobState.VERIFIED)
    (changed,) = one.index.fetch(TARGET, ["r07"]).records.values()
    one.index.upsert(TARGET, [changed.with_metadata({"text": "somebody's own"})])
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids(TARGET)) == COUNT

    acts.roll_back(one.table.database, one.table.job_id, "ana", "keep")
    one.until(JobState.ROLLED_BACK)
    assert one.ids(TARGET) == ["r07"]


def test_a_source_that_changed_since_it_was_copied_is_not_deleted(one: One) -> None:
    # Given a verified job, and then somebody changes a record at the source
    one.until(JobState.VERIFIED)
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [record.with_metadata({"text": "newer"})])

    # When it is cleaned up, then nothing is deleted, and the reason is said
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == COUNT
    assert one.table.move.reason == "1 records of s are not equal at their target"


def test_a_record_that_came_to_the_source_later_is_not_deleted_with_the_rest(one: One) -> None:
    one.until(JobState.VERIFIED)
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [Record("later", record.values)])
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == COUNT + 1
    assert one.table.move.reason == "s lists 24 ids, which are not the 23 that were copied and proven"


def test_a_record_changed_after_its_source_was_read_again_is_not_deleted_with_it(one: One) -> None:
    one.read_again()
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [record.with_metadata({"text": "newer, and at the last moment"})])
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == COUNT
    assert one.table.move.reason == "s was written to while it was read again: a retry reads it anew"

    # And the retry reads it again, and finds the change
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.move.reason == "1 records of s are not equal at their target"


def test_a_loss_at_the_target_is_found_named_and_repaired(one: One) -> None:
    # Given a copied job, one of whose records is lost at the target and another one damaged
    one.until(JobState.COPIED)
    (damaged,) = one.index.fetch(TARGET, ["r11"]).records.values()
    one.index.delete(TARGET, ["r07"])
    one.index.upsert(TARGET, [Record("r11", bytes(len(damaged.values)), metadata=damaged.metadata)])

    # When it is verified, then both are found and copied again
    one.until(JobState.VERIFIED)
    assert one.table.job.repairs == 1
    assert one.index.fetch(TARGET, ["r11"]).records["r11"] == damaged
    assert len(one.ids(TARGET)) == COUNT


def test_an_insert_and_a_delete_do_not_hide_each_other(one: One) -> None:
    """Equal counts prove nothing."""
    one.until(JobState.COPIED)
    (record,) = one.index.fetch(TARGET, ["r07"]).records.values()
    one.index.delete(TARGET, ["r07"])
    one.index.upsert(TARGET, [Record("intruder", record.values, metadata=record.metadata)])
    one.until(JobState.NEEDS_ATTENTION)
    (target,) = one.table.targets.values()
    assert target.verdict is not None and target.verdict["extra"] == 1
    assert {"kind": "extra", "id": "intruder"} in target.verdict["samples"]
    assert "intruder" in one.ids(TARGET)


def test_a_record_that_cannot_be_sent_is_parked_and_its_batch_goes_on(one: One) -> None:
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [record.with_metadata({"text": "a", "creator_id": "somebody else"})])
    one.until(JobState.NEEDS_ATTENTION)
    with one.table.begin() as connection:
        (only,) = parked.records(connection, one.table.job_id)
    assert (only.record_id, only.source) == ("r07", "s")
    assert one.table.move.written == COUNT - 1
    left_behind.accept_records(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.VERIFIED)


# Errors


@pytest.fixture
def fail(one: One) -> Callable[[Exception], Lease]:
    """Lease the first copy batch and let its work end with this error."""

    def fail(error: Exception) -> Lease:
        one.table.advance()
        one.deliver()
        lease = one.table.take(window=1)[0]
        with one.process.holder.holding(lease) as held:
            runner._settle_failure(runner._work(one.process, held, one.table.job), error, 1)
        return lease

    return fail


def test_a_refused_key_pauses_the_job_with_the_sentence_that_helps(one: One, fail: Callable[..., Lease]) -> None:
    lease = fail(e.KeyRefused("the key is refused", next_step="set PINECONE_API_KEY"))
    assert one.table.job.state is JobState.PAUSING
    assert one.table.job.reason == "the key is refused; set PINECONE_API_KEY"
    assert (one.table.row(lease.id).state, one.table.row(lease.id).attempts) == (BatchState.READY, 0)


def test_a_refused_key_does_not_stop_a_job_from_being_cancelled(one: One, fail: Callable[..., Lease]) -> None:
    # Given a job that is being cancelled while a worker is at its last call
    one.table.advance()
    one.deliver()
    (lease, *_) = one.table.take(window=1)
    acts.cancel(one.table.database, one.table.job_id, "ana")

    # When that call is refused, then the batch lands, and the job is cancelled
    with one.process.holder.holding(lease) as held:
        runner._settle_failure(runner._work(one.process, held, one.table.job), e.KeyRefused(), 1)
    assert one.table.row(lease.id).state == BatchState.READY
    one.table.advance()
    assert one.table.job.state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("error", "state", "attempts", "kept"),
    [
        (Later(5, "not answered yet"), BatchState.READY, 0, ("Waiting", "not answered yet")),
        (e.Unavailable("503"), BatchState.READY, 0, ("Unavailable", "503")),
        (e.TimedOut("no answer"), BatchState.READY, 1, ("TimedOut", "no answer")),
        (e.Unreachable("Redis is away"), BatchState.READY, 0, ("Unreachable", "Redis is away")),
        (e.BadRequest("refused"), BatchState.PARKED, 1, ("BadRequest", "refused")),
        (NotProven("it vanished"), BatchState.PARKED, 1, ("NotProven", "it vanished")),
        (e.TooLarge("413"), BatchState.SPLIT, 1, ("TooLarge", "split in two")),
        (
            KeyError("what a record says"),
            BatchState.PARKED,
            1,
            (
                "KeyError",
                "an unexpected KeyError; the worker's log has the traceback "
                "(of `vecfleet up`: logs/worker-N.log under VECFLEET_HOME)",
            ),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_is_on_record_with_its_reason(
    one: One, fail: Callable[..., Lease], error: Exception, state: BatchState, attempts: int, kept: tuple[str, str]
) -> None:
    row = one.table.row(fail(error).id)
    assert (row.state, row.attempts) == (state, attempts)
    assert (row.error_class, row.error_text) == kept


def test_a_check_that_is_too_large_is_parked_and_not_split(one: One) -> None:
    one.until(JobState.COPIED)
    one.table.advance()
    (lease, *_) = [lease for lease in one.table.take() if lease.kind is BatchKind.VERIFY]
    with one.process.holder.holding(lease) as held:
        runner._settle_failure(runner._work(one.process, held, one.table.job), e.TooLarge("414"), 1)
    assert one.table.row(lease.id).state == BatchState.PARKED


def test_a_finish_that_came_too_late_voids_what_was_concluded_meanwhile(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that freezes right after an upsert, so long that others copy its batch again and verify it
    one.table.advance()
    one.deliver()
    (wakeup, *_) = one.table.dispatch(window=1)
    original = MemoryIndex.upsert

    def freeze(index: MemoryIndex, namespace: str, records: list[Record]) -> object:
        written = original(index, namespace, records)
        monkeypatch.setattr(MemoryIndex, "upsert", original)
        with one.table.begin() as connection:
            connection.execute(sa.text("UPDATE batch SET lease_until = clock_timestamp() WHERE state = 'leased'"))
        one.table.reap()
        one.until(JobState.VERIFIED)
        return written

    monkeypatch.setattr(MemoryIndex, "upsert", freeze)

    # When it wakes up and its upsert may have landed at any time
    runner.run(one.process, wakeup.batch_id, wakeup.generation)

    # Then it recorded nothing, and the verdict is void: the target is read back again
    assert one.table.move.written == COUNT
    one.table.advance()
    assert one.table.job.state is JobState.COPIED
    one.until(JobState.VERIFIED)


def test_when_the_job_table_is_away_the_lease_runs_out_and_nothing_else_happens(one: One) -> None:
    # Given a worker whose work failed while the job table does not answer
    one.table.advance()
    one.deliver()
    (lease,) = one.table.take(window=1)
    with one.process.holder.holding(lease) as held:
        work = runner._work(one.process, held, one.table.job)
        work.database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")

        # When it would record that, then it gives up quietly, and the batch comes back by itself
        runner._settle_failure(work, e.BadRequest("refused"), 1)
    assert one.table.row(lease.id).state == BatchState.LEASED
    one.table.expire(lease)
    one.table.reap()
    assert one.table.row(lease.id).state == BatchState.READY


def test_a_record_that_vanished_before_it_was_fetched_is_gone(one: One) -> None:
    one.table.advance()
    one.deliver()
    one.index.delete("s", ["r00", "r22"])
    one.until(JobState.VERIFIED)
    move = one.table.move
    assert (move.listed, move.written, move.gone) == (COUNT, COUNT - 2, 2)


def test_a_record_that_is_listed_but_not_answered_is_no_goner(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a service that lists a record it does not give
    original = MemoryIndex.fetch

    def withhold(index: MemoryIndex, namespace: str, ids: list[str]) -> Fetched:
        fetched = original(index, namespace, ids)
        fetched.records.pop("r00", None)
        return fetched

    monkeypatch.setattr(MemoryIndex, "fetch", withhold)

    # When the job runs, then it counts nothing as gone, and asks a person
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.move.gone == 0
    (row,) = [row for row in one.table.rows(BatchKind.COPY) if row.state == BatchState.PARKED]
    said, _, then = row.error_text.partition("; ")
    assert said == "1 ids are listed, but the service does not give their records"
    assert then.startswith(f"`vecfleet retry {one.table.job_id} failed`")


# Steps that go wrong


def test_a_worker_that_cannot_open_an_index_says_so(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to keep the lease until it ran out, eight times, and the batch then said that its worker had died."""
    one.table.advance()
    (wakeup,) = one.table.dispatch()
    refuse = e.BadInput("PINECONE_API_KEY is not set", next_step="set it where the worker starts")
    monkeypatch.setattr(WorkerProcess, "index", lambda *_, **__: (_ for _ in ()).throw(refuse))
    runner.run(one.process, wakeup.batch_id, wakeup.generation)
    assert one.table.row(wakeup.batch_id).state == BatchState.READY
    assert one.table.job.state is JobState.PAUSING
    reason = one.table.job.reason or ""
    assert reason.startswith(f"{WORKER}{os.getpid()} on ")
    assert reason.endswith(": PINECONE_API_KEY is not set; set it where the worker starts")


def test_a_poisoned_record_among_the_first_stops_neither_the_listing_nor_its_batch(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a record that cannot even be measured: a value that is not a number has no JSON
    original = MemoryIndex.request_bytes

    def measure(index: MemoryIndex, record: Record) -> int:
        if record.id == "r00":
            raise e.BadRequest("a record has values that are no finite numbers")
        return original(index, record)

    monkeypatch.setattr(MemoryIndex, "request_bytes", measure)

    # When its namespace is listed and copied, then it alone is parked
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.parked_ids() == ["r00"]
    assert one.table.move.written == COUNT - 1


@pytest.mark.parametrize("by_ids", [True, False])
def test_deleted_records_that_are_still_answered_for_a_while_are_waited_for(
    one: One, monkeypatch: pytest.MonkeyPatch, by_ids: bool
) -> None:
    # Given a clean-up whose batches were first taken long ago (an outage), and reads that lag behind deletions
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    kind = BatchKind.REMOVE if by_ids else BatchKind.CLEAR
    if not by_ids:
        one.deliver()
        one.table.advance()
    for row in one.table.rows(kind):
        one.table.set_batch(row.id, first_leased_at=sa.func.clock_timestamp() - sa.text("interval '1 hour'"))
    held = one.index._namespaces["s"]
    lagging = {"delete": MemoryIndex.delete, "delete_namespace": MemoryIndex.delete_namespace}

    def later(name: str) -> Callable[..., object]:
        def delete(index: MemoryIndex, namespace: str, *ids: object) -> object:
            before = dict(held.records)
            usage = lagging[name](index, namespace, *ids)  # type: ignore[operator]
            monkeypatch.setattr(MemoryIndex, name, lagging[name])
            index._namespaces.setdefault("s", held).records.update(before)
            held.changed()
            return usage

        return delete

    for name in lagging:
        monkeypatch.setattr(MemoryIndex, name, later(name))

    # When the deletion is not seen at once, then it is waited for, and every record counts as deleted once
    one.deliver()
    assert {row.error_class for row in one.table.rows(kind)} <= {"Waiting", None}
    for row in one.table.rows(kind):
        one.table.set_batch(row.id, run_after=None)
    lagging["delete"](one.index, "s", one.ids("s"))
    one.until(JobState.CLEANED)
    assert one.table.move.deleted == COUNT


def test_a_source_that_lists_nothing_though_it_held_records_is_not_verified(one: One) -> None:
    one.table.advance()
    one.index.delete_namespace("s")
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.move.state == "parked"
    assert one.table.move.reason is not None
    assert one.table.move.reason.startswith(f"s lists no ids, though it held {COUNT} records before; `vecfleet audit ")


def test_a_step_whose_ids_are_erased_while_it_runs_reads_them_anew(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a roll back in the middle of which, once its batches are leased, a tenant is erased everywhere
    one.until(JobState.VERIFIED)
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    original = MemoryIndex.fetch
    erased = {row.id: manifests.unpack(row.manifest)[0] for row in one.table.rows(BatchKind.COPY)}
    asked: list[str] = []

    def fetch(index: MemoryIndex, namespace: str, ids: list[str]) -> Fetched:
        if not asked:
            asked.extend(erased.values())
            for name in ("s", TARGET):
                index.delete(name, asked)
            with one.table.begin() as connection:
                for copy_id, record_id in erased.items():
                    erased_ids.remove_ids(connection, copy_id, {record_id: None})
        return original(index, namespace, ids)

    monkeypatch.setattr(MemoryIndex, "fetch", fetch)

    # When its batches go on, then they do not take the places of their records among other ids
    one.deliver()
    returned = [row for row in one.table.rows(BatchKind.COMPARE) if row.generation]
    assert len(returned) == 1  # those leased later knew

    # And nothing is taken for changed, and all of it is undone
    one.until(JobState.ROLLED_BACK)
    assert one.index.namespace(TARGET) is None
    assert len(one.ids("s")) == COUNT - len(erased)
