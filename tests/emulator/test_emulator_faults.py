"""What goes wrong on demand."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pinecone import Pinecone

Make = Callable[..., Any]
HTTP = httpx.Client(timeout=60)
RECORD = {"id": "a", "values": [1.0, 2.0, 3.0]}


@pytest.fixture
def host(pc: Pinecone, make_index: Make) -> str:
    make_index()
    return str(pc.describe_index("things").host)


def upsert(host: str, namespace: str = "n", records: int = 1) -> httpx.Response:
    vectors = [RECORD | {"id": f"{n}"} for n in range(records)]
    return HTTP.post(f"{host}/vectors/upsert", json={"vectors": vectors, "namespace": namespace})


def listed(host: str, namespace: str = "n") -> list[str]:
    answer = HTTP.get(f"{host}/vectors/list", params={"namespace": namespace}).json()
    return [item["id"] for item in answer["vectors"]]


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"


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
        HTTP.delete(f"{control}/_emulator/faults")
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
        HTTP.post(f"{host}/vectors/upsert", json={"vectors": [RECORD]}, timeout=httpx.Timeout(60, read=0.3))
    until("the write is there", lambda: listed(host, "") == ["a"])


def test_a_connection_may_break_before_anything_happens(host: str, fault: Callable[..., None]) -> None:
    fault(operation="writes", count=1, drop=True)
    with pytest.raises(httpx.TransportError):
        upsert(host)
    assert listed(host) == []


def test_answers_may_be_slow(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", delay_ms=300)
    started = time.monotonic()
    assert upsert(host).status_code == 200
    assert time.monotonic() - started > 0.25  # timers count whole milliseconds


def test_faults_can_be_cleared_and_unknown_fields_are_refused(
    control: str, host: str, fault: Callable[..., None]
) -> None:
    fault(operation="*", status=500)
    HTTP.delete(f"{control}/_emulator/faults").raise_for_status()
    assert upsert(host).status_code == 200
    refused = HTTP.post(f"{control}/_emulator/faults", json={"operation": "upsert", "statsu": 500})
    assert refused.status_code == 400
    assert "statsu" in refused.json()["error"]["message"]


def records_of(host: str, namespace: str = "n") -> list[str]:
    ids = [("ids", str(n)) for n in range(4)]
    answer = HTTP.get(f"{host}/vectors/fetch", params=[*ids, ("namespace", namespace)]).json()
    return sorted(answer["vectors"])


def stats_of(host: str) -> int:
    return int(HTTP.post(f"{host}/describe_index_stats").json()["totalVectorCount"])


def test_each_kind_of_read_may_lag_on_its_own(host: str, fault: Callable[..., None], control: str) -> None:
    for kept, kind in enumerate(("fetch", "list", "query", "describe_index_stats")):
        HTTP.delete(f"{control}/_emulator/faults")
        fault(operation=kind, lag_ms=60_000)
        namespace = f"n{kept}"
        upsert(host, namespace, 4)
        query = HTTP.post(f"{host}/query", json={"vector": [1, 2, 3], "topK": 9, "namespace": namespace})
        seen = {
            "fetch": len(records_of(host, namespace)),
            "list": len(listed(host, namespace)),
            "query": len(query.json()["matches"]),
            "describe_index_stats": stats_of(host) // (kept + 1),
        }
        assert seen == {other: 0 if other == kind else 4 for other in seen}
        assert query.headers["x-pinecone-max-indexed-lsn"] == ("0" if kind == "query" else "1")


def test_a_reader_that_lags_still_sees_what_was_deleted_or_replaced(
    host: str, fault: Callable[..., None], control: str
) -> None:
    upsert(host, records=2)
    fault(operation="reads", lag_ms=60_000)
    HTTP.post(f"{host}/vectors/delete", json={"ids": ["0"], "namespace": "n"})
    HTTP.post(f"{host}/vectors/update", json={"id": "1", "values": [9, 9, 9], "namespace": "n"})
    before = HTTP.get(f"{host}/vectors/fetch", params=[("ids", "0"), ("ids", "1"), ("namespace", "n")]).json()
    assert before["vectors"]["1"]["values"] == [1, 2, 3]
    assert listed(host) == ["0", "1"]
    HTTP.delete(f"{control}/_emulator/faults")
    assert listed(host) == ["1"]


def test_a_lag_ends_by_itself(host: str, fault: Callable[..., None]) -> None:
    fault(operation="reads", lag_ms=200)
    upsert(host, records=2)
    until("the records come into sight", lambda: records_of(host) == ["0", "1"])


def test_an_upsert_may_get_through_in_part(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", partial=0.5, status=500, count=1)
    assert upsert(host, records=4).status_code == 500
    assert listed(host) == ["0", "1"]
    assert upsert(host, records=4).status_code == 200
    assert len(listed(host)) == 4


def test_a_pagination_token_may_be_lost_or_refused(host: str, fault: Callable[..., None], control: str) -> None:
    upsert(host, records=4)
    page = {"namespace": "n", "limit": "2"}
    fault(operation="list", lose_token=True, count=1)
    assert "pagination" not in HTTP.get(f"{host}/vectors/list", params=page).json()
    token = HTTP.get(f"{host}/vectors/list", params=page).json()["pagination"]["next"]
    fault(operation="list", refuse_token=True, count=1)
    refused = HTTP.get(f"{host}/vectors/list", params=page | {"paginationToken": token})
    assert (refused.status_code, refused.json()["message"]) == (400, "Invalid pagination token")


def test_a_namespace_may_vanish(host: str, fault: Callable[..., None]) -> None:
    upsert(host, records=2)
    fault(operation="fetch", namespace="n", vanish=True, count=1)
    assert records_of(host) == []
    assert HTTP.get(f"{host}/namespaces/n").status_code == 404


def test_read_only_mode_refuses_writes_and_answers_reads(host: str, fault: Callable[..., None]) -> None:
    upsert(host, records=2)
    fault(operation="writes", status=403, message="The index is read-only")
    assert upsert(host).status_code == 403
    assert HTTP.post(f"{host}/vectors/delete", json={"ids": ["0"], "namespace": "n"}).status_code == 403
    assert listed(host) == ["0", "1"]
