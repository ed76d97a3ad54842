"""The control plane over REST: indexes, backups, restore jobs, conversions; collections are for pods, and refused."""

from collections.abc import Callable, Mapping

from emulator.backups import Document, Vault
from emulator.calls import Call
from emulator.conversions import Conversions
from emulator.errors import Refusal, invalid
from emulator.gate import Gate, Job, Outcome
from emulator.http import Request, Response, json_response
from emulator.index import Index
from emulator.older_versions import backup, can_show, creation, described
from emulator.project import Project
from emulator.rest_inference import describe_model, embed, list_models
from emulator.routing import page_of, unknown_path
from emulator.shapes import model_index, plain_index, read_capacity, read_protection, read_tags, with_both_fields
from emulator.versions import NEWEST, Versions, refuse_newer
from emulator.wire_json import encode

Run = Callable[[Request], Outcome]


class ControlPlane:
    def __init__(
        self,
        project: Project,
        vault: Vault,
        conversions: Conversions,
        gate: Gate,
        host_of: Callable[[Index], str],
        check_key: Callable[[Mapping[str, str]], None],
        versions: Versions,
    ) -> None:
        self._project, self._vault, self._conversions, self._gate = project, vault, conversions, gate
        self._host_of, self._check_key, self._versions = host_of, check_key, versions

    async def handle(self, request: Request) -> Response:
        try:
            request.version = self._versions.read(request.headers)
            operation, run = self._route(request)
            refuse_newer(operation, "control", request.version)
            call = Call(operation, bytes_in=len(request.body) + request.url_length)
            outcome = await self._gate.serve(call, lambda call: self._prepare(request, call, run))
        except Refusal as refusal:
            headers = {} if refusal.retry_after is None else {"retry-after": f"{refusal.retry_after:g}"}
            if refusal.plain or (refusal.status == 401 and request.version == NEWEST):
                return Response(refusal.status, refusal.message.encode(), headers, "text/plain")
            return json_response(refusal.control_plane(), refusal.status, headers)
        return Response(outcome.status, outcome.body)

    def _prepare(self, request: Request, call: Call, run: Run) -> Job:
        self._check_key(request.headers)
        if request.segments[0] == "indexes":
            named = request.segments[1] if len(request.segments) > 1 else None
            call.index = str(request.json().get("name")) if request.method == "POST" and named is None else named
        return Job(lambda _: run(request))

    def _route(self, request: Request) -> tuple[str, Run]:
        match request.method, request.segments:
            case "POST", ["indexes"]:
                return "create_index", self._create
            case "POST", ["indexes", "create-for-model"]:
                return "create_index_for_model", self._create_for_model
            case "GET", ["indexes"]:
                return "list_indexes", self._list
            case "GET", ["indexes", _]:
                return "describe_index", self._describe
            case "PATCH", ["indexes", _]:
                return "configure_index", self._configure
            case "DELETE", ["indexes", _]:
                return "delete_index", self._delete
            case "POST", ["indexes", _, "backups"]:
                return "create_backup", self._create_backup
            case "GET", ["indexes", _, "backups"] | ["backups"]:
                return "list_backups", self._list_backups
            case "GET", ["backups", _]:
                return "describe_backup", self._describe_backup
            case "DELETE", ["backups", _]:
                return "delete_backup", self._delete_backup
            case "POST", ["backups", _, "create-index"]:
                return "create_index_from_backup", self._restore
            case "GET", ["restore-jobs"]:
                return "list_restore_jobs", self._list_jobs
            case "GET", ["restore-jobs", _]:
                return "describe_restore_job", self._describe_job
            case _, ["collections", *_]:
                return "collections", self._collections
            case _, ["indexes", _, "backup-schedules"] | ["backup-schedules", *_]:
                return "backup_schedules", self._not_here
            case "POST", ["indexes", _, "convert"]:
                return "convert_index", self._convert
            case "GET", ["conversion-jobs"]:
                return "list_conversions", self._list_conversions
            case "GET", ["conversion-jobs", _]:
                return "describe_conversion", self._describe_conversion
            case "DELETE", ["conversion-jobs", _]:
                return "cancel_conversion", self._cancel_conversion
            case "POST", ["embed"]:
                return "embed", embed
            case "GET", ["models"]:
                return "list_models", list_models
            case "GET", ["models", _]:
                return "describe_model", describe_model
            case _, ["rerank"]:
                return "rerank", self._not_here
        raise unknown_path(request)

    # -- indexes ------------------------------------------------------------------------------------------------

    def _described(self, request: Request, index: Index, status: int = 200) -> Outcome:
        description = self._description(index)
        if request.version < NEWEST:
            description = described(description, request.version)
        return Outcome(encode(description), status)

    def _description(self, index: Index) -> Document:
        status = {"ready": index.state() == "Ready", "state": index.state()}
        answer = index.description | {"id": index.id, "host": self._host_of(index), "status": status}
        if index.contested.vector_fields == "both" and index.shape.kind == "vector" and index.shape.dimension:
            answer["schema"] = with_both_fields(index.description["schema"])
        return answer

    def _create(self, request: Request) -> Outcome:
        body = request.json()
        if request.version < NEWEST:
            body = creation(body, request.version)
        return self._described(request, self._project.create(plain_index(body)), 201)

    def _create_for_model(self, request: Request) -> Outcome:
        return self._described(request, self._project.create(model_index(request.json())), 201)

    def _list(self, request: Request) -> Outcome:
        """List the indexes. An older version leaves out those whose kind came after it."""
        indexes = sorted(self._project.indexes.values(), key=lambda index: index.name)
        shown = [self._description(index) for index in indexes]
        if request.version < NEWEST:
            shown = [described(it, request.version) for it in shown if can_show(it, request.version)]
        return Outcome(encode({"indexes": shown}))

    def _describe(self, request: Request) -> Outcome:
        return self._described(request, self._project.find(request.segments[1]))

    def _configure(self, request: Request) -> Outcome:
        """Configure an index. Tags are merged; an empty value removes one."""
        index, body = self._project.find(request.segments[1]), request.json()
        protection = read_protection(body.get("deletion_protection", index.description["deletion_protection"]))
        tags = body.get("tags") or {}
        if not isinstance(tags, dict):
            raise invalid("tags must be an object of strings")
        kept = index.description["tags"]
        merged = read_tags({**kept, **tags} if isinstance(kept, dict) else tags)
        index.description |= {"deletion_protection": protection, "tags": merged}
        if body.get("read_capacity") is not None:
            index.description |= {"read_capacity": read_capacity(body["read_capacity"])}
        self._project.save(index)
        return self._described(request, index)

    def _delete(self, request: Request) -> Outcome:
        self._project.delete(request.segments[1])
        return Outcome(b"", 202)

    # -- backups ------------------------------------------------------------------------------------------------

    def _create_backup(self, request: Request) -> Outcome:
        made = self._vault.create(self._project.find(request.segments[1]), request.json())
        return Outcome(encode(self._backup(request, made)), 200 if request.version == NEWEST else 201)

    @staticmethod
    def _backup(request: Request, answer: Document) -> Document:
        return answer if request.version == NEWEST else backup(answer)

    def _list_backups(self, request: Request) -> Outcome:
        index = request.segments[1] if request.segments[0] == "indexes" else None
        backups = [self._backup(request, answer) for answer in self._vault.backups(index)]
        return page_of(request, backups, "backup_id")

    def _describe_backup(self, request: Request) -> Outcome:
        return Outcome(encode(self._backup(request, self._vault.answer(self._vault.find(request.segments[1])))))

    def _delete_backup(self, request: Request) -> Outcome:
        self._vault.delete(request.segments[1])
        return Outcome(b"", 202)

    def _restore(self, request: Request) -> Outcome:
        return Outcome(encode(self._vault.restore(request.segments[1], request.json())), 202)

    def _list_jobs(self, request: Request) -> Outcome:
        return page_of(request, self._vault.jobs(), "restore_job_id")

    def _describe_job(self, request: Request) -> Outcome:
        return Outcome(encode(self._vault.job(request.segments[1])))

    # -- conversions --------------------------------------------------------------------------------------------

    def _convert(self, request: Request) -> Outcome:
        return Outcome(encode(self._conversions.start(self._project.find(request.segments[1]), request.json())), 202)

    def _list_conversions(self, request: Request) -> Outcome:
        return page_of(request, self._conversions.all(), "conversion_job_id")

    def _describe_conversion(self, request: Request) -> Outcome:
        return Outcome(encode(self._conversions.find(request.segments[1])))

    def _cancel_conversion(self, request: Request) -> Outcome:
        self._conversions.cancel(request.segments[1])
        return Outcome(b"{}", 202)

    def _not_here(self, request: Request) -> Outcome:
        raise Refusal(
            501, f"The emulator does not serve /{'/'.join(request.segments)[:200]}; its docs page lists what it does"
        )

    def _collections(self, request: Request) -> Outcome:
        if request.method == "GET" and len(request.segments) == 1:
            return Outcome(encode({"collections": []}))
        raise invalid("Collections are for pod-based indexes only; back up a serverless index instead")
