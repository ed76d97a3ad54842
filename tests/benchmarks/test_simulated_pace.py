"""A minute of a fleet at a limit, in counted time: the real lane, pace and limiters; ways that differ in length."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.pacing import KINDS, Lived, life
from orchestrator.embedded.redis import Redis


@pytest.fixture(scope="module")
def empty_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with Redis(folder, durable=False) as redis:
        yield redis.url


def lived(redis_url: str, name: str, shape: str, processes: int = 4, *, beside: bool = False) -> Lived:
    (kind,) = (kind for kind in KINDS if kind.name == name)
    return life(redis_url, 1, kind, shape, processes, beside=beside)


@pytest.mark.parametrize(
    ("name", "shape", "processes"),
    [("list", "bucket", 1), ("fetch", "bucket", 4), ("ids of deletions", "window", 1)],
)
def test_a_limit_is_used_almost_whole_and_hardly_any_call_is_refused(
    empty_redis: str, name: str, shape: str, processes: int
) -> None:
    one = lived(empty_redis, name, shape, processes)
    assert one.used >= 0.94
    assert one.refused <= 0.01


def test_beside_a_client_that_nobody_tells_of_the_own_half_is_used(empty_redis: str) -> None:
    one = lived(empty_redis, "list", "window", beside=True)
    assert one.used >= 0.95
    assert one.refused <= 0.005


def test_two_simulations_of_one_seed_are_the_same(empty_redis: str) -> None:
    assert lived(empty_redis, "list", "bucket", 1) == lived(empty_redis, "list", "bucket", 1)
