"""The counts that workers share: every call by its answer, kept while Redis is away."""

import pytest

from orchestrator.telemetry import counters
from orchestrator.telemetry.counters import Counters, calls

NOBODY = "redis://127.0.0.1:1/0"


def test_what_several_processes_count_is_added_up(counters_url: str) -> None:
    here, there = Counters(counters_url), Counters(counters_url)
    here.note(counters.call("fetch", "ok"), 2)
    there.note(counters.call("fetch", "ok"))
    there.note(counters.call("upsert", "RateLimited"))
    for each in (here, there, here):
        each.push()
    assert calls(Counters(counters_url).read() or {}) == {("fetch", "ok"): 3, ("upsert", "RateLimited"): 1}


def test_what_is_counted_while_redis_is_away_is_added_later(counters_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counters(NOBODY)
    counted.note(counters.LEASES_EXPIRED, 7)
    counted.push()
    assert counted.read() is None
    back = Counters(counters_url)
    monkeypatch.setattr(counted, "_redis", back._redis)
    counted.push()
    assert back.read() == {counters.LEASES_EXPIRED: 7}
