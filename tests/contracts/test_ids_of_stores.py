"""Ids in each store: Pinecone takes ASCII alone, tables and folders take any characters."""

import struct

import pytest

from tests.contracts.making import NewIndex
from vecfleet.errors import BadRequest
from vecfleet.records import Record

NS = "creator_x_twin_y"


def test_an_id_of_any_characters_is_kept_or_refused_as_the_limits_say(new_index: NewIndex) -> None:
    index, record = new_index(), Record("日本 é", struct.pack("<4f", 1, 2, 3, 4))

    if index.limits.ascii_ids:
        with pytest.raises(BadRequest):
            index.upsert(NS, [record])
        assert index.list_ids(NS).ids == []
    else:
        index.upsert(NS, [record])
        assert index.list_ids(NS).ids == [record.id]
        assert index.fetch(NS, [record.id]).records[record.id].values == record.values
