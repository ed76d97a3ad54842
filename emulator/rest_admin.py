"""`/_emulator/…` on the control port: the calls, the content, and the faults to come."""

import base64
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import numpy as np
import orjson

from emulator.digest import digest
from emulator.errors import Refusal, invalid, not_found
from emulator.faults import Fault
from emulator.gate import Gate
from emulator.http import Request, Response, json_response
from emulator.project import Project
from emulator.records import Record, canonical_namespace
from emulator.shapes import pod_index

DUMP_BYTES = 256 * 1024


class Admin:
    def __init__(
        self, project: Project, gate: Gate, reset: Callable[[], None], check: Callable[[Mapping[str, str]], None]
    ) -> None:
        self._project = project
        self._calls, self._faults, self._limits = gate.calls, gate.faults, gate.limits
        self._reset, self._check = reset, check

    async def handle(self, request: Request) -> Response:
        """Answer a request. Its health is open to all, for a container's health check; all else is checked first."""
        try:
            if request.segments[1:] != ["health"]:
                self._check(request.headers)
            match request.method, request.segments[1:]:
                case "GET", ["calls"]:
                    return self._show_calls(request)
                case "GET", ["digest"]:
                    return self._digest(request)
                case "GET", ["records"]:
                    return self._records(request)
                case "POST", ["reset"]:
                    return self._clear(request)
                case "GET", ["faults"]:
                    return self._show_faults()
                case "POST", ["faults"]:
                    return self._add_fault(request)
                case "DELETE", ["faults"]:
                    self._faults.rules.clear()
                    return self._show_faults()
                case "POST", ["indexes"]:
                    return self._make_pod(request)
                case "POST", ["limits"]:
                    body = request.json()
                    self._limits.set(str(body.get("limits", "off")), str(body.get("shape", "window")))
                    return json_response({})
                case "GET", ["health"]:
                    return json_response({"ok": True, "reads_lag_s": self._faults.reads_lag_s})
            raise not_found(f"/{'/'.join(request.segments)[:200]} is not one of the emulator's own addresses")
        except Refusal as refusal:
            return json_response(refusal.control_plane(), refusal.status)

    def _show_calls(self, request: Request) -> Response:
        namespace = request.argument("namespace")
        calls = self._calls.matching(
            request.argument("operation"),
            request.argument("index"),
            None if namespace is None else canonical_namespace(namespace),
            request.number("since", 0),
        )
        answer: dict[str, object] = {"last_seq": self._calls.last_seq, "dropped": self._calls.dropped}
        if request.argument("counts") in ("1", "true"):
            return json_response(answer | {"counts": self._calls.counts(calls)})
        return json_response(answer | {"calls": [self._calls.as_json(call) for call in calls]})

    def _digest(self, request: Request) -> Response:
        index = self._project.find(request.argument("index") or "")
        ignore = frozenset((request.argument("ignore") or "").split(","))
        name = request.argument("namespace")
        if name is not None:
            count, text = digest(self._stored(request), ignore)
            return json_response(
                {"index": index.name, "namespace": canonical_namespace(name), "count": count, "digest": text}
            )
        digests = {}
        for name, namespace in sorted(index.namespaces.items()):
            count, text = digest(namespace.records.values(), ignore)
            digests[name] = {"count": count, "digest": text}
        return json_response({"index": index.name, "namespaces": digests})

    def _stored(self, request: Request) -> Iterable[Record]:
        """Return the records of a namespace as they are, whatever lag readers see; none when it does not exist."""
        index = self._project.find(request.argument("index") or "")
        namespace = index.namespaces.get(canonical_namespace(request.argument("namespace")))
        return namespace.records.values() if namespace else ()

    def _records(self, request: Request) -> Response:
        records = list(self._stored(request))
        return Response(content_type="application/x-ndjson", stream=_dump(records))

    def _clear(self, request: Request) -> Response:
        body = request.json()
        self._calls.clear()
        if not body.get("calls"):
            self._reset()
        return json_response({})

    def _make_pod(self, request: Request) -> Response:
        """Make a pod index, for tests: the service describes old ones and makes none."""
        index = self._project.create(pod_index(request.json()))
        self._project.keeper.commit()
        return json_response({"name": index.name}, 201)

    def _show_faults(self) -> Response:
        return json_response({"faults": [rule.as_json() for rule in self._faults.rules]})

    def _add_fault(self, request: Request) -> Response:
        """Add one rule, or a list of rules under `faults`."""
        body = request.json()
        bodies = body["faults"] if isinstance(body.get("faults"), list) else [body]
        if not isinstance(bodies, list) or not all(isinstance(item, dict) for item in bodies):
            raise invalid("faults must be a list of objects")
        self._faults.rules += [Fault.parse(item) for item in bodies]
        return self._show_faults()


async def _dump(records: Iterable[Record]) -> AsyncIterator[bytes]:
    part: list[bytes] = []
    size = 0
    for record in records:
        line = orjson.dumps(_line(record), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        part.append(line)
        size += len(line)
        if size > DUMP_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)


def _line(record: Record) -> dict[str, object]:
    sparse = None
    if record.sparse:
        sparse = {
            "indices": np.frombuffer(record.sparse.indices, "<u4"),
            "values": base64.b64encode(record.sparse.weights).decode(),
        }
    return {
        "id": record.id,
        "values": base64.b64encode(record.values).decode(),
        "sparse": sparse,
        "metadata": orjson.Fragment(record.metadata) if record.metadata else None,
    }
