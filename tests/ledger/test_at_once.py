"""The ends of a small namespace in one statement: the rows are those of the transaction that larger ones take."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, accounted_for, digest_of, plan_of, planned

from orchestrator.core.model import CopyOutcome, Lease, ParkedRecord, TargetTally
from orchestrator.core.states import BatchKind, BatchState, MoveState
from orchestrator.ledger import at_once, copies, moves
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from vecfleet.digests import Tally
from vecfleet.stores.base import Usage

USAGE = Usage(requests=2, read_units=1.5, write_units=5.0, egress_bytes=70)
# Columns that tell one row from another, or when it was written.
_OWN = {"id", "move_id", "target_id", "batch_id", "source", "to", "namespace", "seq", "targets"}
_TIMES = {"dispatched_at", "first_leased_at", "done_at", "looked_at", "last_write_at"}


@pytest.fixture
def twins(database: Database) -> JobTable:
    """A job of two sources that hold the same ids."""
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t"), planned("other", "u")))
    table.start()
    return table


@contextmanager
def counted(table: JobTable) -> Iterator[list[str]]:
    statements = list[str]()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    sa.event.listen(table.database.engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(table.database.engine, "before_cursor_execute", note)


def of(table: JobTable, of_table: sa.Table, source: str) -> list[dict[str, Any]]:
    """Return what stands in this table of a source: without names, numbers of rows and times."""
    move = table.moves[source]
    its = {
        t.move: t.move.c.id == move.id,
        t.batch: t.batch.c.move_id == move.id,
        t.target: t.target.c.namespace == move.to,
        t.batch_tally: t.batch_tally.c.batch_id.in_(sa.select(t.batch.c.id).where(t.batch.c.move_id == move.id)),
    }[of_table]
    with table.begin() as connection:
        rows = connection.execute(sa.select(of_table).where(its)).all()
    return [{key: value for key, value in row._mapping.items() if key not in _OWN | _TIMES} for row in rows]


def end_listing(table: JobTable, lease: Lease, *runs: list[str]) -> None:
    with table.database.once() as connection:
        at_once.end_listing(connection, lease, runs, listed_in=1, usage=Usage(requests=1), busy_ms=1)


def test_a_listing_that_ends_at_once_leaves_the_rows_of_one_that_does_not(twins: JobTable) -> None:
    # Given two listings of the same ids, when one is recorded in a transaction and the other in one statement
    first, second = twins.take()
    twins.list_ids(first, ["a", "b"], ["c"])
    with counted(twins) as statements:
        end_listing(twins, second, ["a", "b"], ["c"])
    # Then the same stands there
    assert len(statements) == 1
    assert of(twins, t.move, "other") == of(twins, t.move, "s")
    assert of(twins, t.batch, "other") == of(twins, t.batch, "s")
    assert [row.seq for row in twins.rows(BatchKind.COPY, "other")] == [1, 2]
    assert twins.moves["other"].state is MoveState.COPYING


def test_a_listing_goes_on_behind_the_batches_on_record(twins: JobTable) -> None:
    _, lease = twins.take()
    twins.list_ids(lease, ["a"], token="page 2", complete=False)
    end_listing(twins, lease, ["b"])
    assert [(row.seq, row.first_id) for row in twins.rows(BatchKind.COPY, "other")] == [(1, "a"), (2, "b")]


def test_a_lister_that_lost_its_lease_records_nothing(twins: JobTable) -> None:
    _, lease = twins.take()
    twins.expire(lease)
    twins.reap()
    before = of(twins, t.move, "other")
    with pytest.raises(LeaseLost):
        end_listing(twins, lease, ["a"])
    assert of(twins, t.move, "other") == before and twins.rows(BatchKind.COPY) == []


def copying(table: JobTable) -> tuple[Lease, Lease]:
    """The leases of the copies of both sources, each with its target on record."""
    for lease in table.take():
        table.list_ids(lease, ["a", "b"])
    first, second = table.take()
    for lease, namespace in ((first, "t"), (second, "u")):
        table.target(lease, namespace)
    return first, second


def outcome_of(table: JobTable, namespace: str, lsn: int | None = None) -> CopyOutcome:
    ids, target = ["a", "b"], table.targets[namespace]
    tally = TargetTally(target.id, 2, digest_of(ids), Tally.of_ids(ids).digest, None, b"digests", lsn)
    return CopyOutcome(tallies=(tally,), written=2, changed=2, versions="7", cut=1)


@pytest.mark.parametrize("lsn", [None, 41])
def test_a_copy_that_ends_at_once_leaves_the_rows_of_one_that_does_not(twins: JobTable, lsn: int | None) -> None:
    # Given two copies of the same records, when one is recorded in a transaction and the other in one statement
    first, second = copying(twins)
    with twins.begin() as connection:
        copies.finish_copy(connection, first, outcome_of(twins, "t", lsn), USAGE, 3)
    outcome = outcome_of(twins, "u", lsn)
    assert at_once.ends_at_once(second, outcome)
    with counted(twins) as statements, twins.database.once() as connection:
        at_once.finish_copy(connection, second, outcome, USAGE, 3)
    # Then the same stands there, and the move is copied
    assert len(statements) == 1
    for of_table in (t.move, t.batch, t.target, t.batch_tally):
        assert of(twins, of_table, "other") == of(twins, of_table, "s")
    assert len(of(twins, t.batch_tally, "other")) == 1
    move = twins.moves["other"]
    assert move.state is MoveState.COPIED and accounted_for(move) and twins.targets["u"].lsn == lsn


def test_a_newer_write_of_another_to_the_same_target_keeps_its_number(twins: JobTable) -> None:
    _, lease = copying(twins)
    with twins.by_hand() as connection:
        connection.execute(sa.update(t.target).where(t.target.c.namespace == "u").values(lsn=50))
    with twins.database.once() as connection:
        at_once.finish_copy(connection, lease, outcome_of(twins, "u", 41), USAGE, 3)
    assert twins.targets["u"].lsn == 50


def test_a_copier_that_lost_its_lease_records_nothing(twins: JobTable) -> None:
    _, lease = copying(twins)
    twins.expire(lease)
    twins.reap()
    outcome, before = outcome_of(twins, "u", 41), of(twins, t.move, "other")
    with pytest.raises(LeaseLost), twins.database.once() as connection:
        at_once.finish_copy(connection, lease, outcome, USAGE, 3)
    assert of(twins, t.move, "other") == before and twins.targets["u"].lsn is None
    assert of(twins, t.batch_tally, "other") == []
    assert twins.row(lease.id).state == BatchState.READY


def test_only_the_first_copy_of_a_moves_only_batch_ends_at_once(twins: JobTable) -> None:
    _, lease = copying(twins)
    outcome = outcome_of(twins, "u")
    assert at_once.ends_at_once(lease, outcome) and lease.move is not None
    more = replace(lease, move=replace(lease.move, batches=2))
    listed_on = replace(lease, move=replace(lease.move, listed_all=False))
    again = replace(lease, found={})
    assert not any(at_once.ends_at_once(other, outcome) for other in (more, listed_on, again))
    for left in (
        replace(outcome, parked=(ParkedRecord("c", "poisoned"),)),
        replace(outcome, erased=frozenset({"c"})),
        replace(outcome, keeps=True),
        replace(outcome, unchanged=True),
        replace(outcome, tallies=()),
    ):
        assert not at_once.ends_at_once(lease, left)


def test_a_namespace_that_we_made_is_put_on_record_unless_its_tenant_was_erased(twins: JobTable) -> None:
    copying(twins)
    target = twins.targets["u"]
    with twins.begin() as connection:
        connection.execute(sa.insert(t.erasure).values(subject="ana", who="operator"))
    with twins.database.once() as connection:
        assert moves.prepared_unless_erased(connection, target.id, {"ana"}) is None
    assert not twins.targets["u"].prepared
    with twins.database.once() as connection:
        made = moves.prepared_unless_erased(connection, target.id, {"bob"})
    assert made is not None and made.prepared and made.created_by_us
