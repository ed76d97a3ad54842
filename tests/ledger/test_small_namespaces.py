"""A small namespace costs few statements: its listing ends in one, and so does the copy of its only batch."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, accounted_for, digest_of
from stages import somebody_waits
from statements import listening

from orchestrator.core.model import CopyOutcome, Lease, ParkedRecord, TargetTally
from orchestrator.core.states import BatchKind, BatchState, MoveState
from orchestrator.ledger import copies, listings
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import one_statement
from vecfleet.digests import Tally
from vecfleet.stores.base import Usage

USAGE = Usage(requests=2, read_units=1.5, write_units=5.0, egress_bytes=70)
PATIENCE_S = 60.0


@pytest.fixture
def listing(table: JobTable) -> Lease:
    table.start()
    (listing,) = table.take()
    return listing


@pytest.fixture
def copying(table: JobTable) -> Lease:
    """The lease of a move's only batch, whose target is on record."""
    table.listed({"s": [["a", "b"]]})
    (copying,) = table.take()
    table.target(copying, "t")
    return copying


def end_listing(table: JobTable, lease: Lease, *runs: list[str]) -> None:
    with table.database.once() as connection:
        listings.end(connection, lease, runs, USAGE, 3, listed_in=2)


def outcome_of(table: JobTable, lsn: int | None = None) -> CopyOutcome:
    ids, target = ["a", "b"], table.targets["t"]
    tally = TargetTally(target.id, 2, digest_of(ids), Tally.of_ids(ids).digest, None, b"digests", lsn)
    return CopyOutcome(tallies=(tally,), written=2, changed=2, versions="7", cut=1)


def finish(table: JobTable, lease: Lease, outcome: CopyOutcome) -> None:
    with table.database.once() as connection:
        copies.finish_copy(connection, lease, outcome, USAGE, 3)


def cost_of(row: Any) -> tuple[object, ...]:
    return row.requests, row.read_units, row.write_units, row.egress_bytes, row.busy_ms


def test_a_listing_ends_in_one_statement_that_sets_nothing_else(table: JobTable, listing: Lease) -> None:
    # When a listing ends with two batches
    (before,) = table.rows(BatchKind.LIST)
    with listening(table.database.engine) as asked:
        end_listing(table, listing, ["a", "b"], ["c"])
    # Then they are there, and of the listing's own batch its end and its cost alone changed
    assert len(asked.statements) == 1
    (after,) = table.rows(BatchKind.LIST)
    changed = {name for name, value in after._mapping.items() if value != before._mapping[name]}
    assert changed == {
        *("state", "lease_owner", "lease_until", "found", "done_at", "looked_at"),
        *("requests", "read_units", "write_units", "egress_bytes", "busy_ms"),
    }
    assert (
        after.state == BatchState.DONE and after.looked_at == listing.leased_at and cost_of(after) == (2, 1.5, 5, 70, 3)
    )
    rows = table.rows(BatchKind.COPY)
    assert [(row.seq, row.listed_in, row.first_id, row.size) for row in rows] == [(1, 2, "a", 2), (2, 2, "c", 1)]
    assert {row.state for row in rows} == {BatchState.READY}
    move = table.move
    assert (move.state, move.listed, move.batches, move.open_batches) == (MoveState.COPYING, 3, 2, 2)
    assert move.listed_all and move.last_id == "c"


def test_a_parameter_with_the_name_of_a_column_is_refused(table: JobTable, listing: Lease) -> None:
    """Each part of a statement that changes the column's table would set it: every listing was parked so."""
    with pytest.raises(AssertionError, match="listed_in"), table.database.once() as connection:
        one_statement(connection, sa.select(sa.literal(1)), {"batch": listing.id, "listed_in": 2})


def test_a_listing_goes_on_behind_the_batches_on_record(table: JobTable, listing: Lease) -> None:
    table.list_ids(listing, ["a"], token="page 2", complete=False)
    end_listing(table, listing, ["b"])
    assert [(row.seq, row.first_id) for row in table.rows(BatchKind.COPY)] == [(1, "a"), (2, "b")]


def test_a_lister_that_lost_its_lease_ends_nothing(table: JobTable, listing: Lease) -> None:
    table.expire(listing)
    table.reap()
    before = table.move
    with pytest.raises(LeaseLost):
        end_listing(table, listing, ["a"])
    assert table.move == before and table.rows(BatchKind.COPY) == []


@pytest.mark.parametrize("lsn", [None, 41])
def test_the_copy_of_the_only_batch_ends_its_move_in_one_statement(
    table: JobTable, copying: Lease, lsn: int | None
) -> None:
    # When the only batch of a move is copied
    outcome = outcome_of(table, lsn)
    assert copies.ends_alone(copying, outcome)
    with listening(table.database.engine) as asked:
        finish(table, copying, outcome)
    # Then its results, its tally, the newest write of its target and the end of the move are on record
    assert len(asked.statements) == 1
    row = table.row(copying.id)
    assert row.state == BatchState.DONE and row.found | {"written": 2, "versions": "7", "cut": 1} == row.found
    assert cost_of(row) == (2, 1.5, 5, 70, 3)
    expected = table.expected("t")
    assert expected is not None and (expected.count, expected.digest) == (2, digest_of(["a", "b"]))
    assert table.targets["t"].lsn == lsn
    assert table.move.state is MoveState.COPIED and accounted_for(table.move) and table.move.open_batches == 0


def test_a_newer_write_of_another_batch_keeps_its_number(table: JobTable, copying: Lease) -> None:
    with table.by_hand() as connection:
        connection.execute(sa.update(t.target).values(lsn=50))
    finish(table, copying, outcome_of(table, 41))
    assert table.targets["t"].lsn == 50


def test_a_copier_that_lost_its_lease_records_nothing(table: JobTable, copying: Lease) -> None:
    table.expire(copying)
    table.reap()
    before = table.move
    with pytest.raises(LeaseLost):
        finish(table, copying, outcome_of(table, 41))
    assert table.move == before and table.targets["t"].lsn is None and table.expected("t") is None
    assert table.row(copying.id).state == BatchState.READY


def test_what_another_wrote_to_the_move_meanwhile_is_counted(table: JobTable, copying: Lease) -> None:
    # Given somebody who holds the move's row, and has counted for it
    outcome = outcome_of(table)
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            connection.execute(sa.update(t.move).values(gone=t.move.c.gone + 1))
            # When a copier wants to record the move's only batch
            ended = pool.submit(finish, table, copying, outcome)
            somebody_waits(table, unless=ended)
            assert not ended.done()
        ended.result(PATIENCE_S)
    # Then both counts are there
    assert (table.move.gone, table.move.written, table.move.state) == (1, 2, MoveState.COPIED)


def test_only_the_first_copy_of_a_moves_only_batch_needs_no_transaction(table: JobTable, copying: Lease) -> None:
    outcome = outcome_of(table)
    assert copying.move is not None
    more = replace(copying, move=replace(copying.move, batches=2))
    listed_on = replace(copying, move=replace(copying.move, listed_all=False))
    again = replace(copying, found={})
    assert not any(copies.ends_alone(other, outcome) for other in (more, listed_on, again))
    for left in (
        replace(outcome, parked=(ParkedRecord("c", "poisoned"),)),
        replace(outcome, erased=frozenset({"c"})),
        replace(outcome, keeps=True),
        replace(outcome, unchanged=True),
        replace(outcome, tallies=()),
    ):
        assert not copies.ends_alone(copying, left)


def test_the_last_of_several_batches_settles_its_move(table: JobTable) -> None:
    table.listed({"s": [["a", "b"], ["c"]]})
    first, last = table.take()
    table.target(first, "t")
    table.park(last)
    with table.begin() as connection:
        copies.finish_copy(connection, first, outcome_of(table), USAGE, 3)
    assert table.move.state is MoveState.PARKED and table.move.reason == "a batch is parked"
