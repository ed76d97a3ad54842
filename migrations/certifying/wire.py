"""Requests to one index over REST, uninterpreted: what the service answers, not what a client makes of it.

Each request is repeated while the service cannot answer, as a command repeats its own; each repetition is paid for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from migrations.certifying.metering import Meter
from vecfleet.patience import patiently
from vecfleet.stores import rules
from vecfleet.stores.base import Usage
from vecfleet.stores.pinecone.errors import require_ok, translated

_KEY_OR_PLAN = (401, 402, 403)
_NOT_NOW = (408, 429)
_NOT_SERVED = 501
_OVERWRITTEN = 2  # an upsert also pays for the records that it replaces
_READ = Usage(requests=1, read_units=1.0)

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `body` is its JSON, an empty mapping where it is none."""

    status: int
    body: Any
    headers: Mapping[str, str]
    size: int

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def verdict(self) -> str:
        return "accepted" if self.ok else f"refused with {self.status}"

    def lsn(self, header: str) -> int | None:
        told = self.headers.get(header, "")
        return int(told) if told.isdecimal() else None


class Wire:
    """One index."""

    def __init__(self, http: httpx.Client, meter: Meter) -> None:
        self._http = http
        self._meter = meter

    # --- vectors ------------------------------------------------------------------------------------------------------

    def upsert(self, namespace: str, vectors: Sequence[Body]) -> Reply:
        return self._write("/vectors/upsert", {"vectors": list(vectors), "namespace": namespace})

    def fetch(self, namespace: str, ids: Sequence[str]) -> Reply:
        most = Usage(requests=1, read_units=rules.fetch_units(len(ids)))
        return self.send("GET", "/vectors/fetch", most, params={"ids": list(ids), "namespace": namespace})

    def list_ids(self, namespace: str, **asked: str | int | None) -> Reply:
        given = {name: value for name, value in asked.items() if value is not None}
        return self.send("GET", "/vectors/list", _READ, params={"namespace": namespace, **given})

    def delete(self, namespace: str, ids: Sequence[str]) -> Reply:
        return self._write("/vectors/delete", {"namespace": namespace, "ids": list(ids)})

    def update(self, namespace: str, id: str, metadata: Body) -> Reply:
        return self._write("/vectors/update", {"namespace": namespace, "id": id, "setMetadata": metadata})

    def query(self, namespace: str, values: Sequence[float], top_k: int = 3) -> Reply:
        body = {"namespace": namespace, "vector": list(values), "topK": top_k}
        return self.send("POST", "/query", _READ, content=orjson.dumps(body))

    def stats(self, version: str | None = None) -> Reply:
        headers = {"X-Pinecone-Api-Version": version} if version is not None else {}
        return self.send("POST", "/describe_index_stats", _READ, content=b"{}", headers=headers)

    # --- namespaces ---------------------------------------------------------------------------------------------------

    def namespaces(self, **asked: str | int | None) -> Reply:
        given = {name: value for name, value in asked.items() if value is not None}
        return self.send("GET", "/namespaces", _READ, params=given)

    def namespace(self, name: str) -> Reply:
        return self.send("GET", f"/namespaces/{quote(name, safe='')}", _READ)

    def create_namespace(self, name: str, schema: Body) -> Reply:
        return self._write("/namespaces", {"name": name, "schema": schema})

    def delete_namespace(self, name: str) -> Reply:
        most = Usage(requests=1, write_units=rules.MIN_WRITE_UNITS)
        return self.send("DELETE", f"/namespaces/{quote(name, safe='')}", most)

    # --- documents ----------------------------------------------------------------------------------------------------

    def documents(self, operation: str, namespace: str, body: Body) -> Reply:
        path = f"/namespaces/{quote(namespace, safe='')}/documents/{operation}"
        if operation in ("upsert", "delete"):
            return self._write(path, body)
        most = Usage(requests=1, read_units=rules.fetch_units(len(body.get("ids", ()))))
        return self.send("POST", path, most, content=orjson.dumps(body))

    # --- any ----------------------------------------------------------------------------------------------------------

    def _write(self, path: str, body: Body) -> Reply:
        content = orjson.dumps(body)
        most = Usage(requests=1, write_units=_OVERWRITTEN * rules.write_units(len(content)))
        return self.send("POST", path, most, content=content)

    def send(self, method: str, path: str, most: Usage, **arguments: Any) -> Reply:
        """Return the answer, a refusal too. Raises StoreError if the service cannot answer, or refuses the key."""
        return patiently(lambda: self._meter.paid(most, lambda: self._sent(method, path, most, arguments)))

    def _sent(self, method: str, path: str, most: Usage, arguments: Mapping[str, Any]) -> tuple[Reply, Usage]:
        doing = f"answer {method} {path}"
        headers = {"Content-Type": "application/json", **arguments.get("headers", {})}
        with translated(doing):
            answer = self._http.request(method, path, **{**arguments, "headers": headers})
        status = answer.status_code
        if status in (*_KEY_OR_PLAN, *_NOT_NOW) or (status >= 500 and status != _NOT_SERVED):
            require_ok(answer, doing)
        reply = Reply(status, _json(answer.content), answer.headers, len(answer.content))
        return reply, _usage(reply, most)


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}


def _usage(reply: Reply, most: Usage) -> Usage:
    """Return what the call cost, as far as it tells; what it does not tell counts as the most."""
    if not reply.ok:
        return Usage(requests=1, read_units=most.read_units, egress_bytes=reply.size)
    told = reply.body.get("usage") or {} if isinstance(reply.body, dict) else {}
    units = told.get("readUnits", told.get("read_units", most.read_units))
    return Usage(1, float(units), most.write_units, reply.size)
