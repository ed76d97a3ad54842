"""A real browser, and `vecfleet serve` for it to look at."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import FLAGS, missing, program
from tests.stories.conftest import open_world
from tests.stories.serving import served
from tests.stories.world import World
from vecfleet.tenancy.tokens import TokenFile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["open_world"]

PATIENCE_MS = 240_000.0  # what a story waits for takes seconds; two cores under a load of twenty need this
SEVERE = {"serious", "critical"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The one reason for which a test is left out: this machine has no browser, and says how to get one."""
    reason = missing()
    for item in items:
        if reason is not None and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


class Desk:
    """A person at a browser. `windows` are their pages; whatever a console complains of is on record."""

    def __init__(self, browser: "Browser", folder: Path, world: World, address: str) -> None:
        self._browser, self._folder, self._world = browser, folder, world
        self.address = address
        self.complaints: list[str] = []
        self._contexts: list[Any] = []

    def sit_down(
        self, role: str = "operator", *, dark: bool = False, phone: bool = False, flower: Any = None
    ) -> "Page":
        """A window in which somebody of this role just signed in, by the address that `vecfleet up` prints.

        `flower`: the user and password that the browser knows for Flower.
        """
        home = self._world.fleet.settings.vecfleet_home
        token = TokenFile(home / "tokens.json").create({"id": "ana", "role": role, "creator_ids": []})
        context = self._browser.new_context(
            color_scheme="dark" if dark else "light", viewport=PHONE if phone else _SCREEN, http_credentials=flower
        )
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: self._note(said.type, said.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.on("requestfailed", lambda request: self._note_failed(request))
        page.goto(f"{self.address}/login#{token}")
        page.wait_for_url(f"{self.address}/")
        return page

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "409 (Conflict)" not in text:  # how a browser tells of a guard's refusal
            self.complaints.append(f"{kind}: {text}")

    def _note_failed(self, request: Any) -> None:
        if not request.url.endswith(("/events", "/static/icon.svg")):  # a page that is left cuts its own
            self.complaints.append(f"{request.url}: {request.failure}")

    def photograph(self, page: "Page", name: str) -> None:
        """Kept in the test's own folder."""
        page.screenshot(path=str(self._folder / f"{name}.png"), full_page=True)

    def assert_usable(self, page: "Page") -> None:
        """axe finds nothing serious."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(page).response["violations"]
        severe = [
            f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found
            if one["impact"] in SEVERE
        ]
        assert not severe, "\n".join(severe)

    def get_up(self) -> None:
        for context in self._contexts:
            context.close()


_SCREEN: Any = {"width": 1_280, "height": 900}
PHONE: Any = {"width": 390, "height": 844}


@pytest.fixture
def browser() -> Iterator["Browser"]:
    """One for each story: its driver keeps an event loop running, which no other test must find."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=program(), headless=True, args=list(FLAGS), timeout=PATIENCE_MS
        )
        yield started
        started.close()


@pytest.fixture
def open_desk(browser: "Browser", tmp_path: Path) -> Iterator[Any]:
    """`open_desk(world)`: a desk in front of this world. At the end nothing may have been complained of."""
    with ExitStack() as ending:
        desks: list[Desk] = []

        def make(world: World) -> Desk:
            desk = Desk(browser, tmp_path, world, ending.enter_context(served(world)))
            ending.callback(desk.get_up)
            desks.append(desk)
            return desk

        yield make
        complaints = [complaint for desk in desks for complaint in desk.complaints]
        assert complaints == []
