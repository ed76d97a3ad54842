"""Clients that ask for the routes: the job table knows them before they are answered, and a freeze waits for them."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from job_table import AT_ONCE, JobTable, plan_of, planned

from orchestrator.core.freshness import Waits
from orchestrator.core.progress import Progress, progress
from orchestrator.core.states import JobState
from orchestrator.ledger import status
from orchestrator.ledger import tables as t
from tests.web.conftest import Browser
from vecfleet.tenancy.providers import CLIENT, HttpRoutes
from vecfleet.tenancy.tokens import TokenFile

STALE = Waits(routes_stale_s=60.0)


class Asking:
    """Processes of one application, with one token."""

    def __init__(self, browser: TestClient, tokens: TokenFile) -> None:
        self._browser = browser
        self._token = tokens.create({"id": "the shop", "role": "service"})

    def ask(self, process: str | None = "web-1/17/ab") -> dict[str, Any]:
        """Ask for the routes, as this process; None: as a version from before freezes."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        answer = self._browser.get("/delphi/routes", headers=headers | ({CLIENT: process} if process else {}))
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body


@pytest.fixture
def shop(stranger: TestClient, tokens: TokenFile) -> Asking:
    return Asking(stranger, tokens)


def applied(table: JobTable, waits: Waits = STALE, **policies: object) -> JobTable:
    table.apply(plan_of(planned("s", "t-s"), **policies), waits=waits)
    return table


def seen(table: JobTable) -> Progress:
    with table.begin() as connection:
        return progress(status.reading(connection, table.job_id, namespaces=0))


def quiet_for(table: JobTable, seconds: float) -> None:
    """Every client asked last so long ago."""
    with table.by_hand() as connection:
        connection.execute(sa.update(t.client).values(seen_at=t.client.c.seen_at - timedelta(seconds=seconds)))


def test_a_job_waits_until_no_client_may_write_by_routes_from_before_its_freeze(table: JobTable, shop: Asking) -> None:
    # Given a client with routes, and then a job that stops the writers
    shop.ask()
    applied(table).advance(2)

    # Then the job has not begun, and says why and until when
    job = table.job
    assert (job.state, job.started_at) == (JobState.PLANNED, None) and job.frozen_at is not None
    until = job.frozen_at + timedelta(seconds=60)
    assert [wait for wait in seen(table).waits if "from before the freeze" in wait and f"{until:%H:%M:%S}" in wait]

    # When that time is over, it begins, though the client goes on to ask
    table.put(frozen_at=job.frozen_at - timedelta(seconds=60))
    shop.ask("web-2/18/cd")
    table.advance()
    assert table.job.state is JobState.RUNNING


@pytest.mark.parametrize("process", [None, "web-1/17/ab"], ids=["of an earlier version", "long gone"])
def test_a_job_waits_for_no_client_that_follows_no_freeze(table: JobTable, shop: Asking, process: str | None) -> None:
    shop.ask(process)
    quiet_for(table, 0 if process is None else 76)
    applied(table).advance()

    assert table.job.state is JobState.RUNNING


def test_a_client_that_may_have_written_since_the_job_was_made_is_waited_for_although_the_fleet_was_down(
    table: JobTable, shop: Asking
) -> None:
    # Given a client with routes, a job, and a fleet that stops before it looks at the job
    shop.ask()
    applied(table)
    # When it is back, and the client wrote by those routes until they were too old
    quiet_for(table, 76)
    table.put(created_at=table.job.created_at - timedelta(seconds=76))
    table.advance(2)

    # Then the job counts the client's last write from now on, not from its making
    assert table.job.state is JobState.PLANNED and table.job.frozen_at is not None


def test_a_job_whose_writers_go_on_waits_for_no_client(table: JobTable, shop: Asking) -> None:
    shop.ask()
    applied(table, writers="delta").advance()

    assert table.job.state is JobState.RUNNING


def test_a_client_that_comes_while_a_job_starts_knows_of_its_freeze_at_once(table: JobTable, shop: Asking) -> None:
    # Given a table of routes in memory that is younger than its time there
    shop.ask()
    quiet_for(table, 76)
    applied(table).advance()
    assert table.job.state is JobState.RUNNING

    # Then one that was not known when the job started gets none from before
    (frozen,) = shop.ask("web-2/18/cd")["frozen"]
    assert (frozen["namespace"], frozen["job"]) == ("s", table.job_id)


def test_a_client_of_an_earlier_version_gets_routes_that_it_can_read(table: JobTable, shop: Asking) -> None:
    applied(table, AT_ONCE)

    assert "frozen" not in shop.ask(None)
    assert "frozen" in shop.ask()


def test_each_process_of_a_client_names_itself_once() -> None:
    first, second = (dict(HttpRoutes("http://127.0.0.1:1/")._clients.get().headers)[CLIENT.lower()] for _ in "ab")

    assert first != second
    assert first.count("/") == 2 and first.isprintable()


def test_status_says_who_obeys_the_freeze_and_who_is_to_be_stopped(table: JobTable, shop: Asking) -> None:
    applied(table, AT_ONCE)
    assert seen(table).writers == "in name alone: no application follows the routes, so stop the writers yourself"

    shop.ask()
    shop.ask("web-1/18/cd")
    shop.ask(None)
    said = seen(table).writers or ""
    assert said.startswith("2 clients refuse writes to the sources (last asked ")
    assert "; 1 client of an earlier version does not" in said
    assert "an application that does not ask for the routes is for you to stop" in said

    quiet_for(table, 3_600)
    assert "no application follows the routes (the last one did 1 h ago)" in (seen(table).writers or "")


def test_the_page_of_a_job_lists_the_clients_and_when_they_asked(
    table: JobTable, shop: Asking, signed_in: Browser
) -> None:
    applied(table, AT_ONCE)
    shop.ask()
    shop.ask("web-1/18/cd")
    shop.ask(None)

    page = signed_in("viewer").get(f"/jobs/{table.job_id}").text

    assert "2 clients refuse writes to the sources" in page
    assert "web-1" in page and "the shop" in page
    assert "✓ refuses to write there" in page and "▲ writes there: an earlier version" in page
