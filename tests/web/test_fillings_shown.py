"""The page of all jobs tells of conversions and imports, each before its job begins."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi.testclient import TestClient

from orchestrator.ledger import index_acts
from orchestrator.ledger.database import Database

Browser = Callable[[str], TestClient]
TOLD = {
    "doing": "imports s3://bucket/<brain> into brain-2",
    "so_far": "43 %, 12,000 records",
    "percent": 43.2,
    "records": 12_000,
    "status": "InProgress",
}
SAID = "the service imports s3://bucket/&lt;brain&gt; into brain-2: 43 %, 12,000 records; the job of ana begins when"


def note(database: Database, told: Mapping[str, Any] | None) -> None:
    with database.begin() as connection:
        index_acts.note_look(connection, "brain-2", "sha256:1", told)


def test_the_page_says_how_far_an_import_is_before_its_job_begins(signed_in: Browser, database: Database) -> None:
    # Given an apply that waits for an import
    with database.begin() as connection:
        noted = index_acts.note_filling(connection, "brain-2", None, "sha256:1", "ana")
    note(database, TOLD)
    # Then whoever looks at the jobs reads what the service said of it last
    browser = signed_in("viewer")
    assert SAID in browser.get("/").text
    # And when nobody waits any longer, what becomes of it
    note(database, None)
    said = browser.get("/").text
    assert "43 %" not in said and "the service imports files into brain-2, as ana asked at" in said
    assert "nobody waits for it: apply its plan again" in said
    # And no more once its job has begun
    with database.begin() as connection:
        index_acts.settle(connection, noted)
    assert "the service imports" not in browser.get("/").text


def test_a_look_at_a_filling_that_is_over_is_noted_nowhere(database: Database) -> None:
    note(database, TOLD)
    with database.begin() as connection:
        assert index_acts.fillings(connection) == []
