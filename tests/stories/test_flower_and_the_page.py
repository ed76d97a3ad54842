"""Flower beside a fleet that works: a page leads to its tasks there, a task to its page."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.core.states import JobState
from orchestrator.embedded import programs
from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.programs import Program
from tests.stories.serving import served
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = pytest.mark.story

TOKEN = "an operator's token"
ACCOUNT = ("vecfleet", "a password of Flower")
# One row of a table that is sorted by its only column, as Flower's own page asks for it.
ROWS = {
    "draw": 1,
    "start": 0,
    "length": 1_000,
    "order[0][column]": 0,
    "order[0][dir]": "asc",
    "columns[0][data]": "uuid",
}


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    return open_world(operator_token=TOKEN, flower_password=ACCOUNT[1], flower_url="http://flower.example")


@pytest.fixture
def page(world: World) -> Iterator[str]:
    with served(world) as address:
        yield address


@pytest.fixture
def flower(world: World, page: str) -> Iterator[Program]:
    program = programs.flower(world.folder, world.env | {"WEB_URL": page}, claim_port(world.folder, "flower"))
    yield program.start()
    program.stop()


def test_a_job_leads_to_its_tasks_and_a_task_to_its_job(world: World, page: str, flower: Program) -> None:
    # Given a job that ran while Flower watched
    world.fill(alma=20, bruno=10)
    world.start_dispatcher()
    world.start_worker("--task-events")  # from its first task on, or those before Flower asks are not shown
    at = f"http://127.0.0.1:{flower.port}"
    world.until("Flower knows the worker", lambda: "vecfleet-" in httpx.get(f"{at}/workers", auth=ACCOUNT).text)
    # Each copy takes so long that the other one has a task of its own: one soon done takes the next one along.
    world.emulator.fault(operation="upsert", delay_ms=1_500)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    world.emulator.no_faults()
    # When the link on its page is followed
    operator = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
    html = httpx.get(f"{page}/jobs/{job_id}", headers=operator).text
    [link] = re.findall(r'<a href="(http://flower\.example/tasks\?[^"]+)">', html)
    # Then Flower's list shows the tasks of this job, which its own script asks for so, and of no other
    [name] = parse_qs(urlsplit(link).query)["name"]
    copies = world.until(
        "both copies have ended", lambda: ended(tasks(at, f"name:{name}"), "vecfleet.copy_batch", count=2)
    )
    assert tasks(at, f"name:{name}1") == []
    # And each reads as a sentence, and says what it did
    assert {copy["kwargs"] for copy in copies} == {
        f"job {job_id} · batch 1 of 1 · {namespace}" for namespace in ("alma", "bruno")
    }
    assert {copy["result"].split(", ")[0] for copy in copies} == {"copied 20", "copied 10"}
    # And each has a link to its batch on the operator's page
    detail = httpx.get(f"{at}/task/{copies[0]['uuid']}", auth=ACCOUNT).text
    [(there, batch)] = re.findall(rf'<a href="(/task/batch[^"]+)" title="batch (\d+) of job {job_id}">', detail)
    assert httpx.get(f"{at}{there}").status_code == 401
    assert httpx.get(f"{at}{there}", auth=ACCOUNT).headers["location"] == f"{page}/jobs/{job_id}/batches/{batch}"
    assert ">done</span>" in httpx.get(f"{page}/jobs/{job_id}/batches/{batch}", headers=operator).text
    # And nothing can be changed from there
    for act in ("shutdown", "pool/restart", "pool/grow"):
        assert httpx.post(f"{at}/api/worker/{act}/{copies[0]['worker']}", auth=ACCOUNT).status_code == 403
    assert httpx.post(f"{at}/api/task/async-apply/vecfleet.copy_batch", auth=ACCOUNT, json={}).status_code == 403
    # And what Prometheus gets of it has bounded labels: none is a namespace, a job or a batch
    families = text_string_to_metric_families(httpx.get(f"{at}/metrics").raise_for_status().text)
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert {"worker", "type", "task"} <= labels <= {"worker", "type", "task", "le", "generation", *PYTHONS_OWN}


PYTHONS_OWN = ("implementation", "major", "minor", "patchlevel", "version")


def tasks(at: str, search: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{at}/tasks/datatable", auth=ACCOUNT, params={**ROWS, "search[value]": search})
    found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
    return found


def ended(found: list[dict[str, Any]], name: str, *, count: int) -> list[dict[str, Any]] | None:
    """The tasks of this name, once at least so many of them have succeeded."""
    some = [task for task in found if task["name"] == name and task["state"] == "SUCCESS"]
    return some if len(some) >= count else None
