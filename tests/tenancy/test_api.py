"""The tenants' API over HTTP: each user reaches their own creators, and each refusal is a problem with a next step."""

import hashlib
import math
import re
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.tenancy.conftest import SMALL
from vecfleet.tenancy import PineconeDelphiClient, TenantAuditLogger
from vecfleet.tenancy.api import RateLimit, TokenFile, delphi_router

MINE = "sainath.no.1"


class Words:
    """A deterministic embedder: each word is a direction."""

    model = "words"

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        return [self.of(text) for text in texts]

    def of(self, text: str) -> list[float]:
        values = [0.0] * SMALL
        for word in text.split():
            values[hashlib.sha256(word.encode()).digest()[0] % SMALL] += 1.0
        return values if any(values) else [1.0] * SMALL


@dataclass
class Api:
    app: FastAPI
    address: str
    client: PineconeDelphiClient
    tokens: TokenFile
    audit: Path

    def as_user(self, **user: Any) -> httpx.Client:
        return self.sending({"Authorization": f"Bearer {self.tokens.create({'id': 'u1', **user})}"})

    def sending(self, headers: dict[str, str]) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=headers, timeout=60)


@pytest.fixture
def api(small: PineconeDelphiClient, tmp_path: Path) -> Iterator[Api]:
    with serving(small, tmp_path) as found:
        yield found


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a port of its own. Gives the address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def serving(client: PineconeDelphiClient, folder: Path, rate: RateLimit | None = None) -> Iterator[Api]:
    tokens, audit = TokenFile(folder / "tokens.json"), folder / "audit.jsonl"
    app = FastAPI()
    app.include_router(
        delphi_router(
            client,
            tokens=tokens,
            embedder=Words(),
            rate=rate or RateLimit(1e6, 1_000_000),
            audit=TenantAuditLogger(audit),
        )
    )
    with served(app) as address:
        yield Api(app, address, client, tokens, audit)


@pytest.fixture
def filled(api: Api) -> Api:
    for creator, twin in [(MINE, "coach"), (MINE, "writer"), ("sainath.no.10", "coach")]:
        texts = ["rest is training", "write each day"]
        vectors = [
            {"id": f"{twin}-{n}", "values": Words().of(text), "metadata": {"text": text}}
            for n, text in enumerate(texts)
        ]
        api.client.upsert_vectors(vectors, creator, twin)
    return api


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["status"] == answer.status_code and said["title"] and said["detail"] and said["next_step"]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", said["code"])
    return said


def test_a_text_or_a_vector_is_searched_in_a_twin(filled: Api) -> None:
    user = filled.as_user(creator_id=MINE)

    by_text = user.post(
        "/delphi/search", json={"creator_id": MINE, "twin_id": "coach", "query": "rest is training", "top_k": 1}
    )
    by_vector = user.post(
        "/delphi/search", json={"twin_id": "coach", "vector": Words().of("rest is training"), "top_k": 1}
    )

    assert by_text.status_code == 200 and by_text.json() == by_vector.json()
    (match,) = by_text.json()["matches"]
    assert match["namespace"] == f"creator_{MINE}_twin_coach"
    assert match["metadata"] == {"text": "rest is training", "creator_id": MINE, "twin_id": "coach"}


def test_all_twins_are_searched_at_once(filled: Api) -> None:
    answer = filled.as_user(creator_id=MINE).post("/delphi/search-cross-twin", json={"query": "write each day"})

    assert {match["namespace"] for match in answer.json()["matches"]} == {
        f"creator_{MINE}_twin_coach",
        f"creator_{MINE}_twin_writer",
    }


def test_twins_are_listed_and_names_judged(filled: Api) -> None:
    user = filled.as_user(creator_id=MINE)

    assert user.get("/delphi/twins").json() == {"creator_id": MINE, "twins": ["coach", "writer"]}
    assert user.get("/delphi/validate-name", params={"name": "support_bot"}).json() == {
        "name": "support_bot", "valid": True, "reason": None,
    }  # fmt: skip
    assert "reserved word" in user.get("/delphi/validate-name", params={"name": "admin"}).json()["reason"]


def test_a_twin_then_a_creator_is_erased_and_the_neighbour_stays(filled: Api) -> None:
    user = filled.as_user(creator_id=MINE)

    twin = user.delete("/delphi/twin/coach", params={"creator_id": MINE}).json()
    creator = user.delete("/delphi/creator", params={"creator_id": MINE}).json()

    assert (twin["confirmed"], twin["deleted"]) == (True, [{"namespace": f"creator_{MINE}_twin_coach", "records": 2}])
    assert [one["namespace"] for one in creator["deleted"]] == [f"creator_{MINE}_twin_writer"]
    assert [one.name for one in filled.client.data.namespaces()] == ["creator_sainath.no.10_twin_coach"]
    assert filled.audit.read_text().count('"data_deletion"') == 2


REQUESTS = [
    ("POST", "/delphi/search", {"json": {"creator_id": "sainath.no.10", "twin_id": "coach", "vector": [1.0] * SMALL}}),
    ("POST", "/delphi/search-cross-twin", {"json": {"creator_id": "sainath.no.10", "vector": [1.0] * SMALL}}),
    ("GET", "/delphi/twins", {"params": {"creator_id": "sainath.no.10"}}),
    ("DELETE", "/delphi/twin/coach", {"params": {"creator_id": "sainath.no.10"}}),
    ("DELETE", "/delphi/creator", {"params": {"creator_id": "sainath.no.10"}}),
]


@pytest.mark.parametrize(("method", "path", "more"), REQUESTS)
def test_another_creators_records_are_refused_on_every_route_and_noted(
    filled: Api, method: str, path: str, more: dict[str, Any]
) -> None:
    answer = filled.as_user(creator_id=MINE).request(method, path, **more)

    assert answer.status_code == 403
    assert problem(answer)["code"] == "tenant-isolation"
    assert problem(answer)["detail"] == "Access denied: creator 'sainath.no.10' belongs to another tenant"
    assert '"isolation_violation","severity":"HIGH"' in filled.audit.read_text()
    assert filled.client.list_creator_twins("sainath.no.10") == ["coach"]
    # and an admin passes
    assert filled.as_user(id="root", role="admin").request(method, path, **more).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "more"), [*REQUESTS, ("GET", "/delphi/validate-name", {"params": {"name": "x"}})]
)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic dTpw"])
def test_nobody_is_let_in_without_a_token(
    api: Api, method: str, path: str, more: dict[str, Any], header: str | None
) -> None:
    answer = api.sending({"Authorization": header} if header else {}).request(method, path, **more)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    problem(answer)


@pytest.mark.parametrize(
    ("method", "path", "more", "says"),
    [
        ("POST", "/delphi/search", {"json": {"twin_id": "coach"}}, "either `vector` or `query`"),
        ("POST", "/delphi/search", {"json": {"vector": [1.0], "query": "x"}}, "either `vector` or `query`"),
        ("POST", "/delphi/search", {"json": {"query": "x", "top_k": 0}}, "top_k"),
        ("POST", "/delphi/search", {"json": {"query": "x", "namespace": "__default__"}}, "namespace"),
        ("POST", "/delphi/search", {"json": {"vector": [1.0, 2.0]}}, "dimension"),
        ("POST", "/delphi/search", {"json": {"query": "x", "filter": {"$where": 1}}}, "$where"),
        ("DELETE", "/delphi/twin/%C3%82%0A%0A%C2%A6", {}, "twin_id"),
    ],
)
def test_input_that_cannot_be_used_is_refused_by_its_field(
    filled: Api, method: str, path: str, more: dict[str, Any], says: str
) -> None:
    answer = filled.as_user(creator_id=MINE).request(method, path, **more)

    assert answer.status_code == 422
    assert says in problem(answer)["detail"]


def test_which_creator_is_never_guessed(filled: Api) -> None:
    one, two = filled.as_user(creator_id=MINE), filled.as_user(creator_ids=[MINE, "b"])

    assert two.get("/delphi/twins").status_code == 422
    assert two.delete("/delphi/twin/coach").status_code == 422
    assert two.delete("/delphi/creator").status_code == 422
    assert filled.client.list_creator_twins(MINE) == ["coach", "writer"]
    # but a user who has one means that one
    assert one.delete("/delphi/creator").json()["creator_id"] == MINE
    assert filled.client.list_creator_twins(MINE) == []
    assert filled.client.list_creator_twins("sainath.no.10") == ["coach"]


def test_what_is_not_there_is_not_found(filled: Api) -> None:
    user = filled.as_user(creator_id=MINE)

    assert problem(user.delete("/delphi/twin/nobody"))["status"] == 404
    assert user.delete("/delphi/creator", params={"creator_id": MINE}).status_code == 200
    assert user.delete("/delphi/creator", params={"creator_id": MINE}).status_code == 404


def test_an_erasure_that_something_holds_up_says_what_is_left(filled: Api, emulator: str) -> None:
    rule = {"operation": "delete_namespace", "status": 409, "message": "an alias leads there"}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()

    answer = filled.as_user(creator_id=MINE).delete("/delphi/twin/coach")

    assert answer.status_code == 409
    assert "an alias leads there" in problem(answer)["left"][0]


def test_who_asks_too_often_waits_and_others_do_not(small: PineconeDelphiClient, tmp_path: Path) -> None:
    now = [0.0]
    rate = RateLimit(per_second=1, burst=2, clock=lambda: now[0])
    with serving(small, tmp_path, rate) as api:
        who_asks_too_often(api, now)


def who_asks_too_often(api: Api, now: list[float]) -> None:
    user, other = api.as_user(creator_id=MINE), api.as_user(id="u2", creator_id=MINE)
    path = "/delphi/validate-name?name=coach"

    assert [user.get(path).status_code for _ in range(3)] == [200, 200, 429]
    refused = user.get(path)
    assert math.ceil(float(refused.headers["retry-after"])) == 1
    problem(refused)
    assert other.get(path).status_code == 200
    now[0] += 1
    assert user.get(path).status_code == 200


def test_a_store_that_is_away_is_a_problem_too(filled: Api, emulator: str) -> None:
    httpx.post(f"{emulator}/_emulator/faults", json={"operation": "query", "status": 507}).raise_for_status()

    answer = filled.as_user(creator_id=MINE).post("/delphi/search", json={"vector": [1.0] * SMALL})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_tokens_are_kept_as_hashes_for_their_owners_eyes(api: Api, tmp_path: Path) -> None:
    token = api.tokens.create({"id": "u1", "creator_id": MINE})
    file = tmp_path / "tokens.json"

    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # A token that another process adds is known at once, and one that was taken out is not
    other = TokenFile(file).create({"id": "u2"})
    assert (api.tokens.user(other) or {})["id"] == "u2"
    file.write_text("{}")
    assert api.tokens.user(token) is None


def test_an_application_may_know_its_users_itself(small: PineconeDelphiClient) -> None:
    app = FastAPI()
    app.include_router(delphi_router(small, user=lambda: {"id": "me", "tenant_id": 7}), prefix="/v1")

    with served(app) as address:
        answer = httpx.get(f"{address}/v1/delphi/twins").json()
    assert answer == {"creator_id": "tenant_7", "twins": []}


def test_every_endpoint_is_described_with_an_example(api: Api) -> None:
    described = api.app.openapi()

    assert set(described["paths"]) == {
        "/delphi/search",
        "/delphi/search-cross-twin",
        "/delphi/twins",
        "/delphi/validate-name",
        "/delphi/twin/{twin_id}",
        "/delphi/creator",
    }
    models = described["components"]["schemas"]
    for name in ("Search", "CrossTwinSearch", "Answer", "Erased", "Twins", "NameVerdict", "Problem"):
        assert models[name]["examples"], name


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_schemathesis_finds_nothing(filled: Api, mode: GenerationMode) -> None:
    token = filled.tokens.create({"id": "u1", "creator_ids": [MINE]})
    described = schemathesis.openapi.from_url(f"{filled.address}/openapi.json", timeout=60)
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) == 6

    for operation in operations:

        @settings(
            max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            answer = case.call(timeout=60, headers={"Authorization": f"Bearer {token}"})
            # Whether a vector has the index's dimension, and a filter its language, no description can say.
            index_says_no = answer.status_code == 422 and "Pinecone could not search" in answer.text
            case.validate_response(answer, excluded_checks=[positive_data_acceptance] if index_says_no else [])

        try:
            check()
        except Unsatisfiable:  # of an endpoint whose every value is allowed
            assert mode is GenerationMode.NEGATIVE
