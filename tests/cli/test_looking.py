"""Commands that only look: what they show as text and as JSON, and that they change nothing."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
import yaml
from job_table import JobTable, in_pinecone, plan_of, planned
from terminal import Brain, Vecfleet, contents

from migrations.estimating import Prices
from migrations.plan import read_plan, write_plan
from migrations.reversing import plan_reverse
from orchestrator.core.progress import progress
from orchestrator.ledger import audit, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.settings import Settings


def test_an_audit_lists_indexes_and_looks_into_one(vecfleet: Vecfleet, brain: Brain) -> None:
    # Given a namespace whose name reads as a tenant's
    brain.write("creator_ana_twin_coach", "c-1", tags="x")
    # When
    found = vecfleet("audit", "brain", "--json").json
    # Then
    [info] = found["indexes"]
    assert (info["name"], info["kind"], info["dimension"], info["metric"]) == ("brain", "dense", 4, "cosine")
    assert info["host"].startswith("http://127.0.0.1:")
    held = {each["name"]: each for each in found["index"]["namespaces"]}
    assert {name: each["records"] for name, each in held.items()} == {
        "creator_ana_twin_coach": 1,
        "first": 2,
        "second": 2,
    }
    assert held["first"]["share"] == pytest.approx(0.4)
    assert held["first"]["metadata"] == {"title": {"string": 2}}
    assert (held["creator_ana_twin_coach"]["creator"], held["creator_ana_twin_coach"]["twin"]) == ("ana", "coach")
    assert found["index"]["unparsed"] == ["first", "second"]
    assert found["index"]["room"] == found["index"]["quota"] - 3
    assert found["next_steps"] == [
        "vecfleet plan creators brain --creator CREATOR",
        "vecfleet plan namespaces brain OLD=NEW",
    ]


def test_an_audit_as_text(vecfleet: Vecfleet, brain: Brain) -> None:
    said = vecfleet("audit", "brain").out
    assert "brain: 4 records in 2 namespaces" in said
    assert "2 names are no tenant's" in said
    assert said.splitlines()[-2:] == [
        "next: vecfleet plan creators brain --creator CREATOR",
        "  or: vecfleet plan namespaces brain OLD=NEW",
    ]


def test_an_audit_writes_a_sample(vecfleet: Vecfleet, brain: Brain) -> None:
    answer = vecfleet("audit", "brain", "--export-sample", "3", "sample.parquet")
    assert "wrote 3 records to sample.parquet" in answer.out
    assert pq.read_table("sample.parquet").num_rows == 3


def test_analyzing_a_shared_namespace(vecfleet: Vecfleet, brain: Brain) -> None:
    # Given records of two owners and an orphan in one namespace
    brain.write("__default__", "d-1", creator_id="ana", twin_id="one")
    brain.write("__default__", "d-2", twin_id="two")
    brain.write("__default__", "d-3")
    Path("owners.csv").write_text("id,creator_id,name\ntwo,eve,Two\n")
    # When
    found = vecfleet("analyze", "brain", "--ownership", "owners.csv", "--json").json
    # Then
    assert found["targets"] == {"creator_ana_twin_one": 1, "creator_eve_twin_two": 1}
    assert found["rules"] == {"metadata": 1, "twin": 1}
    assert list(found["orphans"].values()) == [1]
    assert found["orphan_ids"] == ["d-3"]
    assert found["next_steps"] == ["vecfleet plan creators brain --ownership owners.csv --default split"]
    # And without a look-up the next step asks for one: nothing can be split for nobody
    found = vecfleet("analyze", "brain", "--json").json
    assert found["next_steps"] == ["vecfleet plan creators brain --ownership FILE --default split"]


def test_a_plan_its_text_and_a_dry_run_write_nothing(vecfleet: Vecfleet, brain: Brain, database: Database) -> None:
    before = contents(database)
    brain.forget_calls()
    # When a plan is made, shown, and tried
    made = vecfleet("plan", "creators", "brain", "--creator", "ana")
    assert made.code == 0, made.err
    assert Path("plans/creators-brain.yaml").exists()
    shown = vecfleet("show", "plans/creators-brain.yaml")
    dry = vecfleet("apply", "plans/creators-brain.yaml", "--dry-run")
    # Then each move was printed with its old and new namespace, count and estimate
    for said in (made.out, shown.out, dry.out):
        rows = [line.split()[:3] for line in said.splitlines()]
        assert ["first", "creator_ana_twin_first", "2"] in rows
        assert ["second", "creator_ana_twin_second", "2"] in rows
        assert "estimate: 4 records in 2 namespaces" in said
    assert "nothing was written" in dry.out
    # And nothing was
    assert brain.writes() == set()
    assert contents(database) == before


def test_a_plan_takes_no_other_plans_file_unless_it_is_named(vecfleet: Vecfleet, brain: Brain) -> None:
    # Given a plan in the file that it is given by itself
    vecfleet("plan", "creators", "brain", "--creator", "ana")
    first = Path("plans/creators-brain.yaml").read_text()
    # When another one is made, then it has a file of its own, which the next line names
    other = vecfleet("plan", "creators", "brain", "--creator", "ben")
    assert Path("plans/creators-brain.yaml").read_text() == first
    assert f"next: vecfleet show {Path.cwd()}/plans/creators-brain-2.yaml" in other.out
    # And a file that is named is written anew
    vecfleet("plan", "creators", "brain", "--creator", "ben", "--out", "plans/creators-brain.yaml")
    assert "creator_ben" in Path("plans/creators-brain.yaml").read_text()


def test_a_way_back_shows_where_records_return_to(vecfleet: Vecfleet, brain: Brain) -> None:
    # Given the way back of a plan that moved two namespaces
    vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml")
    targets = [f"creator_ana_twin_{source}" for source in ("first", "second")]
    for target in targets:
        brain.write(target, f"{target}-1")
    prices = Prices.of(Settings.load())
    back = plan_reverse(brain.store, read_plan(Path("plan.yaml")), targets, prices=prices, now=datetime.now(UTC))
    write_plan(back, Path("back.yaml"))
    # When it is shown
    said = vecfleet("show", "back.yaml")
    # Then
    rows = [line.split()[:5] for line in said.out.splitlines()]
    assert ["creator_ana_twin_first", "(where", "each", "came", "from)"] in rows
    assert "back to: first, second" in said.out
    # And no name that records go back to is told to be left alone
    assert "left alone" not in said.out
    # And policies are told in words and in times that people use
    assert "nothing is added to the records" in said.out and "no enrich" not in said.out
    assert "soak 1 day ·" in vecfleet("show", "plan.yaml").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "cut over operator · from 25 % on, readers are watched for 1 day at each step · soak"),
        (("--dwell-seconds", "3600"), "from 25 % on, readers are watched for 1 h at each step · soak"),
        (("--dwell-seconds", "0"), "readers are watched at no step · soak"),
        (("--cut-over", "none"), "cut over none · soak"),
    ],
)
def test_a_plan_says_how_long_readers_are_watched_at_each_step(
    vecfleet: Vecfleet, brain: Brain, words: tuple[str, ...], says: str
) -> None:
    assert says in vecfleet("plan", "creators", "brain", "--creator", "ana", *words, "--out", "plan.yaml").out
    assert says in vecfleet("show", "plan.yaml").out


@pytest.mark.parametrize("writers", ["freeze", "delta"])
def test_a_plan_and_its_job_say_what_keeps_writers_off_and_who_stops_the_others(
    vecfleet: Vecfleet, brain: Brain, writers: str
) -> None:
    """Only `status` told it, while the writers of whoever did not ask went on."""
    made = vecfleet("plan", "creators", "brain", "--creator", "ana", "--writers", writers, "--out", "plan.yaml")
    dry = vecfleet("apply", "plan.yaml", "--dry-run")
    applied = vecfleet("apply", "plan.yaml", "--no-backup")
    frozen = writers == "freeze"
    for said in (made.out, vecfleet("show", "plan.yaml").out, dry.out):
        assert ("stop all other writers yourself, before it\n" in said) is frozen
    nobody = "\nfrozen: in name alone: no application follows the routes, so stop the writers yourself\n"
    assert (nobody in applied.out) is (nobody in vecfleet("status", "1").out) is frozen


def test_a_dry_run_needs_no_postgres_and_no_redis(
    vecfleet: Vecfleet, brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml").code == 0
    monkeypatch.setenv("DATABASE_URL", "none")
    monkeypatch.setenv("REDIS_URL", "none")
    found = vecfleet("apply", "plan.yaml", "--dry-run", "--json").json
    assert [move["to"] for move in found["moves"]] == ["creator_ana_twin_first", "creator_ana_twin_second"]
    assert found["estimate"]["records"] == 4


def test_the_recipe_index_plans_into_another_index(vecfleet: Vecfleet, brain: Brain) -> None:
    answer = vecfleet("plan", "index", "brain", "mind", "--cut-over", "none", "--exclusive", "--json")
    plan = answer.json["plan"]
    assert (plan["recipe"], plan["target"]["index"]) == ("index", "mind")
    assert (plan["policies"]["cut_over"], plan["policies"]["exclusive"]) == ("none", True)
    assert [(move["source"], move["to"]) for move in plan["moves"]] == [("first", "first"), ("second", "second")]


def test_applying_states_the_way_back(vecfleet: Vecfleet, brain: Brain) -> None:
    assert vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml").code == 0
    answer = vecfleet("apply", "plan.yaml", "--no-backup")
    assert answer.code == 0, answer.err
    assert "way back: until clean-up `vecfleet rollback 1`" in answer.out
    assert answer.out.splitlines()[-1] == "next: vecfleet status 1 --watch"


@pytest.mark.parametrize(
    ("words", "back"),
    [
        (("plan", "index", "brain", "mind"), "`vecfleet plan index mind brain`"),
        (("plan", "creators", "brain", "--creator", "ana"), "`vecfleet plan reverse{job}`"),
    ],
)
def test_the_way_back_that_is_named_is_one_that_the_job_has(
    vecfleet: Vecfleet, brain: Brain, table: JobTable, words: tuple[str, ...], back: str
) -> None:
    # When a job of a plan that keeps all names, or that does not, is started, asked about or summed up
    assert vecfleet(*words, "--soak-seconds", "0", "--out", "plan.yaml").code == 0
    applied = vecfleet("apply", "plan.yaml", "--no-backup")
    assert f"after it {back.format(job=' 1')}\n" in applied.out
    table.job_id = 1
    table.verified()
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    assert f"way back: {back.format(job=' 1')}\n" in vecfleet("cleanup", "1").out
    # Then each names the same way, and a cleaned job's report nothing else
    table.put(state="cleaned")
    assert vecfleet("report", "1", "--json").json["way_back"] == back.format(job=" 1")
    # And a rollback, which comes too late, leads there
    assert f"next: {back.format(job=' 1').strip('`')}\n" in vecfleet("rollback", "1", "--yes").err


def test_jobs_before_and_after_there_is_one(vecfleet: Vecfleet, table: JobTable) -> None:
    assert vecfleet("jobs", "--json").json == {"jobs": [], "fillings": [], "next_steps": ["vecfleet audit"]}
    table.apply(plan_of(planned("s", "t", 5)))
    found = vecfleet("jobs", "--json").json
    assert [(job["job"], job["state"], job["records"]) for job in found["jobs"]] == [(1, "planned", 5)]
    assert found["next_steps"] == ["vecfleet status 1"]
    assert "digital-twin-brain" in vecfleet("jobs").out


def test_a_status_says_how_far_why_it_waits_and_what_to_type(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given a job with a batch copied, and one that waits for the store
    table.apply(plan_of(planned("s", "t", 3)))
    table.listed({"s": [["a", "b"], ["c"]]})
    first, second = table.take()
    table.copy(first)
    table.requeue(second, after=60.0)
    # When
    found = vecfleet("status", "1", "--json").json
    # Then
    assert (found["state"], found["step"], found["done"], found["total"]) == ("running", "copying", 2, 3)
    assert found["records"]["written"] == 2
    assert [(each["source"], each["settled"], each["listed"]) for each in found["namespaces"]] == [("s", 2, 3)]
    assert found["waits"][0] == "no dispatcher is running: nothing new starts"
    assert "1 batch waits" in found["waits"][1] and "Unavailable: 503" in found["waits"][1]
    assert found["next_steps"][0] == "vecfleet dispatcher"
    # And the text says the same
    said = vecfleet("status", "1").out
    assert "job 1 running: copying 2 of 3 records (67 %)" in said
    assert "waits: no dispatcher is running" in said
    assert "next: vecfleet dispatcher" in said


def test_a_status_counts_what_an_erasure_held_back(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(table.plan)
    first = vecfleet("status", str(table.job_id))
    assert first.code == 0 and "erased" not in first.out
    # Given two records that a fence kept from being copied
    with table.begin() as connection:
        connection.execute(sa.update(t.move).where(t.move.c.id == table.moves["s"].id).values(erased=2))
    # Then who looks is told
    said = vecfleet("status", str(table.job_id))
    assert "2 records are an erased tenant's: not copied, or gone from the targets again" in said.out


def test_a_status_says_that_redis_is_down(vecfleet: Vecfleet, table: JobTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.apply(plan_of(planned("s", "t", 3)))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert (
        "Redis does not answer, or takes nothing: workers cannot be woken"
        in vecfleet("status", "1", "--json").json["waits"]
    )


def test_a_report_in_all_its_formats(vecfleet: Vecfleet, brain: Brain, table: JobTable, database: Database) -> None:
    # Given a verified job, and a test run on record
    table.apply(in_pinecone(plan_of(planned("s", "t", 2))))
    table.verified()
    with database.begin() as connection:
        audit.note(connection, "ana", "test", 1, test="twin_deletion", result="PASSED")
    # When it is asked for as JSON
    found = vecfleet("report", "1", "--json").json
    # Then
    assert found["records"]["moved_and_verified"] == found["records"]["listed"] == 2
    assert found["verdicts"] == {"verified": 1, "mismatched": 0, "empty": 0, "unverified": 0}
    assert found["tests"]["twin_deletion"] == "PASSED"
    # And the index that cannot be read is said to be so
    assert found["vectors"]["after"] is None
    assert any("could not be read" in issue for issue in found["issues"])
    # And as text
    assert "moved and verified  2 of 2 records" in vecfleet("report", "1").out
    # And as the log of seed 001
    log = yaml.safe_load(vecfleet("report", "1", "--format", "yaml").out)["migration"]
    assert log["before"] == {"total_vectors": 2, "total_namespaces": 1}
    assert log["tests"]["twin_deletion"] == "PASSED"
    assert log["tests"]["gdpr_compliance"] == "not run"


@pytest.mark.parametrize(("writers", "total", "an_issue"), [("delta", 2, False), ("freeze", 3, True)])
def test_a_record_that_a_copy_followed_out_of_its_source_is_no_loss(
    vecfleet: Vecfleet, table: JobTable, writers: str, total: int, an_issue: bool
) -> None:
    # Given a verified copy of two records, and a third one that is gone from the source
    plan = plan_of(planned("s", "t", 2))
    plan = plan.model_copy(update={"target": plan.target.model_copy(update={"store": "pinecone"})}).sealed()
    table.apply(plan)
    table.verified()
    policies = plan.policies.model_copy(update={"writers": writers})
    with table.by_hand() as connection:
        connection.execute(sa.update(t.move).values(listed=3, gone=1))
        connection.execute(
            sa.update(t.job).values(plan=plan.model_copy(update={"policies": policies}).model_dump(mode="json"))
        )
    # When
    said = vecfleet("report", "1").out
    # Then it counts as missing only where writers stood still
    assert f"moved and verified  2 of {total} records" in said
    assert ("1 record was gone from the source before the copy" in said) is an_issue
    assert ("1 record that the application deleted at its source, and a pass followed it" in said) is not an_issue


def test_a_job_of_12_000_namespaces_is_looked_at_by_the_page(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given 12,000 namespaces, each with its listing batch, some listed and dispatched
    table.apply(plan_of(*(planned(f"s{n}", f"t{n}", 10) for n in range(12_000))))
    table.start()
    for lease in table.take(window=200):
        table.list_ids(lease, [f"{lease.id}-{n}" for n in range(10)])
    table.dispatch(window=200)
    # When it is looked at
    with table.begin() as connection:
        seen = progress(status.reading(connection, 1, namespaces=50)).to_json()
    # Then a page is shown, and the totals are of all
    assert len(seen["namespaces"]) == 50
    assert sum(seen["namespaces_by_state"].values()) == 12_000
    assert seen["records"]["planned"] == 120_000
    assert "… and 11,950 more" in vecfleet("status", "1").out
    # And who wants none is shown no head of a table
    said = vecfleet("status", "1", "--limit", "0").out
    assert not any(line.split()[:2] == ["from", "to"] for line in said.splitlines()) and "more" not in said


def test_a_report_after_a_roll_back_says_which_namespaces_stay(
    vecfleet: Vecfleet, brain: Brain, table: JobTable
) -> None:
    # Given a job that was rolled back, and a namespace of its making that stays, for readers had moved to it
    assert vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml").code == 0
    assert vecfleet("apply", "plan.yaml", "--no-backup").code == 0
    table.job_id = 1
    table.verified()
    brain.write("creator_ana_twin_first", "new-1")
    with table.by_hand() as connection:
        connection.execute(sa.update(t.job).values(state="rolled_back"))
        connection.execute(sa.update(t.target).values(created_by_us=True, authority="target"))
    # Then the figure says whose it is, and the way back does not say that nothing is left
    report = vecfleet("report", "1").out
    assert re.search(r"namespaces +2 before → 3 after, 1 of them created by this job", report)
    assert "it was rolled back; 1 namespace that it created is still there" in report
    assert vecfleet("report", "1", "--format", "json").json["namespaces"]["created_by_the_job"] == 1
    # And once it is gone, nothing is
    brain.clear("creator_ana_twin_first")
    assert "nothing is left to take back" in vecfleet("report", "1").out


@pytest.mark.parametrize("same_index", [True, False])
def test_a_report_of_an_ended_job_says_what_it_left_and_not_what_is_there_now(
    vecfleet: Vecfleet, brain: Brain, table: JobTable, same_index: bool
) -> None:
    """The report of a finished job changed with whatever later jobs and applications did to the index."""
    # Given a finished copy of one of two namespaces
    to = () if same_index else ("--to", "delphi")
    assert vecfleet("plan", "namespaces", "brain", "first=first_v2", *to, "--out", "plan.yaml").code == 0
    assert vecfleet("apply", "plan.yaml", "--no-backup").code == 0
    table.job_id = 1
    table.verified({"first": [["a-1", "a-2"]]})
    assert vecfleet("finish", "1").code == 0
    # When an application writes to its target, and to a namespace of its own
    index = "brain" if same_index else "delphi"
    brain.write("first_v2", "late-1", "late-2", index=index)
    brain.write("elsewhere", "late-3", index=index)
    # Then its report counts none of that
    found = vecfleet("report", "1", "--json").json
    left = (6, 3) if same_index else (2, 1)
    assert (found["vectors"]["after"], found["namespaces"]["after"]) == left
    assert found["vectors"]["before"] == (4 if same_index else 2)
    # And it says which figure is of which index
    said = vecfleet("report", "1").out
    if same_index:
        assert "  namespaces          2 before, 1 of them moved → 3 after\n" in said
        assert "  vectors             4 before → 6 after\n" in said
    else:
        assert "  namespaces          2 in brain before, 1 of them moved → 1 in delphi after\n" in said
        assert "  vectors             2 in what was moved → 2 in delphi after\n" in said


def test_a_report_of_a_copy_into_another_store_counts_nothing_of_its_index_of_the_same_name_as_before(
    vecfleet: Vecfleet, brain: Brain, table: JobTable
) -> None:
    # Given a copy from Postgres into an index of the same name, and a namespace that only the source is to keep
    plan = plan_of(planned("first", "copy", 2))
    source, target = (plan.source.model_copy(update={"store": store}) for store in ("pgvector", "pinecone"))
    sides = {"source": source, "target": target, "recipe": "stores", "left_alone": ("second",)}
    info = brain.store.describe("brain")
    table.apply(plan.model_copy(update=sides).sealed(), target=info, source=info)
    table.verified()
    # Then the list of jobs and the report tell two indexes, and what the target holds is not counted as the source's
    assert "stores: pgvector:brain → pinecone:brain" in vecfleet("jobs").out
    said = vecfleet("report", "1").out
    assert "pgvector:brain → pinecone:brain" in said
    assert "  namespaces          2 in pgvector:brain before, 1 of them moved → 2 in pinecone:brain after\n" in said
    assert "  vectors             2 in what was moved → 4 in pinecone:brain after\n" in said


def test_evidence_says_when_a_source_was_read_against_which_wait(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given two sources whose deletion was asked for: one was read late enough, the other a second too early
    table.apply(plan_of(planned("early", "t"), planned("late", "t2"), cut_over="none"))
    written = datetime(2026, 11, 22, 1, tzinfo=UTC)

    def after(seconds: float) -> datetime:
        return written + timedelta(seconds=seconds)

    looks = {"read_to": after(70), "listed_at": after(71), "listed": 3, "counted": 3}
    asked = {"asked_from": after(72), "asked_to": after(72)}
    with table.begin() as connection:
        for source, read_from in (("early", after(59)), ("late", after(60))):
            row = {"move_id": table.moves[source].id, "last_write_at": written, "lag_s": 60.0, "read_from": read_from}
            connection.execute(sa.insert(t.deletion).values(row | looks | asked))

    # When it is shown, then each look is told with its age, and the one that came too early is marked
    found = vecfleet("show-evidence", "1", "--json").json
    assert {one["source"]: one["is_fresh"] for one in found["sources"]} == {"early": False, "late": True}
    assert [one["oldest_look_after_s"] for one in found["sources"]] == [59, 60]
    said = vecfleet("show-evidence", "1", "early").out.splitlines()
    [row] = [line for line in said if " early " in line]
    assert row.startswith("!") and "01:00:59" in row and "01:01:00" in row
    assert said[-1] == "next: vecfleet report 1"

    # And of a source that nobody asked to delete there is none
    assert "not asked for the deletion" in vecfleet("show-evidence", "1", "nowhere").err
