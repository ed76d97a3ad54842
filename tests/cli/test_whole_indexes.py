"""`wipe` and `decommission` as a person types them: a whole index goes, and only what was shown."""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned
from terminal import DIMENSION, HEADERS, Brain, Vecfleet

from migrations.plan import IndexRef
from orchestrator.cli import whole_indexes as commands
from orchestrator.cli.session import wait_for_reads
from orchestrator.core.hooks import Hook
from orchestrator.core.model import index_to_json
from orchestrator.core.states import JobState
from orchestrator.core.two_persons import TwoPersons
from orchestrator.ledger import consents, hooks, whole_indexes
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services.erase import exporter
from vecfleet.errors import Refused, Unavailable
from vecfleet.records import Record
from vecfleet.stores.base import Index, Limits, Usage
from vecfleet.stores.memory import MemoryStore
from vecfleet.stores.parquet import ParquetStore
from vecfleet.stores.pinecone.index import PineconeIndex
from vecfleet.tenancy.erasing import Export
from vecfleet.tenancy.finding import TenantPlace

OLD = INDEX.name


class SlowPerson(io.StringIO):
    """Somebody at the terminal, before whose answer something happens."""

    def __init__(self, answer: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(answer + "\n")
        self._meanwhile = meanwhile

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        self._meanwhile()
        return super().readline(-1 if size is None else size)


@pytest.fixture(autouse=True)
def reads_lag_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.2")


@pytest.fixture
def tenants(brain: Brain) -> Brain:
    brain.write("creator_ana_twin_coach", "a-1", "a-2", creator_id="ana")
    brain.write("__default__", "hers", creator_id="ana")
    brain.write("__default__", "his", creator_id="bob")
    return brain


def test_wipe_needs_a_way_back_or_a_word_that_none_is_wanted(vecfleet: Vecfleet, tenants: Brain) -> None:
    answer = vecfleet("wipe", "--index", "brain", "--yes")
    assert answer.code == 2 and "--no-backup" in answer.err

    wiped = vecfleet("wipe", "--index", "brain", "--export", "backup", "--yes")

    assert wiped.code == 0, wiped.err
    assert "This deletes 8 records in 4 namespaces" in wiped.out and "exported, and read back: 8 records" in wiped.out
    index = tenants.store.open(tenants.store.describe("brain"))
    assert [one.name for one in index.namespaces() if one.count] == []


def test_wipe_deletes_nothing_where_a_record_is_another_than_was_exported(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an application that changes a record, under its id, after it was exported
    def exporting(into: Index) -> Export:
        export = exporter(into)

        def then_changed(index: Index, found: TenantPlace) -> int:
            count = export(index, found)
            tenants.write("__default__", "his", creator_id="carla")
            return count

        return then_changed

    monkeypatch.setattr(commands, "exporter", exporting)

    answer = vecfleet("wipe", "--index", "brain", "--export", "backup", "--yes")

    assert answer.code == 3 and "1 of 4 namespaces are not in backup as they are in brain" in answer.err
    assert "his" in tenants.store.open(tenants.store.describe("brain")).list_ids("__default__").ids


LAG_MS, WAIT_S = 2_000, "3"


def test_wipe_shows_no_deletion_before_reads_show_what_was_written_last(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a namespace whose reads lag, a record that came to it just now, and another one that changed
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", WAIT_S)
    tenants.fault(operation="reads", namespace="first", lag_ms=LAG_MS)
    tenants.write("first", "new", title="new")

    # When somebody wipes the index, then it says until when it waits and why, and sees that it showed too little
    answer = vecfleet("wipe", "--index", "brain", "--export", "backup", "--yes")
    assert "waits until" in answer.err and "its writers must be stopped by now" in answer.err
    assert "This deletes 8 records" in answer.out
    assert answer.code == 3 and "nothing was deleted. It holds 9 records in 4 namespaces now" in answer.err


def test_wipe_exports_a_record_as_it_was_written_last(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a record that was changed just now, in a namespace whose reads lag
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", WAIT_S)
    tenants.fault(operation="reads", namespace="first", lag_ms=LAG_MS)
    tenants.write("first", "a-1", title="newer")

    assert vecfleet("wipe", "--index", "brain", "--export", "backup", "--yes").code == 0

    folders = ParquetStore(tmp_path)
    backup = folders.open(folders.describe("backup"))
    assert backup.fetch("first", ["a-1"]).records["a-1"].metadata == {"title": "newer"}


@pytest.mark.parametrize("reads_lag", [False, True])
def test_an_export_before_a_wipe_waits_only_for_a_store_whose_reads_lag(
    capsys: pytest.CaptureFixture[str], reads_lag: bool
) -> None:
    wait_for_reads(MemoryStore().create(INDEX, Limits(reads_lag=reads_lag)), 0.01, "reads may lag")

    assert ("waits until" in capsys.readouterr().err) == reads_lag


def test_a_deletion_without_an_answer_is_not_asked_for_again_and_is_waited_for(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that carries out a deletion a while after it broke off
    monkeypatch.setenv("REQUEST_DEADLINE_SECONDS", "2")
    tenants.fault(operation="delete_namespace", namespace="first", late_ms=1_000, count=1)
    tenants.forget_calls()

    answer = vecfleet("wipe", "--index", "brain", "--no-backup", "--yes")

    # Then it waits until that cannot land any more, looks, and it was asked for once
    assert answer.code == 0, answer.err
    assert "a deletion got no answer" in answer.err
    counts = httpx.get(f"{tenants.address}/_emulator/calls", params={"counts": 1}).raise_for_status().json()["counts"]
    assert counts["delete_namespace"] == {"200": 3, "0": 2}  # once it broke off, and that landed later
    assert [one.name for one in tenants.store.open(tenants.store.describe("brain")).namespaces() if one.count] == []


def test_what_an_application_wrote_after_a_deletion_that_was_not_answered_stays(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion was carried out and its answer lost; a second one would take what came since."""
    monkeypatch.setenv("REQUEST_DEADLINE_SECONDS", "1")
    original, asked = PineconeIndex.delete_namespace, list[str]()

    def delete_namespace(index: PineconeIndex, name: str) -> Usage:
        usage = original(index, name)
        if name == "first":
            asked.append(name)
            index.upsert(name, [Record("since", b"\0\0\x80\x3f" * DIMENSION)])
            raise Unavailable("the connection was cut")
        return usage

    monkeypatch.setattr(PineconeIndex, "delete_namespace", delete_namespace)

    answer = vecfleet("wipe", "--index", "brain", "--no-backup", "--yes")

    assert answer.code == 1 and "left: first" in answer.out
    assert asked == ["first"]
    assert tenants.store.open(tenants.store.describe("brain")).list_ids("first").ids == ["since"]


def test_no_job_begins_in_an_index_between_the_deletions_of_a_wipe(
    vecfleet: Vecfleet, tenants: Brain, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the wipe would delete what the job has just written, or is about to read."""
    original, refusals = PineconeIndex.delete_namespace, list[str]()
    there = replace(INDEX, host=tenants.store.describe("brain").host)

    def delete_namespace(index: PineconeIndex, name: str) -> Usage:
        try:
            table.apply(plan_of(planned("first", f"t-{name}")), source=there, target=there)
        except Refused as refusal:
            refusals.append(refusal.code)
        return original(index, name)

    monkeypatch.setattr(PineconeIndex, "delete_namespace", delete_namespace)

    assert vecfleet("wipe", "--index", "brain", "--no-backup", "--yes").code == 0

    assert refusals == ["index-being-wiped"] * 4
    # And afterwards one may
    table.apply(plan_of(planned("first", "t")), source=there, target=there)


def test_wipe_keeps_off_an_index_that_a_job_works_on(vecfleet: Vecfleet, tenants: Brain, table: JobTable) -> None:
    host = tenants.store.describe("brain").host
    table.apply(plan_of(planned("s", "t-s")))
    with table.begin() as connection:
        connection.exec_driver_sql("UPDATE claim SET index_host = %(host)s", {"host": host})

    answer = vecfleet("wipe", "--index", "brain", "--no-backup", "--yes")

    assert answer.code == 3 and "job 1 works on brain" in answer.err


def test_wipe_deletes_no_more_than_it_showed(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who writes between the question and its answer
    person = SlowPerson("brain", lambda: tenants.write("first", "came meanwhile"))
    monkeypatch.setattr(sys, "stdin", person)

    answer = vecfleet("wipe", "--index", "brain", "--no-backup")

    assert answer.code == 3 and "changed since it was shown" in answer.err and "nothing was deleted" in answer.err
    index = tenants.store.open(tenants.store.describe("brain"))
    assert index.list_ids("first").ids == ["a-1", "a-2", "came meanwhile"]


# Decommissioning


@pytest.fixture
def moved(brain: Brain, table: JobTable) -> JobTable:
    """An old index, and a job that took everything out of it eight days ago."""
    brain.create(OLD)
    ref = IndexRef(store="pinecone", index=OLD, kind=INDEX.kind, dimension=INDEX.dimension, metric=INDEX.metric)
    table.apply(plan_of(planned("s", "t-s")).model_copy(update={"source": ref}).sealed())
    cleaned_up(table, days_ago=8)
    return table


def cleaned_up(table: JobTable, days_ago: float) -> None:
    then = sa.func.clock_timestamp() - timedelta(days=days_ago)
    table.put(state=JobState.CLEANED, cut_over_percent=100, cut_over_at=then, ended_at=sa.func.clock_timestamp())
    with table.begin() as connection:
        connection.execute(sa.delete(t.claim))


def there(brain: Brain) -> bool:
    return OLD in {info.name for info in brain.store.indexes()}


def test_an_old_index_goes_once_all_of_it_was_moved_and_a_week_is_over(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, database: Database
) -> None:
    assert vecfleet("decommission", OLD).code == 3  # nobody types its name
    assert there(brain)

    answer = vecfleet("decommission", OLD, "--yes")

    assert answer.code == 0, answer.err
    assert "It is empty: job 1 took everything out of it" in answer.out and f"{OLD} is deleted" in answer.out
    assert not there(brain)
    with database.begin() as connection:
        noted = connection.execute(sa.select(t.audit.c.action, t.audit.c.payload)).all()
    assert noted == [("decommission", {"index": OLD, "jobs": [1]})]
    # And again: it says so
    assert "there is no index" in vecfleet("decommission", OLD, "--yes").err


def test_a_wrong_name_deletes_nothing(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SlowPerson("brain", lambda: None))

    assert "that is not the name" in vecfleet("decommission", OLD).err
    assert there(brain)


def test_what_is_written_while_somebody_types_keeps_the_index(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SlowPerson(OLD, lambda: brain.write("late", "x", index=OLD)))

    answer = vecfleet("decommission", OLD)

    assert answer.code == 3 and "it still holds 1 record in 1 namespace: late" in answer.err
    assert there(brain)


def test_an_index_that_looks_empty_while_its_reads_lag_is_looked_at_again(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", WAIT_S)
    brain.fault(operation="reads", index=OLD, lag_ms=LAG_MS)
    brain.write("late", "x", index=OLD)

    answer = vecfleet("decommission", OLD, "--yes")

    assert "It is empty" in answer.out and "waits until" in answer.err
    assert answer.code == 3 and "it still holds 1 record in 1 namespace: late" in answer.err
    assert there(brain)


def test_every_reason_against_it_is_told_with_what_to_do(vecfleet: Vecfleet, brain: Brain, moved: JobTable) -> None:
    # Given records left, readers moved two days ago, another job on it, and protection
    brain.write("left", "x", "y", index=OLD)
    cleaned_up(moved, days_ago=2)
    host = brain.store.describe(OLD).host
    other = JobTable(moved.database)
    other.apply(plan_of(planned("u", "t-u")))
    other.put(source=index_to_json(INDEX))
    with other.begin() as connection:
        connection.execute(sa.update(t.claim).values(index_host=host))
    protect = {"deletion_protection": "enabled"}
    httpx.patch(f"{brain.address}/indexes/{OLD}", json=protect, headers=HEADERS).raise_for_status()

    answer = vecfleet("decommission", OLD, "--yes")

    assert answer.code == 3 and there(brain)
    for reason in (
        "job 2 works on it; vecfleet status 2",
        "job 1 is watched until",
        "it still holds 2 records in 1 namespace: left",
        "it is protected against deletion; switch that off",
    ):
        assert reason in answer.err


def test_an_index_that_no_job_took_anything_out_of_stays(vecfleet: Vecfleet, brain: Brain) -> None:
    answer = vecfleet("decommission", "brain", "--yes")

    assert answer.code == 3
    assert "no job has moved its records and cleaned it up" in answer.err


def test_a_plan_of_an_index_that_is_being_deleted_is_not_applied(
    vecfleet: Vecfleet, brain: Brain, database: Database
) -> None:
    # Given a plan, and somebody who deletes its index after it was looked at once more
    assert vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml").code == 0
    with database.begin() as connection:
        whole_indexes.note_decommission(connection, "ana", "brain", brain.store.describe("brain").host, [])

    answer = vecfleet("apply", "plan.yaml", "--no-backup")

    assert answer.code == 3 and "the index brain is being deleted, by ana" in answer.err
    assert "there are no jobs" in vecfleet("jobs").out


def test_the_week_is_over_when_the_database_says_so_however_fast_the_clock_of_this_machine(
    vecfleet: Vecfleet, brain: Brain, table: JobTable, moved: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fast(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Fast":
            return cls.fromtimestamp((datetime.now(UTC) + timedelta(days=30)).timestamp(), tz)

    table.put(cut_over_at=sa.func.clock_timestamp())
    monkeypatch.setattr(commands, "datetime", Fast)

    assert "is watched until" in vecfleet("decommission", OLD, "--yes").err


def test_the_week_is_a_setting(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECOMMISSION_AFTER_DAYS", "30")

    assert "is watched until" in vecfleet("decommission", OLD, "--yes").err


# What holds clean-ups holds these, too


WHOLE = {"wipe": ("wipe", "--index", "brain", "--no-backup", "--yes"), "decommission": ("decommission", OLD, "--yes")}


@pytest.mark.parametrize("command", WHOLE)
def test_where_a_clean_up_needs_two_persons_a_whole_index_does(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with moved.begin() as connection:
        consents.declare(connection, [TwoPersons.CLEAN_UP])

    # When one person asks, and again, then nothing is deleted
    monkeypatch.setattr(commands, "who", lambda: "ana")
    for _ in range(2):
        answer = vecfleet(*WHOLE[command])
        assert answer.code == 3 and "waits for a second person for the clean-up: ana asked for it" in answer.err
    assert there(brain) and brain.store.open(brain.store.describe("brain")).list_ids("first").ids

    # When another asks, too, then it is done
    monkeypatch.setattr(commands, "who", lambda: "ben")
    answer = vecfleet(*WHOLE[command])
    assert answer.code == 0, answer.err
    with moved.begin() as connection:
        acts = connection.execute(sa.select(t.audit.c.who, t.audit.c.action).order_by(t.audit.c.id)).all()
    assert [tuple(act) for act in acts[-2:]] == [("ben", "agree as the second person"), ("ben", command)]


@pytest.mark.parametrize("command", WHOLE)
def test_an_index_to_which_a_route_leads_is_neither_emptied_nor_deleted(
    vecfleet: Vecfleet, brain: Brain, moved: JobTable, command: str
) -> None:
    # Given a tenant whose records a job that is over brought there
    old = {"old_index": "an older one", "old_namespaces": ["s"]}
    new = {"new_index": {"wipe": "brain", "decommission": OLD}[command], "new_namespace": "creator_ana_twin_coach"}
    with moved.begin() as connection:
        route = sa.insert(t.route).values(job_id=moved.job_id, creator="ana", twin="coach", side="new", **old, **new)
        connection.execute(route)

    answer = vecfleet(*WHOLE[command])

    assert answer.code == 3
    assert "routes of job 1 lead 1 tenant to what would be deleted: creator_ana_twin_coach" in answer.err
    assert f"`vecfleet plan index {new['new_index']} NEW --list FILE`" in answer.err
    assert there(brain) and brain.store.open(brain.store.describe("brain")).list_ids("first").ids


def test_a_wipe_does_not_get_round_the_hook_before_a_clean_up(
    vecfleet: Vecfleet, brain: Brain, database: Database
) -> None:
    with database.begin() as connection:
        hooks.declare(connection, {Hook.BEFORE_CLEAN_UP: 30.0})

    answer = vecfleet(*WHOLE["wipe"])

    assert answer.code == 3 and "the hook before-clean-up holds what deletes" in answer.err
    assert brain.store.open(brain.store.describe("brain")).list_ids("first").ids
