"""A page in somebody's browser can send requests to this machine: an emulator that runs here does nothing it asks."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from pinecone import Pinecone

from emulator.server import Running, start

FAULT = '{"operation": "upsert", "status": 503}'
JSON = {"content-type": "application/json"}


def rules(control: str) -> list[object]:
    return list(httpx.get(f"{control}/_emulator/faults").raise_for_status().json()["faults"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({**JSON, "origin": "https://evil.example"}, 403, id="another site's page"),
        pytest.param({**JSON, "origin": "null"}, 403, id="a page without an address"),
        pytest.param({**JSON, "origin": "http://localhost:3000"}, 403, id="another program's page on this machine"),
        pytest.param({**JSON, "sec-fetch-site": "cross-site"}, 403, id="a browser that says so"),
        pytest.param({**JSON, "sec-fetch-site": "same-site"}, 403, id="a browser that says it is near"),
        pytest.param(
            {
                **JSON,
                "host": "evil.example:5080",
                "origin": "http://evil.example:5080",
                "sec-fetch-site": "same-origin",
            },
            403,
            id="a name that was led to this machine",
        ),
        pytest.param({"content-type": "text/plain"}, 415, id="text, as a form sends it"),
        pytest.param({"content-type": "multipart/form-data; boundary=b"}, 415, id="a form with files"),
    ],
)
def test_a_page_of_another_site_changes_no_rule_and_reads_no_record(
    control: str, headers: dict[str, str], status: int
) -> None:
    refused = httpx.post(f"{control}/_emulator/faults", content=FAULT, headers=headers)
    assert refused.status_code == status
    assert rules(control) == []
    if status == 403:
        for path in ("calls", "faults", "records"):
            assert httpx.get(f"{control}/_emulator/{path}", headers=headers).status_code == 403


def test_a_page_of_another_site_makes_no_index_and_writes_no_record(
    control: str, pc: Pinecone, make_index: Callable[..., object]
) -> None:
    make_index()
    evil = {"origin": "https://evil.example", "content-type": "text/plain", "api-key": "any"}
    host = pc.describe_index("things").host
    new = {"name": "evil", "dimension": 2, "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}}}
    assert httpx.post(f"{control}/indexes", json=new, headers=evil).status_code == 403
    assert httpx.delete(f"{control}/indexes/things", headers=evil).status_code == 403
    vectors = {"vectors": [{"id": "a", "values": [1, 2, 3]}]}
    assert httpx.post(f"{host}/vectors/upsert", json=vectors, headers=evil).status_code == 403
    assert [index.name for index in pc.list_indexes()] == ["things"]
    assert httpx.get(f"{control}/_emulator/digest", params={"index": "things"}).json()["namespaces"] == {}


def test_programs_and_its_own_pages_are_answered(control: str) -> None:
    own = {"origin": control, "sec-fetch-site": "same-origin", **JSON}
    assert httpx.post(f"{control}/_emulator/faults", content=FAULT, headers=own).is_success
    form = {"content-type": "application/x-www-form-urlencoded"}  # as `curl -d` has it
    assert httpx.post(f"{control}/_emulator/faults", content=FAULT, headers=form).is_success
    assert len(rules(control)) == 2
    assert httpx.get(f"{control}/_emulator/calls", headers={"sec-fetch-site": "none"}).is_success  # an address typed


@pytest.fixture
def locked() -> Iterator[Running]:
    emulator = start(port=0, own_key="a key of its own")
    yield emulator
    emulator.stop()


def test_with_a_key_of_its_own_only_its_health_is_told_without_it(locked: Running) -> None:
    own = f"{locked.control}/_emulator"
    for headers in ({}, {"emulator-key": ""}, {"emulator-key": "another"}, {"api-key": "a key of its own"}):
        assert httpx.post(f"{own}/faults", content=FAULT, headers=headers).status_code == 401
        assert httpx.get(f"{own}/calls", headers=headers).status_code == 401
    key = {"emulator-key": "a key of its own"}
    assert httpx.get(f"{own}/faults", headers=key).json() == {"faults": []}
    assert httpx.post(f"{own}/faults", content=FAULT, headers=key).is_success
    assert httpx.get(f"{own}/health").is_success
    # And the service itself asks for the API's key and no other
    assert Pinecone(api_key="any", host=locked.control).list_indexes().names() == []
