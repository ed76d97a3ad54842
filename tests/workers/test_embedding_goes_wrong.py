"""A model that goes wrong in the middle of a job: the job says what and what to do, loses nothing, and goes on."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from embedding_job import held, old, open_texts
from embedding_service import EmbeddingService, Fault, refusal, rows, serving
from in_one_process import One
from kept_embeddings import costs, expected

from migrations.mapping import MetadataMap
from orchestrator.core import retrying
from orchestrator.core.states import BatchState, JobState
from orchestrator.ledger import parked
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from orchestrator.services.erase import JobTableBooks, certificate_page
from vecfleet.embedders.services import SERVICES
from vecfleet.names import Tenant
from vecfleet.records import Record
from workers import calls

TEXTS = [f"what the creator said about sleep, part {number:02}" for number in range(23)]
Open = Callable[..., One]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(retrying, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        yield service


@pytest.fixture
def open_job(service: EmbeddingService, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Open]:
    """A job of 23 records with as many texts, in three batches."""
    with ExitStack() as ending:
        yield lambda **options: open_texts(ending, database_url, redis_url, tmp_path, TEXTS, service, **options)


def assert_whole(one: One, service: EmbeddingService) -> None:
    """Every record has the vector of its text, and each text was billed once."""
    there = held(one)
    assert [there[f"r{number:02}"].values for number in range(23)] == list(expected(service, TEXTS))
    assert service.billed == dict.fromkeys(TEXTS, 1)


def go_on(one: One) -> None:
    acts.resume(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)


OTHER = rows([0.5] * 8, model="a-model-2027")
WIDER = rows(*[[0.5] * 9] * 10, model="a-model")


@pytest.mark.parametrize(
    ("fault", "why", "next_step"),
    [
        (Fault(body=OTHER), "answers as 'a-model-2027' now; the plan was made with 'a-model'", "give the service back"),
        (Fault(body=WIDER), "gives 9 dimensions now; the plan was made for 8", "give the service back"),
        (refusal(404, "model_not_found"), "knows no model 'a-model'", "check the model's name"),
        (refusal(401, "invalid_api_key"), "refuses the key", "check OPENAI_API_KEY"),
        (refusal(429, "insufficient_quota"), "the allowance of the embedder 'a-model' is used up", "raise it"),
    ],
    ids=["another revision", "another dimension", "another model", "a refused key", "no allowance"],
)
def test_a_model_that_a_person_must_put_right_pauses_the_job_which_then_pays_for_no_text_twice(
    open_job: Open, service: EmbeddingService, fault: Fault, why: str, next_step: str
) -> None:
    one = open_job()
    service.fail(None, fault)
    # When the model is another one from the second batch on
    one.until(JobState.PAUSED)
    # Then the job says so, and what to do; nothing but the first batch was written
    reason = one.table.job.reason or ""
    assert why in reason and next_step in reason
    there = held(one)
    assert 0 < len(there) <= 10
    assert {record.values for record in there.values()} <= set(expected(service, TEXTS))
    # And once it is put right, the job goes on where it was
    service.faults.clear()
    go_on(one)
    assert_whole(one, service)


def test_a_worker_whose_settings_lead_to_another_service_pauses_the_job_and_sends_it_no_text(
    open_job: Open, service: EmbeddingService
) -> None:
    one = open_job()
    settings = one.process.settings
    with serving() as other:
        one.process.settings = settings.model_copy(update={"openai_base_url": other.url})
        one.until(JobState.PAUSED)
        assert not (other.requests or service.requests or held(one))
    reason = one.table.job.reason or ""
    assert "OPENAI_BASE_URL leads to 127.0.0.1" in reason and "set OPENAI_BASE_URL as it was" in reason
    # And a restart with the right address lets the job go on
    one.process.settings = settings
    go_on(one)
    assert_whole(one, service)


def test_a_worker_that_was_started_without_the_key_sends_nothing_and_says_so_and_the_job_goes_on_with_it(
    open_job: Open, service: EmbeddingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a plan with OpenAI itself, which stands here on loopback
    monkeypatch.setitem(SERVICES, "openai", replace(SERVICES["openai"], url=service.url))
    one = open_job()
    settings = one.process.settings
    # When a worker without OPENAI_API_KEY takes its batches
    one.process.settings = settings.model_copy(update={"openai_api_key": None})
    one.until(JobState.PAUSED, JobState.NEEDS_ATTENTION)
    # Then the job waits for a person, says what is missing and where, and nothing was sent or written
    assert one.table.job.state is JobState.PAUSED
    reason = one.table.job.reason or ""
    assert reason.startswith("worker process ") and "OPENAI_API_KEY is not set; set it" in reason
    assert not service.requests and held(one) == {}
    assert {row.attempts for row in one.table.rows()} == {0}
    # And once the key is there, the job goes on and every text is billed once
    one.process.settings = settings
    go_on(one)
    assert_whole(one, service)


NOT_READABLE = rows(*[[float("nan")] * 8] * 10, model="a-model")
TOO_FEW = rows([0.5] * 8, model="a-model")
AILMENTS = [
    Fault(503),
    Fault(drops=True),
    Fault(429, {"retry-after": "0.01"}),
    Fault(body=b"<html>"),
    Fault(body=TOO_FEW),
    Fault(body=NOT_READABLE),
]


def test_a_model_that_is_down_limits_or_answers_nonsense_for_a_while_only_delays_the_job(
    open_job: Open, service: EmbeddingService
) -> None:
    one = open_job()
    # When the model is down, breaks off, asks to wait, and gives what is no vectors, longer than one task tries
    service.fail(None, *AILMENTS)
    one.until(JobState.VERIFIED)
    # Then nothing is wrong at the target, and what may have been billed for nothing is counted apart
    assert not service.faults
    assert_whole(one, service)
    assert costs(one.table).tokens == service.tokens and costs(one.table).unanswered > 0


def test_a_model_that_answers_too_late_delays_the_job_and_what_it_may_bill_is_counted(
    open_job: Open, service: EmbeddingService
) -> None:
    one = open_job()
    one.process.settings = one.process.settings.model_copy(update={"request_deadline_seconds": 0.3})
    with service.held():
        one.work_until(lambda: service.requests)
    assert held(one) == {}
    one.until(JobState.VERIFIED)
    assert [held(one)[f"r{number:02}"].values for number in range(23)] == list(expected(service, TEXTS))
    # Then the service has billed texts of which it never answered, and the account holds at least as much
    spent = costs(one.table)
    assert spent.tokens < service.tokens <= spent.tokens + spent.unanswered


@pytest.mark.parametrize("nonsense", [TOO_FEW, NOT_READABLE], ids=["too few vectors", "a value that is not a number"])
def test_a_model_that_gives_no_usable_vectors_has_its_batches_parked_and_a_retry_ends_the_job(
    open_job: Open, service: EmbeddingService, nonsense: bytes
) -> None:
    one = open_job()
    service.fail(None)
    service.fail(Fault(body=nonsense), times=100)
    one.until(JobState.NEEDS_ATTENTION)
    # Then its batches say why, and nothing of them was written
    there = held(one)
    assert 0 < len(there) <= 10 and {record.values for record in there.values()} <= set(expected(service, TEXTS))
    reasons = {row.error_text for row in one.table.rows() if row.state == BatchState.PARKED}
    assert reasons and all("a-model" in reason and "gave" in reason for reason in reasons)
    # And once the model is well, a retry pays for what is missing alone
    service.faults.clear()
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.VERIFIED)
    assert_whole(one, service)


def test_a_cap_on_the_cost_pauses_the_job_with_the_number_and_what_to_type(
    open_job: Open, service: EmbeddingService
) -> None:
    # Given a price of a dollar a token, of which a text has as many as bytes at most, and a cap for one batch
    cap = 1.1 * sum(map(len, TEXTS[:10]))
    one = open_job(price=1e6, dollars_cap=cap)
    one.until(JobState.PAUSED)
    # Then it stays below the cap, and says which number it would reach and what allows that
    reason = one.table.job.reason or ""
    assert "embedding may cost $" in reason and f"the job may spend ${cap:,.4f}" in reason
    assert f"`vecfleet set {one.table.job_id} budget 3` allows ${2 * cap:,.4f}" in reason
    assert service.tokens <= cap and len(held(one)) < 23
    # And what it names lets the job end
    acts.set_lever(one.table.database, one.table.job_id, "ana", "budget", 3)
    go_on(one)
    assert_whole(one, service)


@pytest.mark.parametrize(
    ("nothing", "why"),
    [([0.0] * 8, "is all zeros"), ([None] + [0.5] * 7, "has a value that is no number")],
    ids=["zeros", "no number"],
)
def test_a_record_of_which_the_model_gives_no_vector_is_parked_and_holds_no_other_up(
    nothing: list[float | None], why: str, open_job: Open, service: EmbeddingService
) -> None:
    one = open_job()
    # Given a model that gives no vector for one of the first texts
    others = [service.vector(text) for text in TEXTS[1:10]]
    service.fail(Fault(body=rows(nothing, *others, model="a-model"), bills=True))
    one.until(JobState.NEEDS_ATTENTION)
    with one.table.database.begin() as connection:
        reasons = {record.record_id: record.reason for record in parked.records(connection, one.table.job_id)}
    assert reasons == {"r00": f"openai/a-model gave a vector for its text that {why}"}
    assert set(held(one)) == {f"r{number:02}" for number in range(1, 23)}
    # And once the model gives one, a retry pays for that text alone
    acts.retry(one.table.database, one.table.job_id, "ana", "parked")
    one.until(JobState.VERIFIED)
    assert {text for text, times in service.billed.items() if times > 1} == {TEXTS[0]}


def test_a_text_over_the_limit_of_the_model_is_parked_and_holds_no_other_up(
    open_job: Open, service: EmbeddingService
) -> None:
    one = open_job()
    source = one.process.index("memory", one.table.job.source)
    source.upsert("s", [old("r05", text="far too long " * 1_000)])
    one.until(JobState.COPIED, JobState.NEEDS_ATTENTION)
    with one.table.database.begin() as connection:
        reasons = {record.record_id: record.reason for record in parked.records(connection, one.table.job_id)}
    assert reasons == {"r05": "its text is refused by openai/a-model"}
    assert set(held(one)) == {f"r{number:02}" for number in range(23)} - {"r05"}
    assert set(service.billed.values()) == {1}


def test_the_vectors_of_an_erased_tenants_texts_leave_the_cache_and_the_certificate_says_so(
    open_job: Open, service: EmbeddingService, tmp_path: Path
) -> None:
    one = open_job(namespace="creator_ana_twin_coach")
    one.until(JobState.VERIFIED)
    database = one.table.database
    assert vectors_kept(database) == 23
    # When the tenant of these texts is erased
    books = JobTableBooks(database, one.process.settings.model_copy(update={"vecfleet_home": tmp_path / "home"}))
    number = books.begin(Tenant("ana"), "olga").number
    one.work_until(lambda: books.wait_s(number) == 0)
    certificate = books.finish(number, Tenant("ana"), [], {"subject": "digest", "where": [], "residual": []})
    # Then nothing made of them is kept, and the certificate and its page say how many there were
    assert vectors_kept(database) == 0
    assert certificate["our_tables"]["embeddings"] == 23
    assert "<th>vectors of texts deleted</th><td>23</td>" in certificate_page(certificate)


def test_a_certificate_names_where_texts_of_the_tenant_may_remain(
    open_job: Open, service: EmbeddingService, tmp_path: Path
) -> None:
    # Given a job that read texts of a file called like the tenant, sent them to a service, and was judged by questions
    texts = "\n".join(json.dumps({"id": f"r{n:02}", "text": text}) for n, text in enumerate(TEXTS))
    (tmp_path / "creator_ana_twin_coach.jsonl").write_text(texts)
    (tmp_path / "asked.jsonl").write_text(
        json.dumps({"question": "sleep?", "namespace": "creator_ana_twin_coach", "relevant": ["r01"]})
    )
    one = open_job(
        namespace="creator_ana_twin_coach", texts_from="creator_ana_twin_coach.jsonl", questions="asked.jsonl"
    )
    one.until(JobState.COPIED)
    # When the tenant is erased
    settings = one.process.settings.model_copy(update={"vecfleet_home": tmp_path / "home"})
    books = JobTableBooks(one.table.database, settings)
    number = books.begin(Tenant("ana"), "olga").number
    one.work_until(lambda: books.wait_s(number) == 0)
    certificate = books.finish(number, Tenant("ana"), [], {"subject": "digest", "where": [], "residual": []})
    # Then its certificate names each place that no erasure reaches, and not the tenant
    sent, read, asked = certificate["residual"]
    place = service.url.removeprefix("http://").removesuffix("/v1")
    assert sent.startswith(f"openai/a-model at {place}: job 1 sent it texts of records")
    assert read.startswith("erased-1: job 1 read texts of it")
    assert asked.startswith("asked.jsonl: job 1 asked the questions in it")
    assert "ana" not in json.dumps(certificate["residual"])


def vectors_kept(database: Database) -> int:
    with database.begin() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(t.embedding)).scalar_one())


def test_a_roll_back_pays_for_no_text_of_a_record_that_an_application_changed(
    open_job: Open, service: EmbeddingService
) -> None:
    one = open_job(cache=False)
    one.until(JobState.VERIFIED)
    changed = held(one)["r03"].with_metadata({"text": "by the application"})
    one.index.upsert("s", [changed])
    acts.roll_back(one.table.database, one.table.job_id, "ana", "keep")
    one.until(JobState.ROLLED_BACK)
    assert held(one) == {"r03": changed}
    assert service.billed == dict.fromkeys(TEXTS, 1)


# A model that gives other last bits for the same text, and a cache that keeps nothing


WITHOUT_TEXT = MetadataMap(drop=("text",), undo="none")


@pytest.mark.parametrize("metadata_map", [None, WITHOUT_TEXT], ids=["the text goes along", "a map takes it away"])
def test_a_repair_takes_the_vectors_that_the_target_holds_for_all_but_the_record_it_writes(
    metadata_map: MetadataMap | None, open_job: Open, service: EmbeddingService
) -> None:
    # Given a copy whose vectors nobody keeps, and the model would not give again
    service.drifts = True
    one = open_job(cache=False, metadata_map=metadata_map)
    one.until(JobState.VERIFIED)
    before = held(one)
    # When somebody changes one of them, and the job is verified
    changed = before["r03"]
    one.index.upsert("s", [Record("r03", changed.values[::-1], metadata=changed.metadata)])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.COPIED)
    one.until(JobState.VERIFIED, JobState.NEEDS_ATTENTION)
    # Then its text alone is billed again, once, and the job rests after one repair
    assert one.table.job.state is JobState.VERIFIED, one.table.job.reason
    assert {text: times for text, times in service.billed.items() if times > 1} == {TEXTS[3]: 2}
    assert one.table.job.repairs == 1
    assert {record_id for record_id, record in held(one).items() if record != before[record_id]} == {"r03"}


def test_a_pass_takes_the_vectors_that_the_target_holds_for_all_but_the_texts_that_changed(
    open_job: Open, service: EmbeddingService
) -> None:
    service.drifts = True
    one = open_job(cache=False, writers="delta")
    one.until(JobState.VERIFIED, JobState.NEEDS_ATTENTION)
    assert one.table.job.state is JobState.VERIFIED, one.table.job.reason
    before = held(one)
    # When a text changes while the writers go on
    one.process.index("memory", one.table.job.source).upsert("s", [old("r03", text="another text")])
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(JobState.COPIED)
    one.until(JobState.VERIFIED, JobState.NEEDS_ATTENTION)
    # Then it alone is billed, once
    assert one.table.job.state is JobState.VERIFIED, one.table.job.reason
    assert service.billed == dict.fromkeys([*TEXTS, "another text"], 1)
    assert {record_id for record_id, record in held(one).items() if record != before[record_id]} == {"r03"}


def test_a_pass_does_not_read_the_targets_for_texts_whose_vectors_are_kept(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_job(writers="delta")
    one.until(JobState.VERIFIED)
    fetched, fetch = [], type(one.index).fetch

    def note(index: Any, namespace: str, ids: list[str]) -> Any:
        fetched.extend(ids if index.info.name == "brain-small" else [])
        return fetch(index, namespace, ids)

    monkeypatch.setattr(type(one.index), "fetch", note)
    acts.another_pass(one.table.database, one.table.job_id, "ana", whole=True)
    one.until(JobState.COPIED)
    one.work_until(lambda: one.table.job.passes_ended >= 4)
    assert fetched == []


@pytest.fixture
def moved(open_job: Open, service: EmbeddingService) -> One:
    """A copy whose vectors nobody keeps, and the model would not give again; its readers have moved."""
    service.drifts = True
    one = open_job(cache=False, cut_over="operator")
    one.until(JobState.VERIFIED)
    acts.cut_over(one.table.database, one.table.job_id, "ana", 100)
    return one


def test_a_clean_up_pays_for_no_text_of_a_record_that_an_application_changed_but_for_its_vector(
    moved: One, service: EmbeddingService
) -> None:
    changed = held(moved)["r03"].with_metadata({"text": "by the application"})
    moved.index.upsert("s", [changed])
    acts.clean_up(moved.table.database, moved.table.job_id, "ana", by_ids=False)
    moved.until(JobState.CLEANED, JobState.NEEDS_ATTENTION)
    assert moved.table.job.state is JobState.CLEANED, moved.table.job.reason
    assert held(moved)["r03"] == changed
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_a_clean_up_that_cannot_be_proven_any_more_says_how_a_person_goes_on(moved: One) -> None:
    # Given a record that an application deleted where its readers are, and with it the vector of its copy
    moved.index.delete("s", ["r03"])
    acts.clean_up(moved.table.database, moved.table.job_id, "ana", by_ids=False)
    # When the source is to be deleted, nobody can tell whether it is what was copied
    moved.until(JobState.NEEDS_ATTENTION)
    (reason,) = {row.error_text for row in moved.table.rows() if row.state == BatchState.PARKED}
    assert "1 records of s are not equal at their target" in reason
    # Then the reason names what a person may do, which leaves every record where it is
    job_id = moved.table.job_id
    assert f"`vecfleet finish {job_id}` leaves both sides as they are" in reason
    acts.finish(moved.table.database, job_id, "ana")
    assert moved.table.job.state is JobState.FINISHED
    source = moved.process.index("memory", moved.table.job.source)
    assert len(source.list_ids("s").ids) == len(TEXTS)
