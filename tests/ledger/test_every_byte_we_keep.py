"""An erased tenant's name is in no byte that the stack keeps: tables, Redis' files, logs, plans, certificates."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis
from job_table import JobTable, plan_of, planned

from migrations.plan import write_plan
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind
from orchestrator.embedded.redis import Redis
from orchestrator.ledger import audit
from orchestrator.ledger.database import Database
from orchestrator.pace_view import scope_of
from orchestrator.queue import make_app, send
from orchestrator.services.erase import JobTableBooks
from vecfleet.names import Tenant, build
from vecfleet.settings import Settings
from vecfleet.tenancy import tokens as tokens_file
from vecfleet.tenancy.tokens import TokenFile
from workers.pace import Limit, Pace

CREATOR = "zoe-whom-nobody-remembers"
NAME = build(CREATOR, "coach")
OTHER = build("ana", "coach")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "state", durable=True) as server:
        yield server


def names_in(place: Path) -> list[str]:
    """The files below it in which the tenant's name stands."""
    files = [path for path in place.rglob("*") if path.is_file()]
    return [str(path) for path in files if CREATOR.encode() in path.read_bytes()]


def all_tables(database_url: str) -> str:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [connection.execute(f'SELECT t::text FROM "{name}" t').fetchall() for (name,) in names]
    return "\n".join(str(row) for table in rows for (row,) in table)


def test_no_byte_that_the_stack_keeps_names_who_was_erased(database_url: str, server: Redis, tmp_path: Path) -> None:
    settings = Settings(
        database_url=database_url,
        redis_url=server.url,
        vecfleet_home=tmp_path / "home",
        vecfleet_root=tmp_path / "root",
    )
    # Given a job of the tenant's and its plan, acts on record, and a log
    database = Database(database_url)
    typed = ("plan", "creators", "brain", "--creator", CREATOR, "--skip", NAME)
    plan = plan_of(planned("s", NAME, 3), planned("o", OTHER, 3)).model_copy(update={"command": typed})
    plan = write_plan(plan, tmp_path / "root" / "plans" / "plan.yaml")
    table = JobTable(database)
    table.apply(plan)
    with database.begin() as connection:
        audit.note(connection, "ana", "apply", table.job_id, targets=[NAME])
    (tmp_path / "home" / "logs").mkdir(parents=True)
    (tmp_path / "home" / "logs" / "worker.log").write_text(f"copied to {NAME}\n")
    # And wake-ups under way, a pace of now, and one as earlier versions kept it
    wakeups = [Wakeup(n, 0, BatchKind.COPY, 1, namespace, 1, 1) for n, namespace in enumerate((NAME, OTHER))]
    assert send(make_app(server.url), wakeups) == []
    Pace(server.url).take([(Limit("upsert", scope_of("host", NAME), 100), 1.0)], 1.0, time.sleep)
    with redis.Redis.from_url(server.url) as client:
        client.hset(f"vecfleet:pace:upsert:host:{NAME}", "factor", 1)
        assert names_in(server.home), "this test reads files in which nothing is"
        # When the tenant is erased
        books = JobTableBooks(database, settings)
        tenant = Tenant(CREATOR)
        number = books.begin(tenant, "ana").number
        certificate = books.finish(number, tenant, [], {"subject": "digest", "where": [], "residual": ["backups"]})
        # Then its name is in no table and in no file, and others' work is as it was
        assert CREATOR not in all_tables(database_url)
        assert names_in(tmp_path) == []
        assert client.llen("vecfleet:copy") == 1
        assert not [key for key in client.scan_iter("*") if CREATOR.encode() in key]
    # And the certificate says so
    assert certificate["our_redis"] == 2
    assert certificate["residual"] == ["backups"]


def test_a_redis_that_does_not_let_us_is_told_by_the_certificate(
    database_url: str, server: Redis, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, redis_url=server.url, vecfleet_home=tmp_path / "home")
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-bgrewriteaof")
    books = JobTableBooks(Database(database_url), settings)
    number = books.begin(Tenant(CREATOR), "ana").number
    certificate = books.finish(number, Tenant(CREATOR), [], {"subject": "digest", "where": [], "residual": []})
    assert ["Redis" in left and "NoPermissionError" in left for left in certificate["residual"]] == [True]


@pytest.mark.parametrize("creator", ["expires", "operator", "role"])
def test_tokens_go_on_when_a_tenant_called_as_a_word_of_their_file_is_erased(
    database_url: str, tmp_path: Path, creator: str
) -> None:
    # Given an operator's token, one that ended, and a tenant called as a word of the file that keeps them
    settings = Settings(database_url=database_url, vecfleet_home=tmp_path, redis_url=None)
    tokens = TokenFile(tmp_path / tokens_file.FILE)
    valid = tokens.create({"id": "olga", "role": "operator"})
    long_ago = TokenFile(tmp_path / tokens_file.FILE, clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    ended = long_ago.create({"id": "otto", "role": "operator"})
    # When the tenant is erased
    books = JobTableBooks(Database(database_url), settings)
    number = books.begin(Tenant(creator), "ana").number
    books.finish(number, Tenant(creator), [], {"subject": "digest", "where": [], "residual": []})
    # Then the one goes on to open what it opened, and the other opens nothing
    user = TokenFile(tmp_path / tokens_file.FILE).user(valid)
    assert user is not None and user["role"] == "operator"
    assert TokenFile(tmp_path / tokens_file.FILE).user(ended) is None
