"""No transaction is open while the vector database is asked: a slow answer holds up nobody's rows, and no vacuum."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, TARGET, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import JobState
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.stores.base import Index

WHO = "ana"
# The heartbeat's own transactions are over in milliseconds; one around a call lasts as long as the call.
MOMENT_S = 3.0
OPEN = sa.text(
    "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)


class Watched:
    """An index that looks at Postgres during each call. `calls` are those made, `broken` those with one open."""

    def __init__(self, index: Index, database: Database) -> None:
        self._index, self._database = index, database
        self.calls: list[str] = []
        self.broken: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._index, name)
        if not callable(found) or name in ("normalise", "request_bytes"):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            self.broken += [(name, query) for query in self._open_for_long()]
            return found(*arguments, **named)

        return call

    def _open_for_long(self) -> list[str]:
        until, seen = time.monotonic() + MOMENT_S, self._open()
        while seen and time.monotonic() < until:
            still = self._open()
            seen = {pid: query for pid, query in still.items() if pid in seen}
        return list(seen.values())

    def _open(self) -> dict[int, str]:
        with self._database.once() as connection:
            return {row.pid: row.query for row in connection.execute(OPEN)}


def cleaned_up(database: Database, job_id: int) -> None:
    acts.clean_up(database, job_id, WHO, by_ids=False)


def cleaned_up_by_ids(database: Database, job_id: int) -> None:
    acts.clean_up(database, job_id, WHO, by_ids=True)


def rolled_back(database: Database, job_id: int) -> None:
    acts.roll_back(database, job_id, WHO, None)


@pytest.mark.parametrize(
    ("ends", "last", "calls"),
    [
        (cleaned_up, JobState.CLEANED, "delete_namespace"),
        (cleaned_up_by_ids, JobState.CLEANED, "delete"),
        (rolled_back, JobState.ROLLED_BACK, "delete"),
    ],
)
@pytest.mark.parametrize("policies", [{}, {"writers": "delta"}, {"verify": "content+query"}], ids=str)
def test_no_transaction_is_open_while_the_store_is_asked(
    database_url: str,
    redis_url: str,
    ends: Callable[[Database, int], None],
    last: JobState,
    calls: str,
    policies: dict[str, str],
) -> None:
    with open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT), **policies) as one:
        # Given an index that looks, during each call, whether a transaction of anybody is open
        watched = Watched(one.index, one.table.database)
        one.process.index = lambda *_, **__: watched  # type: ignore[method-assign, assignment, return-value]

        # When a job runs from its listing to its end
        one.until(JobState.VERIFIED)
        ends(one.table.database, one.table.job_id)
        one.until(last)

        # Then at no call was there one
        assert {"list_ids", "fetch", "upsert", calls} <= set(watched.calls)
        assert watched.broken == []


def test_one_that_is_open_would_be_noticed(database_url: str, redis_url: str) -> None:
    with open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT)) as one:
        watched = Watched(one.index, one.table.database)
        with one.table.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            watched.list_ids("s")
        assert [name for name, _ in watched.broken] == ["list_ids"]
