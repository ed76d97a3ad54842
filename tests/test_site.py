"""The documentation as a site: it builds strictly, holds every page, and loads nothing from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vecfleet.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
LOADED = re.compile(r'<(?:script|img|iframe)[^>]*\bsrc="([^"]+)"|<link[^>]*\bhref="([^"]+)"|url\(([^)]+)\)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it. A link that leads nowhere fails, and so does a page left out."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_every_page_is_in_it(site: Path) -> None:
    pages = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert {str(page.relative_to(site)) for page in site.rglob("*.html")} == pages | {"404.html"}
    assert not list(site.rglob("*.py"))


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for found in LOADED.findall(page.read_text()):
            address = next(part for part in found if part)
            assert not address.startswith(("http:", "https:", "//")), f"{page.name} loads {address}"


def test_it_can_be_searched(site: Path) -> None:
    assert "Another worker does its batches again" in (site / "search" / "search_index.json").read_text()


def test_the_configuration_reference_is_that_of_the_settings() -> None:
    page = (DOCS / "configuration.md").read_text()
    assert page == generator().page(), "run `python docs/configuration.py`"
    for spellings in Settings.variables().values():
        assert f"`{spellings[0]}`" in page


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("configuration", DOCS / "configuration.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
