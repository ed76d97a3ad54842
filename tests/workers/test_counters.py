"""What workers count together: every call by its answer, kept while Redis is away."""

import pytest

from orchestrator import counters
from orchestrator.counters import Counters, calls

NOBODY = "redis://127.0.0.1:1/0"


def test_what_several_processes_count_is_added_up(redis_url: str) -> None:
    before = Counters(redis_url).read() or {}
    here, there = Counters(redis_url), Counters(redis_url)
    here.note(counters.call("fetch", "ok"), 2)
    there.note(counters.call("fetch", "ok"))
    there.note(counters.call("upsert", "RateLimited"))
    for each in (here, there, here):
        each.push()
    found = Counters(redis_url).read()
    assert found is not None
    added = {name: count - before.get(name, 0) for name, count in found.items()}
    assert calls(added)["fetch", "ok"] == 3 and calls(added)["upsert", "RateLimited"] == 1


def test_what_is_counted_while_redis_is_away_is_added_later(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counters(NOBODY)
    counted.note(counters.LEASES_EXPIRED, 7)
    counted.push()
    assert counted.read() is None
    back = Counters(redis_url)
    before = (back.read() or {}).get(counters.LEASES_EXPIRED, 0)
    monkeypatch.setattr(counted, "_redis", back._redis)
    counted.push()
    assert (back.read() or {})[counters.LEASES_EXPIRED] == before + 7
