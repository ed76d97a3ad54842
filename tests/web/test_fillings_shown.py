"""The page of all jobs tells of conversions and imports, each before its job begins."""

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi.testclient import TestClient

from orchestrator.fillings import Fillings
from vecfleet.settings import Settings
from vecfleet.stores.base import BulkImport

Browser = Callable[[str], TestClient]
IMPORT = BulkImport(
    id="3",
    status="InProgress",
    percent=43.2,
    records=12_000,
    created_at=datetime(2026, 11, 20, tzinfo=UTC),
    uri="s3://bucket/<brain>",
    index="brain-2",
    error=None,
)
SAID = "the service imports s3://bucket/&lt;brain&gt; into brain-2: 43 %, 12,000 records; the job of ana begins when"


def test_the_page_says_how_far_an_import_is_before_its_job_begins(signed_in: Browser, settings: Settings) -> None:
    # Given an apply that waits for an import
    assert settings.redis_url is not None
    notes = Fillings(settings.redis_url.get_secret_value())
    notes.note("sha256:1", "ana", IMPORT)
    # Then whoever looks at the jobs reads what the service said of it last
    browser = signed_in("viewer")
    assert SAID in browser.get("/").text
    # And no more when nobody waits any longer
    notes.forget("sha256:1")
    assert "the service imports" not in browser.get("/").text


def test_without_redis_nothing_is_told_and_nothing_fails() -> None:
    notes = Fillings("redis://127.0.0.1:1/0")
    notes.note("sha256:1", "ana", IMPORT)
    notes.forget("sha256:1")
    assert notes.every() == []
