"""The pages of docs/recipes, typed as they stand: whoever copies them gets what they say.

A page's indented blocks are shell. A story types them one after the other, and none may be left out at its end. Only
the number of a job is the reader's own: after `JOB=` they write what `apply` printed last.
"""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.states import JobState
from orchestrator.ledger import route_table
from tests.stories.emulated import Emulator, Rows, assert_same, assert_same_index, row
from tests.stories.reader import RECIPES, Reader
from tests.stories.world import PATIENCE_S, OpenWorld, World
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient, Rollout
from vecfleet.tenancy.routes import write_table

pytestmark = pytest.mark.story

BRAIN = "digital-twin-brain"
A_DAY = timedelta(hours=25)


@pytest.fixture
def brain(open_world: OpenWorld) -> World:
    """An empty index of the name that the pages use, and a fleet that works."""
    world = open_world()
    world.emulator.create_index(BRAIN)
    return world.start(workers=1)


def fill(world: World, **namespaces: int) -> dict[str, Rows]:
    for name, count in namespaces.items():
        world.emulator.write(BRAIN, name, [row(f"{name}-{n}", page=n) for n in range(count)])
    return world.emulator.dump(BRAIN)


def owned(before: dict[str, Rows], creator: str) -> dict[str, Rows]:
    """Return what the index holds once every namespace of it is a twin of this creator."""
    twins = {source: "default" if source == "__default__" else source for source in before}
    return {
        f"creator_{creator}_twin_{twin}": {
            id: one.enriched(source, creator, twin) for id, one in before[source].items()
        }
        for source, twin in twins.items()
    }


def test_regroup_in_place(brain: World) -> None:
    # Given a job table in which this is not the first job
    before = fill(brain, coach=12, guide=8, __default__=5)
    wanted = owned(before, "ana")
    # And, as in the seeds, with a record in `__default__` that names a twin of its own
    claimed = row("claimed", twin_id="mentor")
    brain.emulator.write(BRAIN, "__default__", [claimed])
    before["__default__"][claimed.id] = claimed
    kept = {"migrated_from": "__default__", "creator_id": "ana", "twin_id": "mentor"}
    wanted["creator_ana_twin_default"][claimed.id] = replace(claimed, metadata=kept)
    reader = Reader(brain, "regroup-in-place")
    reader.type(f"vecfleet plan export {BRAIN} exports/brain --out export.yaml && vecfleet apply export.yaml --watch")
    reader.type("vecfleet finish 1")
    reader.type_next(2)
    assert_same_index(brain.emulator.dump(BRAIN), {**before, **wanted})
    reader.type_next()
    brain.later(A_DAY)
    assert "26 of 26 records" in reader.type_next()
    assert_same_index(brain.emulator.dump(BRAIN), wanted)
    reader.assert_typed_it_all()


def test_copy_or_rename_a_namespace(brain: World) -> None:
    names = {"prod": 9, "staging": 6, "tenant-a": 4, "tenant-b": 3, "old-x-y": 2, "notes-2024": 5, "notes-2025": 4}
    before = fill(brain, **names)
    same = row("same", title="the same")
    teams = [row(f"{team}-{n}", team=team) for team in ("red", 7, None) for n in range(3)]
    for name in ("notes-2024", "notes-2025"):
        brain.emulator.write(BRAIN, name, [same])
    brain.emulator.write(BRAIN, "everything", teams)
    reader = Reader(brain, "copy-or-rename-a-namespace")
    # When prod is copied, both are there, and alike
    reader.type_next()
    after = brain.emulator.dump(BRAIN)
    assert_same(after["prod_v2"], before["prod"], "the copy")
    assert_same(after["prod"], before["prod"], "what was copied")
    reader.type_next()
    assert brain.job(1).state is JobState.FINISHED
    # And when staging is renamed, only the new one
    reader.type_next(2)
    brain.later(A_DAY)
    reader.type_next()
    after = brain.emulator.dump(BRAIN)
    assert_same(after["next"], before["staging"], "what was renamed")
    assert "staging" not in after and "prod" in after
    # Many at once, into another index
    reader.type_next()
    renamed = {"t/a": "tenant-a", "t/b": "tenant-b", "y/x": "old-x-y"}
    assert_same_index(brain.emulator.dump("digital-twin-delphi"), {new: before[old] for new, old in renamed.items()})
    # Merged: of two equal records one arrives
    reader.type_next()
    merged = brain.emulator.dump(BRAIN)["notes"]
    assert set(merged) == {*before["notes-2024"], *before["notes-2025"], same.id}
    # Split
    reader.type_next()
    split = brain.emulator.dump(BRAIN)
    assert {name: len(split[name]) for name in ("team-red", "team-7", "nobodys")} == dict.fromkeys(
        ("team-red", "team-7", "nobodys"), 3
    )
    reader.assert_typed_it_all()


def test_three_of_thirty(brain: World) -> None:
    chosen, others = {"prod": 5, "coach-a": 3, "coach-b": 2}, {"coach-test": 2, "guide": 4, "__default__": 1}
    before = fill(brain, **chosen, **others)
    reader = Reader(brain, "three-of-thirty")
    reader.type_next(2)
    brain.later(A_DAY)
    reader.type_next()
    assert_same_index(brain.emulator.dump("digital-twin-delphi"), {name: before[name] for name in chosen})
    assert_same_index(brain.emulator.dump(BRAIN), {name: before[name] for name in others})
    # And the next ones, with other metadata
    reader.type_next()
    there = brain.emulator.dump("digital-twin-delphi")
    for name in ("guide", "coach-test"):
        for id, one in before[name].items():
            seen = {key: value for key, value in there[name][id].metadata.items() if key != "_vecfleet_map"}
            assert seen == {"env": "prod", "leaf": one.metadata["page"], "migrated_from": name}
    assert "4 equal · 0 different" in reader.type_next()
    reader.assert_typed_it_all()


def test_a_new_index(brain: World) -> None:
    before = fill(brain, coach=12, guide=8, __default__=5)
    reader = Reader(brain, "a-new-index")
    reader.type_next(3)
    brain.later(A_DAY)
    reader.type_next()
    assert_same_index(brain.emulator.dump("digital-twin-delphi"), before)
    assert not any(brain.emulator.dump(BRAIN).values())
    reader.assert_typed_it_all()


def test_compare_two_places(open_world: OpenWorld) -> None:
    # Given an index, a copy of it, and two that differ in one record each; and no process of a fleet
    world = open_world()
    rows = {name: [row(f"{name}-{n}", page=n) for n in range(9)] for name in ("coach", "tenant-1", "tenant-2")}
    for index in (BRAIN, "digital-twin-delphi"):
        world.emulator.create_index(index)
        for name, held in rows.items():
            world.emulator.write(index, name, held)
    reader = Reader(world, "compare-two-places")
    assert "27 equal · 0 different" in reader.type_next()
    # Other names, in the same index and in the other one, where one record is different
    world.emulator.write(BRAIN, "coach_v2", rows["coach"])
    for name in ("tenant-1", "tenant-2"):
        world.emulator.write("digital-twin-delphi", name.replace("tenant-", "t/"), rows[name])
    world.emulator.write("digital-twin-delphi", "t/2", [row("tenant-2-4", seed=1, page=4)])
    said = reader.type_next(ends_with=1)
    assert "9 equal · 0 different" in said
    assert "17 equal · 1 different · 0 only in A · 18 only in B" in said
    assert (world.folder / "differ.txt").read_text() == "tenant-2/tenant-2-4\n"
    # And in two parts, which together are the whole
    reader.type_next(ends_with=1)
    whole = f"vecfleet check pinecone:{BRAIN} pinecone:digital-twin-delphi --combined whole.txt"
    reader.type(whole, ends_with=1)
    assert (world.folder / "parts.txt").read_text() == (world.folder / "whole.txt").read_text()
    reader.assert_typed_it_all()


def test_another_account(open_world: OpenWorld, tmp_path: Path) -> None:
    # Given two accounts, each of which takes its own key, and an index of one name in both
    own = tmp_path / "eu"
    own.mkdir()
    theirs = ("--api-key", "somebody-else")  # that of the emulator's witness
    eu = Emulator(own, "--api-key", "key-of-eu", *theirs)
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(f'[eu]\napi_key = "key-of-eu"\ncontroller_host = "{eu.address}"\n')
    accounts.chmod(0o640)
    world = open_world("--api-key", "any", *theirs, pinecone_connections=str(accounts))
    try:
        for emulator in (eu, world.emulator):
            emulator.create_index(BRAIN)
        for name in ("coach", "guide"):
            eu.write(BRAIN, name, [row(f"{name}-{n}", page=n) for n in range(12)])
        before = eu.dump(BRAIN)
        worker = world.start().workers[-1]
        worker.wait_until(lambda: bool(world.fleet.celery.control.inspect(timeout=5).ping()), PATIENCE_S)
        reader = Reader(world, "another-account")
        # (Which of a second file's accounts the worker does not know is said of that worker.)
        held = accounts.read_text()
        (tmp_path / "more.toml").write_text(f"{held}{held.replace('[eu]', '[us]')}")
        (tmp_path / "more.toml").chmod(0o600)
        told = reader.type(f"PINECONE_CONNECTIONS={tmp_path}/more.toml vecfleet doctor", ends_with=1)
        assert "knows no account pinecone@eu, pinecone@us: jobs there pause" in told
        # (And who applies a plan all the same is warned, and led there once its job has paused.)
        plan = f"vecfleet plan export pinecone@eu:{BRAIN} exports/eu --out eu.yaml && vecfleet apply eu.yaml"
        told = reader.type(f"export PINECONE_CONNECTIONS={tmp_path}/more.toml; {plan}")
        assert "knows no account pinecone@eu: the job pauses there" in told and "next: vecfleet doctor" in told
        world.reaches(1, JobState.PAUSED)
        assert "next: vecfleet doctor" in reader.type("vecfleet status 1")
        reader.type("vecfleet cancel 1 --yes")
        world.reaches(1, JobState.CANCELLED)
        (tmp_path / "more.toml").unlink()
        said = reader.type_next()
        assert "pinecone@eu: takes the key: digital-twin-brain" in said
        assert "24 equal · 0 different" in reader.type_next()
        assert "pinecone@eu:digital-twin-brain → brain-of-eu" in reader.type("vecfleet report 2")
        assert_same_index(world.emulator.dump("brain-of-eu"), before)
        assert_same_index(eu.dump(BRAIN), before)
        # And tenants are regrouped there, and found by a client that knows this account by its name alone
        reader.type_next(2)
        twins = owned(before, "sainath.no.1")
        assert_same_index(eu.dump(BRAIN), {**before, **twins})
        with world.fleet.database.begin() as connection:
            (tmp_path / "routes.json").write_bytes(write_table(route_table.read(connection)))
        rollout = Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")), flag=False)
        client = PineconeDelphiClient(BRAIN, settings=world.fleet.settings, rollout=rollout)
        hits = client.query([1.0] * 8, "sainath.no.1", "coach", top_k=50).matches
        assert {hit.id for hit in hits} == set(before["coach"])
        # And an erasure reaches them in their account, and nobody else's
        reader.type_next()
        assert eu.dump(BRAIN).keys() == world.emulator.dump("brain-of-eu").keys() == set()
        held = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != accounts]
        assert not any(b"key-of-eu" in content for content in held)
        reader.assert_typed_it_all()
    finally:
        eu.stop()


def test_split_default(brain: World) -> None:
    # Given a handbook of one creator, records that name twins, and one that is nobody's
    rows = [row(f"page-{n}", source_id="handbook.pdf") for n in range(6)]
    rows += [row(f"guide-{n}", twin_id="guide") for n in range(4)]
    lost = row("lost", title="nobody's")
    brain.emulator.write(BRAIN, "__default__", [*rows, lost])
    reader = Reader(brain, "split-default")
    reader.type_next()
    said = reader.type_next(ends_with=1)
    assert "1 parked record waits for a decision" in said
    reader.type_next(2)
    brain.later(A_DAY)
    reader.type_next()
    after = brain.emulator.dump(BRAIN)
    assert {name: len(held) for name, held in after.items()} == {
        "creator_ana_twin_coach": 6,
        "creator_ben_twin_guide": 4,
        "__default__": 1,
    }
    assert_same(after["__default__"], {"lost": lost}, "what stays")
    reader.assert_typed_it_all()


def test_merge_namespaces(brain: World) -> None:
    # Given three namespaces, two of which hold one id with other content, and two an equal record
    before = fill(brain, **{"notes-2024": 6, "notes-2025": 4, "drafts": 3})
    for name in ("notes-2024", "notes-2025"):
        brain.emulator.write(BRAIN, name, [row("welcome", title=name), row("same", title="the same")])
    reader = Reader(brain, "merge-namespaces")
    reader.type_next()
    reader.type_next(ends_with=1)
    reader.type_next()
    brain.later(A_DAY)
    reader.type_next()
    # Then all that could be is in the one, and the second of each such id is where it was
    after = brain.emulator.dump(BRAIN)
    merged = after.pop("creator_ana")
    assert set(merged) == {id for rows in before.values() for id in rows} | {"welcome", "same"}
    assert sorted(id for left in after.values() for id in left) == ["same", "welcome"]
    [stays] = [name for name, left in after.items() if "welcome" in left]
    assert after[stays]["welcome"].metadata["title"] == stays != merged["welcome"].metadata["title"]
    reader.assert_typed_it_all()


def test_finish_a_copy(brain: World) -> None:
    before = fill(brain, coach=12, __default__=5)
    reader = Reader(brain, "finish-a-copy")
    reader.type_next()
    assert "both sides stay" in reader.type_next()
    assert brain.job(1).state is JobState.FINISHED
    # Then another copy of the same namespaces may begin, and the report does not call itself preliminary
    assert "not final" not in reader.type_next()
    exported = brain.folder / "exports" / "brain"
    assert any(exported.rglob("*.parquet"))
    assert_same_index(brain.emulator.dump(BRAIN), before)
    reader.type_next()
    assert not any(exported.rglob("*.parquet"))
    assert_same_index(brain.emulator.dump(BRAIN), before)
    reader.assert_typed_it_all()


def test_erase_a_tenant(brain: World) -> None:
    kept = fill(brain, creator_ben_twin_guide=3)
    fill(brain, creator_ana_twin_coach=4, creator_ana=2)
    brain.emulator.write(BRAIN, "__default__", [row("hers", creator_id="ana"), row("his", creator_id="ben")])
    reader = Reader(brain, "erase-a-tenant")
    said = reader.type_next()
    assert "7 records erased" in said and "confirmed" in said
    [certificate] = (brain.folder / "home" / "certificates").glob("*.html")
    assert str(certificate.name) in said
    reader.type_next(3)
    after = brain.emulator.dump(BRAIN)
    assert set(after.pop("__default__")) == {"his"}
    assert_same_index(after, kept)
    reader.assert_typed_it_all()


def test_writers_go_on(brain: World) -> None:
    before = fill(brain, coach=12, __default__=5)
    reader = Reader(brain, "writers-go-on")
    reader.type_next()
    # When somebody who knows nothing of the job changes one record and adds another after it was verified
    changed, added = row("coach-1", seed=9, page=99), row("coach-new")
    brain.emulator.write(BRAIN, "coach", [changed, added])
    reader.type_next()
    brain.later(A_DAY)
    reader.type_next()
    # Then both went along
    now = {**before, "coach": {**before["coach"], changed.id: changed, added.id: added}}
    assert_same_index(brain.emulator.dump(BRAIN), owned(now, "ana"))
    # And with an application that may write to both sides it ends as well
    fill(brain, guide=6)
    reader.type_next(2)
    brain.later(A_DAY)
    reader.type_next()
    assert len(brain.emulator.dump(BRAIN)["creator_ben_twin_guide"]) == 6
    assert "guide" not in brain.emulator.dump(BRAIN)
    reader.assert_typed_it_all()


def test_run_failed_batches_again(brain: World) -> None:
    before = fill(brain, coach=12, guide=8)
    # Given a job that a locked namespace stops
    locked = "creator_ana_twin_coach"
    brain.emulator.fault(operation="upsert", namespace=locked, status=409, message="it is locked")
    reader = Reader(brain, "run-failed-batches-again")
    reader.type(f"vecfleet plan creators {BRAIN} --creator ana --out plan.yaml")
    reader.type("vecfleet apply plan.yaml --no-backup --watch", ends_with=1)
    assert "needs attention" in reader.type_next()
    assert "it is locked" in reader.type_next()
    # When it is unlocked and they are run again
    brain.emulator.no_faults()
    reader.type_next()
    # Then it is verified, and nothing else was written again
    assert brain.job(1).state is JobState.VERIFIED
    assert_same_index(brain.emulator.dump(BRAIN), {**before, **owned(before, "ana")})
    reader.assert_typed_it_all()


def test_change_metadata(brain: World) -> None:
    # Given records with a secret, and one that names where it came from long ago
    for name, count in {"coach": 12, "__default__": 5}.items():
        rows = [row(f"{name}-{n}", chunk_text=f"größer als {n}", secret=f"k{n}", page=n) for n in range(count)]
        brain.emulator.write(BRAIN, name, rows)
    brain.emulator.write(BRAIN, "coach", [row("odd", migrated_from="long ago", env="dev", page=1, source="a book")])
    before = brain.emulator.dump(BRAIN)
    reader = Reader(brain, "change-metadata")
    said = reader.type_next()
    assert "what it makes of 10 records" in said and "'secret' stay in each record" in said
    reader.type_next(2)
    # Then the target holds the records as the map makes them
    there = brain.emulator.dump("digital-twin-delphi")
    for name, rows in before.items():
        for one in rows.values():
            wanted = {**one.metadata, "env": "prod", "migrated_from": name} | (
                {"text": one.metadata["chunk_text"]} if "chunk_text" in one.metadata else {}
            )
            seen = {key: value for key, value in there[name][one.id].metadata.items() if "_vecfleet" not in key}
            assert seen == {key: value for key, value in wanted.items() if key not in ("secret", "chunk_text")}
            assert there[name][one.id].values == one.values
    brain.later(A_DAY)
    reader.type_next()
    assert not any(brain.emulator.dump(BRAIN).values())
    # And taken back they are what they were, to the byte
    reader.type_next(2)
    assert_same_index(brain.emulator.dump(BRAIN), before)
    # And a map from a file goes into files, for good
    reader.type_next()
    files = brain.fleet.folders
    exported = files.open(files.describe("exports/mapped")).fetch("coach", ["coach-3", "odd"]).records
    assert exported["coach-3"].metadata == {
        "text": "größer als 3",
        "page": 3.0,
        "first_page": 3.0,
        "env": "prod",
        "year": 2024.0,
    }
    assert exported["odd"].metadata["path"] == "a book/1"
    reader.assert_typed_it_all()


def test_change_the_model(brain: World) -> None:
    # Given records with texts
    about = {
        "coach": [
            "How much sleep do you need? Eight hours.",
            "Tyres for a gravel bike are wide.",
            "Protein after a run.",
        ],
        "guide": ["The old town at night.", "A walk by the river.", "A sourdough starter needs flour and water."],
    }
    for name, texts in about.items():
        rows = [row(f"{name}-{n}", chunk_text=f"{texts[n % 3]} Part {n // 3}.", page=n) for n in range(12)]
        brain.emulator.write(BRAIN, name, rows)
    before = brain.emulator.dump(BRAIN)
    reader = Reader(brain, "change-the-model")
    # When they are embedded by another model, and both models are asked
    said = reader.type_next(2)
    assert "vectors: local/wordllama" in said and "256 dimensions, of '{chunk_text}'" in said
    reasons = {name: (target.verdict or {})["reason"] for name, target in brain.targets(1).items()}
    assert reasons["coach"].startswith("12 records read back and equal; 2 questions: recall ")
    assert ", of the old model " in reasons["coach"] and "overlap " in reasons["coach"]
    assert reasons["guide"].startswith("12 records read back and equal; 1 question: recall 100%")
    # Then each record is there under its id with its metadata, and records of one text have one vector
    there = brain.emulator.dump("brain-wordllama")
    for name, rows in before.items():
        assert {id: one.metadata for id, one in there[name].items()} == {id: one.metadata for id, one in rows.items()}
        assert {len(one.values) for one in there[name].values()} == {256 * 4}
    reader.type_next()
    brain.later(A_DAY)
    reader.type_next()
    assert not any(brain.emulator.dump(BRAIN).values())
    assert_same_index(brain.emulator.dump("brain-wordllama"), there)
    reader.assert_typed_it_all()


def test_every_page_has_its_story() -> None:
    pages = {page.stem.replace("-", "_") for page in RECIPES.glob("*.md")} - {"index"}
    stories = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    told = set(re.findall(r"^def test_(\w+)\(", stories, re.MULTILINE))
    assert pages <= told
