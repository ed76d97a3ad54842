"""The use of the role `approve` over the fleet's HTTP API: much is left behind by name, an erasure is begun once."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from job_table import INDEX, JobTable, plan_of, planned

from orchestrator.ledger import erasures, request_keys
from orchestrator.ledger.database import Database
from orchestrator.ledger.request_keys import KeyedRequest
from vecfleet.fleet.models import KEY_HEADER, PREFIX, Erase
from vecfleet.names import Tenant
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
