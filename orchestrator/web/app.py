"""The application that `vecfleet serve` runs: `/` for operators, `/delphi` for tenants, `/metrics` for monitoring."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from orchestrator import queue, rolling_out
from orchestrator.bootstrap import Fleet
from orchestrator.counters import Counters
from orchestrator.erasing import JobTableBooks
from orchestrator.ledger import route_table
from orchestrator.ledger.database import Database
from orchestrator.pacing import PaceReader
from orchestrator.web import operator, pages
from orchestrator.web.feed import Feed
from orchestrator.web.looking import Looker
from orchestrator.web.metrics import FleetCollector
from orchestrator.web.operator import Operators
from orchestrator.web.reference import endpoints
from orchestrator.web.sampling import Sampler
from orchestrator.web.sessions import OperatorTokens, Sessions
from vecfleet import names
from vecfleet.clocks import awake_or_not
from vecfleet.errors import BadInput
from vecfleet.names import Tenant
from vecfleet.tenancy import PineconeDelphiClient, TenantAuditLogger, tokens
from vecfleet.tenancy.api import RateLimit, bearer, delphi_router
from vecfleet.tenancy.api.problems import Problem, ProblemRoute, Refusal, documented, problem
from vecfleet.tenancy.evidence import read_evidence
from vecfleet.tenancy.fences import BEGINNING, ENDING
from vecfleet.tenancy.monitor import PineconeMonitor
from vecfleet.tenancy.notifier import Webhook
from vecfleet.tenancy.providers import AGE, CachedRoutes
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.routes import write_table
from vecfleet.tenancy.tokens import TokenFile, User

T = TypeVar("T")

_SESSIONS = "web"
AUDIT = "logs/tenants.jsonl"
SERVICE = "service"  # the role of an application that reads routes and reports evidence
_ROUTES_EVERY_S = 0.5  # however many applications ask, the job table is read twice a second


class JobTableRoutes:
    """The job table as a provider of routes. Shared by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._body, self._tag = b"", ""
        self._asked_at = self._read_at = float("-inf")
        self._given = ""
        self.age_s = 0.0

    def tagged(self) -> tuple[bytes, str, float]:
        """The table, what it is known by, and its age in seconds: half a one at most, and the time of its reading."""
        with self._lock:
            if awake_or_not() - self._read_at > _ROUTES_EVERY_S:
                asked_at = awake_or_not()
                with self._database.begin() as connection:
                    self._body = write_table(route_table.read(connection))
                self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'
                self._asked_at, self._read_at = asked_at, awake_or_not()
            return self._body, self._tag, awake_or_not() - self._asked_at

    def read(self) -> bytes | None:
        """As `vecfleet.tenancy.providers.RouteProvider` has it."""
        body, tag, self.age_s = self.tagged()
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
    known = OperatorTokens(settings.vecfleet_home / tokens.FILE, settings.operator_token)
    rollout = Rollout(
        CachedRoutes(JobTableRoutes(parts.database), settings.routes_cache_seconds, settings.routes_stale_seconds),
        flag=settings.use_delphi_namespaces,
    )
    books = JobTableBooks(parts.database, settings)
    client = PineconeDelphiClient(settings=settings, rollout=rollout, observe=monitor.record_query, books=books)
    reader = PaceReader(settings.redis_url.get_secret_value()) if settings.redis_url is not None else None
    sampler = Sampler(parts.database, reader)
    counted = Counters(settings.redis_url.get_secret_value()) if settings.redis_url is not None else None
    registry.register(FleetCollector(parts.database, sampler, _queued(parts), counted))
    app = FastAPI(title="vecfleet", docs_url=None, redoc_url=None, lifespan=_sampling(sampler))
    app.include_router(
        delphi_router(
            client,
            tokens=known,
            rate=RateLimit(settings.api_requests_per_second, max(1, int(2 * settings.api_requests_per_second))),
            audit=TenantAuditLogger(settings.vecfleet_home / AUDIT),
            on_erasure=monitor.record_erasure,
        )
    )
    app.include_router(_for_applications(parts, known, books))
    app.include_router(_for_monitoring(registry))
    app.include_router(_described(app))
    app.mount("/static", _Static(directory=pages.HERE / "static"))
    looker = Looker(parts.database, sampler, settings.freshness_wait_seconds)
    sessions = Sessions(known, settings.vecfleet_home / _SESSIONS)
    feed = Feed(lambda job_id: pages.draw(looker.look(job_id)))
    lists = Feed(lambda _: pages.text("part_jobs.html", jobs=looker.jobs()))
    app.include_router(operator.router(Operators(parts, sessions, looker, feed, lists)))
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
        body, tag, age_s = routes.tagged()
        headers = {"ETag": tag, AGE: f"{age_s:.3f}", "Cache-Control": "no-store"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

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


class _Static(StaticFiles):
    """Our own style and script: asked for anew after an upgrade, and taken for nothing else."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response


def _sampling(sampler: Sampler) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(sampler.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return lifespan


def _queued(parts: Fleet) -> Callable[[], int]:
    return lambda: queue.waiting(parts.celery) if parts.settings.redis_url is not None else 0


def _for_monitoring(registry: CollectorRegistry) -> APIRouter:
    router = APIRouter(include_in_schema=False, route_class=ProblemRoute)

    @router.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _described(app: FastAPI) -> APIRouter:
    """The API to read, from its own description: FastAPI's page would load its script from elsewhere."""
    router = APIRouter(include_in_schema=False, route_class=operator.PageRoute)

    @router.get("/docs")
    def describe() -> Response:
        return pages.page("api.html", None, {"endpoints": endpoints(app.openapi())})

    return router


def _not_found(request: Request, error: Exception) -> Response:
    detail = "there is nothing at this address"
    return problem(Problem(title="Not found", status=404, detail=detail, next_step="look at /docs"))
