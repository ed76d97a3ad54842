"""Every page on a phone, a tablet and a desk: no table is cut or fills a phone, no text stands beside its box."""

import re
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.web import pages
from tests.browser import scenes

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTHS = (390, 768, 1_130, 1_280)
AT = "http://page.test"
KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Of each text on the page: is a line of it outside of the box that it stands in? And does a box scroll sideways,
# or fill a phone's screen, so that nothing else can be scrolled to?
FOUND = """() => {
  const HIDDEN = ".hidden, .skip, details:not([open]) > :not(summary)";
  const found = [], wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth) found.push(`the page is ${wide.scrollWidth} wide`);
  for (const box of document.querySelectorAll(".scroll")) {
    const name = box.getAttribute("aria-label") || box.tagName;
    if (box.scrollWidth > box.clientWidth) found.push(`${name} is cut`);
    if (innerWidth < 640 && box.clientHeight > 0.8 * innerHeight) found.push(`${name} fills the screen`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = texts.nextNode());) {
    const parent = text.parentElement, box = parent.closest("td, th, dd, dt, li, p, button, a, h1, h2, nav, .card");
    if (!text.textContent.trim() || !box || parent.closest(HIDDEN)) continue;
    const { left, right, width } = box.getBoundingClientRect();
    if (box.closest("thead")?.getBoundingClientRect().width <= 1 || !width) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const inside = (line) => !line.width || (line.left >= left - 1 && line.right <= right + 1);
    if (getComputedStyle(box).display !== "inline" && !Array.from(range.getClientRects()).every(inside))
      found.push(`beside its box: ${text.textContent.trim().slice(0, 60)}`);
  }
  return found;
}"""
PYTHONS = re.compile(r"\[['\d\]]|\{['}]|\bNone\b|\bTrue\b|\bFalse\b")


@pytest.mark.story
def test_no_page_is_cut_at_any_width_and_none_shows_a_value_as_python_writes_it(browser: "Browser") -> None:
    page = browser.new_page()
    drawn = dict(scenes.every())
    answers = {f"/{number}": html for number, html in enumerate(drawn.values())}

    def answer(route: Any) -> None:
        path = route.request.url.removeprefix(AT)
        if path in answers:
            route.fulfill(body=answers[path], content_type="text/html")
        elif path.startswith("/static/"):
            route.fulfill(body=(pages.HERE / path[1:]).read_bytes(), content_type=KINDS[path.rpartition(".")[2]])
        else:
            route.abort()

    page.route(f"{AT}/**", answer)
    found: list[str] = []
    for name, path in zip(drawn, answers, strict=True):
        page.goto(f"{AT}{path}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"{name} at {width}: {trouble}" for trouble in page.evaluate(FOUND)]
        text = page.locator("body").inner_text()
        found += [f"{name}: {word[0]}" for word in PYTHONS.finditer(text)]
    assert not found, "\n".join(found)
