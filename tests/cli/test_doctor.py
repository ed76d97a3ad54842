"""`doctor`: each fault with its remedy, and a non-zero exit for any."""

from itertools import pairwise

import pytest
from redis import Redis
from terminal import Brain, Vecfleet

from orchestrator.doctor import breaks_sessions, lacking, rate_limits
from orchestrator.ledger import leadership
from orchestrator.ledger.database import Database


@pytest.fixture(autouse=True)
def no_worker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers here, and nobody is waited for."""
    for patience in ("_WORKERS_ANSWER_WITHIN_S", "_BUSY_WORKER_ANSWERS_WITHIN_S"):
        monkeypatch.setattr(f"orchestrator.doctor.{patience}", 0.1)


def checks(vecfleet: Vecfleet) -> dict[str, tuple[bool, str | None]]:
    answer = vecfleet("doctor", "--json")
    found = answer.json
    assert answer.code == (0 if found["ok"] else 1)
    return {check["name"]: (check["ok"], check["remedy"]) for check in found["checks"]}


def test_what_runs_is_ok_and_what_does_not_has_a_remedy(vecfleet: Vecfleet, brain: Brain, database: Database) -> None:
    # Given everything but a dispatcher and a worker
    found = checks(vecfleet)
    assert {name for name, (ok, _) in found.items() if ok} == {
        *("settings", "Postgres", "schema", "sessions", "clock", "Redis", "broker", "Pinecone")
    }
    assert found["dispatcher"] == (False, "start one: `vecfleet dispatcher`")
    assert found["workers"] == (False, "start one: `vecfleet worker`")
    # When a dispatcher leads
    with database.begin() as connection:
        assert leadership.lead(connection, "somebody", 30.0)
    assert checks(vecfleet)["dispatcher"][0]


def test_a_fault_in_each_service(
    vecfleet: Vecfleet, brain: Brain, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    brain.fault(operation="*", status=401)
    found = checks(vecfleet)
    assert found["schema"] == (False, "run `vecfleet migrate`")
    for name in ("Redis", "broker", "Pinecone", "dispatcher", "workers"):
        ok, remedy = found[name]
        assert not ok and remedy
        assert "vecfleet doctor" not in remedy
    # And the schema can be repaired as it says
    assert vecfleet("migrate").code == 0
    assert checks(vecfleet)["schema"][0]


@pytest.mark.parametrize(
    ("variable", "value", "failing"),
    [
        ("DATABASE_URL", "postgresql+psycopg://nobody:x@127.0.0.1:1/none", {"Postgres", "dispatcher"}),
        ("REDIS_URL", "redis://127.0.0.1:1/0", {"Redis", "broker"}),
        ("BROKER_URL", "amqp://guest@127.0.0.1:1//", {"broker"}),
        ("PINECONE_CONTROLLER_HOST", "http://127.0.0.1:1", {"Pinecone"}),
    ],
)
def test_what_does_not_answer_is_named_alone_and_each_failing_check_says_what_to_do(
    vecfleet: Vecfleet, brain: Brain, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, failing: set[str]
) -> None:
    monkeypatch.setenv(variable, value)
    found = checks(vecfleet)
    failed = {name: remedy for name, (ok, remedy) in found.items() if not ok}
    # No dispatcher and no worker runs here in any case
    assert failing <= set(failed) <= failing | {"dispatcher", "workers"}
    assert all(failed.values()), failed


def test_the_address_that_was_tried_is_named_and_never_its_password(
    vecfleet: Vecfleet, brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hush@127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://me:hush@127.0.0.1:1/none")
    said = vecfleet("doctor").out
    assert "Redis: 127.0.0.1:1 does not answer" in said
    assert "(127.0.0.1:1)" in said  # the broker
    assert '"127.0.0.1", port 1 failed' in said  # Postgres
    assert "hush" not in said


def test_a_redis_that_is_full_answers_and_takes_nothing(vecfleet: Vecfleet, brain: Brain, redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", 1)
        try:
            found = {check["name"]: check for check in vecfleet("doctor", "--json").json["checks"]}
        finally:
            client.config_set("maxmemory", 0)
    for name in ("broker", "workers"):
        assert not found[name]["ok"] and "answers and takes nothing" in found[name]["detail"], found[name]
        assert "does not answer" not in found[name]["detail"]
    assert "maxmemory" in found["broker"]["remedy"]


def test_one_remedy_of_several_faults_is_told_once(
    vecfleet: Vecfleet, brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REDIS_URL", "BROKER_URL"):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", "http://127.0.0.1:1")
    lines = vecfleet("doctor").out.splitlines()
    remedies = [line for line in lines if "→" in line and line != "      → as above"]
    assert len(remedies) == len(set(remedies)) > 0
    # And no fault stands without one
    assert all("→" in below for line, below in pairwise(lines) if line.startswith("FAIL"))


def test_an_emulator_that_is_gone_is_no_matter_of_keys_or_of_the_internet(
    vecfleet: Vecfleet, brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", "http://127.0.0.1:1")
    [check] = [check for check in vecfleet("doctor", "--json").json["checks"] if check["name"] == "Pinecone"]
    assert check["detail"] == "no emulator runs at 127.0.0.1:1"
    assert "unset PINECONE_CONTROLLER_HOST PINECONE_API_KEY" in check["remedy"]
    assert "api.pinecone.io" not in check["remedy"]


def test_nothing_is_set(vecfleet: Vecfleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "PINECONE_API_KEY"):
        monkeypatch.setenv(name, "none")
    answer = vecfleet("doctor")
    assert answer.code == 1
    assert "not set: DATABASE_URL, REDIS_URL, PINECONE_API_KEY" in answer.out
    assert "vecfleet up" in answer.out


@pytest.mark.parametrize(
    ("first", "lent", "again", "broken"),
    [
        (1, 2, 1, False),  # a connection each
        (1, 1, 2, True),  # ours was lent out, and we got another
        (1, 2, 3, True),  # we got another
        (1, 1, 1, True),  # one process serves both
    ],
)
def test_a_pooler_in_transaction_mode_gives_itself_away(first: int, lent: int, again: int, broken: bool) -> None:
    assert breaks_sessions(first, lent, again) is broken


def test_a_worker_that_started_without_an_account_is_named_with_it() -> None:
    older = {"error": "no such command"}
    answers = {"b@vm": ["eu"], "a@vm": [], "c@vm": ["eu", "us"], "d@vm": older}
    assert lacking(["eu", "us"], answers) == {"a@vm": ["pinecone@eu", "pinecone@us"], "b@vm": ["pinecone@us"]}
    assert lacking([], answers) == {}


def test_a_rate_limit_that_a_person_left_on_is_told_with_the_way_to_lift_it() -> None:
    answers = {
        "b@vm": ["vecfleet.copy_batch [rate_limit=100/m]", "vecfleet.verify_batch [rate_limit=0]"],
        "a@vm": ["vecfleet.copy_batch", "vecfleet.list_namespace"],
    }
    assert rate_limits(answers) == [
        "b@vm takes at most 100/m of vecfleet.copy_batch, "
        "until `celery -A workers control rate_limit vecfleet.copy_batch 0`"
    ]
