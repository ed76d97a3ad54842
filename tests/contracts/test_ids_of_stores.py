"""Ids in each store: Pinecone takes ASCII alone, tables and folders take any characters."""

import struct

import pytest

from tests.contracts.making import NewIndex
from vecfleet.errors import BadRequest
from vecfleet.records import Record

NS = "creator_x_twin_y"
VALUES = struct.pack("<4f", 1, 2, 3, 4)


def test_an_id_of_any_characters_is_kept_or_refused_as_the_limits_say(new_index: NewIndex) -> None:
    index, record = new_index(), Record("日本 é", VALUES)

    if index.limits.ascii_ids:
        with pytest.raises(BadRequest):
            index.upsert(NS, [record])
        assert index.list_ids(NS).ids == []
    else:
        index.upsert(NS, [record])
        assert index.list_ids(NS).ids == [record.id]
        assert index.fetch(NS, [record.id]).records[record.id].values == record.values


def test_an_id_that_no_record_can_have_is_not_there_and_hides_no_other(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [Record("a", VALUES)])
    assert set(index.fetch(NS, ["日本 é", "x" * 600, "a\0b", "a"]).records) == {"a"}
    assert index.fetch(NS, ["日本 é"]).records == {}
