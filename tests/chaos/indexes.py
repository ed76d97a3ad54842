"""The indexes of a life: of vectors, of documents, or one of each; and requests to them. No code of vecfleet.

A document's vectors and texts are fields beside its metadata. No name of these may begin with an underscore: the keys
of `NAMES` have other names there, and our own lose their underscore.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from tests.chaos.case import SEARCHED, Case, Made

_DENSE, _SPARSE = "vector", "terms"
Request = tuple[str, str, dict[str, Any] | None]
"""Method, address and body."""


@dataclass(frozen=True)
class Indexes:
    """`hosts`: the address of each index, by its name."""

    case: Case
    hosts: Mapping[str, str]

    def put(self, namespace: str, rows: Sequence[Made]) -> Request:
        if not self.case.holds_documents(namespace):
            vectors = [_vector(made) for made in rows]
            return "POST", f"{self._host(namespace)}/vectors/upsert", {"namespace": namespace, "vectors": vectors}
        return self._documents(namespace, "upsert", {"documents": [_document(self.case, made) for made in rows]})

    def delete(self, namespace: str, ids: Sequence[str]) -> Request:
        if not self.case.holds_documents(namespace):
            return "POST", f"{self._host(namespace)}/vectors/delete", {"namespace": namespace, "ids": [*ids]}
        return self._documents(namespace, "delete", {"ids": [*ids]})

    def list(self, namespace: str) -> Request:
        if not self.case.holds_documents(namespace):
            return "GET", f"{self._host(namespace)}/vectors/list?namespace={quote(namespace, safe='')}", None
        return self._documents(namespace, "list", {})

    def drop(self, namespace: str) -> Request:
        return "DELETE", f"{self._host(namespace)}/namespaces/{quote(namespace, safe='')}", None

    def _documents(self, namespace: str, operation: str, body: dict[str, Any]) -> Request:
        path = f"namespaces/{quote(namespace, safe='')}/documents/{operation}"
        return "POST", f"{self._host(namespace)}/{path}", body

    def _host(self, namespace: str) -> str:
        return self.hosts[self.case.index if namespace in self.case.stays else self.case.target_index]


def ids_of(listed: Mapping[str, Any]) -> list[str]:
    """Return the ids of an answer to `list`."""
    return [one["_id"] if "_id" in one else one["id"] for one in listed.get("documents") or listed.get("vectors") or ()]


def make_indexes(http: httpx.Client, address: str, case: Case) -> Indexes:
    """Make and fill what the case begins with."""
    hosts = {}
    for name in case.indexes:
        body = {
            "name": name,
            "schema": {"fields": _fields(case, documents=name != case.index or case.form == "documents")},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        }
        http.delete(f"{address}/indexes/{name}")
        hosts[name] = str(http.post(f"{address}/indexes", json=body).raise_for_status().json()["host"])
    indexes = Indexes(case, hosts)
    for namespace in case.empty:
        http.post(f"{hosts[case.index]}/namespaces", json={"name": namespace}).raise_for_status()
    for namespace, rows in {**case.sources, **case.foreign}.items():
        for start in range(0, len(rows), 25):
            method, url, wanted = indexes.put(namespace, rows[start : start + 25])
            http.request(method, url, json=wanted).raise_for_status()
    return indexes


def _fields(case: Case, *, documents: bool) -> dict[str, Any]:
    dense = {"type": "dense_vector", "dimension": case.dimension, "metric": "dotproduct"}
    sparse = {"type": "sparse_vector", "metric": "dotproduct"}
    fields: dict[str, Any] = {} if case.kind == "sparse" else {_DENSE if documents else "_values": dense}
    fields |= {} if case.kind == "dense" else {_SPARSE if documents else "_sparse_values": sparse}
    searched = {SEARCHED: {"type": "string", "full_text_search": {}}} if documents and case.searches else {}
    return fields | searched


def _vector(made: Made) -> dict[str, Any]:
    body: dict[str, Any] = {"id": made.id, "metadata": made.metadata}
    if made.values:
        body["values"] = made.values
    if made.sparse is not None:
        body["sparseValues"] = {"indices": made.sparse[0], "values": made.sparse[1]}
    return body


def _document(case: Case, made: Made) -> dict[str, Any]:
    body: dict[str, Any] = {"_id": made.id, **case.spelled(made.metadata)}
    if made.values:
        body[_DENSE] = made.values
    if made.sparse is not None:
        body[_SPARSE] = {"indices": made.sparse[0], "values": made.sparse[1]}
    return body
