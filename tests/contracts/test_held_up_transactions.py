"""A worker held up within a transaction of Postgres, frozen or without a processor, commits nothing late."""

import struct

import pytest

from tests.contracts.making import like
from vecfleet import clock
from vecfleet.deadlines import ending_by, left_of
from vecfleet.errors import StoreError, TimedOut
from vecfleet.records import Record
from vecfleet.stores.base import Kind
from vecfleet.stores.pgvector import PgvectorStore

NS, VALUES = "production", struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)


def test_an_upsert_whose_time_is_over_is_not_committed(pgvector_store: PgvectorStore) -> None:
    # Given a record, and a call that is older than a lease lasts when it comes to its commit
    index = pgvector_store.open(pgvector_store.create_like("shop", like(Kind.DENSE), None, None))
    present, older = (Record("a", VALUES, None, {"text": text}) for text in ("an application's", "a worker's"))
    index.upsert(NS, [present])
    with ending_by(clock.now()), pytest.raises(TimedOut, match="the time of the call was over before its commit"):
        index.upsert(NS, [older])

    # Then nothing is replaced, and the next call has a time of its own
    assert index.fetch(NS, ["a"]).records == {"a": present}
    with ending_by(clock.now() + 60):
        index.upsert(NS, [older])
    assert index.fetch(NS, ["a"]).records == {"a": older}


def test_within_an_end_there_is_no_later_one_and_it_holds_again_after_an_earlier_one() -> None:
    with ending_by(clock.now() + 10):
        with ending_by(clock.now() + 60):
            assert left_of(100) <= 10
        with ending_by(clock.now() + 1):
            assert left_of(100) <= 1
        assert 1 < left_of(100) <= 10
    assert left_of(100) == 100


def test_an_upsert_whose_commit_fails_wrote_nothing_and_says_so(pgvector_store: PgvectorStore) -> None:
    # Given a table of which Postgres checks a rule only at the commit
    index = pgvector_store.open(pgvector_store.create_like("shop", like(Kind.DENSE), None, None))
    present, refused = (Record("a", VALUES, None, {"text": text}) for text in ("kept", "refused"))
    index.upsert(NS, [present])
    with index._database.transaction("add a rule") as connection:
        [[table]] = connection.execute(
            "SELECT 'shop.' || quote_ident(relname) FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'shop'::regnamespace"
        ).fetchall()
        connection.execute(
            "CREATE FUNCTION shop.no() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no row is added' USING ERRCODE = 'check_violation'; END $$"
        )
        connection.execute(
            f"CREATE CONSTRAINT TRIGGER no AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION shop.no()"
        )
    # When the statements of an upsert succeed and its commit does not, then the call fails
    with pytest.raises(StoreError, match="no row is added"):
        index.upsert(NS, [refused])
    # And whoever reads the table finds what was there before, as a verification would
    assert index.fetch(NS, ["a"]).records == {"a": present}
    assert index.list_ids(NS).ids == ["a"]
