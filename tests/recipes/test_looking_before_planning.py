"""Looking before anything moves: analyze a shared namespace, audit an index, take a sample. All of it only reads."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from planning_world import World, fill

from migrations.analysis import analyze
from migrations.auditing import audit_index, audit_indexes
from migrations.exporting import export_sample
from migrations.reading import Reader
from migrations.routing import Owner, Ownership, Router
from migrations.survey import common_ids
from vecfleet.errors import NotFound, RateLimited, TooLarge, Unavailable
from vecfleet.names import Tenant
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import Fetched, Kind, Limits
from vecfleet.stores.memory import MemoryIndex

OWNERSHIP = Ownership(twins={"t-1": Owner("ben", "t-1")}, sources={"doc": Owner("cleo", "t-2")})


def test_analyze_says_whose_the_records_of_a_shared_namespace_are(world: World) -> None:
    # Given a default namespace with records of three owners, orphans, and one that says something else already
    index = world.index("brain")
    fill(index, "", [f"own-{i:03d}" for i in range(150)], {"creator_id": "ana", "twin_id": "x", "n": 1})
    fill(index, "", ["twin-1", "twin-2"], {"twin_id": "t-1", "tags": ["a"]})
    fill(index, "", ["doc-1"], {"source_id": "doc", "flag": True})
    fill(index, "", [f"orphan-{i:02d}" for i in range(12)], {"text": "?"})
    fill(index, "", ["moved"], {"twin_id": "t-1", "migrated_from": "elsewhere"})

    # When it is analyzed
    found = analyze(Reader(index), "", Router(OWNERSHIP))

    # Then each record counts once, under its target, rule or reason
    assert (found.namespace, found.records) == ("__default__", 166)
    assert found.targets == {"creator_ana_twin_x": 150, "creator_ben_twin_t-1": 3, "creator_cleo_twin_t-2": 1}
    assert found.rules == {"metadata": 150, "twin": 3, "source": 1}
    assert sum(found.orphans.values()) == 12
    assert found.orphan_ids == [f"orphan-{i:02d}" for i in range(10)]
    assert found.brought == 1 and not found.conflicts
    assert found.keys.types["n"] == {"number": 150}
    assert found.keys.types["tags"] == {"list of strings": 2}
    assert found.keys.types["flag"] == {"boolean": 1}
    # and what looking cost is told: 2 pages of ids, 2 fetches
    assert found.usage.requests == 4


def test_analyze_counts_orphans_that_would_go_to_review_as_a_target(world: World) -> None:
    index = world.index("brain")
    fill(index, "", ["a", "b"])
    found = analyze(Reader(index), "__default__", Router(review_namespace="review"))
    assert found.targets == {"review": 2} and found.rules == {"review": 2} and not found.orphans


def test_audit_shows_counts_shares_names_and_room(world: World) -> None:
    # Given the seeds' index, with a tenant's namespace and a name that looks like one beside
    index = world.seeded()
    fill(index, "creator_ana_twin_x", ["a"], {"text": "t"})
    fill(index, "creator__twin_x", ["b"])
    index.create_namespace("public", None)

    # When it is audited
    audit = audit_index(world, "digital-twin-brain", quota=100)

    # Then counts are as listed and shares are of the whole
    by_name = {held.name: held for held in audit.namespaces}
    assert audit.records == 807
    assert by_name["__default__"].records == 376 and by_name["__default__"].exact
    assert by_name["__default__"].share == pytest.approx(376 / 807)
    assert by_name["__default__"].keys.types == {"text": {"string": 20}}
    # and names are read by the codec, which is not fooled by a prefix
    assert by_name["creator_ana_twin_x"].tenant == Tenant("ana", "x")
    assert "creator__twin_x" in audit.unparsed and len(audit.unparsed) == 30
    assert audit.room == 100 - 33


def test_audit_lists_every_index_and_says_which_there_are(world: World) -> None:
    world.index("b", kind=Kind.POD)
    world.index("a")
    assert [(info.name, info.kind) for info in audit_indexes(world)] == [("a", Kind.DENSE), ("b", Kind.POD)]
    assert audit_index(world, "b").namespaces == ()
    with pytest.raises(NotFound, match="there is no index 'c'; there are: a, b"):
        audit_index(world, "c")


def test_a_sample_is_exported_bit_for_bit(world: World, tmp_path: Path) -> None:
    # Given records with awkward floats, sparse values and unicode in two namespaces
    index = world.index("brain", kind=Kind.HYBRID)
    awkward = np.array([1e-45, -0.0, 3.4e38, 0.1, 1, 2, 3, 4], "<f4").tobytes()
    sparse = Sparse(np.array([7, 4_000_000_000], "<u4").tobytes(), np.array([0.5, 0.1], "<f4").tobytes())
    index.upsert("one", [Record("a", awkward, sparse, {"text": "名前", "n": 1.0}), Record("b", awkward)])
    index.upsert("two", [Record("a", awkward[::-1], None, {"tags": ["x"]})])

    # When more are asked for than there are
    path = tmp_path / "sample.parquet"
    assert export_sample(Reader(index), 10, path) == 3

    # Then every one of them is in the file as it is in the store
    rows = {(row["namespace"], row["id"]): row for row in pq.read_table(path).to_pylist()}
    assert set(rows) == {("one", "a"), ("one", "b"), ("two", "a")}
    one = rows["one", "a"]
    assert np.array(one["values"], "<f4").tobytes() == awkward
    assert one["sparse_values"]["indices"] == [7, 4_000_000_000]
    assert np.array(one["sparse_values"]["values"], "<f4").tobytes() == sparse.values
    assert json.loads(one["metadata"]) == {"text": "名前", "n": 1.0}
    assert rows["one", "b"]["sparse_values"] is None
    assert np.array(rows["two", "a"]["values"], "<f4").tobytes() == awkward[::-1]
    assert [file.name for file in tmp_path.iterdir()] == ["sample.parquet"]


def test_a_sample_takes_from_each_namespace_in_turn(world: World, tmp_path: Path) -> None:
    index = world.seeded()
    assert export_sample(Reader(index), 40, tmp_path / "sample.parquet") == 40
    taken = pq.read_table(tmp_path / "sample.parquet").column("namespace").to_pylist()
    assert len(set(taken)) == 30
    assert max(taken.count(name) for name in taken) == 2


class Moody(MemoryIndex):
    """An index that fails a few times, and never answers more than two records at once."""

    failures: list[Exception]

    def fetch(self, namespace: str, ids: object) -> Fetched:
        if self.failures:
            raise self.failures.pop()
        assert isinstance(ids, list)
        if len(ids) > 2:
            raise TooLarge("too much at once")
        return super().fetch(namespace, ids)


def test_reading_waits_out_what_passes_and_halves_what_is_too_large(world: World) -> None:
    # Given an index that is rate limited, then unavailable, and refuses large answers
    index = Moody(world.index("brain").info, Limits())
    index.failures = [RateLimited("slow down", retry_after=0.01), Unavailable("one moment")]
    fill(index, "a", ["1", "2", "3", "4", "5"])

    # When it is read, then every record comes
    reader = Reader(index)
    assert [record.id for record in reader.records("a", reader.ids("a"))] == ["1", "2", "3", "4", "5"]


def test_one_record_that_is_too_large_alone_is_an_error(world: World) -> None:
    index = Moody(world.index("brain").info, Limits())
    fill(index, "a", ["1"])
    index.failures = [TooLarge("even alone")]
    with pytest.raises(TooLarge):
        list(Reader(index).records("a", ["1"]))


def test_common_ids_are_those_that_several_streams_hold() -> None:
    found = common_ids([["a", "b", "d", "e"], ["b", "c", "d"], ["d", "e", "f"]])
    assert (found.count, found.examples) == (3, ("b", "d", "e"))
    assert common_ids([["a"], ["b"], []]).count == 0
