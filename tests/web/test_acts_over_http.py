"""Acts over the fleet's HTTP API: done once for a key, refused in the guard's words, and on record."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from job_table import INDEX, JobTable, plan_of, planned

from orchestrator.core.states import JobState
from orchestrator.ledger import audit, request_keys
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, Database
from orchestrator.ledger.request_keys import LASTS, KeyedRequest
from orchestrator.services import acts, keyed_acts
from vecfleet.errors import BadInput, QuotaExhausted, Refused
from vecfleet.fleet.models import KEY_HEADER, PREFIX, REPLAYED_HEADER
from vecfleet.tenancy.api.routes import guarded
from vecfleet.tenancy.tokens import TokenFile, name_of

Send = Callable[..., httpx.Response]


@pytest.fixture
def job(table: JobTable) -> JobTable:
    """A verified job."""
    table.apply(plan_of(planned("s", "t-s")))
    table.verified()
    return table


@pytest.fixture
def token(tokens: TokenFile) -> str:
    return tokens.create({"id": "pipeline", "role": "approve"})


@pytest.fixture
def send(stranger: TestClient, job: JobTable, token: str) -> Send:
    """`send("comment", {"text": "…"}, key="k")`: the answer to an act on the job."""

    def send(act: str, body: Any = None, *, key: str = "k", by: str = token) -> httpx.Response:
        headers = {"Authorization": f"Bearer {by}", KEY_HEADER: key}
        return stranger.post(f"{PREFIX}/jobs/{job.job_id}/{act}", json=body, headers=headers)

    return send


def acts_of(job: JobTable) -> list[str]:
    with job.begin() as connection:
        return [act.action for act in audit.of_job(connection, job.job_id, 100)]


def test_the_same_request_under_the_same_key_acts_once_and_is_answered_alike(send: Send, job: JobTable) -> None:
    first, second = send("comment", {"text": "begun"}), send("comment", {"text": "begun"})

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json() and first.json()["facts"] == {"text": "begun"}
    assert (first.headers.get(REPLAYED_HEADER), second.headers.get(REPLAYED_HEADER)) == (None, "true")
    assert acts_of(job) == ["comment"]


def test_another_request_under_the_same_key_is_refused_and_changes_nothing(send: Send, job: JobTable) -> None:
    send("comment", {"text": "begun"})

    for other in (send("comment", {"text": "ended"}), send("finish")):
        assert (other.status_code, other.json()["code"]) == (422, "key-used")
    assert acts_of(job) == ["comment"] and job.job.state is JobState.VERIFIED


def test_the_key_of_one_token_is_not_that_of_another(send: Send, job: JobTable, tokens: TokenFile) -> None:
    send("comment", {"text": "begun"})
    send("comment", {"text": "begun"}, by=tokens.create({"id": "pipeline", "role": "operate"}))

    assert acts_of(job) == ["comment", "comment"]


def test_of_the_same_request_sent_many_times_at_once_one_acts(job: JobTable, database: Database) -> None:
    # Given senders who all looked before any of them acted
    ready = threading.Barrier(2)
    request = [KeyedRequest.of("token", "k", "verify") for _ in range(2)]

    def verify(number: int) -> keyed_acts.Answered:
        def act() -> int:
            ready.wait(30)
            return acts.verify(database, job.job_id, "ana")

        return keyed_acts.once(database, request[number], act)

    # When they act at once
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(verify, range(2)))
    # Then one did, and both have its answer
    assert acts_of(job) == ["verify"]
    assert sorted(answer.replayed for answer in answers) == [False, True]
    assert answers[0].answer == answers[1].answer


def test_who_comes_second_gets_the_first_answer_where_the_guard_would_refuse(job: JobTable, database: Database) -> None:
    request = KeyedRequest.of("token", "k", "finish")

    def finished_meanwhile() -> None:
        other = KeyedRequest(request.key, request.request)
        keyed_acts.once(database, other, lambda: acts.finish(database, job.job_id, "ana"))
        acts.finish(database, job.job_id, "ana")

    answered = keyed_acts.once(database, request, finished_meanwhile)
    assert answered.replayed and answered.answer.action == "finish"


def test_an_act_that_is_undone_leaves_no_key_and_a_key_that_is_taken_undoes_the_act(
    job: JobTable, database: Database
) -> None:
    request = KeyedRequest.of("token", "k", "comment")
    # Given a process that dies between the act and the end of its transaction
    with pytest.raises(RuntimeError), request_keys.carried(request), database.begin() as connection:
        audit.note(connection, "ana", "comment", job.job_id, text="lost")
        raise RuntimeError
    # Then neither is there, and the request may be sent again
    keyed_acts.once(database, request, lambda: acts.comment(database, job.job_id, "ana", "kept"))
    # And whoever comes with the key of an act that is done changes nothing
    late = KeyedRequest(request.key, request.request)
    with pytest.raises(request_keys.KeyTaken), request_keys.carried(late):
        acts.comment(database, job.job_id, "ana", "twice")
    assert acts_of(job) == ["comment"]


def test_a_refusal_keeps_no_key_so_the_same_request_may_pass_later(send: Send, job: JobTable) -> None:
    refused = send("resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "not-paused")
    job.put(state=JobState.PAUSED, resume_to=JobState.RUNNING)

    assert send("resume").json()["did"] == "resume"
    assert job.job.state is JobState.RUNNING


def test_what_was_so_already_is_answered_so_and_not_done_by_a_repetition(send: Send, job: JobTable) -> None:
    # Given a job that pauses already
    job.put(state=JobState.RUNNING)
    assert send("pause", key="first").json()["did"] == "pause"
    assert send("pause", key="second").json()["act"] is None
    # When it goes on, and the second request is sent again
    send("resume", key="third")
    again = send("pause", key="second")
    # Then it does not pause
    assert again.headers[REPLAYED_HEADER] == "true" and again.json()["act"] is None
    assert job.job.state is JobState.RUNNING


def test_a_key_lasts_for_its_days_and_is_then_a_new_one(send: Send, job: JobTable, database: Database) -> None:
    send("comment", {"text": "begun"})
    send("comment", {"text": "other"}, key="other")
    with database.begin() as connection:
        connection.execute(sa.update(t.request_key).values(at=NOW - LASTS - timedelta(minutes=1)))

    assert REPLAYED_HEADER not in send("comment", {"text": "begun anew"}).headers
    with database.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(t.request_key)).scalar_one() == 1


def test_a_repetition_does_again_what_follows_the_transaction(job: JobTable, database: Database) -> None:
    followed: list[str] = []
    for _ in range(2):
        keyed_acts.once(
            database,
            KeyedRequest.of("token", "k", "reverse"),
            lambda: acts.reverse(database, job.job_id, "ana"),
            again=lambda: followed.append("aliases led"),
        )
    assert followed == ["aliases led"] and acts_of(job) == ["reverse"]


def test_an_error_after_the_act_is_told_and_not_taken_for_its_answer(job: JobTable, database: Database) -> None:
    def acted_and_failed() -> None:
        acts.comment(database, job.job_id, "ana", "done")
        raise Refused("what follows it failed")

    with pytest.raises(Refused, match="what follows it failed"):
        keyed_acts.once(database, KeyedRequest.of("token", "k", "x"), acted_and_failed)


def test_the_row_of_a_key_holds_neither_the_key_nor_what_was_asked(send: Send, database: Database) -> None:
    send("comment", {"text": "sainath"}, key="sainath-1")
    with database.begin() as connection:
        [row] = connection.execute(sa.select(t.request_key)).all()
    assert "sainath" not in str(row)


def test_an_act_is_on_record_with_the_holder_and_the_token(send: Send, job: JobTable, token: str) -> None:
    assert send("comment", {"text": "begun"}).json()["who"] == f"pipeline ({name_of(token)})"


def test_a_guards_refusal_has_each_objection_with_its_code(send: Send) -> None:
    refused = send("cleanup", {"index": INDEX.name}).json()

    assert refused["status"] == 409 and refused["next_step"]
    assert refused["objections"] and refused["objections"][0]["code"] == refused["code"]


@pytest.mark.parametrize("act", ["cleanup", "rollback"])
def test_what_deletes_is_refused_under_another_indexs_name(send: Send, job: JobTable, act: str) -> None:
    refused = send(act, {"index": "another"})
    assert (refused.status_code, refused.json()["code"]) == (409, "other-name-typed")
    assert job.job.state is JobState.VERIFIED


@pytest.mark.parametrize(
    ("body", "key", "status", "field"),
    [
        ({"text": "begun"}, "", 422, KEY_HEADER),
        ({"text": "begun"}, "two words", 422, KEY_HEADER),
        ({"text": "begun", "more": 1}, "k", 422, "body.more"),
        ({}, "k", 422, "body.text"),
        ({"text": "x" * 1_000_001}, "k", 413, None),
    ],
)
def test_a_request_that_cannot_be_used_says_which_field(
    send: Send, job: JobTable, body: Any, key: str, status: int, field: str | None
) -> None:
    refused = send("comment", body, key=key)
    assert refused.status_code == status
    if field is not None:
        assert refused.json()["errors"][0]["field"].lower().endswith(field.lower())
    assert acts_of(job) == []


@pytest.mark.parametrize("operators", [True, False])
def test_what_is_wrong_with_the_vector_database_is_told_to_operators_alone(operators: bool) -> None:
    app = FastAPI()
    router = APIRouter(route_class=guarded(None, anyio.CapacityLimiter(1), operators=operators))

    @router.get("/")
    def away() -> None:
        raise QuotaExhausted("the index brain is full", next_step="make room")

    app.include_router(router)
    answer = TestClient(app).get("/")

    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert ("brain" in answer.text, answer.json()["next_step"] == "make room") == (operators, operators)


def test_a_key_is_asked_for_another_request_before_anything_is_done(database: Database) -> None:
    done: list[str] = []
    keyed_acts.once(database, KeyedRequest.of("token", "k", "one"), lambda: done.append("one"))
    with pytest.raises(BadInput, match="another request"):
        keyed_acts.once(database, KeyedRequest.of("token", "k", "two"), lambda: done.append("two"))
    assert done == ["one"]
