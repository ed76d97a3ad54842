"""The page in a real browser: an operator watches a job, decides, is refused, and ends it, without typing a command."""

import re
from typing import Any

import pytest

from orchestrator.core.states import JobState
from tests.browser.conftest import PHONE
from tests.stories.emulated import as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, OpenWorld

pytestmark = pytest.mark.story


def expect(page: Any, part: str, text: str) -> None:
    """Wait until this part of the page says so, by itself."""
    page.locator(f"#part-{part}", has_text=text).wait_for()


def test_an_operator_watches_a_job_is_refused_a_clean_up_and_completes_one(
    open_world: OpenWorld, open_desk: Any
) -> None:
    # Given a job that nobody works on yet, and an operator who looks at it
    world = open_world()
    before = world.fill(alma=60, bruno=40, chiara=10)
    job_id = world.apply(world.plan(SMALL))
    desk = open_desk(world)
    page = desk.sit_down()
    desk.assert_usable(page)
    page.get_by_role("link", name=f"Job {job_id}").click()
    expect(page, "state", "planned")
    expect(page, "waits", "no dispatcher is running")
    page.locator("#live.on").wait_for()
    page.evaluate("window.loadedOnce = true")

    # When a fleet starts, then the page follows it to the end, without being loaded again
    world.start(workers=1)
    expect(page, "state", "verified")
    expect(page, "waits", "a person decides when readers move")
    page.wait_for_function("() => document.querySelectorAll('#grid > i.v').length === 3")
    expect(page, "figures", "3 of 3 namespaces")
    assert page.evaluate("window.loadedOnce")
    desk.assert_usable(page)
    desk.photograph(page, "verified")

    # And one namespace can be looked into by the keyboard alone, while the page goes on changing
    page.locator("#grid").focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.locator("#cell", has_text="bruno").wait_for()
    page.locator("#cell", has_text="40 records expected").wait_for()
    assert page.evaluate("document.activeElement.id") == "grid"

    # Then a clean-up is no button yet, and beside it stand the guard's words
    assert page.get_by_role("button", name="Clean up…").is_disabled()
    expect(page, "actions", "Clean up: not now; readers are cut over at 0 %, not 100 %")
    # When it is asked for all the same, then the guard says so, and nothing was deleted
    page.goto(f"{desk.address}/jobs/{job_id}/cleanup")
    refusal = page.get_by_role("alert").inner_text()
    assert "cut over" in refusal
    assert page.locator("input[name=typed]").count() == 0
    desk.assert_usable(page)
    desk.photograph(page, "refused")
    page.get_by_role("link", name=f"Back to job {job_id}").click()

    # When the readers are moved, the clean-up is asked for again, and the wrong word typed, then nothing happens
    page.get_by_role("link", name="Cut over 100 %…").click()
    assert "then get the new namespaces for all" in page.locator("main").inner_text()
    desk.assert_usable(page)
    page.get_by_role("button", name="Move 100 % of the readers").click()
    page.get_by_text("3 of 3 routes lead to the new namespaces").wait_for()
    page.get_by_role("link", name="Clean up…").click()
    desk.assert_usable(page)
    desk.photograph(page, "confirm")
    page.get_by_label(f"Type {SMALL} to go on").fill("yes")
    page.get_by_role("button", name="Delete them").click()
    page.get_by_text("nothing was changed: what was typed").wait_for()
    assert world.job(job_id).state is JobState.CUT_OVER

    # When the index's name is, then the job is cleaned up before the operator's eyes
    page.go_back()
    page.get_by_label(f"Type {SMALL} to go on").fill(SMALL)
    page.get_by_role("button", name="Delete them").click()
    expect(page, "state", "cleaned")
    page.wait_for_function("() => document.querySelectorAll('#grid > i.z').length === 3")
    assert_same_index(world.emulator.dump(SMALL), as_twins(before))
    expect(page, "audit", "ana")
    page.get_by_role("link", name="Report", exact=True).click()
    assert re.search(r"110 of 110", page.locator("main").inner_text())
    desk.assert_usable(page)
    desk.photograph(page, "report")


def test_a_failed_batch_and_a_parked_record_are_found_and_settled_on_the_page(
    open_world: OpenWorld, open_desk: Any
) -> None:
    # Given a job with a batch that the service refused and a record that outgrew the limit
    world = open_world()
    world.fill(alma=20, bruno=30)
    world.emulator.write(SMALL, "alma", [row("huge", chunk_text="x" * (40_000 - 40))])
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message="the target is locked")
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    desk = open_desk(world)

    # Then who may only look sees both, and has no button
    viewer = desk.sit_down("viewer")
    viewer.goto(f"{desk.address}/jobs/{job_id}")
    expect(viewer, "failed", "the target is locked")
    expect(viewer, "parked", "its metadata would be over 40,000 bytes")
    viewer.locator("#live.on").wait_for()
    assert viewer.locator("main button").count() == 0

    # When an operator retries the batch once its cause is gone
    page = desk.sit_down(dark=True)
    page.goto(f"{desk.address}/jobs/{job_id}")
    expect(page, "batches", "Conflict")
    desk.assert_usable(page)
    desk.photograph(page, "needs-attention-dark")
    world.emulator.no_faults()
    page.get_by_role("button", name="Retry the failed batch").click()
    page.get_by_text("1 batch was released to run again.").wait_for()
    # Then it goes, on the viewer's page too; and the record still waits for a decision
    viewer.locator("#part-failed", has_not_text="locked").wait_for(state="attached")
    expect(page, "state", "waits for a decision")

    # When that may stay behind, then the job comes to its verdict
    page.get_by_role("button", name="Leave behind record huge").click()
    page.get_by_text("1 record stays behind").wait_for()
    expect(page, "state", "verified, 1 left behind")
    expect(viewer, "records", "stays behind, says ana")
    world.assert_accounts(job_id)


def test_a_failed_job_fits_a_phone_with_its_error_and_the_way_out(open_world: OpenWorld, open_desk: Any) -> None:
    # Given a job with a batch that the service refused, and one with a long name
    world = open_world()
    name = "a-namespace-with-a-name-that-is-much-longer-than-the-screen-of-a-phone"
    world.fill(alma=20, **{name: 30})
    world.emulator.fault(operation="upsert", namespace=target_of(name), status=409, message="the target is locked")
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    desk = open_desk(world)
    page = desk.sit_down(phone=True)
    of_job = f"/jobs/{job_id}"
    for address in ("/", of_job, f"{of_job}/namespaces", f"{of_job}/namespaces/2", "/workers", "/plans"):
        page.goto(f"{desk.address}{address}")
        # Then nothing is beside the screen, nor beside what a table of namespaces shows of itself
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        for table in page.locator(".scroll[aria-label*=namespaces]").all():
            assert table.evaluate("shown => shown.scrollWidth <= shown.clientWidth"), address
        desk.assert_usable(page)
    page.goto(f"{desk.address}/jobs/{job_id}")
    expect(page, "failed", "the target is locked")
    for seen in (
        page.get_by_role("button", name="Retry the failed batch"),
        page.locator("#part-failed .groups p").first,
    ):
        box = None
        while box is None:  # the page draws a part anew when it changes
            seen.wait_for()
            box = seen.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], box
    desk.photograph(page, "phone")
