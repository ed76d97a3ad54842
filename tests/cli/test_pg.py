"""`vecfleet pg`: what is typed, what is said, what is changed, and what is in the log file."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Answer, Vecfleet

from tests.vectors import ask

SMALL = ("--dimension", "8")
HASH = ("--embedder", "hash")


@pytest.fixture
def url(environment: dict[str, str], empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without the extension, named by PGVECTOR_URL."""
    monkeypatch.setenv("PGVECTOR_URL", empty_database_url)
    yield empty_database_url


@pytest.fixture
def filled(url: str, vecfleet: Vecfleet) -> str:
    """The namespace production with our sample in the collection campaigns."""
    assert vecfleet("pg", "setup", "--namespace", "production", *SMALL).code == 0
    added = vecfleet("pg", "process", "--sample", "--namespace", "production", "--collection", "campaigns", *HASH)
    assert added.code == 0, added.err
    return url


def tables(url: str) -> list[str]:
    return [name for (name,) in ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]


def logged(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "home/logs/pg.log").read_text().splitlines()]


def test_from_nothing_to_an_answer(url: str, vecfleet: Vecfleet, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"title": "Winter", "body": "snow and ice"}))
    (tmp_path / "lines.jsonl").write_text('{"title": "Summer"}\n\n{"title": "Autumn"}\n')

    setup = vecfleet("pg", "setup", *SMALL)
    one = vecfleet("pg", "process", "notes.json", "--collection", "seasons", *HASH)
    two = vecfleet("pg", "process", "lines.jsonl", "--collection", "seasons", *HASH)
    found = vecfleet("pg", "search", "snow and ice", "--collection", "seasons", "--limit", "1", *HASH)

    assert "the extension vector was created" in setup.out
    assert "notes → default/seasons: 1 embedding" in one.out and "lines → default/seasons: 2 embeddings" in two.out
    assert 'next: vecfleet pg search "a question"' in one.out and "--embedder hash" in one.out.splitlines()[-1]
    assert "snow and ice" in found.out and "seasons/notes" in found.out
    assert [answer.code for answer in (setup, one, two, found)] == [0, 0, 0, 0]
    filtered = vecfleet("pg", "search", "x", "--filter", "document_id=lines", "--json", *HASH).json
    assert [result["document_id"] for result in filtered["results"]] == ["lines", "lines"]


def test_what_there_is(filled: str, vecfleet: Vecfleet) -> None:
    assert vecfleet("pg", "create", "production").code == 0

    listed = vecfleet("pg", "namespaces")
    stats = vecfleet("pg", "stats", "production")
    collections = vecfleet("pg", "collections", "production")
    one = vecfleet("pg", "collection-stats", "production", "campaigns", "--json")

    assert "1 namespace, 1 embedding\n" in listed.out and "embeddings_production" in listed.out
    assert "vector(8)" in stats.out and "1 in 1 collection\n" in stats.out and "vector index: yes" in stats.out
    assert "campaigns" in collections.out
    assert one.json["total_embeddings"] == 1
    assert vecfleet("pg", "namespaces", "--json").json["namespaces"][0]["embedding_count"] == 1


def test_a_copy_and_a_move_say_what_they_will_do_and_what_they_did(
    filled: str, vecfleet: Vecfleet, tmp_path: Path
) -> None:
    preview = vecfleet("pg", "copy", "production", "staging", "--dry-run")
    assert preview.code == 0 and tables(filled) == ["embeddings_production"]
    assert "embeddings_production → embeddings_staging (copy)" in preview.out and "rows: 1" in preview.out

    unasked = vecfleet("pg", "copy", "production", "staging")
    assert unasked.code == 3 and tables(filled) == ["embeddings_production"]

    copied = vecfleet("pg", "copy", "production", "staging", "--force")
    moved = vecfleet("pg", "move", "production", "live", "--force", "--index", "hnsw", "--json")

    assert "migrated 1 row " in copied.out and "equal, digest" in copied.out and "kept unchanged" in copied.out
    assert moved.json["source_action"].startswith("renamed to embeddings_production_backup_")
    assert ask(filled, "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%hnsw%'") == [(1,)]
    assert "backup: embeddings_production_backup_" in vecfleet("pg", "check").out
    done = [line for line in logged(tmp_path) if line["action"] in ("copy", "move")]
    assert [(line["action"], line["ended"], line["rows_migrated"]) for line in done] == [
        ("copy", "done", 1),
        ("move", "done", 1),
    ]


def test_the_old_table_is_found_and_migrated(filled: str, vecfleet: Vecfleet) -> None:
    ask(filled, "ALTER TABLE embeddings_production RENAME TO embeddings")

    assert "a migration is needed" in vecfleet("pg", "check").out
    assert vecfleet("pg", "legacy", "--dry-run").code == 0
    migrated = vecfleet("pg", "legacy", "--force")

    assert migrated.code == 0 and "renamed to embeddings_backup_" in migrated.out
    assert "no migration is needed" in vecfleet("pg", "check").out
    assert "DOES NOT HOLD: the source embeddings exists" in vecfleet("pg", "legacy", "--dry-run").out


def test_what_deletes_asks_first(filled: str, vecfleet: Vecfleet) -> None:
    for words in (("empty", "production", "campaigns"), ("drop", "production")):
        tried, looked = vecfleet("pg", *words), vecfleet("pg", *words, "--dry-run")
        assert (tried.code, looked.code) == (3, 0)
        assert "dry run" in looked.out
    assert ask(filled, "SELECT count(*) FROM embeddings_production") == [(1,)]

    assert "deleted 1 embedding\n" in vecfleet("pg", "empty", "production", "campaigns", "--force").out
    assert vecfleet("pg", "drop", "production", "--force").code == 0
    assert tables(filled) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "Production"), 2, "may hold only a-z, 0-9 and _"),
        (("create", "production-data"), 2, "may hold only"),
        (("create", "a" * 51), 2, "51 characters"),
        (("create", "tmp"), 2, "is reserved"),
        (("create", ""), 2, "is empty"),
        (("create", "x; DROP TABLE embeddings_production; --"), 2, "may hold only"),
        (("create", 'x" (id int); --'), 2, "may hold only"),
        (("create", "größe"), 2, "may hold only"),
        (("create", "wide", "--dimension", "16001"), 2, "16,000"),
        (("stats", "nowhere"), 2, "does not exist"),
        (("stats", "prodution"), 2, "does not exist; did you mean 'production'?"),
        (("drop", "prodution", "--force"), 2, "did you mean 'production'?"),
        (("copy", "prodution", "v2", "--force"), 3, "embeddings_prodution exists; did you mean 'production'?"),
        (("move", "prodution", "v2", "--dry-run"), 3, "embeddings_prodution exists; did you mean 'production'?"),
        (("collections", "prodution"), 2, "did you mean 'production'?"),
        (("search", "x", "--namespace", "prodution", "--embedder", "hash"), 2, "did you mean 'production'?"),
        (("collection-stats", "production", "campaing"), 2, "did you mean 'campaigns'?"),
        (("empty", "production", "campaing", "--force"), 2, "did you mean 'campaigns'?"),
        (("drop", "nowhere", "--force"), 2, "does not exist"),
        (("collections", "nowhere"), 2, "does not exist"),
        (("empty", "production", "nothing", "--force"), 2, "no collection"),
        (("copy", "production", "production", "--force"), 3, "does not exist"),
        (("copy", "nowhere", "staging", "--force"), 3, "exists"),
        (("move", "production", "Live", "--force"), 2, "may hold only"),
        (("legacy", "--force"), 3, "the source embeddings exists"),
        (("search", "x"), 2, "OPENAI_API_KEY is not set"),
        (("search", "x", "--namespace", "nowhere", "--embedder", "hash"), 2, "does not exist"),
        (("search", "x", "--namespace", "production", "--embedder", "hash", "--filter", "odd"), 2, "no filter"),
        (("process", "absent.json", "--embedder", "hash"), 2, "no file"),
        (("process", "--embedder", "hash"), 2, "a file or --sample"),
        (("process", "--sample", "--config", "odd", "--embedder", "hash"), 2, "no configuration"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do_and_changes_nothing(
    filled: str, vecfleet: Vecfleet, words: tuple[str, ...], code: int, said: str
) -> None:
    before = tables(filled)

    answer = vecfleet("pg", *words)

    assert answer.code == code and said in answer.err + answer.out, answer
    assert "next:" in answer.err
    assert tables(filled) == before


def test_a_database_that_lacks_what_is_needed_says_which_command_gives_it(
    url: str, vecfleet: Vecfleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = vecfleet("pg", "create", "production")
    assert missing.code == 1 and "the extension vector is not there" in missing.err
    assert "CREATE EXTENSION vector" in missing.err

    ask(url, "DROP ROLE IF EXISTS reader")
    ask(url, "CREATE ROLE reader LOGIN PASSWORD 'reader'")
    ask(url, "CREATE EXTENSION vector")
    host = url.rsplit("@", 1)[1]
    monkeypatch.setenv("PGVECTOR_URL", f"postgresql://reader:reader@{host}")
    refused = vecfleet("pg", "create", "production")
    assert refused.code == 1 and "permission denied" in refused.err and "CREATE on the schema" in refused.err

    monkeypatch.setenv("PGVECTOR_URL", f"postgresql://reader:wrong@{host}")
    wrong = vecfleet("pg", "namespaces")
    assert wrong.code == 1 and "password authentication failed" in wrong.err and "wrong@" not in wrong.err

    monkeypatch.setenv("PGVECTOR_URL", "postgresql://reader:reader@127.0.0.1:1/nothing")
    assert vecfleet("pg", "namespaces").code == 1
    for empty, said in (("", "PGVECTOR_URL is not set"), ("no address", "cannot be read")):
        monkeypatch.setenv("PGVECTOR_URL", empty)
        answer: Answer = vecfleet("pg", "namespaces")
        assert answer.code == 2 and said in answer.err
    ask(url, "DROP ROLE reader")
