"""The use of the role `approve` over the fleet's HTTP API: much is left behind by name, an erasure is begun once.

What a hook or a second person holds is not done, and not answered as done.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from job_table import INDEX, JobTable, plan_of, planned

from migrations.plan import write_plan
from orchestrator.core.states import JobState
from orchestrator.core.two_persons import TwoPersons
from orchestrator.ledger import consents, erasures, index_acts, request_keys
from orchestrator.ledger.database import Database
from orchestrator.ledger.request_keys import KeyedRequest
from vecfleet.fleet.models import KEY_HEADER, PREFIX, Erase
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.tenancy.fences import subject_of
from vecfleet.tenancy.tokens import TokenFile, name_of

TWELVE = [f"r{number:02}" for number in range(12)]
Post = Callable[[str, Any, str], httpx.Response]


@pytest.fixture
def token(tokens: TokenFile) -> str:
    return tokens.create({"id": "pipeline", "role": "approve"})


@pytest.fixture
def post(stranger: TestClient, token: str) -> Post:
    def post(path: str, body: Any, key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", KEY_HEADER: key}
        return stranger.post(PREFIX + path, json=body, headers=headers)

    return post


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"vecfleet_root": tmp_path})


@pytest.fixture
def refused(table: JobTable) -> JobTable:
    """A job of whose twelve records the service refused all."""
    table.apply(plan_of(planned("s", "t", 12)))
    table.listed({"s": [TWELVE]})
    [lease] = table.take()
    table.target(lease, "t")
    table.copy(lease, wrote=[], parked=TWELVE)
    return table


def test_much_is_left_behind_by_its_number_and_the_name_of_its_index_and_taken_back(
    post: Post, refused: JobTable
) -> None:
    there = f"/jobs/{refused.job_id}/leave-behind"
    # When a program would leave all of them behind, it is told how many they are
    first = post(there, {"records": "all"}, "first")
    assert (first.status_code, first.json()["code"]) == (409, "much-left-behind")
    assert "`confirmed`: 12" in first.json()["next_step"] and refused.moves["s"].left_behind == 0
    # Then another index's name does not do, and the right one does
    confirmed = {"records": "all", "confirmed": 12}
    assert post(there, {**confirmed, "index": "another"}, "second").json()["code"] == "other-name-typed"
    assert post(there, {**confirmed, "index": INDEX.name}, "second").json()["facts"] == {"records": 12}
    assert refused.moves["s"].left_behind == 12
    # And it can be taken back
    assert post(f"/jobs/{refused.job_id}/take-back", {"records": ["r00"]}, "third").json()["facts"] == {"records": 1}
    assert refused.moves["s"].left_behind == 11


@pytest.mark.parametrize("body", [{}, {"records": "all", "batches": "all"}])
def test_it_must_be_said_which_records_stay_behind(post: Post, refused: JobTable, body: Any) -> None:
    answer = post(f"/jobs/{refused.job_id}/leave-behind", body, "k")
    assert answer.status_code == 422 and "which records" in answer.json()["detail"]


def test_an_erasure_that_was_interrupted_is_not_called_done(post: Post, token: str, database: Database) -> None:
    # Given a process that died after it began an erasure
    body = Erase(creator="ana")
    asked = f"POST {PREFIX}/erasures\0{body.model_dump_json()}"
    request = KeyedRequest.of(name_of(token), "k", asked)
    with request_keys.carried(request), database.begin() as connection:
        number = erasures.begin(connection, subject_of(Tenant("ana")), "pipeline")
    # When the same request comes again, and with it another one under its key
    again = post("/erasures", {"creator": "ana"}, "k")
    other = post("/erasures", {"creator": "ben"}, "k")
    # Then it is told where to look, and nothing is begun anew
    assert (again.status_code, again.json()["code"]) == (409, "erasure-unfinished")
    assert f"/erasures/{number}" in again.json()["next_step"]
    assert (other.status_code, other.json()["code"]) == (422, "key-used")
    with database.begin() as connection:
        assert not erasures.fenced(connection, [subject_of(Tenant("ben"))])


ACTS_ALONE = ({"cut_over": "auto"}, {"cut_over": "none", "clean_up": "auto"})


@pytest.mark.parametrize("policies", ACTS_ALONE, ids=["moves readers", "deletes"])
def test_a_plan_that_acts_by_itself_is_started_by_who_may_approve_it(
    stranger: TestClient, tokens: TokenFile, settings: Settings, policies: dict[str, Any], token: str
) -> None:
    plan = write_plan(plan_of(planned("s", "t"), **policies), settings.vecfleet_root / "plans" / "nightly.yaml")
    body = {"plan": "nightly.yaml", "digest": plan.digest, "no_backup": True}
    steers = tokens.create({"id": "nightly", "role": "operate"})

    first, second = (
        stranger.post(f"{PREFIX}/jobs", json=body, headers={"Authorization": f"Bearer {by}", KEY_HEADER: "k"})
        for by in (steers, token)
    )

    assert first.status_code == 403 and "by itself" in first.json()["detail"]
    assert second.status_code != 403


@pytest.mark.parametrize("lever", [{"lever": "missing", "value": 500}, {"lever": "doubt", "value": 0}])
def test_who_only_steers_does_not_say_what_may_be_missing_before_a_deletion(
    stranger: TestClient, tokens: TokenFile, refused: JobTable, lever: dict[str, Any], token: str
) -> None:
    there = f"{PREFIX}/jobs/{refused.job_id}/set"
    steers = tokens.create({"id": "nightly", "role": "operate"})

    first, second = (
        stranger.post(there, json=lever, headers={"Authorization": f"Bearer {by}", KEY_HEADER: "k"})
        for by in (steers, token)
    )

    assert (first.status_code, second.status_code) == (403, 200)


def test_what_waits_for_a_second_person_is_not_answered_as_done(
    stranger: TestClient, tokens: TokenFile, post: Post, table: JobTable, database: Database
) -> None:
    table.apply(plan_of(planned("s", "t"), cut_over="none"))
    table.verified()
    with database.begin() as connection:
        consents.declare(connection, [TwoPersons.CLEAN_UP])
    there, body = f"/jobs/{table.job_id}/cleanup", {"index": INDEX.name}

    # When a program asks, and asks again under its key
    for _ in range(2):
        waiting = post(there, body, "k")
        assert (waiting.status_code, waiting.json()["code"]) == (409, "second-person")
    assert table.job.state is JobState.VERIFIED

    # Then the second person's request does it, and is answered with it
    other = tokens.create({"id": "ben", "role": "approve"})
    headers = {"Authorization": f"Bearer {other}", KEY_HEADER: "k"}
    done = stranger.post(PREFIX + there, json=body, headers=headers)
    assert (done.status_code, done.json()["did"]) == (200, "clean up")
    assert table.job.state is JobState.CLEANING


def test_a_filling_of_which_nobody_can_know_is_given_up_once_under_its_key(post: Post, database: Database) -> None:
    # Given an index of an account that the settings do not name
    with database.begin() as connection:
        index_acts.note_filling(connection, "pinecone@gone:mind", None, "sha256:1", "olga")
    # When a program gives it up, and sends that again
    body = {"index": "pinecone@gone:mind"}
    first, again = (post("/fillings/give-up", body, "k") for _ in range(2))
    # Then that is done once, in its name, and another request is told that it was
    assert (first.status_code, again.json()["act"]) == (200, first.json()["act"]), first.json()
    assert "no account" in first.json()["facts"]["why"]
    assert post("/fillings/give-up", body, "other").json()["code"] == "filling-given-up"
    with database.begin() as connection:
        [filling] = index_acts.given_up(connection)
    assert filling.given_up_by == first.json()["who"]
