"""The journal of writes to both sides, alone: who is owed what, whatever order writers end in."""

from pathlib import Path

import pytest

from vecfleet.names import Tenant
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.places import Place, Where

OLD, NEW = "5698a809", "creator_ana_twin_coach"
CREATOR, TWIN = "ana", "coach"

HERE = Where(Tenant(CREATOR, TWIN), "old", (Place(OLD),), "its route", (Place(NEW),), dual=True)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Journal:
    return Journal(tmp_path / "journal" / "j", fresh_s=60.0, abandoned_s=100.0, clock=clock)


def test_a_write_that_ends_on_both_sides_leaves_nothing_and_any_other_is_due_once_reads_are_fresh(
    journal: Journal, clock: Clock
) -> None:
    journal.settle(journal.note(HERE, ["a"]), both=True)
    assert journal.count() == 0

    journal.settle(journal.note(HERE, ["a"]), both=False)
    assert journal.claim() is None
    clock.now += 60
    claimed = journal.claim()
    assert claimed is not None and (claimed.side, claimed.namespace, claimed.ids) == ("new", NEW, ("a",))
    assert journal.claim() is None  # it is being written
    journal.settle(claimed, both=True)
    assert journal.count() == 0


def test_a_writer_that_was_given_up_and_wrote_after_all_leaves_it_to_another_replay(
    journal: Journal, clock: Clock
) -> None:
    frozen = journal.note(HERE, ["a"])
    clock.now += 100
    claimed = journal.claim()
    assert claimed is not None
    journal.settle(claimed, both=True)
    assert journal.count() == 0
    # When the frozen one goes on, to write over what the replay wrote
    journal.settle(frozen, both=True)
    # Then the record is looked at again
    assert journal.count() == 1


def test_two_who_were_at_a_record_at_once_both_leave_it_owed(journal: Journal) -> None:
    one = journal.note(HERE, ["a", "b"])
    other = journal.note(HERE, ["b"])  # it waits for a second, and then no longer

    journal.settle(other, both=True)
    journal.settle(one, both=True)

    assert journal.count() == 1


def test_an_erasure_takes_a_tenants_rows_and_no_others(journal: Journal) -> None:
    alike = Where(Tenant(CREATOR + "2", TWIN), "old", (Place("x"),), "", (Place("y"),), dual=True)
    for where in (HERE, alike):
        journal.note(where, ["a"])

    assert journal.forget(Tenant(CREATOR)) == 1
    assert journal.count() == 1


THERE = Where(Tenant(CREATOR, TWIN), "new", (Place(NEW),), "its route", (Place(OLD),), dual=True)


@pytest.mark.parametrize("dies", [True, False])
def test_a_write_that_nobody_was_told_of_does_not_outweigh_one_from_before_the_cut_over(
    journal: Journal, clock: Clock, dies: bool
) -> None:
    # Given a record that the old side took and the new one is owed; then readers move
    journal.settle(journal.note(HERE, ["a"]), both=False)
    # When the next write of it fails on the new side, or its writer dies
    again = journal.note(THERE, ["a"])
    if not dies:
        journal.settle(again, both=False, taken=False)
    clock.now += 200
    # Then it is still the new side that is owed, what the old one holds
    claimed = journal.claim()
    assert claimed is not None and claimed.side == "new"
    journal.settle(claimed, both=True)
    assert journal.count() == 0


def test_a_write_that_was_taken_after_the_cut_over_does(journal: Journal, clock: Clock) -> None:
    journal.settle(journal.note(HERE, ["a"]), both=False)
    journal.settle(journal.note(THERE, ["a"]), both=False)
    clock.now += 200

    claimed = journal.claim()
    assert claimed is not None and claimed.side == "old"


def test_who_settles_first_of_two_at_once_leaves_it_to_the_other(journal: Journal) -> None:
    one = journal.note(HERE, ["a"])
    other = journal.note(HERE, ["a"])  # after a second it waits no longer

    journal.settle(one, both=True)
    journal.settle(other, both=True)

    assert journal.count() == 1
