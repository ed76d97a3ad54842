"""A tenant is erased at any moment of the check of its target: its job still comes to its end, without a person.

Two twins move side by side, and one of them is erased.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from in_one_process import PATIENCE_S, POLL_S, TARGET, One, open_one, twenty_three
from job_table import INDEX, planned

from orchestrator.core.redaction import Traces
from orchestrator.core.states import BatchKind, JobState, MoveState
from orchestrator.ledger import anonymise, batches, erasures
from orchestrator.services import acts
from vecfleet.digests import record_digest
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.tenancy.fences import subject_of
from vecfleet.tenancy.finding import TenantPlace
from workers import runner

RECORDS = twenty_three()
OURS, OTHERS = RECORDS[:4], RECORDS[10:13]
OTHER = "creator_ana_twin_u"
STRANGER = RECORDS[20]
SHARED, THEIRS = "shared", RECORDS[:4]
NO_OTHERS = ()  # queues whose next batch a worker goes on with
OF_ERASED = {(INDEX.name, "s"), (INDEX.name, TARGET)}
Open = Callable[..., One]
Moment = Callable[[One], object]


@pytest.fixture
def opens(database_url: str, redis_url: str) -> Iterator[Open]:
    opened: list[AbstractContextManager[One]] = []

    def opens(writers: str, **policies: Any) -> One:
        moves = (planned("s", TARGET, len(OURS)), planned("u", OTHER, len(OTHERS)))
        sources = {"s": OURS, "u": OTHERS}
        policies = {"writers": writers, "cut_over": "operator", "soak_seconds": 0, "max_passes": 20, **policies}
        opened.append(open_one(database_url, redis_url, sources, *moves, **policies))
        return opened[-1].__enter__()

    yield opens
    for one in opened:
        one.__exit__(None, None, None)


def erase(one: One, meanwhile: Moment = lambda _: None) -> None:
    """Erase the twin: first from the index and then, once it was looked again, from the job table."""
    with one.table.begin() as connection:
        number = erasures.begin(connection, subject_of(Tenant("ana", "s")), "ana")
    for namespace in ("s", TARGET):
        one.index.delete_namespace(namespace)
    meanwhile(one)
    with one.table.begin() as connection:
        anonymise.forget(connection, Traces(Tenant("ana", "s"), OF_ERASED, number), [])


def stranger_writes(one: One) -> None:
    one.index.upsert(TARGET, [STRANGER])


def record_goes_missing(one: One) -> None:
    one.index.delete(TARGET, [OURS[0].id])


def check_dealt(one: One) -> None:
    one.work_until(lambda: one.table.rows(BatchKind.SURVEY))


def check_answered(one: One) -> None:
    """No verdict is pronounced yet."""
    check_dealt(one)
    stranger_writes(one)
    while one.deliver():
        pass
    assert any(row.found for row in one.table.rows(BatchKind.SURVEY))


def differs(one: One) -> None:
    check_dealt(one)
    stranger_writes(one)
    target_found_to_differ(one)


def target_found_to_differ(one: One) -> None:
    """A verdict is pronounced on the twin's target while the other target is still checked."""
    target = one.table.targets[TARGET].id
    deadline = time.monotonic() + PATIENCE_S
    while _move(one) is not MoveState.MISMATCHED:
        wakeups = one.table.dispatch()
        of_target = [wakeup for wakeup in wakeups if one.table.row(wakeup.batch_id).target_id == target]
        with one.table.begin() as connection:
            batches.undispatch(connection, [wakeup for wakeup in wakeups if wakeup not in of_target])
        for wakeup in of_target:
            runner.run(one.process, wakeup.batch_id, wakeup.generation, NO_OTHERS)
        one.table.advance()
        assert time.monotonic() < deadline, f"it never differs: {one.table.job}"
        time.sleep(POLL_S)


def _move(one: One) -> MoveState:
    return one.table.moves["s"].state


def waits_for_a_person(one: One) -> None:
    check_dealt(one)
    stranger_writes(one)
    one.until(JobState.NEEDS_ATTENTION)


def repair_dealt(one: One) -> None:
    check_dealt(one)
    record_goes_missing(one)
    one.work_until(lambda: _move(one) is MoveState.REPAIRING)


def verified(one: One) -> None:
    one.until(JobState.VERIFIED)


def cut_over(one: One) -> None:
    verified(one)
    acts.cut_over(one.table.database, one.table.job_id, "ana", 100)


def pass_begun(one: One) -> None:
    """After the cut-over, for writes by old routes."""
    cut_over(one)
    acts.another_pass(one.table.database, one.table.job_id, "ana")
    one.until(JobState.RUNNING)


LEFT = {OTHER: [record.id for record in OTHERS]}


def what_is_left(one: One) -> dict[str, list[str]]:
    """Return the ids in each namespace, once the job went on by itself to where a person cleans up, and is cleaned."""
    one.until(JobState.VERIFIED, JobState.CUT_OVER)
    if one.table.job.state is JobState.VERIFIED:
        acts.cut_over(one.table.database, one.table.job_id, "ana", 100)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.CLEANED)
    assert {move.state for move in one.table.moves.values()} == {MoveState.CLEANED}
    return {namespace.name: one.ids(namespace.name) for namespace in one.index.namespaces()}


MOMENTS: dict[str, Moment] = {
    "its check is dealt": check_dealt,
    "its check is answered, and no verdict pronounced": check_answered,
    "it differs, and another target is still checked": differs,
    "its difference waits for a person": waits_for_a_person,
    "it is verified": verified,
    "its readers are cut over": cut_over,
}


@pytest.mark.parametrize("writers", ["freeze", "dual"])
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_job_ends_by_itself_although_one_of_its_tenants_is_erased_when(
    opens: Open, writers: str, moment: Moment
) -> None:
    one = opens(writers)
    moment(one)
    erase(one)
    assert what_is_left(one) == LEFT


def test_a_job_ends_by_itself_although_one_of_its_tenants_is_erased_when_another_pass_has_begun(opens: Open) -> None:
    one = opens("dual")
    pass_begun(one)
    erase(one)
    assert what_is_left(one) == LEFT


def test_a_job_ends_by_itself_although_one_of_its_tenants_is_erased_while_it_is_repaired(opens: Open) -> None:
    one = opens("freeze")
    repair_dealt(one)
    erase(one)
    assert what_is_left(one) == LEFT


@pytest.mark.parametrize("writers", ["freeze", "dual"])
def test_a_check_that_comes_between_the_deletion_and_the_books_keeps_nobody_waiting(opens: Open, writers: str) -> None:
    one = opens(writers)
    check_dealt(one)
    erase(one, meanwhile=lambda one: one.work_until(lambda: _move(one) is not MoveState.COPIED))
    assert what_is_left(one) == LEFT


def test_a_check_that_finds_nothing_of_the_tenant_where_readers_are_keeps_nobody_waiting(opens: Open) -> None:
    """As in seed 324 of the chaos: a target that readers were moved to differs once it is empty, and not before."""
    one = opens("dual")
    pass_begun(one)
    check_dealt(one)
    erase(one, meanwhile=target_found_to_differ)
    assert what_is_left(one) == LEFT


def test_a_check_that_is_answered_after_the_erasure_says_nothing_of_the_tenant(opens: Open) -> None:
    # Given checks under way
    one = opens("freeze")
    check_dealt(one)
    under_way = one.table.take()
    target = one.table.targets[TARGET].id
    # When the tenant is erased before they are answered
    erase(one)
    for lease in under_way:
        if lease.target_id == target:
            with pytest.raises(batches.LeaseLost):
                one.table.check(lease, missing=len(OURS))
        else:
            one.table.check(lease)
    # Then the job is none the wiser
    assert what_is_left(one) == LEFT


# Of a target that several tenants share, the records of one leave, and the others' are proven without them


def missing(one: One) -> None:
    one.index.delete(SHARED, [THEIRS[0].id])


def changed(one: One) -> None:
    one.index.upsert(SHARED, [THEIRS[0].with_metadata({"text": "by somebody else"})])


def added(one: One) -> None:
    one.index.upsert(SHARED, [STRANGER])


def erase_of_shared(one: One, twin: str, *erased: Record) -> None:
    """A twin's records leave the source and the target that hold others' too."""
    places = []
    for namespace in ("mixed", SHARED):
        held = one.index.fetch(namespace, [record.id for record in erased]).records
        digests = {record_id: record_digest(record) for record_id, record in held.items()}
        places.append(TenantPlace(INDEX.name, namespace, False, len(digests), 0, (), digests))
        one.index.delete(namespace, list(held))
    with one.table.begin() as connection:
        number = erasures.begin(connection, subject_of(Tenant("ana", twin)), "ana")
        anonymise.forget(connection, Traces(Tenant("ana", twin), [], number), places)


@pytest.mark.parametrize("spoil", [missing, changed, added])
def test_a_difference_that_is_erased_keeps_nobody_waiting(
    database_url: str, redis_url: str, spoil: Callable[[One], None]
) -> None:
    sources = {"mixed": [*THEIRS, *OTHERS]}
    moves = planned("mixed", SHARED, len(THEIRS) + len(OTHERS))
    with open_one(database_url, redis_url, sources, moves, repair_rounds=0) as one:
        # Given a difference in a target of several tenants, which waits for a person
        check_dealt(one)
        spoil(one)
        one.until(JobState.NEEDS_ATTENTION)
        # When all records of its tenant are erased, a stranger's among them
        erase_of_shared(one, "s", *THEIRS, STRANGER)
        # Then nobody has to decide about it, and nothing names its record
        one.until(JobState.VERIFIED)
        assert one.ids(SHARED) == [record.id for record in OTHERS]
        verdict = one.table.targets[SHARED].verdict
        assert verdict is not None and verdict["expected"] == len(OTHERS) and verdict["samples"] == []


def test_two_tenants_are_erased_one_after_the_other_and_the_rest_is_proven(database_url: str, redis_url: str) -> None:
    sources = {"mixed": [*THEIRS, *OTHERS]}
    moves = planned("mixed", SHARED, len(THEIRS) + len(OTHERS))
    with open_one(database_url, redis_url, sources, moves) as one:
        check_dealt(one)
        changed(one)
        erase_of_shared(one, "s", *THEIRS)
        erase_of_shared(one, "t", OTHERS[0])
        one.until(JobState.VERIFIED)
        assert one.ids(SHARED) == [record.id for record in OTHERS[1:]]
