"""What goes wrong on demand."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pinecone import Pinecone

Make = Callable[..., Any]
RECORD = {"id": "a", "values": [1.0, 2.0, 3.0]}


@pytest.fixture
def host(pc: Pinecone, make_index: Make) -> str:
    make_index()
    return str(pc.describe_index("things").host)


def upsert(host: str, namespace: str = "n", records: int = 1) -> httpx.Response:
    vectors = [RECORD | {"id": f"{n}"} for n in range(records)]
    return httpx.post(f"{host}/vectors/upsert", json={"vectors": vectors, "namespace": namespace}, timeout=5)


def listed(host: str, namespace: str = "n") -> list[str]:
    answer = httpx.get(f"{host}/vectors/list", params={"namespace": namespace}).json()
    return [item["id"] for item in answer["vectors"]]


def test_a_fault_strikes_as_often_as_it_says_and_only_where_it_says(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", namespace="n", status=429, count=2, retry_after=3, message="slow down")
    assert upsert(host, "m").status_code == 200
    refused = upsert(host)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert refused.json() == {"code": 8, "message": "slow down", "details": []}
    assert [upsert(host).status_code for _ in range(2)] == [429, 200]


def test_a_fault_without_retry_after_sends_none(host: str, fault: Callable[..., None]) -> None:
    fault(operation="*", status=503)
    answer = upsert(host)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, False)


def test_a_probable_fault_strikes_the_same_calls_for_the_same_seed(
    host: str, fault: Callable[..., None], control: str
) -> None:
    runs = []
    for _ in range(2):
        httpx.delete(f"{control}/_emulator/faults")
        fault(operation="upsert", probability=0.5, seed=7, status=500)
        runs.append([upsert(host).status_code for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


def test_a_write_may_be_applied_and_its_answer_lost(
    host: str, fault: Callable[..., None], calls: Callable[..., list[Any]]
) -> None:
    fault(operation="upsert", count=1, apply_first=True)
    with pytest.raises(httpx.TransportError):
        upsert(host)
    assert listed(host) == ["0"]
    (call,) = calls(operation="upsert")
    assert (call["status"], call["applied"]) == (0, True)


def test_a_write_may_be_applied_and_never_answered(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", count=1, apply_first=True, hang=True)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{host}/vectors/upsert", json={"vectors": [RECORD]}, timeout=0.3)
    assert listed(host, "") == ["a"]


def test_a_connection_may_break_before_anything_happens(host: str, fault: Callable[..., None]) -> None:
    fault(operation="writes", count=1, drop=True)
    with pytest.raises(httpx.TransportError):
        upsert(host)
    assert listed(host) == []


def test_answers_may_be_slow(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", delay_ms=200)
    started = time.monotonic()
    assert upsert(host).status_code == 200
    assert time.monotonic() - started >= 0.2


def test_faults_can_be_cleared_and_unknown_fields_are_refused(
    control: str, host: str, fault: Callable[..., None]
) -> None:
    fault(operation="*", status=500)
    httpx.delete(f"{control}/_emulator/faults").raise_for_status()
    assert upsert(host).status_code == 200
    refused = httpx.post(f"{control}/_emulator/faults", json={"operation": "upsert", "statsu": 500})
    assert refused.status_code == 400
    assert "statsu" in refused.json()["error"]["message"]
