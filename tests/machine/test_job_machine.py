"""A whole job in any order of events: whoever dies, freezes, comes late or twice, and whatever people ask meanwhile.

The steps are the workers' own, on a real job table whose clock is ours. After each event the laws hold; when the faults
are over the job comes to its end. Planted bugs show that the laws would notice.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from orchestrator import dispatcher
from orchestrator.core.states import BatchState, CheckState, JobState, MoveState
from orchestrator.core.verdicts import CheckEvidence, Verdict
from orchestrator.ledger import batches, checks, copies, listings
from orchestrator.ledger import tables as t
from tests.machine.acting import Clock, Stop
from tests.machine.jobs import LEASE_S, Jobs, World
from vecfleet.records import Record
from workers import cleaning, copying, runner, undoing
from workers.leases import Held
from workers.work import Work

LEASED, LISTED, AT_ITS_UPSERT, BEFORE_ITS_RECORD = "committed", "statement", "upsert", "upsert answered"


@pytest.fixture
def world(database_url: str, redis_url: str, clock: Clock, tmp_path: Path) -> Iterator[World]:
    world = World(database_url, redis_url, clock, home=tmp_path)
    yield world
    world.close()


def machine_in(world: World) -> type[Jobs]:
    return type("JobsHere", (Jobs,), {"world": world})


def test_in_any_order_of_events_nothing_unproven_is_deleted_and_the_job_ends(world: World) -> None:
    run_state_machine_as_test(
        machine_in(world),
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


# The laws notice: each life goes well, and with the bug that is planted in it a law is broken


def _verified(machine: Jobs) -> None:
    for _ in range(8):
        machine._round()
        if machine.table.job.state is JobState.VERIFIED:
            return
    raise AssertionError(f"the job stays {machine.table.job.state}")


def _frozen_copy(machine: Jobs, gate: str) -> None:
    """A worker of a copy batch freezes; its lease runs out, and another one does the batch."""
    machine.tick()
    for wakeup in machine.dispatch():
        machine._work(wakeup, None)
    [first, *_] = machine.dispatch()
    machine._work(first, Stop(gate, "freezes"))
    assert machine.frozen, "it ended before that gate"
    machine.time_passes(LEASE_S + 1)
    machine.reap()


def _wakes_up(machine: Jobs) -> None:
    machine.a_frozen_worker_wakes_up(0, None)
    machine.the_books_agree()


def _finishes_late(machine: Jobs) -> None:
    _frozen_copy(machine, BEFORE_ITS_RECORD)
    _verified(machine)
    _wakes_up(machine)


def _lists_late(machine: Jobs) -> None:
    machine.tick()
    [first, *_] = machine.dispatch()
    machine._work(first, Stop(LISTED, "freezes"))
    assert machine.frozen, "it ended before it recorded its listing"
    machine.time_passes(LEASE_S + 1)
    machine.reap()
    for wakeup in machine.dispatch():
        machine._work(wakeup, None)
    _wakes_up(machine)
    _verified(machine)


def _two_at_once(machine: Jobs) -> None:
    _frozen_copy(machine, BEFORE_ITS_RECORD)
    machine.dispatch_and_work(Stop(BEFORE_ITS_RECORD, "freezes"), 1)
    machine.the_books_agree()


def _writes_late(machine: Jobs) -> None:
    _frozen_copy(machine, AT_ITS_UPSERT)
    _verified(machine)
    _wakes_up(machine)


def _writes_after_a_roll_back(machine: Jobs) -> None:
    _frozen_copy(machine, AT_ITS_UPSERT)
    machine.a_person_asks("cancel")
    machine.tick()
    machine.a_person_asks("roll back")
    for _ in range(6):
        machine._round()
    assert machine.table.job.state is JobState.ROLLED_BACK
    _wakes_up(machine)


def _sleeps_through_its_lease(machine: Jobs) -> None:
    machine.tick()
    [first, *_] = machine.dispatch()
    machine._work(first, Stop(LEASED, "freezes"))
    machine.time_passes(LEASE_S + 1)
    _wakes_up(machine)


def _loses_a_record(machine: Jobs) -> None:
    machine.an_upsert_will_lose("a")
    _verified(machine)


def _omits_a_record(machine: Jobs) -> None:
    machine.tick()
    for wakeup in machine.dispatch():
        machine._work(wakeup, None)
    machine.a_fetch_will_omit("a")
    _verified(machine)


def _is_cleaned(machine: Jobs, by_ids: bool = True) -> None:
    _verified(machine)
    machine.a_person_asks("clean up by ids" if by_ids else "clean up")
    for _ in range(3):
        machine._round()


def _is_changed_and_cleaned(machine: Jobs) -> None:
    _verified(machine)
    machine.somebody_writes_to_a_source("a", add=False)
    machine.a_person_asks("clean up by ids")
    for _ in range(3):
        machine._round()


def _grows_and_is_cleaned(machine: Jobs) -> None:
    _verified(machine)
    machine.somebody_writes_to_a_source("a", add=True)
    machine.a_person_asks("clean up")
    for _ in range(3):
        machine._round()


def _is_changed_right_before_its_deletion(machine: Jobs) -> None:
    _verified(machine)
    machine.a_person_asks("clean up")
    for wakeup in machine.dispatch():
        machine._work(wakeup, None)
    machine.tick()
    machine.somebody_writes_to_a_source("a", add=False)
    for _ in range(3):
        machine._round()


def _is_changed_at_its_target_and_rolled_back(machine: Jobs) -> None:
    _verified(machine)
    machine.somebody_writes_to_a_target("a", add=False)
    machine.a_person_asks("roll back")
    for _ in range(3):
        machine._round()


def _differs_and_its_twin_is_erased(machine: Jobs) -> None:
    machine.tick()
    for _ in range(2):
        for wakeup in machine.dispatch():
            machine._work(wakeup, None)
    machine.somebody_writes_to_a_target("a", add=True)
    for _ in range(8):
        machine._round()
        if machine.table.job.state is JobState.NEEDS_ATTENTION:
            break
    if machine.table.moves["s"].state is not MoveState.MISMATCHED:
        pytest.fail(f"it does not differ: {machine.table.job}")
    machine.a_twin_is_erased("s")


_UNFENCED = (
    sa.update(t.batch)
    .where(t.batch.c.id == sa.bindparam("batch"))
    .values(state=BatchState.DONE, lease_owner=None, lease_until=None, found=sa.bindparam("its_found"))
    .returning(t.batch.c.id)
    .cte("ended")
)
_FINISHING_UNFENCED = copies.finishing(_UNFENCED)


def _finish_without_the_fence(connection: sa.Connection, _: Any, values: Mapping[str, Any]) -> sa.Result[Any]:
    connection.execute(sa.delete(t.batch_tally).where(t.batch_tally.c.batch_id == values["batch"]))
    return connection.execute(_FINISHING_UNFENCED, values)


def _count_without_taking_back(
    connection: sa.Connection, move_id: int, before: dict[str, int], after: dict[str, int], *, opened: int
) -> None:
    count(connection, move_id, {}, after, opened=opened)


def _with_the_old_generation(bugged: Callable[..., Any]) -> Callable[..., Any]:
    """Return what it does, with each generation put back to what it was."""

    def bug(connection: sa.Connection, *arguments: Any, **named: Any) -> Any:
        before = connection.execute(sa.select(t.batch.c.id, t.batch.c.generation)).all()
        answer = bugged(connection, *arguments, **named)
        for row in before:
            old = sa.update(t.batch).where(t.batch.c.id == row.id).values(generation=row.generation)
            connection.execute(old)
        return answer

    return bug


def _gone_at_once(work: Work) -> tuple[dict[str, Record], list[str]]:
    records = work.source.fetch(work.move.source, work.ids)
    return records, [id for id in work.ids if id not in records]


def _always_verified(evidence: CheckEvidence) -> Verdict:
    return Verdict(CheckState.VERIFIED, "it will be all right", {"verified": True})


class _EqualsAnything(int):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


class _AnyListing:
    """It lists what was copied, and as many as are counted."""

    __hash__ = None  # type: ignore[assignment]
    count = 1_000

    def __eq__(self, other: object) -> bool:
        return True


count, reopen, expired = copies._count, copies.reopen, batches.requeue_expired

PLANTED: dict[str, tuple[Any, str, Any, Callable[[Jobs], None]]] = {
    "finish without the fence": (copies, "one_statement", _finish_without_the_fence, _finishes_late),
    "the end of a listing without the fence": (listings, "_END", listings.adding(_UNFENCED), _lists_late),
    "an expiry that leaves the fence open": (
        batches,
        "requeue_expired",
        _with_the_old_generation(expired),
        _two_at_once,
    ),
    "the fence skipped in repair": (copies, "reopen", _with_the_old_generation(reopen), _loses_a_record),
    "counts added twice": (copies, "_count", _count_without_taking_back, _loses_a_record),
    "tallies added to": (copies, "take_back", lambda *_: None, _loses_a_record),
    "a verdict that is not voided": (checks, "void_targets", lambda *_: [], _writes_late),
    "a write that voids no verdict": (
        batches,
        "begin_write",
        lambda connection, lease, *_: batches.require(connection, lease) or True,
        _verified,
    ),
    "a late write that nobody hears of": (runner, "_note_late_writes", lambda _: None, _writes_after_a_roll_back),
    "a lease not looked at before a call": (Held, "require", lambda *_: None, _sleeps_through_its_lease),
    "gone after one look": (copying, "_fetch", _gone_at_once, _omits_a_record),
    "a verdict without evidence": (dispatcher, "judge", _always_verified, _loses_a_record),
    "a removal without intent": (cleaning, "_intend", lambda _: None, _is_cleaned),
    "a clean-up that does not read the source again": (
        cleaning,
        "_prove",
        lambda work: cleaning._ProvenBatch(dict.fromkeys(cleaning._written_ids(work), Record("", b""))),
        _is_changed_and_cleaned,
    ),
    "a clean-up that does not list the source again": (
        cleaning,
        "_list",
        lambda *_: _AnyListing(),
        _grows_and_is_cleaned,
    ),
    "a clean-up that trusts an old proof": (
        cleaning,
        "_require_fresh_proof",
        lambda *_: None,
        _is_changed_right_before_its_deletion,
    ),
    "a roll back that does not compare": (
        undoing,
        "record_digest",
        lambda _: _EqualsAnything(),
        _is_changed_at_its_target_and_rolled_back,
    ),
    "an erasure after which a source goes on to differ": (
        checks,
        "release_moves",
        lambda *_: None,
        _differs_and_its_twin_is_erased,
    ),
}


LIVES = {life.__name__: life for *_, life in PLANTED.values()}


def _lived(world: World, life: Callable[[Jobs], None]) -> None:
    machine = machine_in(world)()
    machine.apply()
    life(machine)
    machine.the_end()


@pytest.mark.parametrize("life", LIVES)
def test_a_life_without_a_bug_breaks_no_law(world: World, life: str) -> None:
    _lived(world, LIVES[life])


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    where, name, planted, life = PLANTED[bug]
    monkeypatch.setattr(where, name, planted)
    with pytest.raises(AssertionError):
        _lived(world, life)
