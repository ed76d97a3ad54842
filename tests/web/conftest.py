import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from job_table import JobTable, plan_of, planned

from orchestrator.bootstrap import Fleet
from orchestrator.ledger.database import Database
from orchestrator.web.app import create
from vecfleet.settings import Settings
from vecfleet.tenancy import tokens as tokens_file
from vecfleet.tenancy.tokens import TokenFile

HTML = {"Accept": "text/html"}
Browser = Callable[[str], TestClient]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=2)
    yield database
    database.dispose()


@pytest.fixture
def table(database: Database) -> JobTable:
    return JobTable(database)


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        vecfleet_home=tmp_path,
        operator_token="the token of the settings",
    )


@pytest.fixture
def tokens(settings: Settings) -> TokenFile:
    return TokenFile(settings.vecfleet_home / tokens_file.FILE)


@pytest.fixture
def stranger(settings: Settings) -> Iterator[TestClient]:
    """A browser in which nobody is signed in."""
    parts = Fleet(settings)
    with TestClient(create(parts), headers=HTML, follow_redirects=False) as browser:
        yield browser
    parts.database.dispose()


@pytest.fixture
def signed_in(stranger: TestClient, tokens: TokenFile) -> Browser:
    """`signed_in("operator")`: a browser in which somebody of this role is."""

    def browser(role: str) -> TestClient:
        token = tokens.create({"id": "ana", "role": role, "creator_ids": []})
        stranger.cookies.clear()
        assert stranger.post("/login", data={"token": token, "then": "/"}).status_code == 303
        return stranger

    return browser


@pytest.fixture
def verified(table: JobTable) -> JobTable:
    table.apply(plan_of(planned("s", "t-s"), planned("<b>s2</b>", "t-2")))
    table.verified()
    return table


def proof(browser: TestClient, page: str = "/jobs/1") -> str:
    found = re.search(r'name="proof" value="([^"]+)"', browser.get(page).text)
    assert found is not None
    return found[1]
