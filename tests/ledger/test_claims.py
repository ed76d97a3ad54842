"""Claims: no two live jobs write to one namespace, and nobody writes to what another one reads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa
from job_table import ELSEWHERE, JobTable, plan_of, planned

from migrations.plan import Plan
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.ledger import jobs, moves
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.errors import Refused


def claims(table: JobTable) -> list[tuple[str, str]]:
    query = sa.select(t.claim.c.namespace, t.claim.c.role).where(t.claim.c.job_id == table.job_id)
    with table.begin() as connection:
        return sorted((row.namespace, row.role) for row in connection.execute(query))


def jobs_there(table: JobTable) -> int:
    with table.begin() as connection:
        return len(jobs.every(connection))


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (planned("other", "t"), "t is a target of job 1"),
        (planned("t", "u"), "t is a target of job 1"),
        (planned("other", "s"), "s is a source of job 1"),
    ],
)
def test_a_live_job_keeps_others_off_its_namespaces(table: JobTable, second: object, sentence: str) -> None:
    # Given a live job s → t
    # When a second one would write to t, read t, or write to s
    with pytest.raises(Refused, match=sentence) as refusal:
        table.apply(plan_of(second))  # type: ignore[arg-type]

    # Then it is refused with the way on, and leaves no trace
    assert refusal.value.next_step and "vecfleet status 1" in refusal.value.next_step
    assert jobs_there(table) == 1


def test_two_jobs_may_read_one_source(table: JobTable) -> None:
    table.apply(plan_of(planned("s", "another target")))
    assert claims(table) == [("another target", "target"), ("s", "source")]


def test_the_same_name_in_another_index_is_another_namespace(table: JobTable) -> None:
    table.apply(plan_of(planned("other", "t"), target=ELSEWHERE), target=ELSEWHERE)
    assert jobs_there(table) == 2


def test_one_namespace_is_claimed_under_each_of_its_spellings(database: Database) -> None:
    """Pinecone takes `""` and `__default__` for the same namespace."""
    table = JobTable(database)
    table.apply(plan_of(planned("", "t")))
    with pytest.raises(Refused, match="__default__ is a source of job"):
        table.apply(plan_of(planned("s", "__default__")))


@pytest.mark.parametrize("state", sorted(JOB_ENDED))
def test_the_end_of_a_job_releases_its_claims(table: JobTable, state: JobState) -> None:
    before = {
        "cleaned": JobState.CLEANING,
        "finished": JobState.VERIFIED,
        "cancelled": JobState.CANCELLING,
        "rolled_back": JobState.ROLLING_BACK,
    }
    table.put(state=before[state])
    with table.begin() as connection:
        assert jobs.advance(connection, table.job_id, before[state], state)
    assert claims(table) == []
    table.apply(table.plan)
    assert claims(table) == [("s", "source"), ("t", "target")]


def test_a_paused_job_keeps_its_claims(table: JobTable) -> None:
    table.start()
    acts.pause(table.database, table.job_id, "ana")
    table.advance()
    with pytest.raises(Refused):
        table.apply(plan_of(planned("other", "t")))


def test_the_same_plan_runs_once_at_a_time(table: JobTable) -> None:
    with pytest.raises(Refused, match="this very plan is still live"):
        table.apply(table.plan)
    assert jobs_there(table) == 1


def test_a_plan_that_was_cleaned_up_after_does_not_run_again_and_one_that_was_rolled_back_may(table: JobTable) -> None:
    """Records that are left in its sources were to stay, or came later: nobody looked at them in this plan."""
    for before, after in ((JobState.ROLLING_BACK, JobState.ROLLED_BACK), (JobState.CLEANING, JobState.CLEANED)):
        with table.begin() as connection:
            jobs.require_not_done(connection, table.plan.digest)
            table.put(state=before)
        with table.begin() as connection:
            assert jobs.advance(connection, table.job_id, before, after)
    with table.begin() as connection, pytest.raises(Refused, match="ran this very plan and cleaned up after it"):
        jobs.require_not_done(connection, table.plan.digest)


def test_of_two_operators_applying_one_plan_at_once_one_is_refused(database: Database) -> None:
    table, ready = JobTable(database), Barrier(2)

    def apply(plan: Plan) -> int | str:
        ready.wait(timeout=120)
        try:
            return JobTable(database).apply(plan)
        except Refused as refusal:
            return refusal.message

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(apply, [table.plan, table.plan]))

    assert sorted(type(answer).__name__ for answer in answers) == ["int", "str"]
    assert jobs_there(table) == 1


def test_of_two_plans_for_one_target_applied_at_once_one_is_refused(database: Database) -> None:
    ready = Barrier(4)

    def apply(number: int) -> int | None:
        ready.wait(timeout=120)
        try:
            return JobTable(database).apply(plan_of(planned(f"s{number}", "t"), planned(f"x{number}", f"y{number}")))
        except Refused:
            return None

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for answer in pool.map(apply, range(4)) if answer is not None]

    assert len(answers) == 1
    table = JobTable(database)
    with table.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(t.claim)).scalar_one() == 4


def test_a_namespace_found_while_routing_is_claimed_like_a_planned_one(database: Database) -> None:
    # Given a job that sends each record to its owner, and another one that writes to creator_ben
    table = JobTable(database)
    table.apply(plan_of(planned("other", "creator_ben")))
    table.apply(plan_of(planned("__default__")))
    table.listed({"__default__": [["a"]]})
    (lease,) = table.take()

    # When a record of the first turns out to be ben's, then its namespace is refused, and another is claimed
    with pytest.raises(Refused, match="creator_ben is a target of job 1"):
        table.target(lease, "creator_ben")
    table.target(lease, "creator_cleo")
    assert claims(table) == [("__default__", "source"), ("creator_cleo", "target")]
    assert list(table.targets) == ["creator_cleo"]


def test_two_workers_finding_one_namespace_at_once_share_its_row(database: Database) -> None:
    # Given a job that sends each record to its owner, with four batches at work
    table, ready = JobTable(database), Barrier(4)
    table.apply(plan_of(planned("__default__")))
    table.listed({"__default__": [["a"], ["b"], ["c"], ["d"]]})
    leases = table.take()

    # When all of them find a record of the same owner
    def find(number: int) -> int:
        ready.wait(timeout=120)
        return table.target(leases[number], "creator_ana").id

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(find, range(4)))

    # Then there is one target, and each of its writers raised its write sequence
    assert len(found) == 1
    assert table.targets["creator_ana"].sequence == 4
    assert claims(table) == [("__default__", "source"), ("creator_ana", "target")]


def test_a_cancelled_job_takes_its_namespaces_again_before_it_goes_back_over_them(table: JobTable) -> None:
    # Given a cancelled job that had written to t, and another one that has t now
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    table.copy(lease)
    acts.cancel(table.database, table.job_id, "ana")
    table.advance()
    assert table.job.state is JobState.CANCELLED
    other = JobTable(table.database)
    other.apply(plan_of(planned("another", "t")))

    # When somebody rolls the first one back, then it is refused: it would delete under the other's feet
    with pytest.raises(Refused, match="t is a target of job 2"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.CANCELLED

    # And once the other one has ended, it may
    acts.cancel(other.database, other.job_id, "ana")
    other.advance()
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.ROLLING_BACK
    assert claims(table) == [("s", "source"), ("t", "target")]


def test_a_cancelled_job_whose_plan_runs_again_is_not_rolled_back(table: JobTable) -> None:
    # Given a cancelled job and a second run of its very plan
    table.start()
    acts.cancel(table.database, table.job_id, "ana")
    table.advance(2)
    assert table.job.state is JobState.CANCELLED
    JobTable(table.database).apply(table.plan)

    # When somebody rolls the first one back, then the answer is a sentence, and nothing changed
    with pytest.raises(Refused):
        acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.CANCELLED


# Ids of a target that more than one move writes to


def test_of_two_moves_racing_for_an_id_one_has_it(database: Database) -> None:
    # Given two sources with an id in common, consolidated into one target
    table, ready = JobTable(database), Barrier(2)
    table.apply(plan_of(planned("s1", "t"), planned("s2", "t")))
    table.listed({"s1": [["common", "one"]], "s2": [["common", "two"]]})
    leases = table.take()
    target = table.target(leases[0], "t")
    table.target(leases[1], "t")
    assert target.checks_ids

    # When both take their ids at once
    def take(number: int) -> dict[str, int | None]:
        lease = leases[number]
        assert lease.move_id is not None
        wanted = [(record_id, number) for record_id in table.ids(lease)]
        ready.wait(timeout=120)
        with table.begin() as connection:
            return moves.claim_ids(connection, target.id, lease.move_id, wanted)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(take, range(2)))

    # Then one of them is told that the id is the other's, and what the other's looks like
    assert sorted(map(list, answers)) == [[], ["common"]]
    loser = 0 if answers[0] else 1
    assert answers[loser] == {"common": 1 - loser}


def test_a_repeated_batch_knows_its_own_ids(database: Database) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s1", "t"), planned("s2", "t")))
    table.listed({"s1": [["a"]], "s2": []})
    (lease,) = table.take()
    target = table.target(lease, "t")
    assert lease.move_id is not None
    for _ in range(2):
        with table.begin() as connection:
            assert moves.claim_ids(connection, target.id, lease.move_id, [("a", 2**128 - 1)]) == {}


def test_an_id_that_was_there_before_the_job_is_nobodys(table: JobTable) -> None:
    # Given a target that held "a" before
    table.listed({"s": [["a", "b"]]})
    (lease,) = table.take()
    target = table.target(lease, "t")
    with table.begin() as connection:
        moves.note_held_before(connection, target.id, ["a"])

    # When a move wants "a" and "b", then "a" is not its own, without a digest to compare with
    assert lease.move_id is not None
    with table.begin() as connection:
        assert moves.claim_ids(connection, target.id, lease.move_id, [("a", 1), ("b", 2)]) == {"a": None}
        assert moves.held_before(connection, target.id, None, 10) == ["a"]
        assert moves.taken(connection, target.id, ["a", "b"]) == {"b"}


def test_what_a_move_has_taken_was_not_there_before(table: JobTable) -> None:
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    target = table.target(lease, "t")
    assert lease.move_id is not None
    with table.begin() as connection:
        moves.claim_ids(connection, target.id, lease.move_id, [("a", 1)])
        moves.note_held_before(connection, target.id, ["a", "b"])
        assert moves.held_before(connection, target.id, None, 10) == ["b"]


def test_ids_that_were_there_before_come_in_byte_order_page_by_page(table: JobTable) -> None:
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    target = table.target(lease, "t")
    ids = ["B", "a", "a_b", "a-b", "aB", "Z", "~", " "]
    with table.begin() as connection:
        moves.note_held_before(connection, target.id, ids)
        read: list[str] = []
        while page := moves.held_before(connection, target.id, read[-1] if read else None, 3):
            read += page
    assert read == sorted(ids, key=str.encode)
