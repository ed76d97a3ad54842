"""Vectors of texts that are kept encrypted: paid for once all the same, and of no use without the key."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from embedding_job import held, open_texts
from embedding_service import EmbeddingService, serving
from in_one_process import One
from kept_embeddings import expected, wanted
from pydantic import SecretStr

from migrations.sealing import key_name
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import tables as t
from orchestrator.services import acts
from orchestrator.services.erase import JobTableBooks
from vecfleet.errors import BadInput
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings

KEY, NEW_KEY = "a" * 32 + "-first", "b" * 32 + "-second"
TEXTS = [f"what the creator said about sleep, part {number}" for number in range(12)]
Open = Callable[..., One]


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        yield service


@pytest.fixture
def open_job(service: EmbeddingService, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Open]:
    """A job of twelve records with as many texts, whose vectors are kept encrypted."""
    with ExitStack() as ending:
        yield lambda **options: open_texts(
            ending, database_url, redis_url, tmp_path, TEXTS, service, cache_key=KEY, **options
        )


def kept(one: One) -> dict[bytes, bytes]:
    with one.table.begin() as connection:
        return {row.key: row.vector for row in connection.execute(sa.select(t.embedding.c.key, t.embedding.c.vector))}


def give(one: One, keys: str | None) -> None:
    """Give the worker these keys, as a restart with another environment does."""
    secret = SecretStr(keys) if keys is not None else None
    one.process.settings = one.process.settings.model_copy(update={"embedding_cache_key": secret})


def repair(one: One) -> None:
    """Change a vector at the target: its repair takes the vector that is kept."""
    changed = held(one)["r03"]
    one.index.upsert("s", [Record("r03", changed.values[::-1], metadata=changed.metadata)])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.COPIED)
    one.until(JobState.VERIFIED, JobState.PAUSED)


def test_neither_a_vector_nor_the_digest_of_a_text_is_in_the_database_and_no_text_is_paid_twice(
    open_job: Open, service: EmbeddingService
) -> None:
    one = open_job()
    one.until(JobState.VERIFIED)
    # Then the target has the vectors, and the database has nothing that tells of a text
    vectors = expected(service, TEXTS)
    assert [held(one)[f"r{number:02}"].values for number in range(12)] == list(vectors)
    there = kept(one)
    assert len(there) == 12
    assert not any(vector in sealed for vector in vectors for sealed in there.values())
    plan = one.table.job.plan
    assert plan.policies.embedding is not None
    digests = wanted(one.process.model(plan.policies.embedding.card), TEXTS)
    assert not digests.keys() & there.keys()
    assert KEY not in plan.model_dump_json()
    # And a repair opens what is kept
    repair(one)
    assert one.table.job.state is JobState.VERIFIED
    assert held(one)["r03"].values == vectors[3]
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_a_repair_opens_what_is_kept_and_so_neither_reads_the_target_for_it_nor_asks_a_model_that_drifts(
    open_job: Open, service: EmbeddingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a copy by a model that would give other last bits by now
    service.drifts = True
    one = open_job()
    one.until(JobState.VERIFIED)
    before = held(one)
    # When a record is repaired
    fetched, fetch = set[str](), type(one.index).fetch

    def note(index: Any, namespace: str, ids: list[str]) -> Any:
        copying = any(row.state == BatchState.LEASED for row in one.table.rows(BatchKind.COPY))
        fetched.update(ids if copying and index.info.name == "brain-small" else ())
        return fetch(index, namespace, ids)

    monkeypatch.setattr(type(one.index), "fetch", note)
    repair(one)
    # Then it has the vector that was kept, nothing else was written, and no text was paid for again
    assert one.table.job.state is JobState.VERIFIED, one.table.job.reason
    assert one.table.job.repairs == 1 and held(one) == before
    assert service.billed == dict.fromkeys(TEXTS, 1)
    # And the target was read for no other record
    assert fetched == {"r03"}


@pytest.mark.parametrize("keys", [None, NEW_KEY], ids=["no key", "another key"])
def test_a_worker_without_the_plans_key_pauses_the_job_and_pays_for_nothing(
    open_job: Open, service: EmbeddingService, keys: str | None
) -> None:
    one = open_job()
    give(one, keys)
    one.until(JobState.PAUSED)
    name = key_name(Settings(embedding_cache_key=SecretStr(KEY)))
    reason = one.table.job.reason or ""
    assert f"are encrypted by the key {name}, and EMBEDDING_CACHE_KEY " in reason and "NEW,OLD" in reason
    assert KEY not in reason and NEW_KEY not in reason
    assert not service.billed and held(one) == {}
    # And a key that takes its place beside it lets the job go on
    give(one, f"{NEW_KEY}, {KEY}")
    acts.resume(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)
    assert service.billed == dict.fromkeys(TEXTS, 1)


def test_what_somebody_changed_in_the_database_is_not_taken_for_a_vector(open_job: Open) -> None:
    one = open_job()
    one.until(JobState.VERIFIED)
    with one.table.begin() as connection:
        connection.execute(sa.update(t.embedding).values(vector=bytes(60)))
    repair(one)
    assert one.table.job.state is JobState.PAUSED
    assert "was changed in the job table's database" in (one.table.job.reason or "")


def test_the_encrypted_vectors_of_an_erased_tenants_texts_are_deleted(open_job: Open, tmp_path: Path) -> None:
    one = open_job(namespace="creator_ana_twin_coach")
    one.until(JobState.VERIFIED)
    assert len(kept(one)) == 12
    books = JobTableBooks(
        one.table.database, one.process.settings.model_copy(update={"vecfleet_home": tmp_path / "home"})
    )
    number = books.begin(Tenant("ana"), "olga").number
    one.work_until(lambda: books.wait_s(number) == 0)
    books.finish(number, Tenant("ana"), [], {"subject": "digest", "where": [], "residual": []})
    assert kept(one) == {}


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(BadInput, match="fewer than 32 characters") as refused:
        key_name(Settings(embedding_cache_key=SecretStr(f"{KEY},sesame")))
    assert "openssl rand -hex 32" in (refused.value.next_step or "") and "sesame" not in str(refused.value)
