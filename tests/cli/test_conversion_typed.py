"""`plan documents --via convert` and its `apply`, as a person types them."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from terminal import Brain, Vecfleet

from orchestrator.ledger import index_acts
from orchestrator.ledger.database import Database
from orchestrator.services import fillings
from vecfleet.stores.base import Conversion

PLAN = ("plan", "documents", "brain", "mind", "--via", "convert", "--out", "mind.yaml")
APPLY = ("apply", "mind.yaml", "--no-backup")


def test_an_index_is_converted_as_it_is_typed(vecfleet: Vecfleet, brain: Brain) -> None:
    # Given an index of vectors, and a plan for the service to convert it
    planned = vecfleet(*PLAN)
    assert planned.code == 0, planned.err
    assert "two ways lead there, and both are proven" in planned.out
    # When it is applied, then the service makes the index, and a job begins
    applied = vecfleet(*APPLY)
    assert applied.code == 0, applied.err
    assert "the service converts brain into mind" in applied.out and "job 1 is planned: 4 records" in applied.out
    made = brain.store.open(brain.store.describe("mind"))
    assert set(made.fetch("first", ["a-1", "a-2"]).records) == {"a-1", "a-2"}


def test_the_list_of_jobs_tells_how_far_a_conversion_is(vecfleet: Vecfleet, database: Database) -> None:
    # Given an apply that waits for a conversion of a status that nobody knows
    begun = datetime(2026, 11, 20, tzinfo=UTC)
    figures: dict[str, Any] = {"id": "7", "status": "Queued", "percent": 43.2, "records": 12_000, "created_at": begun}
    with database.begin() as connection:
        index_acts.note_filling(connection, "mind", "brain", "sha256:1", "ana")
    plan, shown = SimpleNamespace(target=SimpleNamespace(typed="mind"), digest="sha256:1"), []
    with fillings.noting(cast(Any, SimpleNamespace(database=database)), cast(Any, plan), "ana", shown.append) as tell:
        assert tell is not None
        tell(Conversion(**figures, source="brain", target="mind", skipped=0))
        # Then the list of jobs says so, for people and for programs
        said, told = vecfleet("jobs"), vecfleet("jobs", "--json")
    assert said.out.startswith("the service converts brain into mind: 43 %, 12,000 records; its status 'Queued' is not")
    assert "the job of ana begins when it is complete" in said.out.replace("\n", " ")
    [filling] = told.json["fillings"]
    assert filling["plan_digest"] == "sha256:1" and filling["by"] == "ana"
    assert (filling["percent"], filling["records"], filling["status"]) == (43.2, 12_000, "Queued")
