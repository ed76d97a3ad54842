"""The audit trail says what people did; a change to it shows."""

import json
import os
import pwd
from pathlib import Path

import pytest
import sqlalchemy as sa
from job_table import JobTable, in_pinecone, plan_of, planned
from structlog.testing import capture_logs
from terminal import Brain, Vecfleet

from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import audit
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.database import Database
from orchestrator.queue import make_app
from orchestrator.telemetry.counters import Counters


def _three_acts(database_url: str) -> Database:
    database = Database(database_url)
    for action in ("apply", "cut over", "clean up"):
        with database.begin() as connection:
            audit.note(connection, "mira", action, 1, sources=["a", "b"])
    with database.begin() as connection:
        audit.seal(connection, Seals())
    return database


def test_an_untouched_trail_hangs_together(database_url: str) -> None:
    # Given three acts, sealed, and one that is not sealed yet
    database = _three_acts(database_url)
    with database.begin() as connection:
        audit.note(connection, "mira", "reverse", 1)
        chain = audit.walk(connection, Seals())

    # Then the three hang together up to the head that reports print
    assert (chain.sealed, chain.unsealed, chain.broken) == (3, 1, None)
    with database.begin() as connection:
        assert chain.head == audit.head(connection)


def test_the_command_says_whether_it_holds_and_checks_a_reports_head(vecfleet: Vecfleet, database_url: str) -> None:
    # Given a trail of before there were keys
    database = _three_acts(database_url)
    with database.begin() as connection:
        head = audit.head(connection)
    answer = vecfleet("audit-log", "verify", "--head", head)
    assert answer.code == 0, answer.err
    assert "3 rows hang together" in answer.out and "sealed without a key" in answer.out
    assert "the given head is one of them" in answer.out
    # When another head is given, or a row is changed, then it says so and fails
    assert vecfleet("audit-log", "verify", "--head", "0" * 64).code != 0
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER USER"))
        connection.execute(sa.text("UPDATE audit SET who = 'nobody' WHERE action = 'cut over'"))
    answer = vecfleet("audit-log", "verify")
    assert answer.code != 0 and "broken after 1 row:" in answer.err


def test_nobody_acts_under_another_name_by_setting_a_variable(
    vecfleet: Vecfleet, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.apply(plan_of(planned("s", "t", 2)))
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody else")
    # When a person acts in a shell
    assert vecfleet("comment", str(table.job_id), "looks good").code == 0
    # Then the trail names the account
    with table.begin() as connection:
        [act] = [row for row in audit.of_job(connection, table.job_id, 10) if row.action == audit.COMMENT]
    assert act.who == pwd.getpwuid(os.getuid()).pw_name


def test_a_key_is_taken_into_use_by_a_person(
    vecfleet: Vecfleet, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = _three_acts(database_url)
    assert "AUDIT_KEY is not set" in vecfleet("audit-log", "lock").err
    # When there is a key, then what is there does not hold until it is locked with it
    monkeypatch.setenv("AUDIT_KEY", "a key for this test")
    assert "no row is sealed with AUDIT_KEY" in vecfleet("audit-log", "verify").err
    assert vecfleet("audit-log", "lock").code == 0
    answer = vecfleet("audit-log", "verify")
    assert answer.code == 0 and "4 rows hang together; head k" in answer.out
    assert "without a key" not in answer.out
    # And then not without it
    monkeypatch.setenv("AUDIT_KEY", "")
    assert vecfleet("audit-log", "verify").code != 0
    with database.begin() as connection:
        assert audit.head(connection).startswith("k")


def test_heads_leave_the_database_in_the_dispatchers_log_in_reports_and_in_certificates(
    vecfleet: Vecfleet, brain: Brain, table: JobTable, database: Database, redis_url: str
) -> None:
    # Given a job on record, which the dispatcher seals
    table.apply(in_pinecone(plan_of(planned("s", "t", 2))))
    with database.begin() as connection:
        audit.note(connection, "mira", audit.APPLIED, table.job_id)
    with capture_logs() as lines:
        Dispatcher(database, make_app(redis_url), Counters(redis_url)).tick()
    [logged] = [line["head"] for line in lines if line["event"] == "the audit trail grew"]

    # When a report is made, and a certificate
    brain.write("creator_ana_twin_coach", "r")
    reported = vecfleet("report", str(table.job_id), "--json").json["audit_head"]
    assert logged in vecfleet("report", str(table.job_id)).out
    erased = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes", "--json").json
    certified = json.loads(Path(erased["next_steps"][0]).with_suffix(".json").read_text())["audit_head"]

    # Then each tells the head of then, and `verify` knows it, now and later
    assert logged == reported == certified
    Dispatcher(database, make_app(redis_url), Counters(redis_url)).tick()
    assert vecfleet("audit-log", "verify", "--head", logged).code == 0
