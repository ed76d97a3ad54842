"""`vecfleet pace`: what each limit allows the fleet now, and which of them holds it up."""

import time

import pytest
from job_table import ELSEWHERE, INDEX, JobTable, plan_of, planned
from terminal import Vecfleet

from orchestrator.pace_view import FIRST_KEEP_S, USED_WINDOW_S, climbed, scope_of
from workers.pace import Limit, Pace

FETCH = Limit("fetch", "brain.local", 100.0)
UPSERT = Limit("upsert", "brain.local:t", 100.0)


def test_an_idle_fleet_uses_no_limit(vecfleet: Vecfleet) -> None:
    said = vecfleet("pace")
    assert said.code == 0
    assert "no limit was used in the last seconds" in said.out
    assert said.out.splitlines()[-1] == "next: vecfleet jobs"


def test_a_limit_that_was_refused_stands_first_and_says_what_helps(
    vecfleet: Vecfleet, table: JobTable, redis_url: str
) -> None:
    # Given a working job whose workers fetch and write, and were refused while writing
    table.apply(plan_of(planned("s", "t")))
    table.start()
    pace, began = Pace(redis_url), time.monotonic()
    for _ in range(10):
        pace.book([(FETCH, 1)], 0.5)
        pace.book([(UPSERT, 1)], 0.5)
    pace.throttled([(UPSERT, 1)], 30.0)

    # When a person asks
    text, found = vecfleet("pace"), vecfleet("pace", "--json").json
    took = time.monotonic() - began

    # Then the limit that holds the fleet up is the first, and the job's share can be lowered
    assert [one["limit"] for one in found["limits"]] == ["upsert", "fetch"]
    upsert, fetch = found["limits"]
    assert upsert["scope"] == "brain.local:t"
    assert 30 - took - 0.1 < upsert["held_seconds"] <= 30
    assert (upsert["refused_last_minute"], fetch["refused_last_minute"]) == (1, 0)
    # A new limit starts at half of its share
    assert 25 <= fetch["allowed_per_second"] <= 50 * climbed(0.5, took, FIRST_KEEP_S) + 0.1
    assert 1 - took / USED_WINDOW_S - 0.1 < fetch["used_per_second"] <= 1
    assert found["jobs"] == [{"job": 1, "share": 0.5}]
    assert found["next_steps"][0] == "vecfleet set 1 pace 0.25"
    assert "job 1 keeps to 50% of the documented limits" in text.out
    assert "brain.local:t" in text.out and "next: vecfleet set 1 pace 0.25" in text.out


def test_a_namespace_is_shown_by_its_name_where_a_job_knows_it(
    vecfleet: Vecfleet, table: JobTable, redis_url: str
) -> None:
    # Given a job, and limits of its source, its target and a namespace that no job knows, as Redis keeps them
    table.apply(plan_of(planned("s", "t")), target=ELSEWHERE)
    table.listed({"s": [["a"]]})
    [lease] = table.take()
    table.target(lease, "t")
    pace = Pace(redis_url)
    for host, namespace in ((INDEX.host, "s"), (ELSEWHERE.host, "t"), (ELSEWHERE.host, "whose")):
        pace.book([(Limit("upsert", scope_of(host, namespace), 100.0), 1)], 0.5)

    # When a person asks
    text, found = vecfleet("pace"), vecfleet("pace", "--json").json

    # Then two are shown by name, and of the third a digest alone
    shown = {one["scope"] for one in found["limits"]}
    assert shown == {"brain.local:s", "another.local:t", scope_of("another.local", "whose")}
    assert "brain.local:s" in text.out and "another.local:t" in text.out and "whose" not in text.out


def test_many_limits_are_cut_to_the_most_held_up(vecfleet: Vecfleet, redis_url: str) -> None:
    pace = Pace(redis_url)
    for number in range(40):
        pace.book([(Limit("upsert", f"brain.local:t{number}", 100.0), 1)], 0.5)
    assert len(vecfleet("pace", "--json").json["limits"]) == 30
    assert "5 of 40 are shown" in vecfleet("pace", "--limit", "5").out


def test_without_redis_it_says_what_workers_do(vecfleet: Vecfleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    said = vecfleet("pace")
    assert said.code == 4
    assert "Redis does not answer" in said.err
