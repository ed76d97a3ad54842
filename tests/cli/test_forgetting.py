"""`forget` and `readmit` as a person types them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from terminal import DIMENSION, Brain, Vecfleet

from orchestrator.cli import erasing
from orchestrator.core.freshness import Waits
from orchestrator.core.two_persons import TwoPersons
from orchestrator.ledger import consents, erasures, index_acts
from orchestrator.ledger.database import Database
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.parquet import ParquetStore
from vecfleet.tenancy.fences import FENCED, subject_of


@pytest.fixture
def tenants(brain: Brain) -> Brain:
    brain.write("creator_ana_twin_coach", "a-1", "a-2", creator_id="ana")
    brain.write("__default__", "hers", creator_id="ana")
    brain.write("__default__", "his", creator_id="bob")
    return brain


def test_forget_asks_for_the_name_and_without_anybody_to_type_it_changes_nothing(
    vecfleet: Vecfleet, tenants: Brain
) -> None:
    tenants.forget_calls()

    answer = vecfleet("forget", "--creator", "ana", "--index", "brain")

    assert answer.code == 3 and "nobody is at the terminal" in answer.err and "--yes" in answer.err.splitlines()[-1]
    assert tenants.writes() == set()


def test_forget_erases_certifies_and_says_where_the_certificate_is(
    vecfleet: Vecfleet, tenants: Brain, environment: dict[str, str]
) -> None:
    answer = vecfleet("forget", "--creator", "ana", "--index", "brain", "--export", "portable", "--yes", "--json")

    assert answer.code == 0, answer.err
    assert answer.json["confirmed"] and answer.json["records"] == 3 and answer.json["exported"] == 3
    assert answer.json["kept"] == ["portable"]
    assert answer.json["fence"] == FENCED
    (page,) = answer.json["next_steps"]
    kept = Path(page).with_suffix(".json")
    assert json.loads(kept.read_text())["subject"] == subject_of(Tenant("ana"))
    assert b"ana" not in kept.read_bytes()
    # And again: what is gone is no error, and in words it reads so
    again = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes")
    assert (
        again.code == 0
        and "nothing of the creator ana was found, so nothing was erased" in again.out
        and "0 records" not in again.out
    )


def test_the_second_person_types_the_same_command_with_its_export(
    vecfleet: Vecfleet, tenants: Brain, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as connection:
        consents.declare(connection, [TwoPersons.ERASURE])
    command = ("forget", "--creator", "ana", "--index", "brain", "--export", "hers", "--yes")

    # When the first types it, then nothing is made for it
    monkeypatch.setattr(erasing, "who", lambda: "olga")
    alone = vecfleet(*command)
    assert alone.code == 3 and "waits for a second person for the erasure: olga asked for it" in alone.err
    assert not (tmp_path / "hers").exists()

    # When the second does, then it is exported and done
    monkeypatch.setattr(erasing, "who", lambda: "ben")
    done = vecfleet(*command)
    assert done.code == 0 and "exported: 3 records to hers" in done.out, done.err


def test_where_the_service_filled_another_index_while_a_person_read_what_goes_nothing_is_certified(
    vecfleet: Vecfleet, tenants: Brain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given another index, which is filled for a plan until somebody is asked for the tenant's name
    monkeypatch.setenv("PINECONE_INDEX_NAME", "brain")
    tenants.create("filled")
    tenants.write("creator_ana_twin_coach", "a-3", index="filled", creator_id="ana")
    with database.begin() as connection:
        noted = index_acts.note_filling(connection, "filled", "brain", "sha256:1", "olga")

    def types_late(*_: object, **__: object) -> None:
        with database.begin() as connection:
            index_acts.settle(connection, noted)

    with monkeypatch.context() as typing:
        typing.setattr(erasing, "confirm_by_typing", types_late)
        late = vecfleet("forget", "--creator", "ana")

    # Then nothing is deleted, and the same command looks there too
    assert late.code == 3 and "records were taken to filled since this began" in late.err
    again = vecfleet("forget", "--creator", "ana", "--yes", "--json")
    assert again.code == 0 and again.json["records"] == 4, again.err


def test_a_certificate_waits_until_reads_show_what_a_job_wrote_last(
    vecfleet: Vecfleet, tenants: Brain, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that copied a record of the tenant among others' just now, and a namespace whose reads lag
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "10")
    table.apply(plan_of(planned("s", "t-s")), waits=Waits(source_lag_s=10, target_lag_s=10))
    table.listed({"s": [["copied"]]})
    tenants.fault(operation="reads", namespace="__default__", lag_ms=3_000)
    tenants.write("__default__", "copied", creator_id="ana")
    for lease in table.take():
        table.copy(lease, "t-s")

    # When the tenant is erased
    answer = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes", "--json")

    # Then it says until when it waits and why, and finds the record
    assert answer.code == 0, answer.err
    assert "waits until" in answer.err and "recent writes of a job, or" in answer.err
    assert answer.json["records"] == 4
    kept = json.loads(Path(answer.json["next_steps"][0]).with_suffix(".json").read_text())
    assert kept["freshness_wait_s"] == 10 and kept["last_write"] < kept["last_look"]
    # And nothing of it shows once no read lags any more
    tenants.no_faults()
    assert tenants.store.open(tenants.store.describe("brain")).list_ids("__default__").ids == ["his"]


def test_no_certificate_is_given_while_a_deletion_without_an_answer_may_still_be_carried_out(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that breaks a deletion off, carries out the next one, and the first a while later
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.5")
    monkeypatch.setenv("REQUEST_DEADLINE_SECONDS", "3")
    tenants.fault(operation="delete_namespace", late_ms=2_500, count=1)

    answer = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes")

    # Then it says why it waits; and what a tenant writes that comes back after the certificate stays
    assert answer.code == 0 and "a deletion was not answered" in answer.err
    assert vecfleet("readmit", "--creator", "ana").code == 0
    tenants.write("creator_ana_twin_coach", "again", creator_id="ana")
    calls = httpx.get(f"{tenants.address}/_emulator/calls").raise_for_status().json()["calls"]
    assert [call["fault"] for call in calls].count("landed late") == 1


def test_a_tenants_own_export_outlives_a_second_erasure_and_other_exports_do_not(
    vecfleet: Vecfleet, tenants: Brain, tmp_path: Path
) -> None:
    # Given an export of everything by other means, and one that an erasure made for the tenant
    folders = ParquetStore(Settings.load().vecfleet_root)
    source = tenants.store.open(tenants.store.describe("brain"))
    everything = folders.open(folders.create_like("exports/brain", source.info, None, None))
    everything.upsert("creator_ana_twin_coach", list(source.fetch("creator_ana_twin_coach", ["a-1"]).records.values()))
    first = vecfleet("forget", "--creator", "ana", "--index", "brain", "--export", "exports/for-ana", "--yes")
    assert "exported: 4 records to exports/for-ana, which stays" in first.out
    written = sorted((tmp_path / "exports/for-ana").rglob("*.parquet"))
    assert written and everything.namespace("creator_ana_twin_coach") is None

    # When she is erased again, and what came since goes
    tenants.write("creator_ana_twin_coach", "a-3")
    everything.upsert("creator_ana_twin_coach", [Record("a-4", b"\0\0\x80\x3f" * DIMENSION)])
    again = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes")

    # Then hers is there as it was, which is said, also by the certificate
    assert again.code == 0 and "2 records erased" in again.out
    assert "until a person deletes them: exports/for-ana" in again.out
    assert sorted((tmp_path / "exports/for-ana").rglob("*.parquet")) == written
    (kept,) = [json.loads(path.read_text()) for path in (tmp_path / "home/certificates").glob("erasure-2*.json")]
    assert any("forget --export" in said for said in kept["residual"])
    assert any("plan files" in said and "ownership files" in said for said in kept["residual"])
    assert "plan files that --out put elsewhere, ownership files" in again.out
    # And nobody else's records come into it
    assert vecfleet("forget", "--creator", "bob", "--export", "exports/for-ana", "--index", "brain", "--yes").code != 0
    refused = vecfleet("plan", "export", "brain", "exports/for-ana")
    assert refused.code != 0 and "name another folder" in refused.err


def test_an_export_that_was_planned_before_is_not_applied_into_what_a_tenant_got(
    vecfleet: Vecfleet, tenants: Brain, tmp_path: Path
) -> None:
    # Given a plan to export everything into a folder that an erasure then made for a tenant
    assert vecfleet("plan", "export", "brain", "exports/hers", "--out", "plan.yaml").code == 0
    assert vecfleet("forget", "--creator", "ana", "--index", "brain", "--export", "exports/hers", "--yes").code == 0
    written = sorted((tmp_path / "exports/hers").rglob("*"))

    refused = vecfleet("apply", "plan.yaml")

    assert refused.code != 0 and "the folder 'exports/hers' is a tenant's own" in refused.err
    assert sorted((tmp_path / "exports/hers").rglob("*")) == written


def damaged(folder: Path) -> None:
    (folder / "_index.json").write_text("not JSON")


def of_another_version(folder: Path) -> None:
    text = (folder / "_index.json").read_text()
    (folder / "_index.json").write_text(text.replace('"format": 2', '"format": 99'))


def renamed_in_capitals(folder: Path) -> None:
    folder.rename(folder.with_name("Brain"))


def a_link(folder: Path) -> None:
    moved = folder.parent.parent.parent / "elsewhere"
    folder.rename(moved)
    folder.symlink_to(moved)


def with_a_namespace_that_is_damaged(folder: Path) -> None:
    (folder / "creator_bob_twin_coach/_namespace.json").write_text("{}")


def with_a_part_that_is_damaged(folder: Path) -> None:
    (folder / f"creator_bob_twin_coach/part-{1:010}-{0:032}.parquet").write_text("no Parquet")


@pytest.mark.parametrize(
    "spoil",
    [
        damaged,
        of_another_version,
        renamed_in_capitals,
        a_link,
        with_a_namespace_that_is_damaged,
        with_a_part_that_is_damaged,
    ],
)
def test_a_folder_that_cannot_be_read_keeps_no_erasure_from_the_others_and_is_named(
    vecfleet: Vecfleet, tenants: Brain, spoil: Callable[[Path], None]
) -> None:
    # Given two exports of everything, one of which nobody can read
    root = Settings.load().vecfleet_root
    folders, source = ParquetStore(root), tenants.store.open(tenants.store.describe("brain"))
    for name in ("exports/brain", "exports/other"):
        export = folders.open(folders.create_like(name, source.info, None, None))
        for namespace in ("creator_ana_twin_coach", "creator_bob_twin_coach"):
            export.upsert(namespace, [Record("a-1", b"\0\0\x80\x3f" * DIMENSION)])
    spoil(root / "exports/brain")

    # When a tenant is erased
    answer = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes", "--json")

    # Then its records are gone from the index and the other export
    assert answer.code == 0, answer.err
    assert answer.json["records"] == 4
    assert [info.name for info in export.namespaces()] == ["creator_bob_twin_coach"]
    # And answer and certificate name the folder, of which nothing is promised
    (name,) = answer.json["unread"]
    assert name.lower() == "exports/brain"
    assert any(
        said.startswith(f"the folder {name} under VECFLEET_ROOT") for said in answer.json["certificate"]["residual"]
    )
    # And so it is in words
    said = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes").out
    assert f"not looked into: {name}" in said


@pytest.mark.parametrize(
    ("export", "exported"),
    [((), "nothing: no copy was asked for"), (("--export", "hers"), "3 records, for the tenant")],
)
def test_the_page_of_a_certificate_is_in_words(
    vecfleet: Vecfleet, tenants: Brain, export: tuple[str, ...], exported: str
) -> None:
    forget = vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes", "--json", *export)
    page = Path(forget.json["next_steps"][0]).read_text()

    rows = dict(re.findall(r"<th>([^<]*)</th><td>([^<]*)</td>", page))
    assert rows["exported first"] == exported
    assert rows["confirmed by"] == "listing, fetching, querying 2 namespaces"
    assert rows["what was asked for"] == "a creator with all twins"
    # And nothing of it is as a program writes it
    assert [text for pair in rows.items() for text in pair if re.search(r"_|[\[\]{}]|None|True|False", text)] == []


def test_a_name_that_is_nowhere_is_said_to_be_so_for_it_may_be_mistyped(vecfleet: Vecfleet, tenants: Brain) -> None:
    forget = ("forget", "--index", "brain", "--yes", "--creator")
    mistyped = "it is gone already, or the name is mistyped, which looks the same"

    nobody = vecfleet(*forget, "nobody", "--twin", "coach")
    anna, ana = vecfleet(*forget, "anna"), vecfleet(*forget, "ana")

    said = " ".join(nobody.out.split())
    assert nobody.code == 0 and "nothing of the twin coach of nobody was found" in said and mistyped in said
    assert "what went" not in said and "read and keep the certificate" in said
    assert "what went" in ana.out and "mistyped" not in ana.out
    # And who was likely meant is told
    assert "did you mean" not in said
    assert "so nothing was erased; did you mean 'ana'?" in anna.out
    # And the fence stands against that name, and falls by what was said
    assert "`vecfleet readmit --creator nobody --twin coach`" in said
    assert vecfleet("readmit", "--creator", "nobody", "--twin", "coach").code == 0


def test_a_certificate_of_before_stays_when_numbers_begin_again_with_a_new_database(
    vecfleet: Vecfleet, tenants: Brain, database: Database
) -> None:
    forget = ("forget", "--index", "brain", "--yes", "--json", "--creator")
    before = Path(vecfleet(*forget, "ana").json["next_steps"][0]).with_suffix(".json")
    was = before.read_bytes()
    with database.begin() as connection:
        connection.execute(sa.text("truncate erasure restart identity cascade"))

    answer = vecfleet(*forget, "bob").json

    (page,) = answer["next_steps"]
    assert answer["certificate"]["erasure"] == json.loads(was)["erasure"] == 1
    assert json.loads(Path(page).with_suffix(".json").read_text()) == answer["certificate"]
    assert before.read_bytes() == was and len(list(before.parent.iterdir())) == 4


def test_a_twin_that_came_back_is_readmitted(vecfleet: Vecfleet, tenants: Brain, database: Database) -> None:
    assert vecfleet("readmit", "--creator", "ana").code == 2
    vecfleet("forget", "--creator", "ana", "--index", "brain", "--yes")
    with database.begin() as connection:
        assert erasures.fenced(connection, [subject_of(Tenant("ana"))])

    assert vecfleet("readmit", "--creator", "ana").code == 0

    with database.begin() as connection:
        assert not erasures.fenced(connection, [subject_of(Tenant("ana"))])
