"""Exports of document indexes: JSON lines that say what they are, and mistakes that only such files can make."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts.making import documents_like
from vecfleet.errors import BadRequest
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import Kind
from vecfleet.stores.parquet import ParquetIndex, ParquetStore

NS = "creator_x_twin_y"
VALUES = struct.pack("<4f", 0.1, -0.0, 3.4e38, 1e-45)
WEIGHTS = Sparse(struct.pack("<2I", 7, 4_294_967_295), struct.pack("<2f", 0.5, 0.1))


def of_ids(*ids: str) -> list[Record]:
    return [Record(id, VALUES, WEIGHTS, {"page": 7.0}) for id in ids]


@pytest.fixture
def index(tmp_path: Path) -> ParquetIndex:
    """An empty export of a document index with dense and sparse values, in the folder `exports/brain`."""
    store = ParquetStore(tmp_path)
    return store.open(store.create_like("exports/brain", documents_like(Kind.HYBRID), None, None))


def part(root: Path) -> Path:
    [path] = (root / "exports/brain" / NS).glob("part-*")
    return path


def test_a_line_is_a_document_with_the_shortest_text_of_each_value(index: ParquetIndex, tmp_path: Path) -> None:
    record = Record(
        "r", VALUES, WEIGHTS, {"text": 'Größe\n\u2028 "名" 🦜', "page": 7.0, "share": 1 / 3, "tags": ["b", "a"]}
    )
    index.upsert(NS, [record])

    [line] = part(tmp_path).read_text(encoding="utf-8").split("\n")[:-1]
    assert line.startswith(
        '{"_id":"r","embedding":[0.1,-0.0,3.4e+38,1e-45],"terms":{"indices":[7,4294967295],"values":[0.5,0.1]},"text":'
    )
    document = json.loads(line)
    assert (document["share"], document["page"]) == (1 / 3, 7.0)
    assert struct.pack("<4f", *document["embedding"]) == VALUES
    assert index.fetch(NS, ["r"]).records == {"r": record}


def test_a_text_that_is_searched_may_be_longer_than_metadata(tmp_path: Path) -> None:
    # Given documents with a text of 90 KB, where metadata have 40 KB at most
    wanted = documents_like(Kind.DENSE)
    fields = {**wanted.schema["fields"], "body": {"type": "string", "full_text_search": {}}}
    store = ParquetStore(tmp_path)
    made = store.create_like("exports/brain", replace(wanted, schema={"fields": fields}), None, None)
    long = Record("a", VALUES, None, {"body": "x" * 90_000})

    # When they are exported, then they are there; and the folder tells which of its fields are searched
    store.open(made).upsert(NS, [long])
    assert store.open(store.describe("exports/brain")).fetch(NS, ["a"]).records == {"a": long}
    with pytest.raises(BadRequest, match="a document holds 40,000"):
        store.open(made).upsert(NS, [replace(long, metadata={"other": "x" * 90_000})])


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Record("a", b"", WEIGHTS), "it has no dense values, which the field 'embedding' requires"),
        (Record("a", VALUES, None, {"_node_content": "{}"}), "'_node_content' begins with _"),
        (Record("a", bytes(16)), "all its dense values are zero"),
        (Record("café", VALUES), "ASCII"),
    ],
)
def test_what_the_service_would_not_import_is_not_exported(
    index: ParquetIndex, tmp_path: Path, record: Record, why: str
) -> None:
    with pytest.raises(BadRequest, match=why):
        index.upsert(NS, [*of_ids("b"), record])
    assert list((tmp_path / "exports/brain").iterdir()) == [tmp_path / "exports/brain/_index.json"]


def test_a_file_in_which_a_byte_was_changed_is_refused(index: ParquetIndex, tmp_path: Path) -> None:
    index.upsert(NS, of_ids("a", "b"))
    path = part(tmp_path)
    path.write_text(path.read_text().replace("7.0", "8.0", 1))

    with pytest.raises(BadRequest, match="is not what was written: its digest differs"):
        index.fetch(NS, ["b"])
    # And nothing gives it the name of a sound one
    with pytest.raises(BadRequest, match="is not what was written"):
        index.delete(NS, ["a"])
    assert part(tmp_path) == path


@pytest.mark.parametrize("lines_kept", [0, 1, 1.5])
def test_a_file_that_is_cut_short_is_refused_even_where_a_line_ends(
    index: ParquetIndex, tmp_path: Path, lines_kept: float
) -> None:
    index.upsert(NS, of_ids("a", "b"))
    path = part(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes()[: int(len(lines[0]) * lines_kept)])

    for look in (lambda: index.list_ids(NS), lambda: index.namespace(NS), lambda: index.fetch(NS, ["b"])):
        with pytest.raises(BadRequest, match="damaged"):
            look()


def test_lines_of_another_program_are_refused(index: ParquetIndex, tmp_path: Path) -> None:
    index.upsert(NS, of_ids("a"))
    path = part(tmp_path)
    path.rename(path.with_name(f"part-0000000001-{0:032}.jsonl"))

    with pytest.raises(BadRequest, match="does not tell its digest: another program wrote it"):
        index.list_ids(NS)


def test_a_folder_of_documents_from_before_there_were_lines_is_read_and_written_as_the_tables_that_it_holds(
    index: ParquetIndex, tmp_path: Path
) -> None:
    """A version that knows Parquet alone would find nothing in a folder of lines, and refuses it by its number."""
    # Given an export of a document index as former versions made it
    description = tmp_path / "exports/brain/_index.json"
    assert json.loads(description.read_text())["format"] == 3
    description.write_text(description.read_text().replace('"format": 3', '"format": 2'))
    store = ParquetStore(tmp_path)
    former = store.open(store.describe("exports/brain"))

    # When records are written and deleted
    former.upsert(NS, of_ids("a", "b", "c"))
    former.delete(NS, ["b"])

    # Then they are in files of Parquet, and read back as they were
    assert part(tmp_path).suffix == ".parquet"
    assert [info.name for info in store.indexes()] == ["exports/brain"]
    assert list(former.fetch(NS, ["a", "b", "c"]).records.values()) == of_ids("a", "c")
