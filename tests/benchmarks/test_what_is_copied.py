"""The benchmarks copy what they say they copy, and the same for the same seed."""

import orjson
import pytest

from benchmarks.bare_loop import unpaced
from benchmarks.data import Load, records
from vecfleet.records import FLOAT32_BYTES
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.memory import MemoryStore


@pytest.mark.parametrize("metadata", [500, 2_000])
def test_metadata_have_as_many_bytes_as_asked_for(metadata: int) -> None:
    load = Load("sizes", 8, 25, metadata)
    assert {len(orjson.dumps(one.metadata)) for one in records(load, "source-0", range(25))} == {metadata}


def test_a_record_without_metadata_has_none() -> None:
    load = Load("bare", 384, 3, 0)
    assert [(one.metadata, len(one.values)) for one in records(load, "source-0", range(3))] == [
        ({}, 384 * FLOAT32_BYTES)
    ] * 3


def test_the_same_seed_makes_the_same_records() -> None:
    load = Load("same", 8, 10)
    assert list(records(load, "source-1", range(10))) == list(records(load, "source-1", range(10)))
    assert list(records(load, "source-1", range(10))) != list(records(load, "source-2", range(10)))


def test_every_record_is_in_some_namespace() -> None:
    assert Load("uneven", 8, 1_003, spread=4).namespaces == {
        "source-0": 251,
        "source-1": 251,
        "source-2": 251,
        "source-3": 250,
    }


def test_the_workers_lane_works_without_pace_counters_and_lease() -> None:
    # Given an index of nobody else's
    index = MemoryStore().create(IndexInfo("bare", Kind.DENSE, 8, "cosine", host="bare"))
    made = list(records(Load("bare", 8, 5), "source-0", range(5)))
    # When the bare loop's lane writes and reads it
    refused = unpaced(index, 1.0).upsert("source-0", made, lambda: None)
    lane = unpaced(index, 1.0)
    ids = [record_id for page in lane.ids("source-0") for record_id in page]
    # Then all of it is there
    assert refused == [] and lane.fetch("source-0", ids) == {one.id: one for one in made}
