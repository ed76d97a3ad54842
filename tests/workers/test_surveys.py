"""Listing a target: differences are named whole, in bounded memory, and a survey goes on where another one stopped."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from in_one_process import One, open_one
from job_table import planned

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import differences
from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores.base import IdPage, Limits
from vecfleet.stores.memory import MemoryIndex
from workers import runner, surveying

TARGET = "creator_ana_twin_s"
COUNT = 120
VALUES = bytes(3_072 * 4)


@pytest.fixture
def one(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[One]:
    """A copied job of 120 records whose pages hold ten ids, with a bookmark behind each page."""
    monkeypatch.setattr(surveying, "_PAGES_PER_BOOKMARK", 1)
    monkeypatch.setattr(surveying, "_RUN", 5)
    records = [Record(f"r{number:03d}", VALUES) for number in range(COUNT)]
    with open_one(database_url, redis_url, {"s": records}, planned("s", TARGET, COUNT), repair_rounds=0) as one:
        one.index.limits = Limits(upsert_records=10, list_ids=10)
        one.until(JobState.COPIED)
        one.table.advance()
        yield one


def work_the_survey(one: One) -> None:
    """Work every wake-up, that of the survey last."""
    for wakeup in sorted(one.table.dispatch(), key=lambda wakeup: wakeup.kind is BatchKind.SURVEY):
        runner.run(one.process, wakeup.batch_id, wakeup.generation)


def survey_row(one: One) -> object:
    (row,) = one.table.rows(BatchKind.SURVEY)
    return row


class Killed(BaseException):
    """The worker is gone."""


@contextmanager
def dying_at(page: int) -> Iterator[None]:
    """The process dies as it asks for this page of the target."""
    original, asked = MemoryIndex.list_ids, 0

    def list_ids(index: MemoryIndex, namespace: str, *rest: object, **more: object) -> IdPage:
        nonlocal asked
        asked += namespace == TARGET
        if asked == page:
            raise Killed
        return original(index, namespace, *rest, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MemoryIndex, "list_ids", list_ids)
        yield


def expire_and_go_on(one: One) -> None:
    for row in one.table.rows():
        if row.state == BatchState.LEASED:
            one.table.expire(row)
    one.table.reap()


def test_a_survey_goes_on_behind_the_bookmark_of_a_worker_that_died(one: One, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a worker that dies after five pages
    with dying_at(6):
        work_the_survey(one)
    assert survey_row(one).found["bookmark"]["count"] == 50  # type: ignore[attr-defined]

    # When another one takes over, then it lists the rest only, and all is counted once
    asked: list[str | None] = []
    original = MemoryIndex.list_ids

    def list_ids(index: MemoryIndex, namespace: str, token: str | None = None, **more: object) -> IdPage:
        asked.append(token)
        return original(index, namespace, token, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryIndex, "list_ids", list_ids)
    expire_and_go_on(one)
    one.until(JobState.VERIFIED)
    assert asked.count(None) == 0
    assert len(asked) == 7


def test_a_bookmark_whose_token_is_refused_costs_a_listing_and_counts_nothing_twice(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dying_at(6):
        work_the_survey(one)
    original = MemoryIndex.list_ids
    refused = []

    def forgetful(index: MemoryIndex, namespace: str, token: str | None = None, **more: object) -> IdPage:
        if token is not None and not refused:
            refused.append(token)
            raise BadRequest("this token is not known")
        return original(index, namespace, token, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryIndex, "list_ids", forgetful)
    expire_and_go_on(one)
    one.until(JobState.VERIFIED)
    assert refused


@pytest.mark.parametrize("page", [None, 14, 18, 24, 25])
def test_every_difference_is_on_record_once_whenever_the_worker_dies(one: One, page: int | None) -> None:
    # Given a target that lost forty records, the last ones among them, and got thirty that are not ours
    lost = [f"r{number:03d}" for number in (*range(30, 60), *range(110, 120))]
    strange = [f"r{number:03d}x" for number in range(60, 90)]
    for start in range(0, 40, 10):
        one.index.delete(TARGET, lost[start : start + 10])
    for start in range(0, 30, 10):
        one.index.upsert(TARGET, [Record(record_id, VALUES) for record_id in strange[start : start + 10]])

    # When its survey finds that out, and the worker dies at some page of it
    if page is not None:
        with dying_at(page):
            for _ in range(5):
                work_the_survey(one)
                one.table.set_batch(survey_row(one).id, run_after=None)  # type: ignore[attr-defined]
        expire_and_go_on(one)
    one.until(JobState.NEEDS_ATTENTION)

    # Then each is named once, and twenty of each kind are shown
    found = survey_row(one).found  # type: ignore[attr-defined]
    assert (found["missing"], found["extra"]) == (40, 30)
    with one.table.begin() as connection:
        extra = differences.listed(connection, one.table.job_id, "extra", 1_000)
        assert differences.counted(connection, one.table.job_id, "missing") == 2 * 40  # by who lists and by who reads
    assert sorted(record_id for _, record_id in extra) == strange
    verdict = one.table.targets[TARGET].verdict
    assert verdict is not None
    assert (verdict["missing"], verdict["extra"]) == (40, 30)
    shown = [sample["kind"] for sample in verdict["samples"]]
    assert (shown.count("missing"), shown.count("extra")) == (20, 20)
