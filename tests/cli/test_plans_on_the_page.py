"""A plan that was made in a terminal is read on the page, and started there by who may act."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from job_table import JobTable
from terminal import Brain, Vecfleet

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs
from orchestrator.web.app import create
from vecfleet.settings import Settings

TOKEN = "the token of the settings"
FILE = "creators-brain.yaml"


@pytest.fixture
def operator(vecfleet: Vecfleet, brain: Brain, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Somebody signed in, where a plan for both namespaces was made."""
    assert vecfleet("plan", "creators", "brain", "--creator", "ana").code == 0
    monkeypatch.setenv("OPERATOR_TOKEN", TOKEN)
    parts = Fleet(Settings.load())
    with TestClient(create(parts), headers={"Accept": "text/html"}, follow_redirects=False) as browser:
        assert browser.post("/login", data={"token": TOKEN, "then": "/"}).status_code == 303
        yield browser
    parts.database.dispose()


def test_a_job_is_started_from_the_plan_that_was_read(operator: TestClient, table: JobTable) -> None:
    assert f'href="/plans/{FILE}"' in operator.get("/plans").text
    page = operator.get(f"/plans/{FILE}").text
    assert "creator_ana_twin_first" in page and "4 records in 2 namespaces" in page
    form = dict(re.findall(r'name="(proof|digest)" value="([^"]+)"', page)) | {"no_backup": "yes", "typed": "brain"}

    # What was not read, not typed or not said starts nothing
    for wrong, says in (
        ({"digest": "sha256:0"}, "has changed since you read it"),
        ({"typed": "brian"}, "what was typed is not brain"),
        ({"no_backup": ""}, "there is no backup"),
    ):
        answer = operator.post(f"/plans/{FILE}", data=form | wrong)
        assert answer.status_code == 409 and says in answer.text
    assert operator.post(f"/plans/{FILE}", data=form | {"proof": "guessed"}).status_code == 403
    with table.begin() as connection:
        assert jobs.every(connection) == []

    # And what was starts a job in the person's name
    answer = operator.post(f"/plans/{FILE}", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    with table.begin() as connection:
        [job] = jobs.every(connection)
    assert (job.state, job.created_by) == (JobState.PLANNED, "operator")


def test_only_plans_of_the_folder_are_shown_and_what_is_none_says_why(operator: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("hush: 1")
    (tmp_path / "plans" / "broken.yaml").write_text("hush: 1")
    for name in ("../secret.yaml", "..%2Fsecret.yaml", "nothing.yaml"):
        answer = operator.get(f"/plans/{name}")
        assert answer.status_code == 404 and "hush" not in answer.text
    assert "broken.yaml is not a plan" in operator.get("/plans").text
    assert "Start the job" not in operator.get("/plans/broken.yaml").text
