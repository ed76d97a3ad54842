import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned
from slots import FETCH

from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind
from vecfleet import clock
from workers.pace import Limit, Pace

PATIENCE_S = 60.0


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait for a condition, and fail where it does not come true."""

    def eventually(holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "this never came true"
            time.sleep(0.005)

    return eventually


@pytest.fixture
def lease_of() -> Callable[..., Lease]:
    """A lease for so many seconds."""

    def lease_of(seconds: float = 60.0) -> Lease:
        return Lease(
            id=1,
            job_id=1,
            move_id=1,
            target_id=None,
            copy_id=None,
            kind=BatchKind.COPY,
            seq=1,
            generation=0,
            attempts=1,
            size=1,
            manifest=None,
            targets=(),
            intended=False,
            answered_at=None,
            age_seconds=0.0,
            until_monotonic=clock.now() + seconds,
            leased_at=datetime.now(UTC),
        )

    return lease_of


@pytest.fixture
def counters_url(redis_url: str) -> str:
    """An empty Redis that no thread of an earlier test still counts in."""
    url = redis_url.removesuffix("/0") + "/1"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def one(database_url: str, redis_url: str) -> Iterator[One]:
    """A job s → t over 23 records."""
    with open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT)) as one:
        yield one


@pytest.fixture
def pace(redis_url: str) -> Pace:
    return Pace(redis_url)


@pytest.fixture
def put(redis_url: str) -> Callable[..., None]:
    """Put a limit's state in Redis as a test needs it."""

    def put(limit: Limit = FETCH, **state: float) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.hset(limit.key, mapping=state)

    return put


@pytest.fixture
def full_speed(put: Callable[..., None]) -> None:
    """A limit whose rate has climbed back to the whole share."""
    put(factor=1, since=0)
