"""`plan export` and `plan import` as a person types them."""

from pathlib import Path

from terminal import Brain, Vecfleet

from vecfleet.settings import Settings
from vecfleet.stores.parquet import ParquetStore


def exported(brain: Brain) -> None:
    """Put there what an export of both namespaces leaves in the folder `exports/brain`."""
    folders = ParquetStore(Settings.load().vecfleet_root)
    source = brain.store.open(brain.store.describe("brain"))
    folder = folders.open(folders.create_like("exports/brain", source.info, None, None))
    for name in ("first", "second"):
        folder.upsert(name, list(source.fetch(name, source.list_ids(name).ids).records.values()))


def test_an_export_is_planned_into_a_folder_of_its_own(vecfleet: Vecfleet, brain: Brain, tmp_path: Path) -> None:
    brain.forget_calls()
    plan = vecfleet("plan", "export", "brain", "--json").json["plan"]
    assert plan["target"]["store"] == "parquet"
    assert plan["target"]["index"].startswith("exports/brain-2")
    assert [(move["source"], move["to"]) for move in plan["moves"]] == [("first", "first"), ("second", "second")]
    assert not brain.writes()
    assert [path.name for path in tmp_path.iterdir()] == ["plans"]


def test_an_export_of_one_namespace_says_what_it_leaves_alone(vecfleet: Vecfleet, brain: Brain) -> None:
    answer = vecfleet("plan", "export", "brain", "exports/one", "--namespace", "first", "--out", "plan.yaml")
    assert answer.code == 0, answer.err
    assert "export: brain → exports/one" in answer.out
    assert "left alone: second" in answer.out
    assert answer.out.splitlines()[-2] == "next: vecfleet show plan.yaml"


def test_an_export_needs_no_word_about_a_backup(vecfleet: Vecfleet, brain: Brain, tmp_path: Path) -> None:
    assert vecfleet("plan", "export", "brain", "exports/brain", "--out", "plan.yaml").code == 0
    assert vecfleet("apply", "plan.yaml", "--dry-run").out.endswith("next: vecfleet apply plan.yaml --watch\n")
    assert not (tmp_path / "exports").exists()

    answer = vecfleet("apply", "plan.yaml")

    assert answer.code == 0, answer.err
    assert "after it `vecfleet plan import exports/brain brain`" in answer.out
    assert (tmp_path / "exports/brain/_index.json").exists()


def test_an_import_is_planned_like_any_other_and_needs_that_word(vecfleet: Vecfleet, brain: Brain) -> None:
    exported(brain)
    plan = vecfleet("plan", "import", "exports/brain", "mind", "--namespace", "second", "--json").json["plan"]
    assert (plan["recipe"], plan["source"]["store"], plan["target"]["index"]) == ("import", "parquet", "mind")
    new = plan["create_target"]
    assert (new["cloud"], new["region"], plan["left_alone"]) == ("aws", "us-east-1", ["first"])
    refused = vecfleet("apply", "plans/import-exports-brain.yaml")
    assert (refused.code, "--no-backup" in refused.err) == (3, True)


def test_who_imports_a_folder_is_told_by_the_plan_as_by_the_job_that_nothing_keeps_writers_off_it(
    vecfleet: Vecfleet, brain: Brain
) -> None:
    """Only the job said so, when it was too late to stop them before it."""
    exported(brain)
    made = vecfleet("plan", "import", "exports/brain", "mind")
    assert "writers: nothing here keeps them off such a source: stop them yourself, before `vecfleet apply`" in made.out
    applied = vecfleet("apply", "plans/import-exports-brain.yaml", "--no-backup")
    assert "frozen: no client writes to such a source by the routes: nobody is kept from it but by you" in applied.out


def test_an_import_into_namespaces_that_hold_records_is_refused(vecfleet: Vecfleet, brain: Brain) -> None:
    exported(brain)
    refused = vecfleet("plan", "import", "exports/brain", "brain")
    assert (refused.code, "not empty" in refused.err) == (2, True)
    assert vecfleet("plan", "import", "exports/brain", "brain", "--collisions", "identical").code == 0


def test_folders_that_are_none_are_named_in_the_answer(vecfleet: Vecfleet, brain: Brain) -> None:
    exported(brain)
    for folder, says in (("exports/other", "there are: exports/brain"), ("../brain", "cannot be a folder")):
        answer = vecfleet("plan", "import", folder, "mind")
        assert (answer.code, says in answer.err) == (2, True), answer.err


def test_a_bulk_import_needs_its_files_and_no_other_import_takes_them(vecfleet: Vecfleet, brain: Brain) -> None:
    exported(brain)
    words = ("plan", "import", "exports/brain", "mind")
    lacking = vecfleet(*words, "--via", "bulk")
    assert (lacking.code, "--uri s3://BUCKET/DIR" in lacking.err) == (2, True)
    for option in ("--uri", "--storage-integration"):
        answer = vecfleet(*words, option, "s3://bucket/brain")
        assert (answer.code, "work only with `--via bulk`" in answer.err) == (2, True)
    made = vecfleet(*words, "--via", "bulk", "--uri", "s3://bucket/brain", "--storage-integration", "i-7", "--json")
    assert made.json["plan"]["policies"]["bulk"] == {"uri": "s3://bucket/brain", "integration": "i-7"}
