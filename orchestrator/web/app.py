"""The application that `vecfleet serve` runs: `/` for operators, `/delphi` for tenants, `/metrics` for monitoring."""

import hashlib
import threading
import time
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from orchestrator import rolling_out
from orchestrator.bootstrap import Fleet
from orchestrator.erasing import JobTableBooks
from orchestrator.ledger import jobs, route_table
from orchestrator.ledger.database import Database
from orchestrator.web import page
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.names import Tenant
from vecfleet.tenancy import PineconeDelphiClient, TenantAuditLogger
from vecfleet.tenancy.api import RateLimit, TokenFile, bearer, delphi_router
from vecfleet.tenancy.api.problems import Problem, ProblemRoute, Refusal, documented, problem
from vecfleet.tenancy.api.users import User
from vecfleet.tenancy.evidence import read_evidence
from vecfleet.tenancy.fences import BEGINNING, ENDING
from vecfleet.tenancy.monitor import PineconeMonitor
from vecfleet.tenancy.notifier import Webhook
from vecfleet.tenancy.providers import CachedRoutes
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.routes import write_table

T = TypeVar("T")

TOKENS = "tokens.json"
AUDIT = "logs/tenants.jsonl"
SERVICE = "service"  # the role of an application that reads routes and reports evidence
_ROUTES_EVERY_S = 0.5  # however many applications ask, the job table is read twice a second


class JobTableRoutes:
    """The job table as a provider of routes. Shared by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._body, self._tag, self._read_at = b"", "", float("-inf")
        self._given = ""

    def tagged(self) -> tuple[bytes, str]:
        """The table and what it is known by, no older than half a second."""
        with self._lock:
            if time.monotonic() - self._read_at > _ROUTES_EVERY_S:
                with self._database.begin() as connection:
                    self._body = write_table(route_table.read(connection))
                self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'
                self._read_at = time.monotonic()
            return self._body, self._tag

    def read(self) -> bytes | None:
        """As `vecfleet.tenancy.providers.RouteProvider` has it."""
        body, tag = self.tagged()
        if tag == self._given:
            return None
        self._given = tag
        return body


def create(parts: Fleet) -> FastAPI:
    """The application. Nothing is asked of Pinecone before the first request."""
    settings = parts.settings
    registry = CollectorRegistry()
    webhook = Webhook(settings.webhook_url.get_secret_value()) if settings.webhook_url is not None else None
    monitor = PineconeMonitor(webhook, registry=registry)
    tokens = TokenFile(settings.vecfleet_home / TOKENS)
    rollout = Rollout(
        CachedRoutes(JobTableRoutes(parts.database), settings.routes_cache_seconds),
        flag=settings.use_delphi_namespaces,
    )
    books = JobTableBooks(parts.database, settings)
    client = PineconeDelphiClient(settings=settings, rollout=rollout, observe=monitor.record_query, books=books)
    app = FastAPI(title="vecfleet", docs_url="/docs", redoc_url=None)
    app.include_router(
        delphi_router(
            client,
            tokens=tokens,
            rate=RateLimit(settings.api_requests_per_second, max(1, int(2 * settings.api_requests_per_second))),
            audit=TenantAuditLogger(settings.vecfleet_home / AUDIT),
            on_erasure=monitor.record_erasure,
        )
    )
    app.include_router(_for_applications(parts, tokens, books))
    app.include_router(_for_operators(parts, registry))
    app.add_exception_handler(404, _not_found)
    return app


def _for_applications(parts: Fleet, tokens: TokenFile, books: JobTableBooks) -> APIRouter:
    """What the clients of an application ask, with a token of the role `service`."""
    routes = JobTableRoutes(parts.database)
    identify = bearer(tokens)

    def service(user: Annotated[User, Depends(identify)]) -> User:
        if user.get("role") not in (SERVICE, "admin"):
            raise Refusal(403, "routes are for applications", next_step="use a token of the role `service`")
        return user

    router = APIRouter(
        prefix="/delphi",
        tags=["applications"],
        route_class=ProblemRoute,
        dependencies=[Depends(service)],
        responses=documented(401, 403, 503),
    )

    @router.get("/routes", response_class=JSONResponse)
    def read_routes(request: Request) -> Response:
        """Every tenant's route, for `VECFLEET_ROUTES`."""
        body, tag = routes.tagged()
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(body, media_type="application/json", headers={"ETag": tag})

    @router.post("/evidence/{job_id}", status_code=204, responses=documented(404, 422))
    async def note_evidence(job_id: int, request: Request) -> None:
        """What an application's shadow reads told of a job's new side: `ShadowLog.take`, as JSON."""
        try:
            evidence = read_evidence(await request.body())
        except ValueError as error:
            raise BadInput(f"this is no evidence: {error}", next_step="send what `EvidenceSender` sends") from error
        await run_in_threadpool(rolling_out.hear, parts, job_id, evidence)

    @router.post("/erasures", response_class=Response, responses=documented(422))
    async def begin_erasure(request: Request) -> Response:
        """Raise the fence against a tenant: `VECFLEET_FENCE`."""
        asked = _read(BEGINNING, await request.body())
        names.build(asked.creator, asked.twin)
        begun = await run_in_threadpool(books.begin, Tenant(asked.creator, asked.twin), asked.who)
        return Response(msgspec.json.encode(begun), media_type="application/json")

    @router.get("/erasures", responses=documented(422))
    def fenced(subject: Annotated[list[str], Query(min_length=1, max_length=2)]) -> dict[str, bool]:
        """Whether a tenant was erased and did not come back, by its digests: whoever copies its records asks this."""
        return {"fenced": books.any_fenced(subject)}

    @router.get("/erasures/{number}", responses=documented(404))
    def erasure(number: int) -> dict[str, float]:
        """For how long a write from before the fence may still land."""
        return {"wait_s": books.wait_s(number)}

    @router.post("/erasures/{number}", response_class=JSONResponse, responses=documented(404, 422))
    async def finish_erasure(number: int, request: Request) -> JSONResponse:
        """Nothing of the tenant is left in any index: forget it here, and certify it."""
        asked = _read(ENDING, await request.body())
        tenant = Tenant(asked.creator, asked.twin)
        return JSONResponse(await run_in_threadpool(books.finish, number, tenant, asked.found, asked.certificate))

    return router


def _read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise BadInput(f"this is no erasure: {error}", next_step="send what `HttpBooks` sends") from error


def _for_operators(parts: Fleet, registry: CollectorRegistry) -> APIRouter:
    router = APIRouter(include_in_schema=False, route_class=ProblemRoute)

    @router.get("/")
    def home(request: Request) -> Response:
        with parts.database.begin() as connection:
            found = [page.row(job) for job in jobs.every(connection)]
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page.html(found))
        return JSONResponse({"jobs": found})

    @router.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _not_found(request: Request, error: Exception) -> Response:
    detail = "there is nothing at this address"
    return problem(Problem(title="Not found", status=404, detail=detail, next_step="look at /docs"))
