"""Bulk imports of JSON lines into a document index."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pinecone import Pinecone
from pinecone.errors.exceptions import ApiError

from emulator.contested import Contested
from emulator.server import Running, start

FIELDS = {"v": {"type": "dense_vector", "dimension": 2, "metric": "cosine"}}


def document(n: int, **more: object) -> dict[str, object]:
    return {"_id": f"r{n}", "v": [1.0, float(n)], "n": n, **more}


def write(folder: Path, namespace: str, documents: list[object], packed: bool = False) -> None:
    """A file as the service documents it: one document as in an upsert a line."""
    (folder / namespace).mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in documents).encode()
    name = "0.jsonl.gz" if packed else "0.jsonl"
    (folder / namespace / name).write_bytes(gzip.compress(text) if packed else text)


@pytest.fixture
def open_index(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes an index of documents whose imports read the test's folder."""
    running: list[Running] = []

    def make(fields: object = FIELDS, **switches: str) -> Any:
        running.append(start(port=0, imports=tmp_path, import_delay_s=0.02, contested=Contested(**switches)))
        pc = Pinecone(api_key="test", host=running[-1].control)
        pc.indexes.create(name="docs", schema={"fields": fields})
        return pc.index("docs")

    yield make
    for emulator in running:
        emulator.stop()


def run(index: Any, mode: str = "abort") -> Any:
    id = index.start_import(uri="s3://b/set", error_mode=mode).id
    deadline = time.monotonic() + 60
    while (job := index.describe_import(id)).status in ("Pending", "InProgress"):
        assert time.monotonic() < deadline, job
    return job


def ids(index: Any, namespace: str) -> list[str]:
    return [item.id for item in index.documents.list(namespace=namespace)]


def test_each_line_becomes_a_document_of_its_folders_namespace(open_index: Callable[..., Any], tmp_path: Path) -> None:
    index = open_index()
    write(tmp_path / "b" / "set", "plain", [document(1), "", document(2)])
    write(tmp_path / "b" / "set", "packed", [document(3)], packed=True)
    (tmp_path / "b" / "set" / "plain" / "0.parquet").write_bytes(b"not looked at")
    job = run(index)
    assert (job.status, job.records_imported) == ("Completed", 3)
    assert (ids(index, "plain"), ids(index, "packed")) == (["r1", "r2"], ["r3"])
    assert index.documents.fetch(namespace="packed", ids=["r3"]).documents["r3"].to_dict() == document(3)


@pytest.mark.parametrize("line", ['{"_id":', "[]", '{"_id": "x"}', '{"_id": "x", "v": [1, 2], "_y": 1}'])
def test_a_line_that_is_no_document_fails_the_import_or_is_left_out(
    open_index: Callable[..., Any], tmp_path: Path, line: str
) -> None:
    index = open_index()
    write(tmp_path / "b" / "set", "n", [document(1), line])
    failed = run(index)
    assert (failed.status, "n/0.jsonl" in failed.error) == ("Failed", True)
    lenient = run(index, "continue")
    assert (lenient.status, ids(index, "n")) == ("Completed", ["r1"])


def test_a_file_that_is_not_packed_as_its_name_says_fails_the_import(
    open_index: Callable[..., Any], tmp_path: Path
) -> None:
    index = open_index()
    write(tmp_path / "b" / "set", "n", [document(1)])
    (tmp_path / "b" / "set" / "n" / "0.jsonl").rename(tmp_path / "b" / "set" / "n" / "0.jsonl.gz")
    assert "is not a readable JSON lines file" in run(index).error


def test_documents_with_equal_vectors_stay_unless_a_switch_drops_them(
    open_index: Callable[..., Any], tmp_path: Path
) -> None:
    write(tmp_path / "b" / "set", "n", [document(1), document(1, _id="twin")])
    for switch, expected in (("keep", ["r1", "twin"]), ("drop", ["r1"])):
        index = open_index(equal_vectors=switch)
        run(index, "continue")
        assert ids(index, "n") == expected


def test_embedded_texts_are_not_imported(open_index: Callable[..., Any]) -> None:
    index = open_index({"t": {"type": "string", "embed": {}}})
    with pytest.raises(ApiError, match="not supported for indexes with integrated embedding"):
        index.start_import(uri="s3://b/set")
