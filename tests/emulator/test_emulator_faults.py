"""Faults on demand."""

import itertools
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


def stats_by_namespace(host: str) -> dict[str, int]:
    namespaces = HTTP.post(f"{host}/describe_index_stats").json()["namespaces"]
    return {name: summary["vectorCount"] for name, summary in namespaces.items()}


def described(host: str, namespace: str = "n") -> int | None:
    answer = HTTP.get(f"{host}/namespaces/{namespace}")
    return int(answer.json()["record_count"]) if answer.is_success else None


def listed_namespaces(host: str) -> dict[str, int]:
    return {one["name"]: int(one["record_count"]) for one in HTTP.get(f"{host}/namespaces").json()["namespaces"]}


def test_one_namespace_may_lag_and_the_others_not_whatever_is_asked(host: str, fault: Callable[..., None]) -> None:
    fault(operation="reads", namespace="alma", lag_ms=60_000)
    for name in ("alma", "bruno"):
        upsert(host, name, 4)
    assert (listed(host, "alma"), len(listed(host, "bruno"))) == ([], 4)
    assert (described(host, "alma"), described(host, "bruno")) == (0, 4)
    # What is asked of the whole index is of its namespaces, each with its own lag
    assert stats_by_namespace(host) == listed_namespaces(host) == {"alma": 0, "bruno": 4}


@pytest.mark.parametrize("kind", ["describe_namespace", "list_namespaces"])
def test_each_kind_of_count_may_lag_on_its_own(host: str, fault: Callable[..., None], kind: str) -> None:
    fault(operation=kind, lag_ms=60_000)
    upsert(host, records=4)
    seen = {"describe_namespace": described(host), "list_namespaces": listed_namespaces(host)["n"]}
    assert seen == {other: 0 if other == kind else 4 for other in seen}
    assert stats_of(host) == len(listed(host)) == 4


def test_each_read_may_see_a_state_of_its_own_between_so_long_ago_and_now(
    host: str, fault: Callable[..., None]
) -> None:
    upsert(host, records=2)
    fault(operation="list", lag_ms=1_000, varies=True, seed=3)
    HTTP.post(f"{host}/vectors/delete", json={"ids": ["0"], "namespace": "n"})
    seen: list[int] = []

    def both_ways() -> bool:
        seen.append(len(listed(host)))
        return (1, 2) in itertools.pairwise(seen)

    # Then a read may show what the one before it did not show any more
    until("a later read shows the older state", both_ways)
    # And none shows it once the lag is over
    until("it is over", lambda: [len(listed(host)) for _ in range(50)] == [1] * 50)


def test_what_varies_must_lag(control: str) -> None:
    refused = HTTP.post(f"{control}/_emulator/faults", json={"operation": "list", "varies": True})
    assert refused.status_code == 400 and "lag_ms" in refused.json()["error"]["message"]


def test_a_reader_that_lags_still_sees_a_namespace_that_was_deleted_or_made_anew(
    host: str, fault: Callable[..., None], control: str
) -> None:
    upsert(host, records=4)
    fault(operation="reads", lag_ms=60_000)
    HTTP.delete(f"{host}/namespaces/n").raise_for_status()
    for _ in range(2):
        # Then all that it asks shows what was there
        assert listed(host) == records_of(host) == ["0", "1", "2", "3"]
        assert described(host) == stats_by_namespace(host)["n"] == listed_namespaces(host)["n"] == 4
        # And so it does when somebody makes the namespace anew
        upsert(host, records=1)
    # And when reads do not lag any more, what is there now
    HTTP.delete(f"{control}/_emulator/faults")
    assert listed(host) == ["0"]
    assert described(host) == 1


def test_a_deleted_namespace_is_out_of_sight_once_the_lag_is_over(host: str, fault: Callable[..., None]) -> None:
    upsert(host, records=4)
    fault(operation="reads", lag_ms=200)
    HTTP.delete(f"{host}/namespaces/n").raise_for_status()
    until("nothing shows it", lambda: described(host) is None and not stats_by_namespace(host) and not listed(host))


LOST: dict[str, dict[str, object]] = {"a reset": {}, "a time-out": {"hang": True}, "an error": {"status": 503}}


@pytest.mark.parametrize(
    ("lost", "whole"),
    [(LOST["a reset"], False), (LOST["a time-out"], False), (LOST["an error"], False), (LOST["a time-out"], True)],
    ids=[*LOST, "a time-out, of a whole namespace"],
)
def test_a_delete_may_land_long_after_its_caller_gave_up_and_takes_what_is_there_then(
    host: str, fault: Callable[..., None], calls: Callable[..., list[Any]], lost: dict[str, object], whole: bool
) -> None:
    # Given a deletion whose answer is lost, and which is carried out later
    upsert(host, records=2)
    operation = "delete_namespace" if whole else "delete"
    fault(operation=operation, count=1, late_ms=1_500, **lost)
    try:
        timeout = httpx.Timeout(60, read=0.2)
        if whole:
            status = HTTP.delete(f"{host}/namespaces/n", timeout=timeout).status_code
        else:
            body = {"ids": ["0", "1"], "namespace": "n"}
            status = HTTP.post(f"{host}/vectors/delete", json=body, timeout=timeout).status_code
        assert status == 503
    except httpx.TransportError:
        assert "status" not in lost
    # When nothing has happened yet, and something is written that was not there
    assert listed(host) == ["0", "1"]
    upsert(host, records=2)
    # Then it lands upon that, and the log says so: as asked, and as carried out
    until("it lands", lambda: listed(host) == [])
    asked, landed = calls(operation=operation)
    assert (asked["applied"], landed["applied"], landed["fault"]) == (False, True, "landed late")
    assert (asked["ids"], asked["namespace"]) == (landed["ids"], landed["namespace"])


def test_an_upsert_may_land_late_too_and_over_what_is_newer(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", count=1, late_ms=500, status=503)
    assert upsert(host, records=2).status_code == 503
    assert listed(host) == []
    assert upsert(host, records=1).status_code == 200
    until("it lands", lambda: listed(host) == ["0", "1"])


def test_a_delete_may_be_carried_out_twice(host: str, fault: Callable[..., None], calls: Callable[..., Any]) -> None:
    upsert(host, records=2)
    fault(operation="delete", count=1, again_ms=500)
    body = {"ids": ["0"], "namespace": "n"}
    # Given one that is answered well
    HTTP.post(f"{host}/vectors/delete", json=body).raise_for_status()
    assert listed(host) == ["1"]
    # When the record is written again
    upsert(host, records=2)
    # Then the repetition takes that
    until("it is carried out again", lambda: listed(host) == ["1"])
    assert [(call["status"], call["applied"]) for call in calls(operation="delete")] == [(200, True), (0, True)]


def test_what_lands_when_its_namespace_or_index_is_gone_changes_nothing(
    host: str, fault: Callable[..., None], calls: Callable[..., list[Any]], pc: Pinecone, make_index: Make
) -> None:
    upsert(host, records=2)
    fault(operation="writes", count=2, late_ms=300, status=503)
    assert HTTP.post(f"{host}/vectors/delete", json={"ids": ["0"], "namespace": "n"}).status_code == 503
    assert upsert(host, "m").status_code == 503
    pc.delete_index("things")
    make_index()
    until(
        "both land",
        lambda: [call["applied"] for call in calls(since=0) if call["fault"] == "landed late"] == [False] * 2,
    )
    assert stats_of(str(pc.describe_index("things").host)) == 0


def test_an_answer_may_lack_its_sequence_number(host: str, fault: Callable[..., None]) -> None:
    assert upsert(host).headers["x-pinecone-request-lsn"] == "1"
    fault(operation="*", lose_lsn=True, count=2)
    assert "x-pinecone-request-lsn" not in upsert(host).headers
    body = {"vector": [1, 2, 3], "topK": 1, "namespace": "n"}
    assert "x-pinecone-max-indexed-lsn" not in HTTP.post(f"{host}/query", json=body).headers
    assert HTTP.post(f"{host}/query", json=body).headers["x-pinecone-max-indexed-lsn"] == "2"


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
