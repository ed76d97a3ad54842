"""A source whose reads lag: nothing is deleted before they show the last write that the plan permitted."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import deletions
from orchestrator.services import acts
from vecfleet.records import Record
from vecfleet.stores.memory import MemoryIndex

# Reads lag a little less than is waited for. A clean-up counts from when it is asked for, so that a slow
# machine verifies its job within the lag, too.
LAG_S = 1.0
WAIT_S = 1.5
LAST = Record("r99", twenty_three()[0].values, metadata={"text": "the last write before the writers stopped"})


def shows_later(
    monkeypatch: pytest.MonkeyPatch, one: One, namespace: str, *written: Record, since: str = "cleaning_at"
) -> None:
    """The service acknowledges these writes, and shows the namespace as it was until one lag after this time of the
    job.
    """
    before = MemoryIndex(one.index.info, one.index.limits)
    old = list(one.index.fetch(namespace, one.ids(namespace)).records.values())
    for start in range(0, len(old), one.index.limits.upsert_records):
        before.upsert(namespace, old[start : start + one.index.limits.upsert_records])
    one.index.upsert(namespace, list(written))

    def lags() -> bool:
        at = getattr(one.table.job, since)
        return at is None or datetime.now(UTC) < at + timedelta(seconds=LAG_S)

    for operation in ("list_ids", "fetch", "namespace", "query"):
        now = getattr(one.index, operation)

        def read(name: str, *asked: Any, operation: str = operation, now: Any = now, **named: Any) -> Any:
            return (getattr(before, operation) if name == namespace and lags() else now)(name, *asked, **named)

        monkeypatch.setattr(one.index, operation, read)


def really_there(one: One, namespace: str, record_id: str) -> Record | None:
    """Return what the index holds, whatever its reads show."""
    space = one.index._namespaces.get(namespace)
    return space.records.get(record_id) if space is not None else None


def clean_up(one: One, *, by_ids: bool = False) -> None:
    """A person asks for the clean-up of a verified job, right after having stopped its writers."""
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)


@pytest.fixture
def one(database_url: str, redis_url: str) -> Iterator[One]:
    records = {"s": twenty_three()}
    move = planned("s", TARGET, COUNT)
    with open_one(database_url, redis_url, records, move, waits=Waits(source_lag_s=WAIT_S), writers="delta") as one:
        yield one


@pytest.mark.parametrize("by_ids", [False, True])
@pytest.mark.parametrize("kind", ["added", "updated"])
def test_the_last_acknowledged_write_before_the_clean_up_survives_it(
    one: One, monkeypatch: pytest.MonkeyPatch, by_ids: bool, kind: str
) -> None:
    # Given an application that stopped after one more acknowledged write, which reads do not show yet
    last = LAST if kind == "added" else Record("r07", LAST.values, metadata=LAST.metadata)
    shows_later(monkeypatch, one, "s", last)

    # When the job copies what it sees, proves it, and a person asks for the clean-up at once
    clean_up(one, by_ids=by_ids)
    one.until(JobState.CLEANED, JobState.NEEDS_ATTENTION)

    # Then the write is still in its source, and the job says what it found
    assert really_there(one, "s", last.id) == one.index.normalise(last)
    assert one.table.job.state is JobState.NEEDS_ATTENTION
    assert one.table.move.reason is not None and "s" in one.table.move.reason


def test_a_frozen_source_is_read_as_it_was_left_by_the_last_acknowledged_write(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that stops the writers, one of which was acknowledged right before it, and reads that do not show it
    move, waits = planned("s", TARGET, COUNT), Waits(source_lag_s=WAIT_S)
    with open_one(database_url, redis_url, {"s": twenty_three()}, move, waits=waits) as one:
        shows_later(monkeypatch, one, "s", LAST, since="created_at")

        # When the job is verified, and so readers may move
        one.until(JobState.VERIFIED)

        # Then its target holds that write, too
        assert really_there(one, TARGET, LAST.id) is not None


@pytest.fixture(params=["copied", "converted by the service"])
def of_each_kind(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> Iterator[One]:
    """A job that copies, and one whose target the service has filled before it."""
    filled = request.param != "copied"
    records = {"s": twenty_three(), **({TARGET: twenty_three()} if filled else {})}
    policies = {"converted": True, "enrich": False} if filled else {}
    move, waits = planned("s", TARGET, COUNT), Waits(source_lag_s=WAIT_S)
    with open_one(database_url, redis_url, records, move, waits=waits, writers="delta", **policies) as one:
        yield one


def test_clean_up_waits_until_reads_are_fresh_says_so_and_leaves_its_evidence(of_each_kind: One) -> None:
    # Given a verified job, and a person who asks for the clean-up before reads can show the last write
    one = of_each_kind
    clean_up(one)

    # Then nothing is due yet
    assert one.deliver() == 0
    assert all(row.run_after is not None for row in one.table.rows(BatchKind.RECHECK))

    # And when it is cleaned up, every look that the deletion rests on was made late enough
    one.until(JobState.CLEANED)
    with one.table.begin() as connection:
        [evidence] = deletions.of_job(connection, one.table.job_id, "s")
    assert evidence.is_fresh and evidence.fresh_from is not None
    assert (evidence.listed, evidence.counted, evidence.deleted) == (COUNT, COUNT, COUNT)
    assert evidence.read_from is not None and evidence.listed_at is not None and evidence.asked_from is not None
    assert evidence.fresh_from <= evidence.read_from <= evidence.listed_at <= evidence.asked_from


def test_a_worker_that_is_woken_too_early_looks_at_nothing(one: One) -> None:
    # Given a clean-up batch that is on its way although it is not due
    clean_up(one)
    for row in one.table.rows(BatchKind.RECHECK):
        one.table.set_batch(row.id, run_after=None)

    # When workers take it, then it goes back until reads are fresh, and costs no attempt
    one.deliver()
    for row in one.table.rows(BatchKind.RECHECK):
        assert (row.state, row.attempts, row.error_class) == (BatchState.READY, 0, "Waiting")
        assert row.run_after is not None and row.run_after >= one.table.job.created_at


def test_with_writers_that_go_on_two_quiet_passes_are_one_lag_apart(database_url: str, redis_url: str) -> None:
    # Given a source that nobody writes to, under the policy that expects writers
    move = planned("s", TARGET, COUNT)
    waits = Waits(source_lag_s=1.0)
    with open_one(database_url, redis_url, {"s": twenty_three()}, move, waits=waits, writers="delta") as one:
        ended = []

        def noted() -> bool:
            job = one.table.job
            if job.pass_ended_at is not None and job.pass_ended_at not in ended:
                ended.append(job.pass_ended_at)
            return job.state is JobState.VERIFIED

        one.work_until(noted)

    # Then the second of two quiet passes began when reads showed what the first may have missed
    assert len(ended) >= 2
    assert (ended[-1] - ended[-2]).total_seconds() >= 1.0


def test_records_that_a_read_still_shows_after_their_deletion_are_not_deleted_again(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clean-up by ids whose deletions are answered, while fetches show the records for a while
    clean_up(one, by_ids=True)
    delete, fetch, now = one.index.delete, one.index.fetch, time.monotonic
    shown, asked = MemoryIndex(one.index.info, one.index.limits), []
    until: list[float] = []

    def deleting(namespace: str, ids: list[str]) -> Any:
        shown.upsert(namespace, list(fetch(namespace, ids).records.values()))
        until[:] = [now() + 1.0]
        asked.append(list(ids))
        return delete(namespace, ids)

    def fetching(namespace: str, ids: list[str]) -> Any:
        found = fetch(namespace, ids)
        if namespace == "s" and until and now() < until[0]:
            found.records.update(shown.fetch(namespace, ids).records)
        return found

    monkeypatch.setattr(one.index, "delete", deleting)
    monkeypatch.setattr(one.index, "fetch", fetching)

    # When the clean-up comes to its end, then each id was deleted once
    one.until(JobState.CLEANED)
    named = [record_id for ids in asked for record_id in ids]
    assert sorted(named) == sorted(set(named)) == sorted(record.id for record in twenty_three())
