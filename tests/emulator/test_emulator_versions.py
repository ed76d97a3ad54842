"""API versions: the header of a request decides what its answer looks like."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pinecone import Pinecone

from emulator.server import start
from emulator.versions import NEWEST, STABLE
from tests.emulator.conftest import HTTP

OLDER = STABLE[:-1]
DENSE = {
    "name": "old",
    "dimension": 3,
    "metric": "dotproduct",
    "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}},
}


def ask(method: str, url: str, version: str | None = None, json: object = None) -> httpx.Response:
    headers = {"Api-Key": "any"} | ({} if version is None else {"X-Pinecone-Api-Version": version})
    return HTTP.request(method, url, json=json, headers=headers)


def host_of(control: str, name: str) -> str:
    return str(ask("GET", f"{control}/indexes/{name}", NEWEST).json()["host"])


@pytest.mark.parametrize("version", OLDER)
def test_an_older_version_creates_and_describes_by_dimension_metric_and_spec(control: str, version: str) -> None:
    created = ask("POST", f"{control}/indexes", version, DENSE)
    assert created.status_code == 201
    described = ask("GET", f"{control}/indexes/old", version).json()
    assert described == created.json()
    assert (described["dimension"], described["metric"]) == (3, "dotproduct")
    serverless = described["spec"]["serverless"]
    assert (serverless["cloud"], serverless["region"]) == ("aws", "us-east-1")
    assert not {"schema", "deployment", "id"} & set(described)
    assert ("tags" in described, "vector_type" in described, "read_capacity" in serverless) == (
        version >= "2024-10",
        version >= "2025-01",
        version >= "2025-10",
    )
    assert ask("GET", f"{control}/indexes", version).json() == {"indexes": [described]}
    newest = ask("GET", f"{control}/indexes/old", NEWEST).json()
    assert set(newest["schema"]["fields"]) == {"_values", "_sparse_values"}
    assert not {"dimension", "metric", "spec", "vector_type"} & set(newest)


def test_what_a_version_cannot_describe_is_left_out_of_its_list(pc: Pinecone, control: str) -> None:
    pc.indexes.create(name="docs", schema={"fields": {"t": {"type": "string", "full_text_search": {}}}})
    sparse = {"name": "sparse", "vector_type": "sparse", "metric": "dotproduct", "spec": DENSE["spec"]}
    assert ask("POST", f"{control}/indexes", "2025-01", sparse).status_code == 201
    for version, names in (
        ("2024-10", []),
        ("2025-01", ["sparse"]),
        ("2026-04", ["sparse"]),
        (NEWEST, ["docs", "sparse"]),
    ):
        listed = ask("GET", f"{control}/indexes", version).json()["indexes"]
        assert [index["name"] for index in listed] == names
    refused = ask("GET", f"{control}/indexes/docs", "2026-04")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "API_VERSION_TOO_OLD")


def test_an_integrated_index_is_described_with_its_model_since_2025(control: str) -> None:
    embed = {"model": "multilingual-e5-large", "field_map": {"text": "chunk"}}
    body = {"name": "texts", "cloud": "aws", "region": "us-east-1", "embed": embed}
    assert ask("POST", f"{control}/indexes/create-for-model", "2024-10", body).status_code == 400
    described = ask("POST", f"{control}/indexes/create-for-model", "2025-01", body).json()
    assert (described["embed"]["model"], described["embed"]["field_map"]) == (embed["model"], {"text": "chunk"})
    assert (described["dimension"], described["vector_type"]) == (1024, "dense")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "dimension": 3},
        {"name": "x", "spec": DENSE["spec"]},
        {"name": "x", "dimension": 3, "spec": {}},
        {"name": "x", "dimension": 3, "spec": {"pod": {"environment": "us-east1-gcp", "pod_type": "p1.x1"}}},
    ],
)
def test_a_creation_that_lacks_what_its_version_needs_is_refused(control: str, body: dict[str, object]) -> None:
    assert ask("POST", f"{control}/indexes", "2024-07", body).status_code in (400, 422)
    assert ask("GET", f"{control}/indexes", "2024-07").json() == {"indexes": []}


CAME = {
    ("GET", "/bulk/imports"): "2024-10",
    ("GET", "/namespaces"): "2025-04",
    ("POST", "/vectors/fetch_by_metadata"): "2025-10",
    ("GET", "/namespace-aliases"): "2026-07",
}


@pytest.mark.parametrize(("path", "since"), CAME.items())
def test_an_operation_is_there_from_its_version_on(control: str, path: tuple[str, str], since: str) -> None:
    ask("POST", f"{control}/indexes", "2025-01", DENSE)
    host, (method, where) = host_of(control, "old"), path
    for version in STABLE:
        body = {"filter": {"a": 1}} if method == "POST" else None
        answer = ask(method, f"{host}{where}", version, body)
        assert (answer.status_code == 200) is (version >= since), (version, answer.text)


def test_the_default_namespace_and_counts_are_spelled_as_the_version_does(control: str) -> None:
    ask("POST", f"{control}/indexes", "2025-01", DENSE)
    host = host_of(control, "old")
    vectors = [{"id": "a", "values": [1.0, 2.0, 3.0]}]
    ask("POST", f"{host}/vectors/upsert", "2025-04", {"vectors": vectors, "namespace": ""})
    for version, name, count in (("2025-04", "", 1), (NEWEST, "__default__", "1")):
        stats = ask("POST", f"{host}/describe_index_stats", version, {}).json()
        assert stats["namespaces"] == {name: {"vectorCount": 1}}
        assert ask("GET", f"{host}/vectors/fetch?ids=a", version).json()["namespace"] == name
        assert ask("GET", f"{host}/namespaces", version).json()["namespaces"][0]["record_count"] == count
    assert "metric" not in ask("POST", f"{host}/describe_index_stats", "2024-10", {}).json()


def test_backups_answer_201_with_dimension_and_metric_before_2026_07(control: str) -> None:
    ask("POST", f"{control}/indexes", "2025-04", DENSE)
    older = ask("POST", f"{control}/indexes/old/backups", "2025-04", {"name": "b"})
    assert (older.status_code, older.json()["dimension"], older.json()["metric"]) == (201, 3, "dotproduct")
    assert "schema" not in older.json()
    newest = ask("POST", f"{control}/indexes/old/backups", NEWEST, {"name": "b"})
    assert (newest.status_code, "schema" in newest.json()) == (200, True)


def test_an_unknown_version_is_refused_and_unstable_is_the_newest(control: str) -> None:
    refused = ask("GET", f"{control}/indexes", "2023-01")
    assert (refused.status_code, refused.headers["content-type"]) == (400, "text/plain")
    assert "2026-07" in refused.text
    ask("POST", f"{control}/indexes", "2025-01", DENSE)
    assert "schema" in ask("GET", f"{control}/indexes/old", "unstable").json()
    assert ask("GET", f"{host_of(control, 'old')}/vectors/list", "2023-01").status_code == 400


@pytest.fixture
def faithful() -> Iterator[Any]:
    emulator = start(port=0, absent_version="2025-10", bare_hosts=True, api_keys=("right",))
    yield emulator
    emulator.stop()


def test_absent_headers_and_hosts_are_as_the_options_say(faithful: Any) -> None:
    described = HTTP.post(f"{faithful.control}/indexes", json=DENSE, headers={"Api-Key": "right"}).json()
    assert described["dimension"] == 3
    assert described["host"].startswith("127.0.0.1:")


def test_a_refused_key_is_answered_in_the_manner_of_the_version(faithful: Any) -> None:
    newest = ask("GET", f"{faithful.control}/indexes", NEWEST)
    assert (newest.status_code, newest.headers["content-type"]) == (401, "text/plain")
    older = ask("GET", f"{faithful.control}/indexes", "2025-10")
    assert (older.status_code, older.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
