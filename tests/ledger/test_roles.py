"""The fleet's role uses the job table, and can change neither its shape nor what its audit says."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.exc import ProgrammingError

from orchestrator import schema
from orchestrator.embedded.postgres import FLEET, OWNER, Postgres
from orchestrator.ledger import audit, doubts
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.database import Database
from orchestrator.ledger.tables import metadata
from vecfleet.errors import Refused

SEALS = Seals("a key")


@pytest.fixture
def as_fleet(fleet_database_url: str) -> Iterator[Database]:
    database = Database(fleet_database_url, pool_size=1)
    yield database
    database.dispose()


@pytest.fixture
def as_administrator(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url, pool_size=1)
    yield database
    database.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        *(f"UPDATE audit SET {column} = NULL" for column in ("who", "action", "payload", "hash", "previous_hash")),
        "UPDATE audit SET at = now()",
        "INSERT INTO audit (who, action, payload_digest, hash) VALUES ('ana', 'apply', '', 'sealed')",
        "INSERT INTO audit (who, action, payload_digest, at) VALUES ('ana', 'apply', '', '2020-01-01')",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "DROP TABLE audit",
        "ALTER TABLE audit DISABLE TRIGGER USER",
        "DROP TRIGGER audit_stays ON audit",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET rows = 0",
        "UPDATE alembic_version SET version_num = '0001'",
        "TRUNCATE job CASCADE",
        "ALTER TABLE job DROP COLUMN salt",
        "DROP TABLE job CASCADE",
        "CREATE TABLE audit_of_mine ()",
        "CREATE FUNCTION audit_of_mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA of_mine",
        "CREATE ROLE another",
        f"SET ROLE {OWNER}",
        "CREATE OR REPLACE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ],
)
def test_the_fleets_role_changes_neither_the_audit_nor_the_shape_of_the_job_table(
    as_fleet: Database, statement: str
) -> None:
    # Given an act on record
    with as_fleet.begin() as connection:
        audit.note(connection, "ana", "apply", 1)
    # When the fleet's role tries to change what is recorded, or where
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"), as_fleet.begin() as connection:
        connection.exec_driver_sql(statement)
    # Then it was refused, and the act is what it was
    with as_fleet.begin() as connection:
        assert [act.who for act in audit.of_job(connection, 1, 5)] == ["ana"]


def test_it_makes_no_table_of_its_own_in_the_private_postgres_not_even_for_a_session(postgres: Postgres) -> None:
    private = Database(postgres.client_url, pool_size=1)
    with pytest.raises(ProgrammingError, match="permission denied"), private.begin() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE audit ()")
    private.dispose()


def test_it_reads_and_writes_every_table_that_the_fleet_works_with(as_fleet: Database) -> None:
    with as_fleet.begin() as connection:
        rights = {
            name: connection.execute(
                sa.text(
                    "SELECT string_agg(p, ' ') FROM unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE','TRUNCATE']) p "
                    "WHERE has_table_privilege(:name, p)"
                ),
                {"name": name},
            ).scalar_one()
            for name in metadata.tables
        }
    assert (rights.pop("audit"), rights.pop("audit_head")) == ("SELECT", "SELECT")
    assert set(rights.values()) == {"SELECT INSERT UPDATE DELETE"}


def test_it_seals_what_is_not_sealed_and_nothing_twice(as_fleet: Database) -> None:
    # Given a trail that the fleet's role sealed
    for act in ("apply", "cut over"):
        with as_fleet.begin() as connection:
            audit.note(connection, "ana", act, 1)
            assert audit.seal(connection, SEALS) == 1
    # When it tries to seal a row again with another word, or the end of the chain alone
    with pytest.raises(ProgrammingError, match="sealed with its hash"), as_fleet.begin() as connection:
        connection.exec_driver_sql("SELECT audit_seal('{}', '{}', 'another')")
    with pytest.raises(ProgrammingError, match="is sealed already"), as_fleet.begin() as connection:
        connection.exec_driver_sql("SELECT audit_seal(ARRAY[1], ARRAY['another'], 'another')")
    # Then the chain is whole
    with as_fleet.begin() as connection:
        chain = audit.walk(connection, SEALS)
    assert (chain.sealed, chain.broken) == (2, None)


def test_it_empties_no_payload_without_an_erasure_on_record(as_fleet: Database) -> None:
    with as_fleet.begin() as connection:
        audit.note(connection, "ana", "apply", 1, plan="a plan")
    with pytest.raises(ProgrammingError, match="there is no erasure 7"), as_fleet.begin() as connection:
        audit.empty_payloads(connection, [1], "ana", 7)
    with as_fleet.begin() as connection:
        [act] = audit.of_job(connection, 1, 5)
    assert act.payload == {"plan": "a plan"}


def test_migrating_takes_back_what_an_earlier_grant_gave_too_much(
    postgres: Postgres, empty_database_url: str, as_administrator: Database
) -> None:
    # Given a role that may do more than the fleet needs, as an older page of ours told it
    name = empty_database_url.rpartition("/")[2]
    fleet = postgres.url_of(name, FLEET)
    schema.upgrade(empty_database_url)
    with as_administrator.begin() as connection:
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {FLEET}")
        connection.exec_driver_sql(f"GRANT UPDATE (payload) ON audit TO {FLEET}")
    # When the job table is migrated for it, twice
    for _ in range(2):
        schema.upgrade(empty_database_url, fleet)
    # Then it may not any more
    with as_administrator.begin() as connection:
        rights = sa.text(
            "SELECT has_any_column_privilege(:role, 'audit', 'UPDATE'), has_table_privilege(:role, 'job', 'TRUNCATE')"
        )
        assert tuple(connection.execute(rights, {"role": FLEET}).one()) == (False, False)


def test_migrating_makes_the_role_of_database_url_where_it_is_not_there(
    empty_database_url: str, as_administrator: Database
) -> None:
    # Given an address of a role that nobody made yet, with a password that needs quoting
    role = "fleet-of-" + empty_database_url.rpartition("/")[2]
    address = sa.make_url(empty_database_url).set(username=role, password="it's 100%")
    url = address.render_as_string(hide_password=False)
    # When the job table is migrated for it
    schema.upgrade(empty_database_url, url)
    # Then it can be used by that address, and only as the fleet uses it
    mine = Database(url, pool_size=1)
    with mine.begin() as connection:
        schema.require_current(connection)
        audit.note(connection, "ana", "apply", 1)
    with pytest.raises(ProgrammingError, match="permission denied"), mine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit")
    mine.dispose()
    with as_administrator.begin() as connection:
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            connection.exec_driver_sql(sql.SQL(statement).format(sql.Identifier(role)).as_string())


def test_what_cannot_be_granted_is_refused_with_the_sentence_that_helps(
    postgres: Postgres, empty_database_url: str, as_administrator: Database
) -> None:
    name = empty_database_url.rpartition("/")[2]
    # A role that no grant binds
    with pytest.raises(Refused, match="both name the role vecfleet") as refusal:
        schema.upgrade(empty_database_url, empty_database_url)
    assert "name another role in DATABASE_URL" in (refusal.value.next_step or "")
    with as_administrator.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} OWNER TO {OWNER}")
    with pytest.raises(Refused, match="is a superuser"):
        schema.upgrade(postgres.url_of(name, OWNER), empty_database_url)
    # A role that owns some of it, or may act for who does
    with as_administrator.begin() as connection:
        for statement in (f"CREATE ROLE helper_{name} LOGIN", f"GRANT {OWNER} TO helper_{name}"):
            connection.exec_driver_sql(statement)
    with pytest.raises(Refused, match="owns a part of the job table, or may act for an owner"):
        schema.upgrade(empty_database_url, postgres.url_of(name, OWNER))
    with pytest.raises(Refused, match="owns a part of the job table, or may act for an owner"):
        schema.upgrade(postgres.url_of(name, OWNER), postgres.url_of(name, FLEET).replace(FLEET, f"helper_{name}", 1))
    with as_administrator.begin() as connection:
        connection.exec_driver_sql(f"DROP ROLE helper_{name}")
    # A role that is not there, and an owner that may make none
    missing = empty_database_url.replace("//vecfleet:", "//nobody_yet:")
    with pytest.raises(Refused, match="the role nobody_yet of DATABASE_URL is not there") as refusal:
        schema.upgrade(postgres.url_of(name, OWNER), missing)
    assert "CREATE ROLE nobody_yet LOGIN PASSWORD" in (refusal.value.next_step or "")
    # The fleet's role, where there is something to change
    with pytest.raises(Refused, match=f"the role {FLEET} may not change the job table's schema") as refusal:
        schema.upgrade(postgres.url_of(name, FLEET))
    assert "OWNER_DATABASE_URL" in (refusal.value.next_step or "")


def test_it_stops_every_job_where_commits_were_lost(as_fleet: Database) -> None:
    with as_fleet.begin() as connection:
        assert doubts.doubt(connection, "commits were lost", 60.0) == []


def test_a_schema_in_which_everybody_may_make_tables_is_refused_where_its_owner_is_another(
    postgres: Postgres, empty_database_url: str, as_administrator: Database
) -> None:
    # Given a schema as Postgres 14 makes it: an administrator's, and open to everybody
    name = empty_database_url.rpartition("/")[2]
    with as_administrator.begin() as connection:
        for statement in (
            f"ALTER DATABASE {name} OWNER TO {OWNER}",
            "ALTER SCHEMA public OWNER TO CURRENT_USER",
            "GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC",
        ):
            connection.exec_driver_sql(statement)
    # When the job table's owner, who may not change that, migrates for the fleet, then it is told what to have typed
    with pytest.raises(Refused, match="everybody may create tables in the schema public") as refusal:
        schema.upgrade(postgres.url_of(name, OWNER), postgres.url_of(name, FLEET))
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in (refusal.value.next_step or "")
