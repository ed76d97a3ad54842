"""A roll-out takes its next step when it was watched for long enough and nothing speaks against the new side."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable
from stages import verified

from migrations.plan import Policies
from orchestrator.core.guards import Step, against_step
from orchestrator.core.next_steps import next_steps
from orchestrator.core.states import JobState
from orchestrator.ledger import rollout, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, cut_over
from vecfleet.errors import Refused
from vecfleet.tenancy.shadow_reads import EDGES_MS, Evidence, read_evidence

NOW = datetime(2026, 2, 11, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def told(queries: int = 200, ms: float = 10.0, errors: int = 0) -> Evidence:
    evidence = Evidence()
    for number in range(queries):
        evidence.add(ms, number < errors, 1.0)
    return evidence


@pytest.mark.parametrize(
    ("percent", "age", "evidence", "policies", "to", "says"),
    [
        (0, HOUR, Evidence(), {}, 100, None),  # the first step, and all at once
        (5, HOUR, Evidence(), {}, 25, None),
        (25, DAY, Evidence(), {}, 50, None),
        (25, HOUR, Evidence(), {}, 50, "25 % is watched until 2026-02-12 11:00:00 UTC"),
        (50, DAY - HOUR, Evidence(), {}, 100, "50 % is watched"),
        (50, HOUR, Evidence(), {"dwell_seconds": 3_600}, 100, None),
        (50, HOUR, Evidence(), {}, 25, None),  # back is always allowed
        (5, HOUR, told(errors=3), {}, 25, "1.5% of its queries failed, over 1%"),
        (5, HOUR, told(errors=2), {}, 25, None),
        (5, HOUR, told(ms=101), {}, 25, "its p95 is up to 150 ms, over 100 ms"),
        (5, HOUR, told(ms=100), {}, 25, None),
        (5, HOUR, told(queries=99, errors=99), {}, 25, None),  # too few to speak against it,
        (5, HOUR, told(queries=99), {"shadow_share": 0.05}, 25, "only 99 queries"),  # and too few to speak for it
        (5, HOUR, told(queries=100), {"shadow_share": 0.05}, 25, None),
    ],
)
def test_what_speaks_against_the_next_step(
    percent: int, age: timedelta, evidence: Evidence, policies: dict[str, Any], to: int, says: str | None
) -> None:
    found = against_step(Step(percent, NOW - age, evidence), to, Policies(**policies), NOW)

    assert (found == []) if says is None else (says in "; ".join(found))


def test_the_next_step_is_refused_until_it_was_watched_for_a_day(database: Database) -> None:
    table = verified(database, "s", "u")
    for percent in (5, 25):
        acts.cut_over(table.database, table.job_id, "ana", percent)

    with pytest.raises(Refused, match="25 % is watched until"):
        acts.cut_over(table.database, table.job_id, "ana", 50)
    acts.cut_over(table.database, table.job_id, "ana", 25)  # asking again starts no new day
    with database.begin() as connection:
        connection.execute(sa.update(t.step).values(since=t.step.c.since - DAY))

    acts.cut_over(table.database, table.job_id, "ana", 50)
    assert table.job.cut_over_percent == 50


def test_while_readers_are_watched_nothing_sends_a_person_to_move_the_others_yet(database: Database) -> None:
    # Given a job of whose readers a quarter was moved a moment ago
    table = verified(database, "s")
    acts.cut_over(table.database, table.job_id, "ana", 25)
    all_of_them = f"vecfleet cutover {table.job_id} --percent 100"

    # Then what comes next is open now, and each refusal that names the others' move says from when it is
    assert all_of_them not in next_of(table)
    for act in (acts.cancel, acts.finish, partial(acts.clean_up, by_ids=False)):
        with pytest.raises(Refused) as refused:
            act(table.database, table.job_id, "ana")
        step = str(refused.value.next_step)
        assert all_of_them not in step or f"`{all_of_them}` from 2" in step

    # When they were watched for a day
    with database.begin() as connection:
        connection.execute(sa.update(t.step).values(since=t.step.c.since - DAY))

    # Then the others' move is next, is named as open, and is
    assert next_of(table)[0] == all_of_them
    with pytest.raises(Refused) as refused:
        acts.finish(table.database, table.job_id, "ana")
    assert str(refused.value.next_step).endswith(f"`{all_of_them}`")
    acts.cut_over(table.database, table.job_id, "ana", 100)


def next_of(table: JobTable) -> tuple[str, ...]:
    with table.begin() as connection:
        return next_steps(status.reading(connection, table.job_id, namespaces=0))


def test_evidence_of_several_processes_adds_up_and_belongs_to_its_step(database: Database) -> None:
    table = verified(database, "s")
    assert cut_over.note_evidence(database, table.job_id, told(errors=100)) == []  # nobody is moved: nothing to judge
    acts.cut_over(database, table.job_id, "ana", 5)
    cut_over.note_evidence(database, table.job_id, told(150, errors=1))
    cut_over.note_evidence(database, table.job_id, told(50, errors=2))

    with database.begin() as connection:
        step = rollout.current(connection, table.job_id)
    assert step is not None and (step.evidence.queries, step.evidence.errors) == (200, 3)
    with pytest.raises(Refused, match=r"1\.5% of its queries failed"):
        acts.cut_over(database, table.job_id, "ana", 25)


def test_bad_evidence_takes_the_readers_back_where_the_policy_says_so(database: Database) -> None:
    table = verified(database, "s", bad_step="reverse")
    acts.cut_over(database, table.job_id, "ana", 100)

    assert cut_over.note_evidence(database, table.job_id, told(ms=120)) == ["its p95 is up to 150 ms, over 100 ms"]

    assert (table.job.state, table.job.cut_over_percent) == (JobState.VERIFIED, 0)
    assert table.job.reason == "reversed by policy: its p95 is up to 150 ms, over 100 ms"
    assert cut_over.note_evidence(database, table.job_id, told(ms=120)) == []


@pytest.mark.parametrize("body", ["{}x", '{"queries": 1}', '{"buckets": [1]}', '{"queries": -1}', '{"who": 1}'])
def test_what_is_no_evidence_is_refused(body: str) -> None:
    with pytest.raises(ValueError):
        read_evidence(body.encode())


def test_the_percentile_of_evidence_is_the_edge_of_its_bucket() -> None:
    assert Evidence().p95_ms == 0
    assert told(ms=0.1).p95_ms == EDGES_MS[0]
    assert told(ms=5_000).p95_ms == float("inf")
