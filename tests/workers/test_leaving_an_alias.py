"""Once the alias stands under the old name, whoever repeats the clean-up finds that it is done."""

from collections.abc import Iterator, Sequence

import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import cleanup
from orchestrator.services import acts
from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores import memory
from vecfleet.stores.base import Fetched, IdPage, Matches, Usage
from vecfleet.stores.memory import MemoryIndex

Leading = dict[str, str]


@pytest.fixture
def leading(monkeypatch: pytest.MonkeyPatch) -> Leading:
    """The aliases of the index in memory: read through, never written through."""
    leading: Leading = {}

    # A class of its own: Python remembers that a class has a protocol's methods, also once they were taken from it.
    class Led(MemoryIndex):
        def list_ids(
            self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
        ) -> IdPage:
            return super().list_ids(leading.get(namespace, namespace), token, limit, prefix)

        def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
            return super().fetch(leading.get(namespace, namespace), ids)

        def query(self, namespace: str, like: Record, top_k: int) -> Matches:
            return super().query(leading.get(namespace, namespace), like, top_k)

        def delete_namespace(self, name: str) -> Usage:
            if name in leading:
                raise BadRequest(f"{name} is an alias")
            return super().delete_namespace(name)

        def aliases(self) -> dict[str, str]:
            return dict(leading)

        def alias(self, name: str) -> str | None:
            return leading.get(name)

        def point_alias(self, name: str, to: str | None) -> None:
            assert to is not None
            leading[name] = to

    monkeypatch.setattr(memory, "MemoryIndex", Led)
    return leading


@pytest.fixture
def one(database_url: str, redis_url: str, leading: Leading) -> Iterator[One]:
    with open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT), leave_alias=True) as one:
        yield one


class Killed(BaseException):
    """The worker is gone."""


def test_a_worker_that_dies_once_the_alias_stands_leaves_nothing_undone(
    one: One, leading: Leading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat used to list the source by its alias, see the target's ids, and refuse, or try to delete those."""
    one.read_again()
    with monkeypatch.context() as dying:
        dying.setattr(cleanup, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            one.deliver()
    assert leading == {"s": TARGET}
    (clear,) = [row for row in one.table.rows(BatchKind.CLEAR) if row.state == BatchState.LEASED]
    one.table.expire(clear)
    one.table.reap()
    one.until(JobState.CLEANED)
    assert one.table.move.deleted == COUNT
    assert len(one.ids(TARGET)) == COUNT


def test_an_alias_that_was_made_though_its_answer_said_no_is_found_by_the_retry(
    one: One, leading: Leading, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_and_refused(_: MemoryIndex, name: str, to: str) -> None:
        leading[name] = to
        raise BadRequest("make the alias 's': refused, says the test")

    one.read_again()
    with monkeypatch.context() as refusing:
        refusing.setattr(type(one.index), "point_alias", made_and_refused)
        one.until(JobState.NEEDS_ATTENTION)
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert leading == {"s": TARGET}


def test_a_name_that_became_somebody_elses_alias_is_not_deleted_through(one: One, leading: Leading) -> None:
    one.read_again()
    one.index.upsert("elsewhere", twenty_three()[:10])
    leading["s"] = "elsewhere"
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.move.reason == "s is now an alias that leads to elsewhere: nothing is deleted through it"
    assert len(one.ids("elsewhere")) == 10
