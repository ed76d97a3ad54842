"""The schema of the job table: the revisions end in the tables, upgrades may race, an old schema is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from orchestrator import schema
from orchestrator.ledger.database import Database
from vecfleet.errors import Unreachable


def test_the_revisions_end_in_exactly_the_tables(database_url: str) -> None:
    with Database(database_url).begin() as connection:
        assert schema.differences(connection) == []


def test_several_upgrades_at_once_are_one_upgrade(empty_database_url: str) -> None:
    # When four processes upgrade an empty database at once
    with ThreadPoolExecutor(4) as pool:
        for upgrade in [pool.submit(schema.upgrade, empty_database_url) for _ in range(4)]:
            upgrade.result()

    # Then it is at the newest revision, and upgrading once more changes nothing
    schema.upgrade(empty_database_url)
    with Database(empty_database_url).begin() as connection:
        schema.require_current(connection)


def test_a_schema_that_is_behind_is_refused_with_what_to_type(empty_database_url: str) -> None:
    with (
        pytest.raises(Unreachable, match="at revision none") as refused,
        Database(empty_database_url).begin() as open_one,
    ):
        schema.require_current(open_one)
    assert refused.value.next_step == "run `vecfleet migrate`"


def test_a_plan_runs_once_at_a_time_and_a_target_has_one_live_job(database_url: str) -> None:
    # Given the indexes that the database itself holds to
    with Database(database_url).begin() as connection:
        unique = {
            index["name"]
            for table in ("job", "claim")
            for index in sa.inspect(connection).get_indexes(table)
            if index["unique"]
        }
    assert {"uq_job_plan_digest_live", "uq_claim_target"} <= unique
