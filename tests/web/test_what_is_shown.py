"""The page, tested as tables of what is and what is drawn."""

import asyncio
import re
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from migrations.mapping import MetadataMap
from orchestrator.core.states import JobState, MoveState
from orchestrator.ledger import dashboards
from orchestrator.ledger import tables as t
from orchestrator.ledger.audit import Act
from orchestrator.ledger.dashboards import Cell
from orchestrator.pace_view import PaceReader
from orchestrator.web import charts, pages, views
from orchestrator.web.acting import against
from orchestrator.web.feed import Feed, Seen
from orchestrator.web.plans import PlanView
from orchestrator.web.sampling import Sample, Sampler
from orchestrator.web.sessions import Session
from tests.web.conftest import Browser
from vecfleet.errors import NotFound
from workers.pace import Limit, Pace

NOW = datetime(2026, 2, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cell", "drawn"),
    [
        (Cell("pending", 0, 10, 0, 0), "p"),
        (Cell("copying", 4, 10, 0, 0), "c n4"),
        (Cell("copying", 10, 10, 0, 0), "c n9"),
        (Cell("listing", 0, 0, 0, 0), "l n0"),
        (Cell("cleaning", 10, 10, 0, 5), "k n5"),
        (Cell("verified", 10, 10, 1, 0), "v w"),
        (Cell("parked", 0, 10, 0, 0), "x"),
    ],
)
def test_a_cell_is_a_letter_for_its_state_and_marks(cell: Cell, drawn: str) -> None:
    assert views.cell_class(cell) == drawn


def test_every_state_has_a_letter_of_its_own_and_every_job_state_a_mark() -> None:
    assert set(views.CELL_LETTERS) == set(MoveState)
    assert len(set(views.CELL_LETTERS.values())) == len(MoveState)
    assert set(views.JOB_MARKS) == set(JobState)


def test_a_plan_shows_what_a_person_decides_on_what_is_unusual_and_nothing_that_is_empty() -> None:
    plan = plan_of(planned("s", "t-s"), metadata_map=MetadataMap(drop=("secret",)), max_passes=9)
    policies = dict(PlanView("a.yaml", plan, None).policies)
    assert {"writers", "cut_over", "dwell_seconds"} <= policies.keys()
    assert policies["max_passes"] == 9 and "window" not in policies
    shown = pages.text("plan.html", session=Session("ana", True, "a proof"), view=PlanView("a.yaml", plan, None))
    assert "drop secret · undo travels" in shown and "—" not in shown and "none" not in shown


@pytest.mark.parametrize(("values", "top"), [([], 1), ([0, 0], 1), ([7], 10), ([46], 100), ([1.5], 2), ([0.03], 0.05)])
def test_a_scale_ends_at_a_round_number_above_the_line(values: list[float], top: float) -> None:
    assert charts.scale(values) == pytest.approx(top)


def test_a_line_stays_in_its_box_and_one_value_is_no_line() -> None:
    line, area = charts.path([0, 5, 20], 10)
    assert line == "M0.0,72.0L150.0,36.0L300.0,0.0" and area.startswith(line)
    assert charts.path([3], 10) == ("", "")


def test_the_share_of_seconds_with_a_429_is_that_of_the_last_minute() -> None:
    samples = [Sample(0.5, True)] * 30 + [Sample(0.5, False)] * 60
    shares = views._shares(samples)
    assert shares[29] == 1.0 and shares[59] == 0.5 and shares[-1] == 0.0


def test_a_viewer_is_told_only_what_changed() -> None:
    seen = Seen()
    assert seen.news({"state": "running", "waits": ""}, ["p", "c n1"]) == {
        "parts": {"state": "running", "waits": ""},
        "all": "p,c n1",
    }
    assert seen.news({"state": "running", "waits": ""}, ["p", "c n1"]) == {}
    assert seen.news({"state": "running", "waits": "Redis"}, ["p", "c n2"]) == {
        "parts": {"waits": "Redis"},
        "cells": {1: "c n2"},
    }


def test_however_many_look_there_is_one_look_a_second_and_none_when_nobody_does() -> None:
    looks = 0

    def look(topic: int) -> int:
        nonlocal looks
        looks += 1
        return looks

    async def viewer(feed: Feed[int], until: int) -> list[int]:
        found = []
        async with aclosing(feed.follow(1)) as news:
            async for number, _ in news:
                assert number is not None
                found.append(number)
                if number >= until:
                    break
        return found

    async def scene() -> list[list[int]]:
        feed = Feed(look)
        seen = await asyncio.gather(*(viewer(feed, until=2) for _ in range(20)))
        after = looks
        await asyncio.sleep(1.5)
        assert looks == after
        return seen

    assert asyncio.run(scene()) == [[1, 2]] * 20
    assert looks == 2


def test_a_look_that_fails_is_told_and_tried_again() -> None:
    answers = iter([NotFound("there is no job 1")])

    def look(topic: int) -> str:
        for error in answers:
            raise error
        return "there"

    async def scene() -> list[tuple[str | None, str | None]]:
        found = []
        async with aclosing(Feed(look).follow(1)) as news:
            async for seen in news:
                found.append(seen)
                if seen[0]:
                    break
        return found

    assert asyncio.run(scene()) == [(None, "there is no job 1"), ("there", None)]


def test_the_pace_is_what_the_workers_keep_to(table: JobTable, redis_url: str) -> None:
    # Given a working job
    table.apply(plan_of(planned("s", "t")))
    table.start()
    sampler = Sampler(table.database, PaceReader(redis_url))
    pace, limit = Pace(redis_url), Limit("fetch", "brain.local", 100.0)
    # When workers use the whole allowance, an empty Redis having begun at half of it
    pace.book([(limit, 1)], 0.5)
    sampler.sample()
    # Then
    [first] = sampler.of_job(table.job_id)
    assert 0.25 <= first.pace < 0.5 and not first.refused
    # When the service refuses, then that is seen once, and the pace is cut
    pace.throttled([(limit, 1)], retry_after=0.5)
    sampler.sample()
    sampler.sample()
    _, second, third = sampler.of_job(table.job_id)
    assert second.refused and not third.refused
    assert dict(sampler.refusals()) == {"fetch": 1}


def test_a_redis_that_is_away_is_said_to_be(table: JobTable) -> None:
    sampler = Sampler(table.database, PaceReader("redis://127.0.0.1:1/0"))
    sampler.sample()
    assert not sampler.broker_answers


def test_throughput_adds_up_to_what_was_copied(table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t")))
    with table.begin() as connection:
        assert dashboards.throughput(connection, table.job_id) is None
    table.verified({"s": [["a", "b"], ["c"]]})
    with table.begin() as connection:
        found = dashboards.throughput(connection, table.job_id)
    assert found is not None
    assert sum(found.rates) * found.seconds == pytest.approx(3)


def test_beside_the_buttons_of_a_job_that_needs_attention_stands_this_one_reason(
    table: JobTable, signed_in: Browser
) -> None:
    # Given a job whose targets are not verified either
    table.apply(plan_of(planned("s", "t-s")))
    table.listed({"s": [["a"]]})
    table.put(state=JobState.NEEDS_ATTENTION, resume_to=JobState.RUNNING, reason="1 batch is parked")
    with table.begin() as connection:
        assert len(against(connection, table.job, "cleanup")) > 1
    # Then
    page = signed_in("operator").get("/jobs/1").text
    assert "Clean up: not now; the job needs attention: 1 batch is parked</li>" in page


def test_a_chart_without_a_line_is_left_out(table: JobTable, signed_in: Browser) -> None:
    # Given a job of which nothing was copied yet
    table.apply(plan_of(planned("s", "t-s")))
    browser = signed_in("viewer")
    assert "<figure" not in browser.get("/jobs/1").text
    # When something was, then that is drawn, and no pace of a job that rests
    table.verified({"s": [["a", "b"], ["c"]]})
    page = browser.get("/jobs/1").text
    assert page.count("<figure") == page.count('<path class="line"')
    assert "Pace, of the limits" not in page


def test_a_job_that_is_over_says_what_was_proven_how_to_go_back_and_when_it_worked(
    table: JobTable, signed_in: Browser
) -> None:
    """The page of a finished job named neither its proof nor its way back, and its chart had no end."""
    table.apply(plan_of(planned("s", "t-s")))
    table.verified({"s": [["a", "b"], ["c"]]})
    with table.by_hand() as connection:
        connection.execute(sa.update(t.batch).values(first_leased_at=sa.text("now() - interval '1 hour'")))
    browser = signed_in("viewer")
    proof = "✓ 3 records were read back from 1 target namespace and found equal."
    assert proof in browser.get("/jobs/1").text
    for state, back in (("finished", "vecfleet rollback 1"), ("cleaned", "vecfleet plan reverse 1")):
        table.put(state=state, way_back="until clean-up `vecfleet rollback`; after it `vecfleet plan reverse`")
        page = browser.get("/jobs/1").text
        assert proof in page and f"Way back: <code>{back}</code>" in page
        assert re.search(r"<span>\d\d:\d\d:\d\d to \d\d:\d\d:\d\d</span>", page)
    # And what was rolled back has neither
    table.put(state="rolled_back")
    page = browser.get("/jobs/1").text
    assert "Way back" not in page and "found equal" not in page


def test_a_job_that_rests_counts_its_time_no_further(table: JobTable, signed_in: Browser) -> None:
    # Given a job that was verified, and has waited for a person for an hour since
    table.apply(plan_of(planned("s", "t-s")))
    table.verified({"s": [["a"]]})
    with table.by_hand() as connection:
        hour_ago = sa.text("now() - interval '1 hour'")
        values = dict.fromkeys(("created_at", "started_at", "verified_at"), hour_ago)
        connection.execute(sa.update(t.job).values(**values))
        connection.execute(sa.update(t.batch).values(first_leased_at=hour_ago, done_at=hour_ago))
    browser = signed_in("viewer")
    assert "took 0 s" in browser.get("/jobs/1").text
    # And so of one that stopped for a person
    table.put(state="needs_attention", resume_to="copied", reason="1 parked record waits for a decision")
    assert "took 0 s" in browser.get("/jobs/1").text


def test_the_table_says_that_trouble_stands_first_only_where_there_is_some(table: JobTable, signed_in: Browser) -> None:
    # Given a job of which everything is verified: nothing is in trouble, nothing is under way
    table.apply(plan_of(planned("calm", "t-calm"), planned("odd", "t-odd")))
    table.verified()
    browser = signed_in("viewer")
    page = browser.get("/jobs/1").text
    assert "in trouble" not in page and "under way first" not in page
    # When a record of the second is parked, then that one stands first, and the table says so
    with table.by_hand() as connection:
        connection.execute(sa.update(t.move).where(t.move.c.source == "odd").values(parked=1))
    page = browser.get("/jobs/1").text
    assert "Those in trouble first" in page
    assert page.index(">odd</th>") < page.index(">calm</th>")


def test_a_copy_that_is_kept_in_step_gets_its_next_pass_by_a_button(table: JobTable, signed_in: Browser) -> None:
    # Given a verified copy whose writers go on
    table.apply(plan_of(planned("s", "t"), writers="delta", cut_over="none"))
    table.listed({"s": [["a"]]})
    table.put(state=JobState.VERIFIED)
    operator = signed_in("operator")
    page = operator.get("/jobs/1").text
    assert 'class="main" form="act" formaction="/jobs/1/pass">Another pass</button>' in page
    answer = operator.post("/jobs/1/pass", data={"proof": proof_in(page)})
    assert answer.status_code == 303 and table.job.state is JobState.COPIED
    assert "the sources are read again" in operator.get("/jobs/1").text


def test_missing_records_are_confirmed_by_the_button_that_says_how_many(table: JobTable, signed_in: Browser) -> None:
    # Given a job that stopped because records of its source went missing
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": [["a"]]})
    why = "4 records are missing; if that is right, `vecfleet set 1 missing 4`"
    table.put(state=JobState.PAUSED, resume_to=JobState.RUNNING, reason=why)
    operator = signed_in("operator")
    page = operator.get("/jobs/1").text
    assert 'name="lever" value="missing 4">Confirm that 4 records are missing in a source</button>' in page
    # When a person presses it
    assert operator.post("/jobs/1/set", data={"proof": proof_in(page), "lever": "missing 4"}).status_code == 303
    # Then it is confirmed, in that person's name
    assert table.job.missing_allowed == 4
    assert "lever missing · value 4" in operator.get("/jobs/1/audit").text
    # And what is no lever is none
    for wrong in ("", "missing", "missing many", "nothing 4"):
        answer = operator.post("/jobs/1/set", data={"proof": proof_in(page), "lever": wrong})
        assert answer.status_code == 422 and "Next: " in answer.text, wrong


def proof_in(page: str) -> str:
    found = re.search(r'name="proof" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"),
        (3.0, "3"),
        ([], "none"),
        (["a", "b"], "a, b"),
        (["a", "b", "c", "d"], "a, b, c, d"),
        (["a", "b", "c", "d", "e"], "a, b, c, … and 2 more"),
        ({"by_ids": False, "changed": None, "batches": [41, 42]}, "by ids no · batches 41, 42"),
    ],
)
def test_a_value_shows_as_people_read_it(value: object, shown: str) -> None:
    act = Act(NOW, "ana", "act", {"value": value}, True)
    assert f"value {shown}<" in pages.text("acts.html", acts=[act])
