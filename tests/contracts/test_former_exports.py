"""Exports of former versions: folders `namespace=…`, sparse values in two columns, digests in a third."""

import json
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.contracts.making import like
from vecfleet.digests import record_sha256
from vecfleet.errors import BadRequest
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import Kind
from vecfleet.stores.parquet import ParquetIndex, ParquetStore

NAMESPACE, FOLDER = "creator_a.1_twin_X", "namespace=creator_a%2E1_twin_%58"
PLAIN = Record("a", struct.pack("<4f", 0.1, 1, 2, 3))
RICH = Record("b", PLAIN.values, Sparse(struct.pack("<I", 9), struct.pack("<f", 0.1)), {"text": "Größe", "n": 1 / 3})


@pytest.fixture
def former(tmp_path: Path) -> ParquetIndex:
    """A folder as version 1 of the format has it, with two records."""
    index = ParquetStore(tmp_path).create_like("exports/brain", like(Kind.HYBRID), None, None)
    description = tmp_path / "exports/brain/_index.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"format": 1}))
    folder = description.parent / FOLDER
    folder.mkdir()
    (folder / "_namespace.json").write_text(json.dumps({"name": NAMESPACE, "schema": None}))
    numbers, counts = pa.list_(pa.float32()), pa.list_(pa.uint32())
    table = {
        "id": ["a", "b"],
        "values": pa.array([struct.unpack("<4f", PLAIN.values)] * 2, numbers),
        "sparse_indices": pa.array([None, [9]], counts),
        "sparse_values": pa.array([None, [0.1]], numbers),
        "metadata": ["{}", json.dumps(dict(RICH.metadata))],
        "digest": [record_sha256(record).hex() for record in (PLAIN, RICH)],
    }
    pq.write_table(pa.table(table), folder / f"part-{1:010}-{0:032}.parquet", row_group_size=100)
    store = ParquetStore(tmp_path)
    assert store.describe("exports/brain") == index
    return store.open(store.describe("exports/brain"))


def test_a_former_export_is_read_and_written_as_ever(former: ParquetIndex, tmp_path: Path) -> None:
    assert [(info.name, info.count) for info in former.namespaces()] == [(NAMESPACE, 2)]
    assert former.fetch(NAMESPACE, ["a", "b"]).records == {"a": PLAIN, "b": RICH}

    # When one record is deleted from its part and another comes, in a part of this version
    former.delete(NAMESPACE, ["a"])
    newer = Record("c", PLAIN.values, RICH.sparse, {"text": "new"})
    former.upsert(NAMESPACE, [newer])

    # Then both are there, in the folder that was
    assert former.fetch(NAMESPACE, ["a", "b", "c"]).records == {"b": RICH, "c": newer}
    assert [path.name for path in tmp_path.glob("exports/brain/*/")] == [FOLDER]


def test_a_changed_record_of_a_former_export_is_refused(former: ParquetIndex, tmp_path: Path) -> None:
    (part,) = tmp_path.rglob("*.parquet")
    table = pq.ParquetFile(part).read()
    pq.write_table(table.set_column(4, "metadata", pa.array(['{"text":"after"}', "{}"])), part)

    with pytest.raises(BadRequest, match="'a' is not what was written"):
        former.fetch(NAMESPACE, ["a"])
