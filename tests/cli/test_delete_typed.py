"""`vecfleet delete` as a person types it: shown, confirmed, deleted by id, and recorded without the filter's values."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from terminal import Answer, Brain, Vecfleet

from orchestrator.ledger import clients
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services.filtered import FilteredDeletion
from vecfleet.tenancy.filtered import Filtered

COACH = "creator_ana_twin_coach"
WORDS = ("delete", "brain", "--creator", "ana", "--twin", "coach", "--filter", '{"source_id": "doc-7"}')


@pytest.fixture
def tenants(brain: Brain) -> Brain:
    brain.write(COACH, "a-1", "a-2", creator_id="ana", twin_id="coach", source_id="doc-7")
    brain.write(COACH, "a-3", creator_id="ana", twin_id="coach", source_id="doc-8")
    brain.write("creator_bo_twin_coach", "a-1", creator_id="bo", twin_id="coach", source_id="doc-7")
    brain.forget_calls()
    return brain


def ids(brain: Brain, namespace: str = COACH) -> list[str]:
    return brain.store.open(brain.store.describe("brain")).list_ids(namespace).ids


def acts(database: Database) -> list[tuple[str, dict[str, object]]]:
    with database.begin() as connection:
        rows = connection.execute(sa.select(t.audit.c.action, t.audit.c.payload).order_by(t.audit.c.id))
        return [(row.action, row.payload) for row in rows]


def test_a_person_sees_how_many_go_and_nothing_is_deleted_before_the_name_is_typed(
    vecfleet: Vecfleet, tenants: Brain, database: Database
) -> None:
    counted = vecfleet(*WORDS, "--dry-run")
    assert counted.code == 0, counted.err
    assert f"2 records of the tenant match in {COACH} of brain" in counted.out and "ids: a-1, a-2" in counted.out
    assert "0 records deleted" in counted.out
    assert "next: vecfleet delete brain --creator ana --twin coach" in counted.out

    refused = vecfleet(*WORDS)  # nobody is at the terminal

    assert refused.code == 3 and "--yes" in refused.err
    assert tenants.writes() == set() and acts(database) == []


def test_a_dry_run_does_not_bring_what_earlier_deletions_owe_to_their_other_side(
    vecfleet: Vecfleet, tenants: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[FilteredDeletion] = []
    settle = FilteredDeletion.settle

    def watched(act: FilteredDeletion) -> None:
        settled.append(act)
        settle(act)

    monkeypatch.setattr(FilteredDeletion, "settle", watched)

    assert vecfleet(*WORDS, "--dry-run").code == 0
    assert settled == []
    # And a deletion does so also where nothing is left to match on the readers' side
    assert vecfleet(*WORDS, "--yes").code == vecfleet(*WORDS, "--yes").code == 0
    assert len(settled) == 2


def test_what_matches_is_deleted_and_the_audit_names_the_keys_and_the_number(
    vecfleet: Vecfleet, tenants: Brain, database: Database
) -> None:
    done = vecfleet(*WORDS, "--yes")

    assert done.code == 0, done.err
    assert "2 records deleted" in done.out and "next: vecfleet audit brain" in done.out
    assert ids(tenants) == ["a-3"] and ids(tenants, "creator_bo_twin_coach") == ["a-1"]
    of = {"index": "brain", "creator": "ana", "twin": "coach", "keys": ["source_id"]}
    assert acts(database) == [("delete by filter", of | {"matched": 2}), ("deleted by filter", of | {"deleted": 2})]

    again = vecfleet(*WORDS, "--yes", "--json")
    assert (again.code, again.json["matched"], again.json["deleted"]) == (0, 0, 0)
    assert len(acts(database)) == 2


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--at-most", "1", "--yes"), 3, "2 records match this filter, and at most 1"),
        (("--filter", "{}", "--yes"), 2, "matches every record"),
        (("--filter", "source_id", "--yes"), 2, "--filter is no JSON"),
        (("--filter", "[1]", "--yes"), 2, "--filter is no object"),
    ],
)
def test_too_many_or_no_filter_changes_nothing(
    vecfleet: Vecfleet, tenants: Brain, database: Database, more: tuple[str, ...], code: int, said: str
) -> None:
    answer = vecfleet(*WORDS, *more)

    assert answer.code == code and said in answer.err, answer
    assert tenants.writes() == set() and acts(database) == []


@pytest.mark.parametrize("words", [WORDS, (*WORDS[:-2], '--filter={"source_id": "doc-7"}')], ids=["apart", "joined"])
def test_a_fault_is_logged_without_the_values_of_the_filter(
    vecfleet: Vecfleet,
    tenants: Brain,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    def fail(_: FilteredDeletion) -> Filtered:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(FilteredDeletion, "look", fail)

    assert vecfleet(*words, "--dry-run").code == 70

    logged = (Path(environment["VECFLEET_HOME"]) / "logs" / "cli.log").read_text()
    assert "vecfleet delete brain --creator ana" in logged and "--dry-run" in logged and "unforeseen" in logged
    assert "doc-7" not in logged


@pytest.fixture
def frozen(vecfleet: Vecfleet, tenants: Brain) -> Answer:
    """A job that copies the twin's namespace, and whose plan stops the writers."""
    made = vecfleet("plan", "namespaces", "brain", f"{COACH}=kept", "--out", "plan.yaml")
    assert made.code == 0, made
    return vecfleet("apply", "plan.yaml", "--no-backup")


def test_a_namespace_that_a_job_freezes_is_left_alone(
    vecfleet: Vecfleet, frozen: Answer, tenants: Brain, database: Database
) -> None:
    assert frozen.code == 0, frozen

    refused = vecfleet(*WORDS, "--yes")

    assert refused.code == 4 and "is frozen while job" in refused.err
    assert ids(tenants) == ["a-1", "a-2", "a-3"]


def test_a_job_waits_for_the_command_as_for_a_client_and_calls_it_no_application(
    vecfleet: Vecfleet, tenants: Brain, database: Database
) -> None:
    assert vecfleet(*WORDS, "--yes").code == 0

    with database.begin() as connection:
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        assert clients.any_may_write(connection, now, 60.0)
        assert clients.groups(connection) == []
