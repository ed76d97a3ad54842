"""The lease queue in any order: whoever dies, comes late or comes twice, each batch is done once and the books agree.

A Hypothesis state machine acts on a real job table: dispatch, lease, finish, fail, park, split, run out, retry, and any
of them late or twice. After each act the laws hold. Planted bugs show that the laws would notice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from job_table import JobTable, accounted_for, lift_the_edges, plan_of, planned

from orchestrator.core.model import Lease, Move, Wakeup
from orchestrator.core.states import BATCH_EDGES, BatchState
from orchestrator.ledger import batches, copies, leasing, parked
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from vecfleet.stores.base import Usage

RUNS = [["a", "b"], ["c"]]
IDS = 3
SETTLED = (BatchState.DONE, BatchState.PARKED)
# Which of the wake-ups or leases there were so far: mostly one of the latest, at times any.
PICK = st.one_of(st.just(-1), st.just(-1), st.just(-2), st.integers(0, 100))
Seen = dict[int, tuple[BatchState, int]]


class Leases(RuleBasedStateMachine):
    """Workers keep every wake-up and every lease they were ever given, and use any of them at any time."""

    database: Database  # set by the test that runs the machine

    @initialize()
    def list_a_namespace(self) -> None:
        with self.database.begin() as connection:
            for name in ("batch_tally", "parked_record", "claim", "batch", "move_target", "target", "move", "job"):
                connection.execute(sa.text(f"DELETE FROM {name}"))
        self.table = JobTable(self.database)
        self.table.apply(plan_of(planned("s", "t")))
        self.table.listed({"s": RUNS})
        self.wakeups: list[Wakeup] = []
        self.leases: list[Lease] = []
        self.leased: set[tuple[int, int]] = set()
        self.used: set[tuple[int, int]] = set()
        self.seen = self._look()

    def _look(self) -> Seen:
        return {row.id: (BatchState(row.state), row.generation) for row in self.table.rows()}

    # Acts

    @rule(window=st.integers(1, 3))
    def dispatch(self, window: int) -> None:
        self.wakeups += self.table.dispatch(window)

    @rule()
    def dispatch_and_lease(self) -> None:
        fresh = self.table.dispatch(3)
        self.wakeups += fresh
        self.the_laws_hold()
        for wakeup in fresh:
            self._lease(wakeup)

    @precondition(lambda self: self.wakeups)
    @rule(pick=PICK)
    def lease_any(self, pick: int) -> None:
        """Any wake-up ever sent: fresh, stale or delivered twice."""
        self._lease(_picked(self.wakeups, pick))

    def _lease(self, wakeup: Wakeup) -> None:
        lease = self.table.lease(wakeup)
        if lease is not None:
            assert wakeup.generation <= lease.generation, "a wake-up of lost commits was answered"
            assert lease.generation == self._look()[lease.id][1], "a late wake-up brought a fence that is open"
            assert (lease.id, lease.generation) not in self.leased, "a generation was leased twice"
            self.leased.add((lease.id, lease.generation))
            self.leases.append(lease)

    @precondition(lambda self: self.wakeups)
    @rule(pick=PICK)
    def a_wake_up_of_lost_commits_comes(self, pick: int) -> None:
        """The job table is an older copy of itself, which has not come to this generation yet."""
        wakeup = _picked(self.wakeups, pick)
        self._lease(replace(wakeup, generation=self._look()[wakeup.batch_id][1] + 1))

    @precondition(lambda self: self.wakeups)
    @rule(pick=PICK)
    def a_wake_up_is_lost(self, pick: int) -> None:
        with self.table.begin() as connection:
            batches.undispatch(connection, [_picked(self.wakeups, pick)])

    def _with_any_lease(self, pick: int, act: Callable[[Lease], None]) -> None:
        """Act on any lease ever held, its end come or not. The fence lets each of them pass once at most."""
        lease = _picked(self.leases, pick)
        try:
            act(lease)
        except LeaseLost:
            return
        key = (lease.id, lease.generation)
        assert key not in self.used, "a lease was used twice"
        self.used.add(key)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def finish(self, pick: int) -> None:
        self._with_any_lease(pick, self.table.copy)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def finish_with_a_parked_record(self, pick: int) -> None:
        self._with_any_lease(pick, self._copy_all_but_one)

    def _copy_all_but_one(self, lease: Lease) -> None:
        first, *others = self.table.ids(lease)
        self.table.copy(lease, wrote=others, parked=[first])

    @rule(whole=st.booleans())
    def a_worker_works(self, whole: bool) -> None:
        """All that is due, one after the other, without any mishap."""
        known = len(self.leases)
        self.dispatch_and_lease()
        self.the_laws_hold()
        for position in range(known, len(self.leases)):
            self._with_any_lease(position, self.table.copy if whole else self._copy_all_but_one)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, spend_attempt=st.booleans())
    def fail(self, pick: int, spend_attempt: bool) -> None:
        self._with_any_lease(pick, lambda lease: self.table.requeue(lease, spend_attempt=spend_attempt))

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def park(self, pick: int) -> None:
        self._with_any_lease(pick, self.table.park)

    @precondition(lambda self: any(lease.size > 1 for lease in self.leases))
    @rule(pick=PICK)
    def split(self, pick: int) -> None:
        self._with_any_lease(pick, self._split)

    @rule()
    def a_worker_splits(self) -> None:
        """All that is due and can be, while its leases last."""
        known = len(self.leases)
        self.dispatch_and_lease()
        self.the_laws_hold()
        for position in range(known, len(self.leases)):
            self._with_any_lease(position, self._split)

    def _split(self, lease: Lease) -> None:
        if lease.size == 1:
            raise LeaseLost  # a worker never splits a single record
        with self.table.begin() as connection:
            copies.split(connection, lease, self.table.ids(lease), Usage(), 1)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, limit=st.integers(1, 4))
    def a_worker_dies(self, pick: int, limit: int) -> None:
        """Its lease runs out, and the dispatcher reaps it."""
        lease = _picked(self.leases, pick)
        with self.table.begin() as connection:
            connection.execute(
                sa.update(t.batch)
                .where(t.batch.c.id == lease.id, t.batch.c.state == BatchState.LEASED)
                .values(lease_until=sa.func.clock_timestamp() - sa.text("interval '1 second'"))
            )
        self.table.reap(limit)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def a_heart_beats(self, pick: int) -> None:
        """Of any lease ever held: only a live one of this very generation is renewed."""
        lease = _picked(self.leases, pick)
        with self.table.begin() as connection:
            kept = batches.renew(connection, [(lease.id, lease.generation)], self.table.owner, 60)
        assert bool(kept) == (self.seen[lease.id] == (BatchState.LEASED, lease.generation))

    @rule(works=st.booleans())
    def a_person_retries(self, works: bool) -> None:
        with self.table.begin() as connection:
            parked.retry_batches(connection, self.table.job_id, parked.batches(connection, self.table.job_id))
            parked.retry_records(connection, self.table.job_id)
        self.the_laws_hold()
        if works:
            self.a_worker_works(whole=True)

    @rule()
    def a_person_accepts(self) -> None:
        with self.table.begin() as connection:
            parked.accept(connection, self.table.job_id, "ana", None)

    # Laws

    @invariant()
    def the_laws_hold(self) -> None:
        rows, move = self.table.rows(), self.table.move
        self._every_change_is_an_edge_of_the_table(rows)
        for row in rows:
            held = row.state == BatchState.LEASED
            assert (row.lease_owner is not None) == held == (row.lease_until is not None), "a lease without its owner"
        self._the_books_agree(move, [row for row in rows if row.kind == "copy" and row.state != BatchState.SPLIT])

    def _every_change_is_an_edge_of_the_table(self, rows: list[Any]) -> None:
        now = {row.id: (BatchState(row.state), row.generation) for row in rows}
        assert set(self.seen) <= set(now)
        for batch_id, (state, generation) in now.items():
            before, generation_before = self.seen.get(batch_id, (BatchState.READY, 0))
            assert state is before or state in _within_one_act(before), f"batch {batch_id}: from {before} to {state}"
            assert generation >= generation_before
            if state is BatchState.READY and before is not BatchState.READY:
                assert generation > generation_before, "back to ready without a new generation: the fence is open"
        self.seen = now

    def _the_books_agree(self, move: Move, rows: list[Any]) -> None:
        for name in ("written", "identical", "gone", "parked", "left_behind"):
            assert getattr(move, name) == sum((row.found or {}).get(name, 0) for row in rows) >= 0, name
        assert move.open_batches == sum(row.state not in SETTLED for row in rows)
        assert move.listed == sum(row.size for row in rows) == IDS
        if move.open_batches == 0:
            assert accounted_for(move)
            assert move.state in ("copied", "parked")
        with self.table.begin() as connection:
            tallied = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(t.batch_tally.c.records), 0)))
            assert tallied.scalar_one() == move.written, "the tallies are not those of what is written"


def _picked(those: list[Any], pick: int) -> Any:
    return those[max(pick, -len(those))] if pick < 0 else those[pick % len(those)]


def _within_one_act(before: BatchState) -> set[BatchState]:
    """Return where one act may lead: an edge, or two where the reaper parks what it has just returned to ready."""
    return set(BATCH_EDGES[before]) | ({BatchState.PARKED} if before is BatchState.LEASED else set())


def machine_on(database: Database) -> type[Leases]:
    return type("LeasesHere", (Leases,), {"database": database})


def bounded(examples: int, **other: Any) -> settings:
    """Without shrinking: each step costs transactions, and a failing run prints its steps as they are."""
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        report_multiple_bugs=False,
        **other,
    )


def test_in_any_order_of_events_each_batch_is_recorded_once_and_the_books_agree(database: Database) -> None:
    ends: set[BatchState] = set()

    def ended(machine: Leases) -> None:
        ends.update(BatchState(row.state) for row in machine.table.rows())

    watched = type("LeasesWatched", (machine_on(database),), {"teardown": ended})
    run_state_machine_as_test(watched, settings=bounded(80))

    assert {BatchState.DONE, BatchState.PARKED, BatchState.SPLIT} <= ends


# The laws notice


@contextmanager
def planted(target: object, name: str, bug: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, bug)
        yield


def _settle_without_the_generation(
    connection: sa.Connection, lease: Lease, state: BatchState, usage: Usage, busy_ms: int, **values: Any
) -> dict[str, Any]:
    lift_the_edges(connection)
    back = {"generation": t.batch.c.generation + 1} if state is BatchState.READY else {}
    row = connection.execute(
        sa.update(t.batch)
        .where(t.batch.c.id == lease.id)
        .values(state=state, lease_owner=None, lease_until=None, **back, **values)
        .returning(t.batch)
    ).one()
    return dict(row._mapping)


def _count_without_taking_back(
    connection: sa.Connection, move_id: int, before: dict[str, int], after: dict[str, int], *, opened: int
) -> None:
    original_count(connection, move_id, {}, after, opened=opened)


original_count = copies._count


def _expired_without_a_new_generation(
    connection: sa.Connection, job_ids: list[int], limit: int
) -> tuple[int, list[int]]:
    connection.execute(
        sa.update(t.batch)
        .where(t.batch.c.state == BatchState.LEASED, t.batch.c.lease_until < sa.func.clock_timestamp())
        .values(state=BatchState.READY, lease_owner=None, lease_until=None)
    )
    return 0, []


def test_a_fence_that_does_not_look_is_noticed_within_a_hundred_lives(database: Database) -> None:
    with planted(batches, "settle", _settle_without_the_generation), pytest.raises(AssertionError):
        run_state_machine_as_test(machine_on(database), settings=bounded(100, derandomize=True))


def _any_state_is_leased() -> Any:
    """Return the statement that leases for a wake-up, without its condition that the batch waits for one."""
    batch, generation, _ = leasing._woken()
    return leasing._taking([batch, generation])


def _any_generation_is_leased() -> Any:
    batch, _, state = leasing._woken()
    return leasing._taking([batch, state])


def _with_the_wake_ups_generation(connection: sa.Connection, batch_id: int, generation: int, *of: Any) -> Lease | None:
    taken = lease_of(connection, batch_id, generation, *of)
    return None if taken is None else replace(taken, generation=generation)


lease_of = leasing.lease


def _wake_ups_come_late(machine: Leases) -> None:
    """All are sent again before any is answered; then the late ones come, and after them the others."""
    machine.dispatch(3)
    late = list(machine.wakeups)
    for position in range(len(late)):
        machine.a_wake_up_is_lost(position)
    machine.the_laws_hold()
    machine.dispatch(3)
    machine.the_laws_hold()
    for position in range(len(machine.wakeups)):
        machine.lease_any(position)
    assert len(machine.leases) == len(late), "a late wake-up was in vain"


def _a_wake_up_comes_twice(machine: Leases) -> None:
    machine.dispatch_and_lease()
    machine.the_laws_hold()
    machine.lease_any(-1)


def _a_wake_up_of_lost_commits_comes(machine: Leases) -> None:
    machine.dispatch(3)
    machine.the_laws_hold()
    machine.a_wake_up_of_lost_commits_comes(-1)


def _dies_and_comes_late(machine: Leases) -> None:
    machine.dispatch_and_lease()
    machine.the_laws_hold()
    machine.a_worker_dies(0, limit=4)


def _is_copied_again(machine: Leases) -> None:
    machine.a_worker_works(whole=False)
    machine.the_laws_hold()
    machine.a_person_retries(works=True)


def _is_split_the_second_time(machine: Leases) -> None:
    machine.a_worker_works(whole=False)
    machine.the_laws_hold()
    machine.a_person_retries(works=False)
    machine.dispatch_and_lease()
    machine.the_laws_hold()
    machine.split(-2)


@pytest.mark.parametrize(
    ("target", "name", "bug", "life"),
    [
        pytest.param(
            batches,
            "requeue_expired",
            _expired_without_a_new_generation,
            _dies_and_comes_late,
            id="an expiry that leaves the fence open",
        ),
        pytest.param(leasing, "_TAKE", _any_state_is_leased(), _a_wake_up_comes_twice, id="a lease of what is leased"),
        pytest.param(
            leasing,
            "_TAKE",
            _any_generation_is_leased(),
            _a_wake_up_of_lost_commits_comes,
            id="a lease of a generation yet to come",
        ),
        pytest.param(
            leasing,
            "lease",
            _with_the_wake_ups_generation,
            _wake_ups_come_late,
            id="a fence of the generation that the wake-up names",
        ),
        pytest.param(
            copies,
            "_count",
            _count_without_taking_back,
            _is_copied_again,
            id="counts that add instead of replacing",
        ),
        pytest.param(
            copies,
            "take_back",
            lambda connection, batch_id: None,
            _is_split_the_second_time,
            id="tallies that stay behind",
        ),
    ],
)
def test_a_planted_bug_is_noticed(
    database: Database, target: object, name: str, bug: object, life: Callable[[Leases], None]
) -> None:
    def live() -> None:
        machine = machine_on(database)()
        machine.list_a_namespace()
        life(machine)
        machine.the_laws_hold()

    # Given a life in which the laws hold, then with the bug they do not
    live()
    with planted(target, name, bug), pytest.raises(AssertionError):
        live()
