"""The control plane over REST: indexes, backups, restore jobs; collections exist for pods only and are refused."""

import time
from collections.abc import Callable, Mapping

from emulator.backups import Document, Vault
from emulator.calls import Call
from emulator.errors import Refusal, invalid
from emulator.gate import Gate, Job, Outcome
from emulator.http import Request, Response, json_response
from emulator.index import Index
from emulator.project import Project
from emulator.routing import page_of, unknown_path
from emulator.shapes import model_index, plain_index, read_protection, read_tags
from emulator.wire_json import encode

Run = Callable[[Request], Outcome]


class ControlPlane:
    def __init__(
        self,
        project: Project,
        vault: Vault,
        gate: Gate,
        host_of: Callable[[Index], str],
        check_key: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._project, self._vault, self._gate = project, vault, gate
        self._host_of, self._check_key = host_of, check_key

    async def handle(self, request: Request) -> Response:
        try:
            operation, run = self._route(request)
            call = Call(operation, bytes_in=len(request.body) + request.url_length)
            outcome = await self._gate.serve(call, lambda call: self._prepare(request, call, run))
        except Refusal as refusal:
            headers = {} if refusal.retry_after is None else {"retry-after": f"{refusal.retry_after:g}"}
            if refusal.plain:
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
                return "convert_index", self._not_here
            case _, ["embed" | "rerank"] | ["models", *_]:
                return "inference", self._not_here
        raise unknown_path(request)

    # -- indexes ------------------------------------------------------------------------------------------------

    def _description(self, index: Index) -> Document:
        ready = index.ready_at <= time.time()
        status = {"ready": ready, "state": "Ready" if ready else "Initializing"}
        return index.description | {"id": index.id, "host": self._host_of(index), "status": status}

    def _create(self, request: Request) -> Outcome:
        return Outcome(encode(self._description(self._project.create(plain_index(request.json())))), 201)

    def _create_for_model(self, request: Request) -> Outcome:
        return Outcome(encode(self._description(self._project.create(model_index(request.json())))), 201)

    def _list(self, request: Request) -> Outcome:
        indexes = sorted(self._project.indexes.values(), key=lambda index: index.name)
        return Outcome(encode({"indexes": [self._description(index) for index in indexes]}))

    def _describe(self, request: Request) -> Outcome:
        return Outcome(encode(self._description(self._project.find(request.segments[1]))))

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
        self._project.save(index)
        return Outcome(encode(self._description(index)))

    def _delete(self, request: Request) -> Outcome:
        self._project.delete(request.segments[1])
        return Outcome(b"", 202)

    # -- backups ------------------------------------------------------------------------------------------------

    def _create_backup(self, request: Request) -> Outcome:
        return Outcome(encode(self._vault.create(self._project.find(request.segments[1]), request.json())), 201)

    def _list_backups(self, request: Request) -> Outcome:
        index = request.segments[1] if request.segments[0] == "indexes" else None
        return page_of(request, self._vault.backups(index), "backup_id")

    def _describe_backup(self, request: Request) -> Outcome:
        return Outcome(encode(self._vault.answer(self._vault.find(request.segments[1]))))

    def _delete_backup(self, request: Request) -> Outcome:
        self._vault.delete(request.segments[1])
        return Outcome(b"", 202)

    def _restore(self, request: Request) -> Outcome:
        return Outcome(encode(self._vault.restore(request.segments[1], request.json())), 202)

    def _list_jobs(self, request: Request) -> Outcome:
        return page_of(request, self._vault.jobs(), "restore_job_id")

    def _describe_job(self, request: Request) -> Outcome:
        return Outcome(encode(self._vault.job(request.segments[1])))

    def _not_here(self, request: Request) -> Outcome:
        raise Refusal(
            501, f"The emulator does not serve /{'/'.join(request.segments)[:200]}; its docs page lists what it does"
        )

    def _collections(self, request: Request) -> Outcome:
        if request.method == "GET" and len(request.segments) == 1:
            return Outcome(encode({"collections": []}))
        raise invalid("Collections are for pod-based indexes only; back up a serverless index instead")
