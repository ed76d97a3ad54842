"""The listing's bookmark: what is recorded and where to go on are one transaction, so no id is lost or listed twice."""

import pytest
import sqlalchemy as sa
from job_table import JobTable

from orchestrator.core import manifests
from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind
from orchestrator.ledger import listings
from orchestrator.ledger.batches import LeaseLost
from orchestrator.services import acts


@pytest.fixture
def listing(table: JobTable) -> Lease:
    table.start()
    (listing,) = table.take()
    assert listing.kind is BatchKind.LIST
    return listing


def bookmark(table: JobTable) -> tuple[str | None, str | None, bool, int, int]:
    move = table.move
    return move.last_id, move.page_token, move.listed_all, move.listed, move.batches


def manifests_of(table: JobTable) -> list[list[str]]:
    return [manifests.unpack(row.manifest) for row in table.rows(BatchKind.COPY)]


def test_rows_and_bookmark_come_together(table: JobTable, listing: Lease) -> None:
    table.list_ids(listing, ["a", "b"], ["c"], token="page 2", complete=False)
    assert bookmark(table) == ("c", "page 2", False, 3, 2)
    assert manifests_of(table) == [["a", "b"], ["c"]]

    table.list_ids(listing, ["d"])
    assert bookmark(table) == ("d", None, True, 4, 3)
    assert [row.seq for row in table.rows(BatchKind.COPY)] == [1, 2, 3]
    assert [row.first_id for row in table.rows(BatchKind.COPY)] == ["a", "c", "d"]


def test_a_crash_before_the_commit_leaves_neither(table: JobTable, listing: Lease) -> None:
    with pytest.raises(ZeroDivisionError), table.begin() as connection:
        listings.add(connection, listing, [["a"]], "page 2", listed_in=1)
        raise ZeroDivisionError
    assert bookmark(table) == (None, None, False, 0, 0)
    assert manifests_of(table) == []


def test_a_lister_that_lost_its_lease_adds_nothing(table: JobTable, listing: Lease) -> None:
    # Given a lister that froze; a second one lists the namespace
    table.expire(listing)
    table.reap()
    (again,) = table.take()
    table.list_ids(again, ["a"], ["b"])

    # When the first one wakes up with the same ids, then none of them is there twice
    with pytest.raises(LeaseLost):
        table.list_ids(listing, ["a"], ["b"])
    assert manifests_of(table) == [["a"], ["b"]]
    assert table.move.listed == 2


def test_copying_begins_while_the_listing_goes_on(table: JobTable, listing: Lease) -> None:
    table.list_ids(listing, ["a"], token="page 2", complete=False)
    (copying,) = table.take()
    table.copy(copying)
    table.list_ids(listing, ["b"])
    (copying,) = table.take()
    table.copy(copying)
    assert (table.move.written, table.move.state) == (2, "copied")


def test_an_id_may_hold_anything_printable(table: JobTable, listing: Lease) -> None:
    ids = ["a\nb", "a b", "a,b", "'; DROP TABLE batch; --", "%s", "\x01"]
    table.list_ids(listing, ids)
    assert manifests_of(table) == [ids]
    assert table.rows(BatchKind.COPY)[0].first_id == ids[0]


def test_a_listing_that_fails_beyond_retry_parks_its_namespace_and_a_retry_goes_on_at_the_bookmark(
    table: JobTable, listing: Lease
) -> None:
    # Given a listing that fails behind its first page, whose batch is copied
    table.list_ids(listing, ["a"], token="page 2", complete=False)
    (copying,) = table.take()
    table.copy(copying)
    table.park(listing, why="the service does not list")
    assert (table.move.state, table.move.reason) == ("parked", "the service does not list")
    table.advance()
    assert table.job.state == "needs_attention"

    # When a person retries it
    acts.retry(table.database, table.job_id, "ana", "failed")

    # Then it goes on behind the first page
    assert (table.job.state, table.move.state) == ("running", "listing")
    (again,) = table.take()
    assert again.id == listing.id
    assert bookmark(table) == ("a", "page 2", False, 1, 1)
    table.list_ids(again, ["b"])
    assert table.move.listed == 2


def test_first_ids_sort_by_bytes_as_the_service_lists(table: JobTable, listing: Lease) -> None:
    ids = sorted(["B", "a", "a_b", "a-b", "Z", "~"], key=str.encode)
    table.list_ids(listing, *[[record_id] for record_id in ids])
    with table.begin() as connection:
        rows = connection.execute(sa.text("SELECT first_id FROM batch WHERE kind = 'copy' ORDER BY first_id"))
        assert list(rows.scalars()) == ids
