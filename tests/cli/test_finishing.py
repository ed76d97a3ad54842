"""`finish`: a copy that is proven ends, both sides stay, and nobody waits for it any more."""

import pytest
from job_table import JobTable, in_pinecone, plan_of, planned
from terminal import Vecfleet, contents

from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import jobs
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused


@pytest.fixture
def copied(table: JobTable) -> JobTable:
    """A verified copy without a cut-over."""
    table.apply(in_pinecone(plan_of(planned("s", "t", 2), cut_over="none", soak_seconds=0)))
    table.verified()
    return table


def test_a_finished_copy_ends_deletes_nothing_and_its_report_is_final(vecfleet: Vecfleet, copied: JobTable) -> None:
    # What is proposed first keeps both sides
    steps = vecfleet("status", "1", "--json").json["next_steps"]
    assert steps == ["vecfleet finish 1", "vecfleet cleanup 1", "vecfleet rollback 1"]
    answer = vecfleet("finish", "1")
    assert answer.code == 0 and "both sides stay" in answer.out and "next: vecfleet report 1" in answer.out
    copied.advance(2)
    assert copied.job.state is JobState.FINISHED
    assert copied.rows(BatchKind.CLEAR) == copied.rows(BatchKind.REMOVE) == []
    with copied.begin() as connection:
        assert jobs.live(connection) == []
    assert vecfleet("status", "1").out.startswith("job 1 finished: verified 1 of 1 namespaces")
    # And who asks for the clean-up after all is told that it has ended, and nothing of its readers
    answer = vecfleet("cleanup", "1", "--yes")
    assert answer.code == 3 and answer.err.splitlines()[0] == "job 1 is finished: both sides stay"
    assert "next: vecfleet report 1\n" in answer.err


def test_what_was_proven_is_said_by_the_status_and_by_the_report(vecfleet: Vecfleet, copied: JobTable) -> None:
    proven = "2 records were read back from 1 target namespace and found equal"
    assert f"\nproven: {proven}\n" in vecfleet("status", "1").out
    assert f"  proven              {proven}\n" in vecfleet("report", "1").out
    copied.put(state="rolled_back")
    assert "proven" not in vecfleet("status", "1").out + vecfleet("report", "1").out


def test_who_ended_a_job_is_told_by_its_report_and_is_no_issue(vecfleet: Vecfleet, copied: JobTable) -> None:
    assert vecfleet("finish", "1").code == 0
    found = vecfleet("report", "1", "--json").json
    assert "finished by" in found["reason"] and not any("finished by" in issue for issue in found["issues"])
    assert "\n  ended               finished by" in vecfleet("report", "1").out


def test_a_namespace_whose_listing_failed_has_no_number_in_the_report(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given a job that lists 2 records of one namespace, while the listing of another, of 68, fails
    table.apply(in_pinecone(plan_of(planned("s", "t", 2), planned("u", "v", 68))))
    table.start()
    sources = {move.id: move.source for move in table.moves.values()}
    for lease in table.take():
        assert lease.move_id is not None
        if sources[lease.move_id] == "s":
            table.list_ids(lease, ["a", "b"])
        else:
            table.park(lease, "it is locked")
    # Then the report knows how many were planned, and says of how many there were that nobody listed them
    said = vecfleet("report", "1").out
    assert "moved and verified  0 of 70 records" in said
    assert "vectors             not listed before → " in said
    assert "issue: 1 namespace was not listed to the end: how many records are there is not known" in said
    found = vecfleet("report", "1", "--json").json
    assert found["vectors"]["before"] is None and found["records"]["listed"] == 2


def test_an_ended_copy_blocks_nobody_and_one_that_lives_says_how_to_end_it(
    vecfleet: Vecfleet, copied: JobTable
) -> None:
    other = plan_of(planned("t", "elsewhere"))
    with pytest.raises(Refused) as refused:
        copied.apply(other)
    assert refused.value.next_step == "`vecfleet finish 1` ends it and keeps both sides"
    assert vecfleet("finish", "1").code == 0
    number = copied.apply(other)
    # And the same plan may be run again, once the other one is gone
    assert vecfleet("cancel", str(number), "--yes").code == 0
    copied.advance()
    assert copied.apply(plan_of(planned("s", "t", 2), cut_over="none", soak_seconds=0)) > number


def test_a_finished_copy_can_still_be_rolled_back_as_long_as_no_reader_moved(
    vecfleet: Vecfleet, copied: JobTable
) -> None:
    assert vecfleet("finish", "1").code == 0
    assert vecfleet("rollback", "1", "--yes").code == 0
    assert copied.job.state is JobState.ROLLING_BACK
    # What is being taken back is not done any more
    assert "being taken back" in vecfleet("jobs").out
    [listed] = vecfleet("jobs", "--json").json["jobs"]
    assert (listed["records"], listed["done"]) == (2, 0)
    with copied.begin() as connection:
        assert jobs.live(connection) == [1]


def test_readers_that_moved_stay_where_they_are(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 2)))
    table.verified()
    # A part of them is neither here nor there
    salt = table.job.salt
    table.put(cut_over_percent=50)
    refusal = vecfleet("finish", "1")
    assert refusal.code == 3 and "readers are cut over at 50 %" in refusal.err
    table.put(cut_over_percent=0, salt=salt)
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    assert vecfleet("finish", "1").code == 0
    again = vecfleet("finish", "1")
    assert again.code == 3 and "job 1 is finished already" in again.err and "vecfleet report 1" in again.err
    answer = vecfleet("reverse", "1")
    assert answer.code == 3 and "other jobs may have its old namespaces by now" in answer.err
    refused = vecfleet("rollback", "1", "--yes")
    assert refused.code == 3 and "vecfleet plan reverse 1" in refused.err


def test_a_job_that_is_not_proven_is_not_finished(vecfleet: Vecfleet, database: Database, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 2)))
    before = contents(database)
    answer = vecfleet("finish", "1")
    assert answer.code == 3 and "a job is finished once it is verified" in answer.err
    assert contents(database) == before


def test_a_clean_up_that_a_guard_stopped_is_finished_and_what_is_left_stays(
    vecfleet: Vecfleet, copied: JobTable
) -> None:
    assert vecfleet("cleanup", "1", "--yes", "--by-ids").code == 0
    [lease] = copied.take()
    copied.park(lease, "2 records vanished")
    copied.put(state="needs_attention", resume_to="cleaning", reason="1 source was not deleted: a guard refused")
    assert "vecfleet finish 1" in vecfleet("status", "1", "--json").json["next_steps"]
    assert vecfleet("finish", "1").code == 0
    assert copied.job.state is JobState.FINISHED
