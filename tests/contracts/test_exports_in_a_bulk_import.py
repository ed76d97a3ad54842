"""An export lies as Pinecone's bulk import wants it: the service takes its files as they are, to the last bit.

Parquet for an index of vectors, JSON lines for one of documents.
"""

import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pinecone import Pinecone

from emulator.server import start
from tests.contracts.making import Like, documents_like, like, pinecone_store
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import Index, Kind, Store
from vecfleet.stores.parquet import ParquetStore

OVER = ("Completed", "Failed", "Cancelled")
NAMESPACES = ("__default__", "creator_sainath.no.1_twin_Coach", "a tenant: 7")
COLUMNS = {
    Kind.DENSE: ["id", "values", "metadata"],
    Kind.HYBRID: ["id", "values", "sparse_values", "metadata"],
    Kind.SPARSE: ["id", "sparse_values", "metadata"],
}


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    emulator = start(port=0, import_delay_s=0)
    yield emulator.control
    emulator.stop()


def records(kind: Kind, namespace: str) -> list[Record]:
    """Of every form that the kind has: with metadata or none, with sparse values and without where those may lack."""
    made = []
    for number in range(7):
        values = b"" if kind is Kind.SPARSE else struct.pack("<4f", number + 0.1, 1e-30, -2, 3)
        weights = Sparse(struct.pack("<2I", number, 4_294_967_295), struct.pack("<2f", 0.1, number + 1))
        sparse = weights if kind is Kind.SPARSE or (kind is Kind.HYBRID and number % 2) else None
        metadata = {"text": f"Größe 名 {namespace}", "page": 1 / 3, "tags": ["x", ""], "ok": True} if number % 3 else {}
        made.append(Record(f"{namespace} #{number}", values, sparse, metadata))
    return made


def exported(root: Path, kind: Kind, of: Like = like) -> Index:
    """An export of several namespaces, the default one too."""
    store = ParquetStore(root)
    export = store.open(store.create_like("exports/brain", of(kind), None, None))
    for namespace in NAMESPACES:
        made = records(kind, namespace)
        export.upsert(namespace, made[:4])
        export.upsert(namespace, made[3:])  # a second part, which takes a record over
    return export


def bulk_import(service: str, index: str, folder: Path) -> Any:
    """Import a folder as the service does, in the mode that forgives nothing; the import when it is over."""
    remote = Pinecone(api_key="a key", host=service).index(index)
    id = remote.start_import(uri=f"file://{folder}", error_mode="abort").id
    deadline = time.monotonic() + 120
    while (seen := remote.describe_import(id)).status not in OVER:
        assert time.monotonic() < deadline, f"it never ended: {seen}"
    return seen


def content(index: Index) -> dict[str, dict[str, Record]]:
    held = {info.name: index.list_ids(info.name).ids for info in index.namespaces()}
    return {name: dict(index.fetch(name, ids).records) for name, ids in held.items()}


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_export_is_imported_by_the_service_as_it_stands(service: str, tmp_path: Path, kind: Kind) -> None:
    # Given an export
    export = exported(tmp_path, kind)
    assert {tuple(pq.read_schema(part).names) for part in tmp_path.rglob("*.parquet")} == {tuple(COLUMNS[kind])}

    # When the service imports the folder as it stands, descriptions and all
    store: Store = pinecone_store(service)
    imported = store.open(store.create_like(f"imported-{kind}", like(kind), None, None))
    done = bulk_import(service, f"imported-{kind}", tmp_path / "exports/brain")

    # Then it holds every record, equal to the last bit
    assert (done.status, done.error, done.records_imported) == ("Completed", None, 7 * len(NAMESPACES))
    assert content(imported) == content(export)


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_export_of_documents_is_imported_by_the_service_as_it_stands(
    service: str, tmp_path: Path, kind: Kind
) -> None:
    # Given an export of a document index: folders with a document a line, and no other file that an import looks at
    export = exported(tmp_path, kind, documents_like)
    assert {path.suffix for path in tmp_path.rglob("*.*") if path.is_file()} == {".json", ".jsonl"}

    # When the service imports the folder as it stands, descriptions and all
    store: Store = pinecone_store(service)
    imported = store.open(store.create_like(f"documents-{kind}", documents_like(kind), None, None))
    done = bulk_import(service, f"documents-{kind}", tmp_path / "exports/brain")

    # Then it holds every document, equal to the last bit
    assert (done.status, done.error, done.records_imported) == ("Completed", None, 7 * len(NAMESPACES))
    assert content(imported) == content(export)


def test_an_index_is_made_like_one_whose_texts_are_searched(service: str) -> None:
    """The service's answer has a word of such a field that its request may not have."""
    wanted, store = documents_like(Kind.DENSE), pinecone_store(service)
    body = {"type": "string", "full_text_search": {"language": "de"}}
    fields = {**wanted.schema["fields"], "body": body}
    first = store.create_like("searched", replace(wanted, schema={"fields": fields}), None, None)
    assert store.create_like("searched-too", store.describe("searched"), None, None).schema == first.schema
