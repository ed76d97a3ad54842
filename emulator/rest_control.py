"""The control plane over REST: indexes (backups and the rest of the project follow the same pattern)."""

from collections.abc import Callable, Mapping

from emulator.calls import Call
from emulator.errors import Refusal
from emulator.gate import Gate, Job, Outcome
from emulator.http import Request, Response, json_response
from emulator.index import Index
from emulator.project import Project, read_protection, read_tags
from emulator.wire_json import encode


class ControlPlane:
    def __init__(
        self,
        project: Project,
        gate: Gate,
        host_of: Callable[[Index], str],
        check_key: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._project = project
        self._gate = gate
        self._host_of = host_of
        self._check_key = check_key

    async def handle(self, request: Request) -> Response:
        try:
            operation, run = self._route(request)
            call = Call(operation, bytes_in=len(request.body) + request.url_length)
            outcome = await self._gate.serve(call, lambda call: self._prepare(request, call, run))
        except Refusal as refusal:
            headers = {} if refusal.retry_after is None else {"retry-after": f"{refusal.retry_after:g}"}
            return json_response(refusal.control_plane(), refusal.status, headers)
        return Response(outcome.status, outcome.body)

    def _prepare(self, request: Request, call: Call, run: Callable[[Request], Outcome]) -> Job:
        self._check_key(request.headers)
        call.index = request.segments[1] if len(request.segments) > 1 else None
        if request.segments == ["indexes"] and request.method == "POST":
            call.index = str(request.json().get("name"))
        return Job(lambda _: run(request))

    def _route(self, request: Request) -> tuple[str, Callable[[Request], Outcome]]:
        match request.method, request.segments:
            case "POST", ["indexes"]:
                return "create_index", self._create
            case "GET", ["indexes"]:
                return "list_indexes", self._list
            case "GET", ["indexes", _]:
                return "describe_index", self._describe
            case "PATCH", ["indexes", _]:
                return "configure_index", self._configure
            case "DELETE", ["indexes", _]:
                return "delete_index", self._delete
        raise Refusal(404, f"Path /{'/'.join(request.segments)[:200]} not found")

    def _description(self, index: Index) -> dict[str, object]:
        status = {"ready": True, "state": "Ready"}
        return index.description | {"id": index.id, "host": self._host_of(index), "status": status}

    def _create(self, request: Request) -> Outcome:
        return Outcome(encode(self._description(self._project.create(request.json()))), 201)

    def _list(self, request: Request) -> Outcome:
        indexes = sorted(self._project.indexes.values(), key=lambda index: index.name)
        return Outcome(encode({"indexes": [self._description(index) for index in indexes]}))

    def _describe(self, request: Request) -> Outcome:
        return Outcome(encode(self._description(self._project.find(request.segments[1]))))

    def _configure(self, request: Request) -> Outcome:
        index, body = self._project.find(request.segments[1]), request.json()
        if "deletion_protection" in body:
            index.description["deletion_protection"] = read_protection(body["deletion_protection"])
        if isinstance(body.get("tags"), dict):
            merged = {**read_tags(index.description["tags"]), **body["tags"]}  # type: ignore[dict-item]
            index.description["tags"] = read_tags(merged)
        self._project.save(index)
        return Outcome(encode(self._description(index)), 200)

    def _delete(self, request: Request) -> Outcome:
        self._project.delete(request.segments[1])
        return Outcome(b"", 202)
