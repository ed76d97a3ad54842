"""`vecfleet check`: two places compared where neither Postgres nor Redis is, and nothing written to either."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from terminal import DIMENSION, Brain, Vecfleet, sit_down

from orchestrator.cli.watching import INTERRUPTED
from tests.vectors import vector_database
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.parquet import ParquetStore
from vecfleet.stores.pgvector import PgvectorStore
from vecfleet.stores.pinecone import PineconeStore

VALUES = b"\0\0\x80\x3f" * DIMENSION
SECRET = "the text of a record"
PATIENCE_S = 300.0  # takes seconds; two cores that others keep busy may need this


@pytest.fixture
def vecfleet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: str
) -> Vecfleet:
    """A terminal that knows an emulator and a folder, and nothing else."""
    for name in ("DATABASE_URL", "REDIS_URL", "PGVECTOR_URL"):
        monkeypatch.delenv(name, raising=False)
    environment = {
        "PINECONE_API_KEY": "any",
        "PINECONE_CONTROLLER_HOST": emulator,
        "VECFLEET_ROOT": str(tmp_path),
        "VECFLEET_HOME": str(tmp_path / "home"),
        "WORKER_THREADS": "2",
    }
    sit_down(monkeypatch, tmp_path, environment)
    return Vecfleet(capsys)


@pytest.fixture
def two(vecfleet: Vecfleet, emulator: str) -> Brain:
    """`brain` and `copy`, each with the namespaces `prod` and `tenant-1` of the same three records."""
    brain = Brain(emulator, PineconeStore(Settings.load()))
    for index in ("brain", "copy"):
        brain.create(index)
        for namespace in ("prod", "tenant-1"):
            brain.write(namespace, "doc-1", "doc-2", "doc-3", index=index, text=SECRET)
    return brain


def flip_a_bit(brain: Brain, namespace: str, id: str) -> None:
    values = bytes([VALUES[0] ^ 1]) + VALUES[1:]
    brain.store.open(brain.store.describe("copy")).upsert(namespace, [Record(id, values, metadata={"text": SECRET})])


def test_equal_places_end_with_0_and_nothing_was_written(vecfleet: Vecfleet, two: Brain) -> None:
    two.forget_calls()
    answer = vecfleet("check", "pinecone:brain", "pinecone:copy")
    assert answer.code == 0, answer.err
    assert "6 equal · 0 different · 0 only in A · 0 only in B · 0 not compared" in answer.out
    assert two.writes() == set()


def test_one_flipped_bit_is_shown_and_written_to_the_files_that_were_asked_for(vecfleet: Vecfleet, two: Brain) -> None:
    # Given a flipped bit, a record of each side alone, and the text that no answer may hold
    flip_a_bit(two, "prod", "doc-2")
    two.write("prod", "only-here", index="brain", text=SECRET)
    two.write("tenant-1", "only-there", index="copy", text=SECRET)
    # When
    files = {
        name: f"{name}.txt" for name in ("combined", "match", "differ", "missing-on-src", "missing-on-dst", "error")
    }
    options = [word for name, file in files.items() for word in (f"--{name}", file)]
    answer = vecfleet("check", "pinecone:brain", "pinecone:copy", *options)
    # Then
    assert answer.code == 1
    assert answer.out.splitlines()[:3] == ["* prod/doc-2: values", "+ prod/only-here", "- tenant-1/only-there"]
    written = {name: Path(file).read_text().splitlines() for name, file in files.items()}
    assert written["differ"] == ["prod/doc-2"]
    assert written["missing-on-dst"] == ["prod/only-here"]
    assert written["missing-on-src"] == ["tenant-1/only-there"]
    assert written["error"] == []
    assert written["match"] == ["prod/doc-1", "prod/doc-3", *(f"tenant-1/doc-{number}" for number in (1, 2, 3))]
    assert written["combined"][:4] == ["= prod/doc-1", "* prod/doc-2", "= prod/doc-3", "+ prod/only-here"]
    assert SECRET not in answer.out + answer.err + "".join(map(Path.read_text, Path().glob("*.txt")))


def test_a_record_that_differs_says_in_which_keys(vecfleet: Vecfleet, two: Brain) -> None:
    two.write("prod", "doc-2", index="copy", text=SECRET, env="prod")
    said = vecfleet("check", "pinecone:brain", "pinecone:copy").out
    assert "* prod/doc-2: metadata: env\n" in said
    assert "of those that differ, 1 in env alone" in said
    assert "next: vecfleet check pinecone:brain pinecone:copy --ignore env\n" in said and "jobs of vecfleet" not in said
    # What was asked for is asked for again
    once_more = vecfleet("check", "pinecone:brain", "pinecone:copy", "--one-way", "--ignore", "page").out
    assert "next: vecfleet check pinecone:brain pinecone:copy --one-way --ignore page --ignore env\n" in once_more
    answer = vecfleet("check", "pinecone:brain", "pinecone:copy", "--json")
    assert answer.json["differences"] == [{"symbol": "*", "path": "prod/doc-2", "why": "metadata: env"}]
    assert vecfleet("check", "pinecone:brain", "pinecone:copy", "--ignore", "env").code == 0
    # (Nothing of it where something else differs.)
    flip_a_bit(two, "prod", "doc-1")
    assert "--ignore" not in vecfleet("check", "pinecone:brain", "pinecone:copy").out


def test_each_key_that_a_job_wrote_on_the_way_is_named_with_the_option_that_overlooks_it(
    vecfleet: Vecfleet, two: Brain
) -> None:
    # Given copies as a regrouping writes them, where an owner's key held another value before
    added = {"creator_id": "ana", "twin_id": "prod", "migrated_from": "prod", "_vecfleet_prev": '{"creator_id":"x"}'}
    two.write("prod", "doc-1", index="copy", text=SECRET, **added, _vecfleet_map="{}", needs_review="true")
    # When they are compared, then all six are named, of which a person has written none
    keys = ["_vecfleet_map", "_vecfleet_prev", "creator_id", "migrated_from", "needs_review", "twin_id"]
    said = vecfleet("check", "pinecone:brain", "pinecone:copy").out
    assert f"of the keys that differ, jobs of vecfleet write {', '.join(keys)} into what they move" in said
    options = [word for key in keys for word in ("--ignore", key)]
    assert f"next: vecfleet check pinecone:brain pinecone:copy {' '.join(options)}\n" in said
    # And the command that was named finds everything equal
    assert vecfleet("check", "pinecone:brain", "pinecone:copy", *options).code == 0


def test_what_has_another_name_is_compared_under_its_new_one(vecfleet: Vecfleet, two: Brain) -> None:
    two.write("t/1", "doc-1", "doc-2", "doc-3", text=SECRET)
    same_index = vecfleet("check", "pinecone:brain/tenant-1", "pinecone:brain/t/1", "--json")
    assert same_index.code == 0 and same_index.json["counts"]["equal"] == 3
    renamed = vecfleet("check", "pinecone:copy/tenant-*", "pinecone:brain", "--rename", "tenant-*=t/{1}")
    assert "3 equal · 0 different · 0 only in A · 3 only in B" in renamed.out  # its own tenant-1 became nothing
    assert vecfleet("check", "pinecone:brain", "pinecone:copy").code == 1
    assert vecfleet("check", "pinecone:copy", "pinecone:brain", "--one-way").code == 0


def test_a_typo_compares_nothing(vecfleet: Vecfleet, two: Brain) -> None:
    answer = vecfleet("check", "pinecone:brain/prd", "pinecone:copy/prod")
    assert answer.code == 2 and "names no namespace that is there; the index holds 'prod'" in answer.err
    assert "next: `vecfleet audit brain` lists them" in answer.err
    answer = vecfleet("check", "brain", "pinecone:copy")
    assert answer.code == 2 and "write STORE:INDEX or STORE:INDEX/NAMESPACE: pinecone:brain, " in answer.err
    answer = vecfleet("check", "pinecone:brain", "pinecone:copy", "--combined", "no-folder/all.txt")
    assert answer.code == 2 and "cannot write no-folder/all.txt" in answer.err


def test_a_limit_is_waited_for(vecfleet: Vecfleet, two: Brain) -> None:
    busy = "Request failed. You've reached the max fetch requests per second for index copy"
    two.fault(operation="fetch", index="copy", status=429, message=busy, count=2)
    two.fault(operation="list", index="brain", status=503, count=1)
    assert vecfleet("check", "pinecone:brain", "pinecone:copy").code == 0


def test_what_a_refused_key_leaves_out_is_told_and_another_run_goes_on_there(vecfleet: Vecfleet, two: Brain) -> None:
    # Given
    flip_a_bit(two, "tenant-1", "doc-2")
    whole = ("check", "pinecone:brain", "pinecone:copy", "--combined")
    assert vecfleet(*whole, "whole.txt").code == 1
    two.fault(operation="fetch", index="copy", namespace="tenant-1", status=403, message="Forbidden")
    # When the key is refused after the first namespace
    answer = vecfleet(*whole, "parts.txt")
    # Then what was not compared is an error, and the exit code says so
    assert answer.code == 4
    assert "! tenant-1/" in answer.out and "3 equal · 0 different" in answer.out
    assert "stopped after prod/doc-3" in answer.out
    assert "check PINECONE_API_KEY" in answer.out and "--after prod/doc-3\n" in answer.out
    # And once it is taken again, the rest completes the file
    two.no_faults()
    assert vecfleet(*whole, "parts.txt", "--after", "prod/doc-3").code == 1
    parts = Path("parts.txt").read_text().splitlines()
    assert [line for line in parts if not line.startswith("!")] == Path("whole.txt").read_text().splitlines()


def test_a_service_that_is_away_leaves_an_error(
    vecfleet: Vecfleet, two: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecfleet.patience._LONGEST_WAIT_S", 0.01)
    two.fault(operation="list", index="copy", namespace="prod", drop=True)
    answer = vecfleet("check", "pinecone:brain", "pinecone:copy", "--json")
    assert answer.code == 4
    assert answer.json["complete"] is False and answer.json["counts"]["not_compared"] == 1
    assert answer.json["next_steps"] == ["vecfleet check pinecone:brain pinecone:copy --json"]


def test_a_service_that_is_away_from_the_start_is_no_difference(
    vecfleet: Vecfleet, two: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecfleet.patience._LONGEST_WAIT_S", 0.01)
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", "http://127.0.0.1:1")
    assert vecfleet("check", "pinecone:brain", "pinecone:copy").code == 4


def test_a_folder_and_a_table_are_places_like_any_other(
    vecfleet: Vecfleet, two: Brain, tmp_path: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the records of prod in a folder, and in a table
    records = [Record(f"doc-{number}", VALUES, metadata={"text": SECRET}) for number in (1, 2, 3)]
    brain = two.store.describe("brain")
    folders = ParquetStore(tmp_path)
    folders.open(folders.create_like("exports/brain", brain, None, None)).upsert("prod", records)
    # Then either is compared, whole or by namespace
    assert vecfleet("check", "pinecone:brain/prod", "parquet:exports/brain/prod").code == 0
    assert vecfleet("check", "parquet:exports/brain", "pinecone:brain").code == 1
    assert vecfleet("check", "parquet:exports/brain", "pinecone:brain", "--one-way").code == 0
    with vector_database(empty_database_url) as database:
        monkeypatch.setenv("PGVECTOR_URL", empty_database_url)
        tables = PgvectorStore(database)
        tables.open(tables.create_like("public", brain, None, None)).upsert("prod", records)
        for place in ("pgvector:public/prod", "pgvector:prod"):
            assert vecfleet("check", "pinecone:brain/prod", place).code == 0
            assert vecfleet("check", place, "parquet:exports/brain/prod").code == 0


def test_one_that_is_interrupted_says_where_to_go_on(vecfleet: Vecfleet, two: Brain, tmp_path: Path) -> None:
    # Given a check whose second namespace does not answer
    two.fault(operation="fetch", index="copy", namespace="tenant-1", hang=True)
    parts = tmp_path / "parts.txt"
    parts.touch()
    words = ["check", "pinecone:brain", "pinecone:copy", "--combined", parts.name]
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"REQUEST_DEADLINE_SECONDS": "5"},
    )
    until = time.monotonic() + PATIENCE_S
    while "prod/doc-3" not in parts.read_text():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    # When
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=PATIENCE_S)
    # Then
    assert running.returncode == INTERRUPTED
    assert "stopped after prod/doc-3" in said and "--after prod/doc-3" in said
