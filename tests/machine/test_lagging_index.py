"""The adversary's store: its rules are those of the service, at their worst."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from job_table import INDEX

from tests.machine.acting import Worker
from tests.machine.lagging import EACH_ON_ITS_OWN, FRESH, OLDEST, Fate, LaggingIndex
from tests.machine.people import record
from vecfleet.errors import BadRequest, TimedOut
from vecfleet.stores.base import Limits

LAG_S, DEADLINE_S = 10.0, 4.0


@dataclass
class Watch:
    """A clock without a database."""

    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [(1,)]


@dataclass
class Told:
    """The numbers that are chosen, in order; 0 once there are none."""

    numbers: list[int] = field(default_factory=list)

    def number(self, most: int) -> int:
        return min(self.numbers.pop(0), most) if self.numbers else 0


@pytest.fixture
def index() -> LaggingIndex:
    return LaggingIndex(INDEX, Watch(), Told(), lag_s=LAG_S, deadline_s=DEADLINE_S, limits=Limits(list_ids=1))


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    worker = SimpleNamespace(gate=lambda *_, **__: None, wakeup=SimpleNamespace(batch_id=1))
    monkeypatch.setattr(Worker, "current", lambda: worker)
    yield


def choose(index: LaggingIndex, *numbers: int) -> None:
    index.chance = Told(list(numbers))


def test_a_look_may_be_as_old_as_the_lag_and_no_older(index: LaggingIndex) -> None:
    index.upsert("s", [record("a")])
    index.moods["s"] = OLDEST
    assert not index.fetch("s", ["a"]).records
    index.clock.passes(LAG_S)
    assert index.fetch("s", ["a"]).records


def test_each_look_is_of_a_moment_of_its_own_and_so_is_each_page(index: LaggingIndex) -> None:
    index.upsert("s", [record("a"), record("b")])
    index.clock.passes(LAG_S)
    index.upsert("s", [record("b", "newer"), record("c")])
    index.moods["s"] = EACH_ON_ITS_OWN
    # Given a list that shows what a fetch does not yet
    choose(index, 0)
    token = index.list_ids("s").next_token
    assert token is not None
    choose(index, 1)
    assert not index.fetch("s", ["c"]).records
    # Then the next page may be older than the page before: on it the listing ends too early
    choose(index, 0)
    assert index.list_ids("s", token).next_token is not None
    choose(index, 1)
    assert index.list_ids("s", token).next_token is None


def test_a_deletion_without_an_answer_takes_effect_late_and_takes_what_came_meanwhile(
    index: LaggingIndex, as_worker: None
) -> None:
    index.upsert("s", [record("a")])
    index.fates["delete_namespace"] = [Fate(answered=False, effects=(0.0, DEADLINE_S + LAG_S))]
    with pytest.raises(TimedOut):
        index.delete_namespace("s")
    assert not index.truth("s")
    index.upsert("s", [record("b")])
    index.clock.passes(LAG_S)
    assert not index.truth("s")
    assert "takes effect" in index.story.read()


def test_a_call_that_never_took_effect_and_one_that_did_fail_alike(index: LaggingIndex, as_worker: None) -> None:
    index.fates["upsert"] = [Fate(answered=False, effects=()), Fate(answered=False)]
    for _ in range(2):
        with pytest.raises(TimedOut):
            index.upsert("s", [record("a")])
    assert list(index.truth("s")) == ["a"]


def test_sequence_numbers_rise_and_a_query_may_tell_none(index: LaggingIndex) -> None:
    first, second = (index.upsert("s", [record("a", text)]).lsn for text in ("one", "two"))
    assert first is not None and second == first + 1
    index.moods["s"] = FRESH
    assert index.query("s", record("a"), 1).lsn == second
    index.untold = 1
    assert index.query("s", record("a"), 1).lsn is None


def test_an_alias_is_read_through_and_never_written_through(index: LaggingIndex) -> None:
    index.upsert("s", [record("a")])
    index.point_alias("old", "s")
    index.moods["alias old"] = FRESH
    assert index.fetch("old", ["a"]).records
    for write in (lambda: index.upsert("old", [record("b")]), lambda: index.delete_namespace("old")):
        with pytest.raises(BadRequest):
            write()
    with pytest.raises(BadRequest):
        index.delete_namespace("s")  # while an alias leads to it
