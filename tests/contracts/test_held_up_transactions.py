"""A worker held up within a transaction of Postgres, frozen or without a processor, commits nothing late."""

import struct

import pytest

from tests.contracts.making import like
from vecfleet import clock
from vecfleet.deadlines import ending_by
from vecfleet.errors import TimedOut
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
