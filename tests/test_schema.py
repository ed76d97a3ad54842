"""The schema of the job table: the revisions end in the tables that the code knows, whoever runs them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from job_table import JobTable, plan_of, planned
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator import schema
from orchestrator.bootstrap import Fleet
from orchestrator.ledger import tables as t
from orchestrator.ledger import transitions
from orchestrator.ledger.database import Database
from orchestrator.ledger.tables import metadata
from vecfleet.errors import Unreachable
from vecfleet.settings import Settings


@pytest.fixture
def connect(empty_database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def test_the_revisions_end_in_exactly_the_tables_of_the_code(connect: sa.Engine, empty_database_url: str) -> None:
    schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        assert schema.differences(connection) == []
        assert set(metadata.tables) <= set(sa.inspect(connection).get_table_names())


def test_a_difference_is_noticed(connect: sa.Engine, empty_database_url: str) -> None:
    schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        connection.execute(sa.text("ALTER TABLE job DROP COLUMN salt"))
        connection.execute(sa.text("DROP INDEX uq_job_plan_digest_live"))
        assert len(schema.differences(connection)) == 2


def checks_of(connection: sa.Connection) -> dict[str, str]:
    """Every check constraint by name; Alembic does not compare them."""
    query = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND connamespace = "
    return {row[0]: row[1] for row in connection.execute(sa.text(query + "'public'::regnamespace"))}


def indexes_of(connection: sa.Connection) -> dict[str, str]:
    """Every index by name with its condition; Alembic does not compare conditions."""
    query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    return {row[0]: row[1] for row in connection.execute(sa.text(query))}


def triggers_of(connection: sa.Connection) -> dict[str, str]:
    """Every trigger on a change of state, and the functions that they run."""
    query = "SELECT tgrelid::regclass || ' ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger "
    query += "WHERE tgname = 'edges' OR tgname LIKE 'notices%' UNION "
    function = (
        "SELECT proname, prosrc FROM pg_proc WHERE proname = 'refuse_change_of_state' OR proname LIKE 'notice_of_%'"
    )
    return {row[0]: row[1] for row in connection.execute(sa.text(query + function))}


def test_the_states_and_conditions_of_the_revisions_are_those_of_the_code(
    connect: sa.Engine, empty_database_url: str
) -> None:
    # Given a database made by the revisions, and one made from the tables directly
    schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        by_revisions = checks_of(connection), indexes_of(connection), triggers_of(connection)
    with connect.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
        metadata.create_all(connection)
        for statement in (transitions.REFUSAL, *map(transitions.trigger, transitions.MACHINES)):
            connection.execute(sa.text(statement))
        for machine in transitions.MACHINES:
            for statement in transitions.notices(machine):
                connection.execute(sa.text(statement))
        by_tables = checks_of(connection), indexes_of(connection), triggers_of(connection)

    # Then they allow the same states and hold the same conditions
    assert by_revisions == by_tables
    assert "needs_attention" in by_tables[0]["ck_job_state"]
    assert "leased>done" in by_tables[2]["batch edges"]


def test_jobs_from_before_their_waits_get_those_of_their_stores_and_of_the_settings(
    connect: sa.Engine, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given jobs to which revision 0017 gave a minute, and a wait that somebody chose
    schema.upgrade(empty_database_url)
    table = JobTable(Database(empty_database_url))
    with table.by_hand() as connection:
        for source, chosen in (("s", {}), ("u", {}), ("v", {"source_lag_s": 5.0})):
            table.job_id = table.insert(connection, plan_of(planned(source, f"t-{source}")))
            given = {"source_lag_s": 60.0, "target_lag_s": 60.0, "routes_stale_s": 60.0, **chosen}
            connection.execute(sa.update(t.job).where(t.job.c.id == table.job_id).values(**given))
        folder = sa.func.jsonb_set(t.job.c.plan, ["target", "store"], sa.cast("parquet", JSONB))
        connection.execute(sa.update(t.job).where(t.job.c.id == 2).values(plan=folder, state="cleaning"))
        connection.execute(sa.text("ALTER TABLE job DROP COLUMN begins_until"))  # which came later
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0021'"))
    table.database.dispose()
    # When it is upgraded where reads lag for longer than a minute
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "90")
    schema.upgrade(empty_database_url)
    # Then each has what is known of it, and a clean-up under way was asked for now at the latest
    waits = (t.job.c.source_lag_s, t.job.c.target_lag_s, t.job.c.routes_stale_s, t.job.c.cleaning_at.is_not(None))
    with connect.connect() as connection:
        rows = connection.execute(sa.select(*waits).order_by(t.job.c.id)).all()
    assert [tuple(row) for row in rows] == [(90, 90, 60, False), (90, 0, 60, True), (5, 90, 60, False)]


def test_answers_from_before_lose_the_ids_of_the_records_that_were_asked_about(
    connect: sa.Engine, empty_database_url: str
) -> None:
    schema.upgrade(empty_database_url)
    table = JobTable(Database(empty_database_url))
    with table.by_hand() as connection:
        table.job_id = table.insert(connection, plan_of(planned("s", "t")))
        answers = {"queries": [{"id": "r-1", "overlap": 1.0}, {"id": "r-2", "overlap": 0.5}]}
        connection.execute(sa.insert(t.batch).values(job_id=table.job_id, kind="query", seq=0, found=answers))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0033'"))
    table.database.dispose()

    schema.upgrade(empty_database_url)

    with connect.connect() as connection:
        [kept] = connection.execute(sa.select(t.batch.c.found)).scalars()
    assert kept == {"queries": [{"overlap": 1.0}, {"overlap": 0.5}]}


def test_two_who_upgrade_at_once_take_turns(connect: sa.Engine, empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: schema.upgrade(empty_database_url), range(4)))
    with connect.connect() as connection:
        schema.require_current(connection)
        assert schema.differences(connection) == []


def test_the_newest_revision_goes_down_and_up_again(connect: sa.Engine, empty_database_url: str) -> None:
    schema.upgrade(empty_database_url)
    config = Config()
    config.set_main_option("script_location", str(schema._REVISIONS))
    config.attributes["metadata"] = metadata
    with connect.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    with connect.connect() as connection, pytest.raises(Unreachable, match="needs"):
        schema.require_current(connection)
    # And who upgrades is told that what runs is of the older version
    assert schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        assert schema.differences(connection) == []


def test_an_upgrade_that_is_repeated_changes_nothing(connect: sa.Engine, empty_database_url: str) -> None:
    schema.upgrade(empty_database_url)
    with connect.begin() as connection:
        connection.execute(sa.text("INSERT INTO audit (who, action, payload_digest) VALUES ('ana', 'x', 'y')"))
    assert not schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM audit")).scalar_one() == 1


@pytest.mark.parametrize(
    ("present", "said"), [(None, "at revision none"), ("0000", "at revision 0000"), ("9999", "at revision 9999")]
)
def test_another_schema_than_ours_is_refused_with_the_sentence_that_helps(
    connect: sa.Engine, empty_database_url: str, present: str | None, said: str
) -> None:
    # Given a database without our tables, or at a revision that is older or newer than this code
    if present is not None:
        schema.upgrade(empty_database_url)
        with connect.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :it"), {"it": present})

    # When a process of the fleet opens it, then it says which it found, which it needs, and what to type
    fleet = Fleet(Settings(database_url=SecretStr(empty_database_url)))
    with pytest.raises(Unreachable, match=said) as refusal:
        _ = fleet.database
    assert "this version needs 0" in refusal.value.message
    assert refusal.value.next_step == "run `vecfleet migrate`"


def test_a_server_that_is_away_is_said_to_be() -> None:
    with pytest.raises(Unreachable, match="does not answer") as refusal:
        schema.upgrade("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert refusal.value.next_step and "DATABASE_URL" in refusal.value.next_step


def test_the_database_itself_holds_to_one_live_job_a_plan_and_a_target(
    connect: sa.Engine, empty_database_url: str
) -> None:
    schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        unique = {
            index["name"]
            for table in ("job", "claim")
            for index in sa.inspect(connection).get_indexes(table)
            if index["unique"]
        }
    assert {"uq_job_plan_digest_live", "uq_claim_target"} <= unique


def test_a_job_that_an_older_version_gave_up_before_it_deleted_anything_gets_no_routes_back(
    connect: sa.Engine, empty_database_url: str
) -> None:
    # Given four such jobs: one has deleted, the worker of another was about to, and one is just being given up
    schema.upgrade(empty_database_url)
    table = JobTable(Database(empty_database_url))
    with table.by_hand() as connection:
        jobs = [table.insert(connection, plan_of(planned(name, f"t-{name}"))) for name in "abcd"]
        given_up = {"state": "cancelled", "cut_over_percent": 100, "cleaning_at": sa.func.clock_timestamp()}
        connection.execute(sa.update(t.job).values(given_up))
        connection.execute(sa.update(t.job).where(t.job.c.id == jobs[3]).values(state="cancelling"))
        places = {"creator": "ana", "old_index": "i", "old_namespaces": ["s"], "new_index": "i", "side": "new"}
        connection.execute(sa.insert(t.route), [{"job_id": id, "new_namespace": f"t-{id}", **places} for id in jobs])
        connection.execute(sa.update(t.move).where(t.move.c.job_id == jobs[1]).values(state="cleaned"))
        move = sa.select(t.move.c.id).where(t.move.c.job_id == jobs[2]).scalar_subquery()
        about = {"job_id": jobs[2], "move_id": move, "kind": "remove", "seq": 1, "state": "done"}
        connection.execute(sa.insert(t.batch).values(**about, intent_at=sa.func.clock_timestamp()))
        connection.execute(sa.text("DROP TABLE index_act"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0037'"))
    table.database.dispose()

    schema.upgrade(empty_database_url)

    # Then those that deleted nothing are as if their readers had been taken back
    with connect.connect() as connection:
        begun = connection.execute(sa.select(t.job.c.id).where(t.job.c.cleaning_at.is_not(None)).order_by(t.job.c.id))
        assert list(begun.scalars()) == jobs[1:3]
        led = connection.execute(sa.select(t.route.c.job_id).where(t.route.c.side == "new").order_by(t.route.c.job_id))
        assert list(led.scalars()) == jobs[1:3]
        moved = connection.execute(sa.select(t.job.c.id).where(t.job.c.cut_over_percent > 0).order_by(t.job.c.id))
        assert list(moved.scalars()) == jobs[1:3]


FORMER_KIND = """
ALTER TABLE index_act DROP CONSTRAINT ck_index_act_kind;
ALTER TABLE index_act ADD CONSTRAINT ck_index_act_ck_index_act_kind
    CHECK (kind IN ('wipe', 'conversion', 'import'))
"""


def test_a_job_table_that_ran_a_former_revision_0038_ends_as_any_other(
    connect: sa.Engine, empty_database_url: str
) -> None:
    # Given a job table as the former revision made it
    schema.upgrade(empty_database_url)
    with connect.connect() as connection:
        wanted = checks_of(connection)
    table = JobTable(Database(empty_database_url))
    with table.by_hand() as connection:
        # And two jobs given up with readers on the new side: of the first it took back the clean-up and no more; the
        # second is of a later version, which gives up within a clean-up and leaves the readers where they are
        jobs = [table.insert(connection, plan_of(planned(name, f"t-{name}"))) for name in "ab"]
        connection.execute(sa.update(t.job).values(state="cancelled", cut_over_percent=100))
        later = sa.update(t.job).where(t.job.c.id == jobs[1])
        connection.execute(later.values(cleaning_at=sa.func.clock_timestamp()))
        places = {"creator": "ana", "old_index": "i", "old_namespaces": ["s"], "new_index": "i", "side": "new"}
        connection.execute(sa.insert(t.route), [{"job_id": id, "new_namespace": f"t-{id}", **places} for id in jobs])
        for statement in FORMER_KIND.split(";"):
            connection.execute(sa.text(statement))
        connection.execute(sa.text("ALTER TABLE index_act DROP COLUMN told, DROP COLUMN given_up_at"))
        connection.execute(sa.text("ALTER TABLE erasure DROP COLUMN certified_at"))
        certificate = {"ended": "2026-11-24T10:00:00+00:00"}
        connection.execute(
            sa.text("INSERT INTO erasure (subject, who, certificate) VALUES ('x', 'ana', :it)").bindparams(
                sa.bindparam("it", certificate, JSONB)
            )
        )
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0038'"))
    table.database.dispose()

    # When it is upgraded, once and again
    for _ in range(2):
        schema.upgrade(empty_database_url)

    # Then it has the same tables and conditions
    with connect.connect() as connection:
        assert schema.differences(connection) == []
        assert checks_of(connection) == wanted
        # And the readers of the first are where it took them to be, those of the second stay
        led = connection.execute(sa.select(t.route.c.job_id).where(t.route.c.side == "new"))
        assert list(led.scalars()) == jobs[1:]
        moved = connection.execute(sa.select(t.job.c.id).where(t.job.c.cut_over_percent > 0))
        assert list(moved.scalars()) == jobs[1:]
        # And a certificate of before was given when it says that it was
        given = connection.execute(sa.select(t.erasure.c.certified_at)).scalar_one()
        assert given.isoformat() == "2026-11-24T10:00:00+00:00"
