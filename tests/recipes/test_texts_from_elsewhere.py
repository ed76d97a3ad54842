"""Texts that the records do not hold: rows of a file or of a table, found by the records' ids."""

import json
from collections.abc import Callable
from pathlib import Path

import postgrest_server
import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from migrations.embedding import Embedding, NoText
from migrations.texts import TextRows, open_rows, rows_of, texts_of
from vecfleet.errors import BadInput, NeedsOperator, NotFound, VecfleetError
from vecfleet.model_cards import ModelCard
from vecfleet.records import Record
from vecfleet.settings import Settings

CARD = ModelCard(name="local/wordllama", revision="1", dimension=64)
ROWS = [{"id": "a", "title": "Sleep", "body": "eight hours"}, {"id": "b", "title": "Tyres", "body": None}]


def as_lines(path: Path) -> str:
    path.with_suffix(".jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return "texts.jsonl"


def as_parquet(path: Path) -> str:
    parquet.write_table(pa.Table.from_pylist(ROWS), path.with_suffix(".parquet"))
    return "texts.parquet"


def asked(settings: Settings, named: str, text: str = "{title}: {body}", id_column: str = "id") -> Embedding:
    return Embedding(card=CARD, text=text, rows=rows_of(settings, named, id_column))


def opened(settings: Settings, embedding: Embedding) -> TextRows:
    assert embedding.rows is not None
    return open_rows(embedding.rows, embedding.keys, settings)


def read(settings: Settings, embedding: Embedding, *ids: str) -> dict[str, str | NoText]:
    texts = texts_of(embedding, opened(settings, embedding), [Record(record_id, b"") for record_id in ids])
    return dict(zip(ids, texts, strict=True))


@pytest.mark.parametrize("written", [as_lines, as_parquet])
def test_a_record_has_the_text_of_the_row_of_its_id(tmp_path: Path, written: Callable[[Path], str]) -> None:
    settings = Settings(vecfleet_root=tmp_path)
    name = written(tmp_path / "texts")
    assert read(settings, asked(settings, name), "a", "b", "c") == {
        "a": "Sleep: eight hours",
        "b": NoText(f"it has no value in {name} under 'body', of which its text is made"),
        "c": NoText(f"{name} has no row of its id"),
    }


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    settings = Settings(vecfleet_root=tmp_path)
    embedding = asked(settings, as_lines(tmp_path / "texts"))
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.write('{"id": "c", "title": "Bread", "body": "flour"}\n')
    with pytest.raises(BadInput, match=r"texts\.jsonl are no longer those of the plan") as refused:
        opened(settings, embedding)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("t.jsonl", '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "1 ids more than once"),
        ("t.jsonl", '{"id": 7, "text": "x"}\n', "not a file of JSON lines"),
        ("t.jsonl", "a,b\n", "not a file of JSON lines"),
        ("t.jsonl", "", "not a file of JSON lines"),
        ("t.jsonl", '{"text": "x"}\n', "ids that are no texts under 'id'"),
        ("t.parquet", "nothing of the kind", "not a Parquet file"),
        ("t.csv", "id,text\n", "neither a file of texts nor a table"),
    ],
)
def test_a_file_that_gives_no_texts_is_refused_with_what_is_wrong(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    settings = Settings(vecfleet_root=tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=why) as refused:
        opened(settings, asked(settings, name, "{text}"))
    assert refused.value.next_step


def test_a_file_without_the_column_of_the_texts_is_refused(tmp_path: Path) -> None:
    settings = Settings(vecfleet_root=tmp_path)
    name = as_parquet(tmp_path / "texts")
    with pytest.raises(BadInput, match=r"texts\.parquet has no column chunk"):
        opened(settings, asked(settings, name, "{chunk}"))
    with pytest.raises(NotFound):
        rows_of(settings, "nowhere.jsonl", "id")


@pytest.mark.parametrize(
    ("type_", "ids"),
    [
        ("text", ("a", "b")),
        ("uuid", ("5698a809-87a5-4169-ab9b-c4a6222ae2dd", "ad1eeace-26d1-4eff-9560-39643832d0f2")),
        ("bigint", ("7", "12")),
    ],
)
def test_rows_of_a_table_are_found_by_ids_of_its_own_type(
    empty_database_url: str, type_: str, ids: tuple[str, str]
) -> None:
    settings = Settings(texts_database_url=empty_database_url)  # type: ignore[arg-type]
    _execute(
        settings,
        f'CREATE TABLE chunks ("chunk id" {type_} PRIMARY KEY, text text)',
        f"INSERT INTO chunks VALUES ('{ids[0]}', 'one'), ('{ids[1]}', NULL)",
    )
    embedding = asked(settings, "postgres:public.chunks", "{text}", "chunk id")
    assert read(settings, embedding, *ids, "another's id", "007") == {
        ids[0]: "one",
        ids[1]: NoText("it has no value in the table public.chunks under 'text', of which its text is made"),
        "another's id": NoText("the table public.chunks has no row of its id"),
        "007": NoText("the table public.chunks has no row of its id"),
    }


TWICE = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "b", "text": "three"}]


def assert_b_is_given_neither_text(settings: Settings, embedding: Embedding) -> None:
    assert read(settings, embedding, "a") == {"a": "one"}
    with pytest.raises(NeedsOperator, match=r"the table chunks.* has more than one row for some ids") as refused:
        read(settings, embedding, "a", "b")
    assert refused.value.next_step == "leave one row for each id; or name a view that has one"


def test_a_record_with_more_than_one_row_is_given_neither_text(empty_database_url: str) -> None:
    settings = Settings(texts_database_url=empty_database_url)  # type: ignore[arg-type]
    rows = ", ".join(f"('{row['id']}', '{row['text']}')" for row in TWICE)
    _execute(settings, "CREATE TABLE chunks (id text, text text)", f"INSERT INTO chunks VALUES {rows}")
    assert_b_is_given_neither_text(settings, asked(settings, "postgres:chunks", "{text}"))


def test_a_record_with_more_than_one_row_in_supabase_is_given_neither_text() -> None:
    with postgrest_server.serving({"chunks": TWICE}) as project:
        settings = _project(project)
        assert_b_is_given_neither_text(settings, asked(settings, "supabase:chunks", "{text}"))


@pytest.mark.parametrize(
    ("url", "error", "why"),
    [
        (None, BadInput, "texts of the table chunks need TEXTS_DATABASE_URL"),
        ("postgresql://nobody@127.0.0.1:1/none", VecfleetError, "the database of the table chunks does not answer"),
        ("here", NeedsOperator, "the database refuses to read the table chunks: UndefinedTable"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(
    empty_database_url: str, url: str | None, error: type[VecfleetError], why: str
) -> None:
    settings = Settings(texts_database_url=empty_database_url if url == "here" else url)  # type: ignore[arg-type]
    with pytest.raises(error, match=why) as refused:
        read(settings, asked(settings, "postgres:chunks", "{text}"), "a")
    assert refused.value.next_step


def _project(project: postgrest_server.Project, key: str = postgrest_server.KEY) -> Settings:
    return Settings(supabase_url=project.url, supabase_service_role_key=key)  # type: ignore[call-arg]


def test_rows_of_a_supabase_project_are_found_over_its_api_whatever_their_ids_are_made_of() -> None:
    ids = [f'{number}, "quoted" (é)' for number in range(250)]
    rows = [{"id": record_id, "text": f"text of {record_id}", "other": 1} for record_id in ids]
    with postgrest_server.serving({"chunks": rows}) as project:
        settings = _project(project)
        texts = read(settings, asked(settings, "supabase:chunks", "{text}"), *ids[:200], "another")
    assert texts == {record_id: f"text of {record_id}" for record_id in ids[:200]} | {
        "another": NoText("the table chunks of Supabase has no row of its id")
    }
    # Then each question is short enough for an address
    assert len(project.requests) > 1 and max(map(len, project.requests)) < 8_000


def test_an_id_that_is_none_of_the_columns_type_costs_the_others_nothing() -> None:
    ids = [f"5698a809-87a5-4169-ab9b-{number:012}" for number in range(9)]
    with postgrest_server.serving({"chunks": [{"id": record_id, "text": record_id} for record_id in ids]}) as project:
        project.uuids = True
        settings = _project(project)
        texts = read(settings, asked(settings, "supabase:chunks", "{text}"), *ids, "another's id")
    assert texts.pop("another's id") == NoText("the table chunks of Supabase has no row of its id")
    assert texts == {record_id: record_id for record_id in ids}


@pytest.mark.parametrize(
    ("table", "key", "error", "why"),
    [
        ("none", postgrest_server.KEY, NeedsOperator, "Supabase has no table 'none' with the columns id, text"),
        ("chunks", "sb_secret_wrong", NeedsOperator, "Supabase refuses the key"),
        ("chunks", None, BadInput, "texts of the table chunks of Supabase need SUPABASE_URL and SUPABASE_SERVICE"),
    ],
)
def test_a_table_of_supabase_that_cannot_be_read_says_why(
    table: str, key: str | None, error: type[VecfleetError], why: str
) -> None:
    with postgrest_server.serving({"chunks": []}) as project:
        settings = _project(project, key) if key is not None else Settings(supabase_service_role_key=None)  # type: ignore[call-arg]
        with pytest.raises(error, match=why) as refused:
            read(settings, asked(settings, f"supabase:{table}", "{text}"), "a")
    assert refused.value.next_step and "sb_secret" not in str(refused.value)


def _execute(settings: Settings, *statements: str) -> None:
    assert settings.texts_database_url is not None
    engine = sa.create_engine(settings.texts_database_url.get_secret_value())
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()
