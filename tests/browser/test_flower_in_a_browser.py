"""Flower in a real browser: a person sees a failed batch, follows it to its reason, and runs it again."""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.core.states import BatchState, JobState
from orchestrator.embedded import programs
from orchestrator.embedded.ports import claim_port
from tests.browser.conftest import Desk
from tests.stories.emulated import target_of
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = pytest.mark.story

ACCOUNT = {"username": "vecfleet", "password": "a password of Flower"}


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    return open_world(flower_password=ACCOUNT["password"])


@pytest.fixture
def desk(world: World, open_desk: Any) -> Desk:
    desk: Desk = open_desk(world)
    return desk


@pytest.fixture
def flower(world: World, desk: Desk) -> Iterator[str]:
    env = world.env | {"WEB_URL": desk.address}
    program = programs.flower(world.folder, env, claim_port(world.folder, "flower")).start()
    yield f"http://localhost:{program.port}"  # another site than the page's: its cookies are not sent at first
    program.stop()


def test_a_failed_batch_is_found_in_flower_understood_and_run_again_in_three_clicks(
    world: World, desk: Desk, flower: str
) -> None:
    # Given a batch that a target refused, its cause gone, and somebody who is signed in and looks at Flower's tasks
    world.fill(alma=20, bruno=30)
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message="the target is locked")
    world.start_celery("-A", "workers", "worker", "--task-events")
    world.start_dispatcher()
    world.until_all_answer()
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    [failed] = world.batches(job_id, BatchState.PARKED)
    world.emulator.no_faults()
    page = desk.sit_down(flower=ACCOUNT)
    page.goto(f"{flower}/tasks")
    # Then it stands out: its state, which it is, and what happened, without a click
    row = page.locator("#tasks-table tbody tr", has_text="FAILURE")
    row.filter(has_text="bruno").filter(has_text="batch 1 of 1").filter(has_text="parked: `vecfleet retry").wait_for()
    # And its link is on the screen without scrolling
    link = row.locator(f"a[href*='b{failed['id']}.']")
    box, screen = link.bounding_box(), page.viewport_size
    assert box and screen and box["x"] < screen["width"]
    # When it is clicked, then its link to the page, then Retry
    link.click()
    page.get_by_role("link", name=f"batch {failed['id']} of job {job_id}: why, and Retry").click()
    page.get_by_text("the target is locked").wait_for()
    page.get_by_role("button", name="Retry this batch").click()
    # Then it runs again, to the end
    page.get_by_text("1 batch was released to run again.").wait_for()
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_accounts(job_id)
