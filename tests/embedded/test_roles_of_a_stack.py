"""The private Postgres gives out no superuser: one role owns the job table, another one uses it."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator import schema
from orchestrator.embedded.postgres import DATABASE, FLEET, OWNER, VECTORS, Postgres
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.stack import Stack, down
from vecfleet.settings import Settings

NOTHING = Settings(database_url=None, redis_url=None, pinecone_api_key=None, flower_password=None)
RIGHTS = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s"


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "state"
    yield place
    down(place, erase=True)


def test_what_a_stack_gives_out_is_of_a_role_without_rights(state_dir: Path) -> None:
    # Given a stack with a job table
    with Stack(state_dir, dispatcher=True, durable=False, settings=NOTHING) as stack:
        given = stack.environment
        # Then whoever joins is no superuser, neither at the job table nor at the vectors
        for name in ("DATABASE_URL", "PGVECTOR_URL"):
            with connect(given[name]) as connection:
                assert connection.execute(RIGHTS, [connection.info.user]).fetchone() == (False,) * 5, name
        # But there they may make the tables of namespaces
        with connect(given["PGVECTOR_URL"]) as connection:
            connection.execute("CREATE TABLE embeddings_mine (embedding vector(3)); CREATE SCHEMA mine")
        with connect(given["DATABASE_URL"]) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine ()")
        # And no password of another role is in what is given out, or in the record of what runs
        password = (state_dir / "postgres").resolve().joinpath("password").read_text()
        record = StackRecord.read(state_dir)
        assert record is not None
        assert password not in str([given, record.environment]) and OWNER not in str([given, record.environment])


def test_data_of_before_there_were_roles_are_handed_over(tmp_path: Path) -> None:
    # Given a private Postgres of an earlier version: its superuser owns the job table and the namespaces
    with Postgres(tmp_path) as server:
        server.vectors_url()
        with connect(server.url_of("postgres")) as connection:
            for database in (DATABASE, VECTORS):
                connection.execute(f"ALTER DATABASE {database} OWNER TO vecfleet")
            connection.execute(f"DROP OWNED BY {OWNER}, {FLEET}")
        schema.upgrade(server.url)
        with connect(server.url) as connection:
            connection.execute("INSERT INTO audit (who, action, payload_digest) VALUES ('ana', 'apply', 'd')")
        with connect(server.url_of(VECTORS)) as connection:
            connection.execute("CREATE TABLE embeddings_mine (id bigserial, embedding vector(3))")
            connection.execute("INSERT INTO embeddings_mine (embedding) VALUES ('[1,2,3]')")
    # When this version starts it
    with Postgres(tmp_path) as server:
        vectors = server.vectors_url()
        schema.upgrade(server.owner_url, server.client_url)
        # Then the owner owns the job table, the fleet uses it, and nothing was lost
        with connect(server.owner_url) as connection:
            connection.execute("ALTER TABLE job ADD of_mine text")
        with connect(server.client_url) as connection:
            assert connection.execute("SELECT who FROM audit").fetchall() == [("ana",)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM audit")
        # And the namespaces are the fleet's, whose tables it changes and drops
        with connect(vectors) as connection:
            connection.execute("INSERT INTO embeddings_mine (embedding) VALUES ('[4,5,6]')")
            assert connection.execute("SELECT count(*) FROM embeddings_mine").fetchone() == (2,)
            connection.execute("DROP TABLE embeddings_mine")


def test_a_new_password_of_the_superuser_changes_those_of_the_roles(tmp_path: Path) -> None:
    with Postgres(tmp_path) as server:
        before = server.client_url
        with connect(server.url) as connection:
            connection.execute("ALTER ROLE vecfleet PASSWORD 'another'")
        (server.home / "password").write_text("another")
    with Postgres(tmp_path) as server:
        assert server.client_url != before
        with connect(server.client_url) as connection:
            assert connection.info.user == FLEET


def connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
