"""The documented limits, scaled down so that a test need not send hundreds of requests."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pinecone import Pinecone

from emulator.calls import Call
from emulator.errors import Refusal
from emulator.limits import Limits

Make = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def admitted(limits: Limits, calls: int, by_metadata: bool = False, **what: Any) -> int:
    passed = 0
    for _ in range(calls):
        try:
            limits.admit(Call(index="i", **what), by_metadata)
            passed += 1
        except Refusal:
            pass
    return passed


@pytest.mark.parametrize(
    ("operation", "allowed", "per_namespace"),
    [("upsert", 10, True), ("query", 10, True), ("fetch", 10, False), ("list", 20, False), ("update", 10, True),
     ("delete", 10, True), ("describe_index_stats", 10, False)],
)  # fmt: skip
def test_each_limit_has_its_number_and_scope(operation: str, allowed: int, per_namespace: bool) -> None:
    clock = Clock()
    limits = Limits("x0.1", clock=clock)
    assert admitted(limits, 50, operation=operation, namespace="n") == allowed
    assert admitted(limits, 50, operation=operation, namespace="m") == (allowed if per_namespace else 0)
    clock.now += 1
    assert admitted(limits, 50, operation=operation, namespace="n") == allowed


@pytest.mark.parametrize("operation", ["fetch_by_metadata", "update", "delete"])
def test_what_chooses_by_metadata_has_a_pace_of_its_own(operation: str) -> None:
    limits = Limits("documented", clock=Clock())
    by_metadata = operation != "fetch_by_metadata"
    assert admitted(limits, 20, by_metadata, operation=operation, namespace="n") == 5
    if by_metadata:
        namespaces = [f"m{n}" for n in range(120)]
        assert sum(admitted(limits, 5, True, operation=operation, namespace=name) for name in namespaces) == 500 - 5
        assert admitted(limits, 200, operation=operation, namespace="n") == 100


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"operation": "upsert"}, "upsert QPS limit for namespace n (100 QPS). Pace your upsert requests"),
        ({"operation": "upsert", "bytes_in": 40_000_000}, "max upsert size limit per second for index i."),
        ({"operation": "query"}, "query QPS limit for namespace n (100 QPS)."),
        ({"operation": "fetch"}, "max fetch requests per second for index i."),
        ({"operation": "list"}, "max list requests per second for index i."),
        ({"operation": "describe_index_stats"}, "max describe_index_stats requests per second for index i."),
        ({"operation": "update"}, "update QPS limit for namespace n (100 QPS)."),
        ({"operation": "update", "by_metadata": True}, "max update by metadata requests per second for namespace n."),
        ({"operation": "delete"}, "delete QPS limit for namespace n (100 QPS)."),
        ({"operation": "delete", "ids": ["x"] * 1000}, "max delete records per second for namespace n."),
        ({"operation": "delete", "by_metadata": True}, "max delete by metadata requests per second for namespace n."),
    ],
)  # fmt: skip
def test_each_limit_has_its_words(what: dict[str, Any], words: str) -> None:
    limits = Limits("documented", clock=Clock())
    by_metadata = what.pop("by_metadata", False)
    with pytest.raises(Refusal) as refusal:
        for _ in range(201):
            limits.admit(Call(index="i", namespace="n", **what), by_metadata)
    assert refusal.value.status == 429
    assert refusal.value.message.startswith(f"Request failed. You've reached the {words}")


def test_bytes_and_records_are_limited_too() -> None:
    limits = Limits("documented", clock=Clock())
    assert admitted(limits, 60, operation="upsert", namespace="n", bytes_in=2_000_000) == 25
    assert admitted(limits, 10, operation="delete", namespace="n", ids=["x"] * 1000) == 5
    assert admitted(limits, 10, operation="delete", namespace="m", ids=["x"] * 1000) == 0


def test_a_bucket_allows_no_burst() -> None:
    clock = Clock()
    limits = Limits("documented", "bucket", clock)
    assert admitted(limits, 5, operation="fetch") == 1
    clock.now += 0.0101
    assert admitted(limits, 5, operation="fetch") == 1


def test_the_message_is_the_documented_one(control: str, pc: Pinecone, make_index: Make) -> None:
    index = make_index()
    host = pc.describe_index("things").host
    index.upsert(vectors=[{"id": "a", "values": [1, 2, 3]}], namespace="n")
    # One request in a hundred seconds, so that the second comes too early whatever the machine does meanwhile
    httpx.post(f"{control}/_emulator/limits", json={"limits": "x0.0001", "shape": "bucket"}).raise_for_status()
    with httpx.Client(base_url=host) as client:
        answers = [client.get("/vectors/fetch", params={"ids": "a", "namespace": "n"}) for _ in range(2)]
        upserts = [
            client.post("/vectors/upsert", json={"vectors": [{"id": "b", "values": [1, 2, 3]}], "namespace": "n"})
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [200, 429]
    message = answers[1].json()["message"]
    assert message.startswith("Request failed. You've reached the max fetch requests per second for index things.")
    assert "retry-after" not in answers[1].headers
    assert upserts[1].json()["code"] == 8
    assert "the upsert QPS limit for namespace n (0.01 QPS). Pace your upsert requests" in upserts[1].json()["message"]


@pytest.mark.parametrize("quota", ["read", "write", "egress"])
def test_a_used_up_month_is_told_from_a_pace(
    quota: str, pc: Pinecone, make_index: Make, fault: Callable[..., None]
) -> None:
    make_index()
    host = pc.describe_index("things").host
    fault(operation="list", quota=quota)
    answer = httpx.get(f"{host}/vectors/list")
    assert answer.status_code == 429
    assert "for the current month" in answer.json()["message"]
    assert "upgrade your plan" in answer.json()["message"]


def test_long_urls_are_refused_while_limits_are_on(control: str, pc: Pinecone, make_index: Make) -> None:
    make_index()
    host = pc.describe_index("things").host
    long = [("ids", "x" * 500)] * 40
    assert httpx.get(f"{host}/vectors/fetch", params=long).status_code == 200
    httpx.post(f"{control}/_emulator/limits", json={"limits": "documented"})
    assert httpx.get(f"{host}/vectors/fetch", params=long).status_code == 414
