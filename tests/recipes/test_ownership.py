"""The look-up: every answer is read, ambiguous ones are refused, and the same answers have the same digest."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgrest_server
import psycopg
import pytest
from postgrest_server import Project, serving

from migrations.answers import SourceRow, TwinRow
from migrations.ownership import look_up, look_up_again, understand
from migrations.routing import Owner
from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import Settings

TWINS = [{"id": f"t-{i:04d}", "creator_id": f"c-{i % 7}", "name": f"Twin {i}"} for i in range(2_500)]
SOURCES = [{"id": f"s-{i:04d}", "twin_id": f"t-{i:04d}"} for i in range(1_200)]


@pytest.fixture
def project() -> Iterator[Project]:
    with serving({"twins": list(TWINS), "sources": list(SOURCES)}) as running:
        yield running


def settings(**fields: Any) -> Settings:
    return Settings(_env_file=None, **fields)


def supabase_of(project: Project, **fields: Any) -> Settings:
    return settings(supabase_url=project.url, supabase_service_role_key=postgrest_server.KEY, **fields)


def test_every_twin_is_read_though_an_answer_holds_a_thousand_rows(project: Project) -> None:
    # Given a project with 2,500 twins and 1,200 sources
    # When it is looked up
    snapshot = look_up("supabase", supabase_of(project))

    # Then every one of them is there, with its owner
    assert len(snapshot.ownership.twins) == snapshot.ref.twins == 2_500
    assert len(snapshot.ownership.sources) == snapshot.ref.sources == 1_200
    assert snapshot.ownership.twins["t-2499"] == Owner("c-0", "t-2499")
    assert snapshot.ownership.sources["s-1199"] == Owner("c-2", "t-1199")
    assert len(project.requests) == 3 + 2


def test_rows_that_come_or_go_between_pages_make_it_read_again(project: Project) -> None:
    # Given a project that loses its first twin while the second page is asked for
    def lose_one(running: Project) -> None:
        if len(running.requests) == 2:
            running.tables["twins"].pop(0)

    project.before_answer = lose_one

    # When it is looked up, then the answer is whole
    assert look_up("supabase", supabase_of(project)).ref.twins == 2_499


def test_a_table_that_never_rests_is_given_up_on(project: Project) -> None:
    project.before_answer = lambda running: running.tables["twins"].append(
        {"id": f"new-{len(running.requests)}", "creator_id": "c", "name": "n"}
    )
    with pytest.raises(Unreachable, match="changes faster than it can be read"):
        look_up("supabase", supabase_of(project))


def test_a_refused_key_is_said_without_the_key(project: Project) -> None:
    wrong = settings(supabase_url=project.url, supabase_service_role_key="sb_secret_wrong")
    with pytest.raises(BadInput, match="Supabase refuses the key: Invalid API key") as refusal:
        look_up("supabase", wrong)
    assert refusal.value.next_step == "check SUPABASE_SERVICE_ROLE_KEY"
    assert "sb_secret" not in str(refusal.value)


def test_tables_and_columns_may_have_other_names() -> None:
    tables = {"personas": [{"uid": 7, "owner": 42, "title": "Coach"}]}
    with serving(tables) as project:
        named = supabase_of(
            project,
            ownership_twins_table="personas",
            ownership_twin_id_column="uid",
            ownership_twin_creator_column="owner",
            ownership_twin_name_column="title",
            ownership_sources_table=None,
        )
        snapshot = look_up("supabase", named, twin_key="name")
    assert snapshot.ownership.twins == {"7": Owner("42", "Coach")}


def test_a_table_that_is_not_there_is_said(project: Project) -> None:
    with pytest.raises(BadInput, match="no table 'none' with the columns id, creator_id, name"):
        look_up("supabase", supabase_of(project, ownership_twins_table="none"))


def test_rows_hidden_from_the_key_are_not_taken_for_nobody_owning_anything() -> None:
    with serving({"twins": [], "sources": []}) as project:
        with pytest.raises(BadInput, match="names no twin that has a creator"):
            look_up("supabase", supabase_of(project))


def test_a_project_that_does_not_answer_is_said() -> None:
    with serving({}) as project:
        gone = supabase_of(project)
    with pytest.raises(Unreachable, match="Supabase does not answer"):
        look_up("supabase", gone)


@pytest.mark.parametrize("origin", ["supabase", "postgres", "file"])
def test_a_look_up_that_is_not_configured_says_what_is_missing(origin: Any) -> None:
    with pytest.raises(BadInput) as refusal:
        look_up(origin, settings())
    assert refusal.value.next_step


def test_postgres_answers_as_supabase_does(empty_database_url: str) -> None:
    # Given a database with twins and sources, numeric ids among them
    address = empty_database_url.replace("+psycopg", "")
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE twins (id bigint, creator_id text, name text)")
        connection.execute("INSERT INTO twins SELECT i, 'c-' || i % 7, 'Twin ' || i FROM generate_series(1, 2500) i")
        connection.execute("CREATE SCHEMA app")
        connection.execute("CREATE TABLE app.documents (id uuid DEFAULT gen_random_uuid(), twin_id bigint)")
        connection.execute("INSERT INTO app.documents (twin_id) VALUES (1), (2), (NULL)")

    # When it is looked up
    with_settings = settings(ownership_database_url=address, ownership_sources_table="app.documents")
    snapshot = look_up("postgres", with_settings)

    # Then every row is there, and those that name no twin are said
    assert snapshot.ref.twins == 2_500
    assert snapshot.ownership.twins["2500"] == Owner("c-1", "2500")
    assert snapshot.ref.sources == 2
    assert "1 source" in snapshot.warnings[0]
    assert look_up_again(snapshot.ref, with_settings).ref == snapshot.ref


def test_postgres_says_what_is_wrong_with_it(empty_database_url: str) -> None:
    with pytest.raises(BadInput, match='relation "twins" does not exist'):
        look_up("postgres", settings(ownership_database_url=empty_database_url))
    with pytest.raises(BadInput, match="is not a database address"):
        look_up("postgres", settings(ownership_database_url="nonsense"))
    with pytest.raises(Unreachable, match="does not answer"):
        look_up("postgres", settings(ownership_database_url="postgresql://vecfleet@127.0.0.1:1/none"))


YAML = """
twins:
  - {id: t-1, creator_id: ana, name: Coach}
  - {id: 2, creator_id: ben}
sources:
  - {id: doc-1, twin_id: t-1}
  - {id: doc-2, twin_id: 2}
"""


def test_a_file_is_yaml_with_sources_or_csv_without(tmp_path: Path) -> None:
    (tmp_path / "owners.yaml").write_text(YAML)
    (tmp_path / "owners.csv").write_text("id,creator_id,name\nt-1,ana,Coach\n2,ben,\n")
    here = settings(vecfleet_root=tmp_path)

    from_yaml = look_up("file", here, file="owners.yaml")
    from_csv = look_up("file", here, file="owners.csv")

    assert from_yaml.ownership.twins == from_csv.ownership.twins == {"t-1": Owner("ana", "t-1"), "2": Owner("ben", "2")}
    assert from_yaml.ownership.sources == {"doc-1": Owner("ana", "t-1"), "doc-2": Owner("ben", "2")}
    assert look_up_again(from_yaml.ref, here) == from_yaml


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("o.yaml", "[]", "is not an ownership file"),
        ("o.yaml", "{twins: [], owners: []}", "is not an ownership file"),
        ("o.yaml", "{twins: {a: b}}", "must be a list of mappings"),
        ("o.yaml", "{twins: [a]}", "must be a list of mappings"),
        ("o.yaml", "{twins: [!!python/name:os.system '']}", "is not YAML"),
        ("o.yaml", "{twins: []}", "names no twin that has a creator"),
        ("o.csv", "id,owner,name\n", "has no column creator_id"),
        ("o.csv", "id,creator_id,name\n,ana,x\n", "has no id"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=sentence):
        look_up("file", settings(vecfleet_root=tmp_path), file=name)


def test_ambiguous_owners_are_refused_all_at_once() -> None:
    # Given a twin with two creators, two twins of one name, and a source of two twins
    twins = [
        TwinRow("t-1", "ana", "Coach"),
        TwinRow("t-1", "ben", "Coach"),
        TwinRow("t-2", "cleo", "Guide"),
        TwinRow("t-3", "cleo", "Guide"),
    ]
    sources = [SourceRow("doc", "t-2"), SourceRow("doc", "t-1")]

    # When they are named by name, then each ambiguity is said
    with pytest.raises(BadInput) as refusal:
        understand("file", twins, sources, twin_key="name")
    said = refusal.value.message
    assert "twin 't-1' is given as 'Coach' of creator 'ana' and as 'Coach' of creator 'ben'" in said
    assert "twins 't-2' and 't-3' of creator 'cleo' are both named 'Guide'" in said
    assert "source 'doc' belongs to twin 't-2' and to twin 't-1'" in said


def test_equal_names_are_no_trouble_where_twins_go_by_id() -> None:
    rows = [TwinRow("t-2", "cleo", "Guide"), TwinRow("t-3", "cleo", "Guide"), TwinRow("t-3", "cleo", "Guide")]
    assert understand("file", rows, []).ref.twins == 2


def test_twins_without_a_creator_own_nothing_and_are_counted() -> None:
    rows = [TwinRow("t-1", "ana", ""), TwinRow("t-2", "", "lost")]
    snapshot = understand("file", rows, [SourceRow("doc", "t-2")])
    assert set(snapshot.ownership.twins) == {"t-1"} and not snapshot.ownership.sources
    assert len(snapshot.warnings) == 2


def test_the_digest_is_of_the_answers_not_of_their_order() -> None:
    rows = [TwinRow(f"t-{i}", "ana", "") for i in range(50)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert understand("file", rows, []).ref.digest == understand("file", shuffled, []).ref.digest
    assert understand("file", rows, []).ref.digest != understand("file", rows[1:], []).ref.digest
    moved = [TwinRow("t-0", "ben", ""), *rows[1:]]
    assert understand("file", rows, []).ref.digest != understand("file", moved, []).ref.digest
