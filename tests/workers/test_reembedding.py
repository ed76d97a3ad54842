"""A job that embeds: same ids and metadata, the model's vectors, proven against what the model gave."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from embedding_job import held, old, open_embedding
from in_one_process import One

from migrations.estimating import Prices
from orchestrator.core.states import JobState
from orchestrator.ledger import deletions, parked
from orchestrator.services import acts, report
from vecfleet.embedders import vectors_of
from vecfleet.embedders.opening import open_model
from vecfleet.records import Record
from workers.process import WorkerProcess

TEXTS = [f"what the creator said about sleep, part {number % 7}" for number in range(23)]
Open = Callable[..., One]


@pytest.fixture
def open_job(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Open]:
    """`open_job(records, **policies)`."""
    with ExitStack() as ending:
        yield lambda *given, **policies: open_embedding(ending, database_url, redis_url, tmp_path, *given, **policies)


def with_texts() -> list[Record]:
    return [old(f"r{number:02}", text=text, page=number) for number, text in enumerate(TEXTS)]


def test_records_keep_their_ids_and_metadata_and_get_the_vectors_of_the_model(open_job: Open) -> None:
    # Given records with texts, some of which are alike
    one = open_job(with_texts())
    # When the job runs
    one.until(JobState.VERIFIED)
    # Then each record is there with the vector that the model gives for its text
    there = held(one)
    assert {record_id: record.metadata for record_id, record in there.items()} == {
        f"r{number:02}": {"text": text, "page": number} for number, text in enumerate(TEXTS)
    }
    plan = one.table.job.plan
    assert plan.policies.embedding is not None
    model = open_model(plan.policies.embedding.card, one.process.settings)
    wanted = vectors_of(model, TEXTS)
    for number in range(len(TEXTS)):
        assert there[f"r{number:02}"].values == wanted[number].astype("<f4").tobytes()


@pytest.mark.parametrize("by_ids", [False, True])
def test_the_old_vectors_are_deleted_on_looks_that_are_on_record_each_late_enough(open_job: Open, by_ids: bool) -> None:
    # Given a source whose reads lag
    one = open_job(with_texts())
    one.table.put(source_lag_s=0.5)
    one.until(JobState.VERIFIED)
    one.table.put(started_at=sa.func.clock_timestamp())
    # When it is cleaned up
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=by_ids)
    one.until(JobState.CLEANED)
    # Then every look that the deletion rests on was made when reads showed the last write
    with one.table.database.begin() as connection:
        [evidence] = deletions.of_job(connection, one.table.job_id, "s")
    assert evidence.is_fresh and evidence.fresh_from is not None and evidence.deleted == len(TEXTS)
    assert evidence.read_from is not None and evidence.fresh_from <= evidence.read_from
    assert (evidence.clean_mode, evidence.listed) == (("by_ids", 0) if by_ids else ("whole", len(TEXTS)))
    assert evidence.asked_from is not None and evidence.read_from <= evidence.asked_from


def test_records_without_text_are_parked_with_the_reason(open_job: Open) -> None:
    records = [old("a", text="some text"), old("b"), old("c", text=7.0), old("d", text="  ")]
    one = open_job(records)
    one.until(JobState.COPIED)
    with one.table.database.begin() as connection:
        reasons = {record.record_id: record.reason for record in parked.records(connection, one.table.job_id)}
    assert reasons == {
        "b": "it has no metadata key 'text', of which its text is made",
        "c": "its metadata key 'text' holds no text",
        "d": "its text is empty",
    }
    assert set(held(one)) == {"a"}


def test_texts_that_were_cut_are_counted_in_the_report(open_job: Open) -> None:
    texts = [
        "sleep well",
        "sleep eight hours and keep it dark",
        "sleep eight hours and keep it dark",
        "sleep is half of it",
    ]
    one = open_job([old(f"r{number}", text=text) for number, text in enumerate(texts)], cut_at=4)
    one.until(JobState.VERIFIED)
    told = report.build(one.table.database, one.process.fleet.store_named, Prices(), one.table.job_id)
    assert "2 texts were longer than the model takes, and cut" in told.issues
    assert report.to_json(told)["embedding"]["texts_cut"] == 2


def test_texts_of_a_file_are_embedded_and_another_file_stops_the_job(open_job: Open, tmp_path: Path) -> None:
    # Given records without text, and a file with the text of two of them
    file = tmp_path / "texts.jsonl"
    file.write_text('{"id": "a", "text": "sleep"}\n{"id": "b", "text": "bread"}\n{"id": "x", "text": "no record"}\n')
    one = open_job([old("a", page=1), old("b", page=2)], texts_from=file.name)
    one.until(JobState.VERIFIED)
    embedding = one.table.job.plan.policies.embedding
    assert embedding is not None
    wanted = vectors_of(open_model(embedding.card, one.process.settings), ["sleep", "bread"])
    there = held(one)
    assert [there[name].values for name in ("a", "b")] == [row.astype("<f4").tobytes() for row in wanted]
    # When a worker finds another file in its place
    file.write_text('{"id": "a", "text": "another"}\n')
    one.process = WorkerProcess(one.process.fleet)
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.PAUSED)
    # Then the job says so, and nothing was written
    assert "the texts in texts.jsonl are no longer those of the plan; put the file back" in (one.table.job.reason or "")
    assert held(one) == there


def test_a_text_that_changed_in_its_table_is_embedded_by_the_next_pass(open_job: Open, empty_database_url: str) -> None:
    # Given records whose texts are in a table, and a job that follows the writers
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE texts (id text PRIMARY KEY, text text)"))
        connection.execute(sa.text("INSERT INTO texts VALUES ('a', 'sleep'), ('b', 'bread')"))
    where = {"texts_from": "postgres:texts", "texts_url": empty_database_url}
    one = open_job([old("a", page=1), old("b", page=2)], **where, writers="delta")
    one.until(JobState.VERIFIED)
    before = held(one)
    # When a text changes, and nothing of the source does
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE texts SET text = 'bread' WHERE id = 'a'"))
    engine.dispose()
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)
    # Then the target has the vector of the new text
    assert held(one)["a"].values == before["b"].values == held(one)["b"].values != before["a"].values


def test_a_vector_that_somebody_changed_becomes_the_models_again(open_job: Open) -> None:
    one = open_job(with_texts())
    one.until(JobState.VERIFIED)
    before = held(one)
    changed = before["r03"]
    one.index.upsert("s", [Record("r03", changed.values[::-1], metadata=changed.metadata)])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.COPIED)
    one.until(JobState.VERIFIED)
    assert held(one) == before


def test_the_source_goes_only_after_each_text_was_read_again_and_its_vector_found(open_job: Open) -> None:
    one = open_job(with_texts())
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.CLEANED)
    assert len(held(one)) == len(TEXTS)


def test_a_text_that_changed_after_its_copy_keeps_the_source(open_job: Open) -> None:
    one = open_job(with_texts())
    one.until(JobState.VERIFIED)
    source = one.process.index("memory", one.table.job.source)
    source.upsert("s", [old("r03", text="another text", page=3)])
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.job.reason == "1 source was not deleted: a guard refused"
    assert len(source.list_ids("s").ids) == len(TEXTS)


def test_a_roll_back_takes_the_new_vectors_away(open_job: Open) -> None:
    one = open_job(with_texts())
    one.until(JobState.VERIFIED)
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.ROLLED_BACK)
    assert held(one) == {}
