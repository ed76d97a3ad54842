"""Records that are not where they were: how many may be without a person saying that it is meant."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from in_one_process import TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator import services
from orchestrator.guards import missing_cap, removal_cap
from orchestrator.states import JobState, MoveState

Open = Callable[..., One]


@pytest.fixture
def open_job(database_url: str, redis_url: str) -> Iterator[Open]:
    """`open_job(namespaces, *moves, **policies)`."""
    with ExitStack() as ending:
        yield lambda *given, **policies: ending.enter_context(open_one(database_url, redis_url, *given, **policies))


@pytest.mark.parametrize(
    ("records", "may_be_removed", "may_be_missing"),
    [(1, 10, 0), (2, 10, 1), (7, 10, 3), (20, 10, 10), (1_000, 10, 10), (5_000, 50, 50)],
)
def test_how_many_may_go_without_a_word(records: int, may_be_removed: int, may_be_missing: int) -> None:
    assert (removal_cap(records), missing_cap(records)) == (may_be_removed, may_be_missing)


@pytest.mark.parametrize("by_ids", [False, True])
def test_a_small_source_most_of_which_its_target_lost_is_not_deleted_before_a_person_says_so(
    open_job: Open, by_ids: bool
) -> None:
    # Given seven records, of which somebody deleted four where readers have moved to
    one = open_job({"s": twenty_three()[:7]}, planned("s", TARGET, 7), cut_over="operator", soak_seconds=0)
    database, job_id = one.table.database, one.table.job_id
    one.until(JobState.VERIFIED)
    services.cut_over(database, job_id, "ana", 100)
    one.index.delete(TARGET, ["r00", "r01", "r02", "r03"])

    # When it is verified once more and cleaned up, then nothing is deleted
    services.verify(database, job_id, "ana")
    one.until(JobState.CUT_OVER)
    services.clean_up(database, job_id, "ana", by_ids=by_ids)
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == 7
    assert one.table.move.state is MoveState.PARKED
    assert one.table.move.reason is not None and f"`vecfleet set {job_id} missing N`" in one.table.move.reason

    # Until a person says that it is meant
    services.set_lever(database, job_id, "ana", "missing", 4)
    services.retry(database, job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert one.ids("s") == []
