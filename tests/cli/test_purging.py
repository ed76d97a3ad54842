"""`vecfleet purge` shows what would go, asks, and lets go of nothing else."""

from datetime import timedelta

import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from terminal import Vecfleet


def ended(table: JobTable, state: str, days: float) -> int:
    """A job that ended so."""
    table.apply(plan_of(planned(f"s{days:g}", f"t{days:g}")))
    table.verified()
    table.put(state=state, ended_at=sa.func.clock_timestamp() - timedelta(days=days))
    with table.begin() as connection:
        connection.execute(sa.text("DELETE FROM claim"))
    return table.job_id


def test_only_old_jobs_are_purged_and_only_with_a_yes(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given jobs that ended 40 days and 3 days ago, and one that was cancelled and wrote
    old, young = ended(table, "cleaned", 40), ended(table, "cleaned", 3)
    wrote = ended(table, "cancelled", 50)

    # When nobody says yes, then it is shown and nothing changes
    dry = vecfleet("purge", "--dry-run")
    assert dry.code == 0
    assert "rollback 3" in dry.out and "next: vecfleet purge --older-than 30 --yes" in dry.out
    asked = vecfleet("purge")
    assert asked.code == 3
    assert len(vecfleet("purge", "--dry-run", "--json").json["jobs"]) == 2

    # When somebody does
    done = vecfleet("purge", "--yes")

    # Then the old one is purged, and its report still works
    assert done.code == 0, done.err
    assert f"job {old}: 4 batches deleted" in done.out
    [kept] = vecfleet("purge", "--dry-run", "--json").json["jobs"]
    assert kept["job"] == wrote and kept["stays"]
    [young_one] = vecfleet("purge", "--dry-run", "--job", str(young), "--older-than", "1", "--json").json["jobs"]
    assert young_one["batches"] == 4
    assert vecfleet("status", str(old)).code == 0


def test_where_nothing_is_old_it_says_so(vecfleet: Vecfleet, table: JobTable) -> None:
    said = vecfleet("purge")
    assert said.code == 0
    assert "no job that ended 30 days ago or earlier has anything to delete" in said.out
    assert "next: vecfleet purge --older-than 1 --dry-run" in said.out


def test_the_offered_command_purges_exactly_the_jobs_that_were_shown(vecfleet: Vecfleet, table: JobTable) -> None:
    ended(table, "cleaned", 40)
    old = ended(table, "cleaned", 100)

    said = vecfleet("purge", "--older-than", "90", "--job", str(old), "--dry-run")

    assert f"next: vecfleet purge --older-than 90 --job {old} --yes" in said.out


def test_json_asks_nothing_and_so_needs_its_yes(vecfleet: Vecfleet, table: JobTable) -> None:
    ended(table, "cleaned", 40)
    assert vecfleet("purge", "--json").code == 3
    assert vecfleet("purge", "--json", "--yes").json["jobs"][0]["deleted"] == 4
