"""A source is cleaned up by ids when nothing is listed in it any more but what was to stay."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import JobState, MoveState
from orchestrator.services import acts, left_behind
from vecfleet.records import Record


def clean_up(one: One, *states: JobState) -> None:
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=True)
    one.until(*states)


def test_records_that_came_to_a_source_since_it_was_listed_are_told_before_it_counts_as_gone(one: One) -> None:
    """It used to be cleaned, and every source confirmed gone, while they were there and nowhere else."""
    one.until(JobState.VERIFIED)
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [Record("later", record.values), Record("later-still", record.values)])
    clean_up(one, JobState.NEEDS_ATTENTION)
    assert one.ids("s") == ["later", "later-still"]
    assert one.table.move.reason == (
        "s holds 2 records that were not copied: they came to it since it was listed; "
        "move them with a plan of their own, then `vecfleet retry 1 failed`"
    )

    # And once they are elsewhere, a retry looks again, and the job ends
    one.index.delete("s", ["later", "later-still"])
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert (one.table.move.state, one.table.move.deleted) == (MoveState.CLEANED, COUNT)


@pytest.fixture
def with_some_that_stay(database_url: str, redis_url: str) -> Iterator[One]:
    """A verified job of which two records may stay behind, for they say whose they are."""
    records = twenty_three()
    theirs = [Record(f"t{n}", records[0].values, metadata={"creator_id": "somebody else"}) for n in range(2)]
    with ExitStack() as ending:
        move = planned("s", TARGET, COUNT + 2)
        one = ending.enter_context(open_one(database_url, redis_url, {"s": [*records, *theirs]}, move))
        one.until(JobState.NEEDS_ATTENTION)
        left_behind.accept_records(one.table.database, one.table.job_id, "ana", None)
        one.until(JobState.VERIFIED)
        yield one


@pytest.mark.parametrize("gone_meanwhile", [(), ("t0",)])
def test_what_was_to_stay_does_and_is_nobody_elses_concern(
    with_some_that_stay: One, gone_meanwhile: tuple[str, ...]
) -> None:
    one = with_some_that_stay
    one.index.delete("s", list(gone_meanwhile))
    clean_up(one, JobState.CLEANED)
    assert one.ids("s") == sorted({"t0", "t1"} - set(gone_meanwhile))


def test_a_record_that_took_the_place_of_one_that_was_to_stay_is_seen(with_some_that_stay: One) -> None:
    one = with_some_that_stay
    one.index.delete("s", ["t0"])
    one.index.upsert("s", [Record("new", twenty_three()[0].values)])
    clean_up(one, JobState.NEEDS_ATTENTION)
    assert one.ids("s") == ["new", "t1"]
    assert one.table.move.reason is not None and one.table.move.reason.startswith("s holds 1 records")
