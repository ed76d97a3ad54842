"""Settings of a connection to the job table: our limits, what its address asks for, and when to plan a statement."""

import pytest
import sqlalchemy as sa

from orchestrator.ledger.database import Database
from vecfleet.errors import Busy


def shown(database: Database, setting: str) -> str:
    with database.begin() as connection:
        value = connection.execute(sa.text(f"SHOW {setting}")).scalar_one()
    database.dispose()
    return str(value)


def test_options_of_the_address_stand_beside_ours(database_url: str) -> None:
    """A schema, or what a provider routes by. Without a word, the job table would be looked for elsewhere."""
    there = sa.make_url(database_url).update_query_dict({"options": "-c search_path=elsewhere"})
    address = there.render_as_string(hide_password=False)
    assert shown(Database(address, pool_size=1), "search_path") == "elsewhere"
    assert shown(Database(address, pool_size=1), "statement_timeout") == "1min"


@pytest.mark.parametrize(("keeps_plans", "mode"), [(False, "force_custom_plan"), (True, "auto")])
def test_only_who_looks_single_rows_up_keeps_plans(database_url: str, keeps_plans: bool, mode: str) -> None:
    """A plan from before there were rows reads all of one table for each row of another, and is kept for good."""
    assert shown(Database(database_url, pool_size=1, keeps_plans=keeps_plans), "plan_cache_mode") == mode


def test_who_finds_every_connection_in_use_is_told_to_do_it_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that has all its connections in use, and one thread more
    database = Database(database_url, pool_size=1)
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.01)
    # When that one asks, then it is told so in our words, and its batch is tried again
    with database.begin(), database.begin(), pytest.raises(Busy, match="every connection"), database.begin():
        pass
    database.dispose()
