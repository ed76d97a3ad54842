"""The REST surface against descriptions of it: always our own table, and the vendor's own file when it is at hand.

    PINECONE_DATA_DESCRIPTION=/path/to/db_data_2026-04.oas.yaml pytest tests/emulator/test_emulator_description.py

Intended differences from that file are named in docs/emulator.md.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from pinecone import Pinecone

Make = Callable[..., Any]
Schema = dict[str, Any]

INTEGER: Schema = {"type": "integer"}
NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
STRING: Schema = {"type": "string"}


def shape(optional: Schema | None = None, **required: Schema) -> Schema:
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def listing(items: Schema) -> Schema:
    return {"type": "array", "items": items}


SPARSE = shape(indices=listing(INTEGER), values=NUMBERS)
METADATA = mapping({"type": ["string", "number", "boolean", "array"]})
VECTOR = shape({"sparseValues": SPARSE, "metadata": METADATA}, id=STRING, values=NUMBERS)
MATCH = shape({"sparseValues": SPARSE, "metadata": METADATA}, id=STRING, score={"type": "number"}, values=NUMBERS)
USAGE = shape(readUnits=INTEGER)
NEXT = {"pagination": shape(next=STRING)}
COUNT = {"type": "string", "pattern": "^[0-9]+$"}  # a string since API 2026-07
FILTERABLE = shape(fields=mapping(shape(filterable={"const": True})))
NAMESPACE = shape(
    {"schema": FILTERABLE, "indexed_fields": shape(fields=listing(STRING))},
    name=STRING,
    record_count=COUNT,
    size_bytes=COUNT,
)
STATS = shape(
    {"dimension": INTEGER},
    namespaces=mapping(shape(vectorCount=INTEGER)),
    indexFullness={"type": "number"},
    totalVectorCount=INTEGER,
    metric=STRING,
    vectorType=STRING,
)
IMPORT = shape(
    {"finishedAt": STRING, "error": STRING},
    id=STRING,
    uri=STRING,
    status=STRING,
    createdAt=STRING,
    percentComplete={"type": "number"},
    recordsImported=INTEGER,
)
ERROR = shape(code=INTEGER, message=STRING, details=listing({"type": "object"}))
RECORD = {"id": "c", "values": [3, 2, 1], "metadata": {"k": [], "n": 1}}


@pytest.fixture
def host(pc: Pinecone, make_index: Make) -> str:
    index = make_index()
    index.create_namespace(name="n", schema={"fields": {"k": {"filterable": True}}})
    for id in ("a", "b"):
        index.upsert(vectors=[{"id": id, "values": [1, 2, 3], "metadata": {"k": "v", "t": ["x"]}}], namespace="n")
    return str(pc.describe_index("things").host)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "schema"),
    [
        ("POST", "/vectors/upsert", {"vectors": [RECORD], "namespace": "n"}, 200, shape(upsertedCount=INTEGER)),
        ("GET", "/vectors/fetch?ids=a&ids=x&namespace=n", None, 200,
         shape(vectors=mapping(VECTOR), namespace=STRING, usage=USAGE)),
        ("POST", "/vectors/fetch_by_metadata", {"filter": {"k": "v"}, "limit": 1, "namespace": "n"}, 200,
         shape(vectors=mapping(VECTOR), namespace=STRING, usage=USAGE, **NEXT)),
        ("GET", "/vectors/list?namespace=n&limit=1", None, 200,
         shape(vectors=listing(shape(id=STRING)), namespace=STRING, usage=USAGE, **NEXT)),
        ("GET", "/vectors/list?namespace=n", None, 200,
         shape(vectors=listing(shape(id=STRING)), namespace=STRING, usage=USAGE)),
        ("POST", "/query", {"vector": [1, 2, 3], "topK": 2, "includeMetadata": True, "includeValues": True}, 200,
         shape(matches=listing(MATCH), namespace=STRING, usage=USAGE)),
        ("POST", "/vectors/update", {"id": "a", "setMetadata": {"z": 1}, "namespace": "n"}, 200, shape()),
        ("POST", "/vectors/update", {"filter": {"k": "v"}, "setMetadata": {"z": 1}, "dryRun": True, "namespace": "n"},
         200, shape(matchedRecords=INTEGER)),
        ("POST", "/vectors/delete", {"ids": ["a"], "namespace": "n"}, 200, shape()),
        ("POST", "/vectors/delete", {"ids": ["a"], "namespace": "absent"}, 404, ERROR),
        ("POST", "/describe_index_stats", {}, 200, STATS),
        ("POST", "/namespaces", {"name": "m"}, 200, NAMESPACE),
        ("GET", "/namespaces?limit=1", None, 200, shape({**NEXT}, namespaces=listing(NAMESPACE), total_count=INTEGER)),
        ("GET", "/namespaces/n", None, 200, NAMESPACE),
        ("GET", "/namespaces/absent", None, 404, ERROR),
        ("DELETE", "/namespaces/n", None, 200, shape()),
        ("POST", "/bulk/imports", {"uri": "file:///absent"}, 200, shape(id=STRING)),
        ("GET", "/bulk/imports", None, 200, shape(data=listing(IMPORT))),
        ("GET", "/bulk/imports/1", None, 404, ERROR),
        ("DELETE", "/bulk/imports/1", None, 404, ERROR),
        ("POST", "/query", {"topK": "three"}, 400, ERROR),
        ("GET", "/no/such/path", None, 404, ERROR),
        ("PUT", "/query", {}, 405, ERROR),
    ],
)  # fmt: skip
def test_answers_have_the_described_shape(
    host: str, method: str, path: str, body: object, status: int, schema: Schema
) -> None:
    answer = httpx.request(method, f"{host}{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    jsonschema.validate(answer.json(), schema)


def vendor_description() -> Any:
    """The vendor's file, without what schemathesis cannot write: lines of JSON."""
    import schemathesis

    raw = yaml.safe_load(Path(os.environ["PINECONE_DATA_DESCRIPTION"]).read_text("utf-8"))
    del raw["paths"]["/records/namespaces/{namespace}/upsert"]
    return schemathesis.openapi.from_dict(raw)


if "PINECONE_DATA_DESCRIPTION" in os.environ:
    import hypothesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    vendor = vendor_description()

    @pytest.fixture(scope="module")
    def vendor_host(running: Any) -> str:
        fields = {"_values": {"type": "dense_vector", "dimension": 3, "metric": "cosine"}}
        body = {"name": "vendor", "schema": {"fields": fields}}
        return str(httpx.post(f"{running.control}/indexes", json=body).json()["host"])

    @vendor.parametrize()
    @hypothesis.settings(max_examples=25, deadline=None)
    def test_the_vendors_description_finds_no_fault(case: Any, vendor_host: str) -> None:
        checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
        headers = {"X-Pinecone-Api-Version": "2026-04"}  # whatever version the case made up
        case.call_and_validate(base_url=vendor_host, checks=checks, headers=headers)
