"""A namespace that we made is put on record in the statement that asks whether its tenant was erased meanwhile."""

import pytest
import sqlalchemy as sa
from job_table import JobTable

from orchestrator.core.model import Lease
from orchestrator.ledger import batches, moves
from orchestrator.ledger import tables as t


@pytest.fixture
def copying(table: JobTable) -> Lease:
    """The lease of a copy whose target is on record."""
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    table.target(lease, "t")
    return lease


def erase(table: JobTable, subject: str) -> None:
    with table.begin() as connection:
        connection.execute(sa.insert(t.erasure).values(subject=subject, who="operator"))


def test_a_namespace_is_on_record_unless_its_tenant_was_erased(table: JobTable, copying: Lease) -> None:
    target = table.targets["t"]
    erase(table, "ana")
    with table.database.once() as connection:
        assert moves.prepared_unless_erased(connection, target.id, {"ana"}) is None
    assert not table.targets["t"].prepared
    with table.database.once() as connection:
        made = moves.prepared_unless_erased(connection, target.id, {"bob"})
    assert made is not None and made == table.targets["t"]
    assert made.prepared and made.created_by_us


def test_nothing_is_made_for_an_erased_tenant_nor_by_who_lost_the_lease(table: JobTable, copying: Lease) -> None:
    erase(table, "ana")
    with table.database.once() as connection:
        assert not moves.may_prepare(connection, copying, {"ana"})
        assert moves.may_prepare(connection, copying, {"bob"})
        assert moves.may_prepare(connection, copying, set())
    table.expire(copying)
    table.reap()
    with pytest.raises(batches.LeaseLost), table.database.once() as connection:
        moves.may_prepare(connection, copying, {"bob"})
