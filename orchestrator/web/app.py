"""The application that `vecfleet serve` runs: a page for operators, APIs for programs and tenants, and the metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from orchestrator import queue
from orchestrator.bootstrap import Fleet
from orchestrator.pace_view import PaceReader
from orchestrator.services.erase import JobTableBooks
from orchestrator.telemetry.counters import Counters
from orchestrator.web import api, operator, pages
from orchestrator.web.applications import JobTableRoutes, routers
from orchestrator.web.doors import PageRoute, nothing_here
from orchestrator.web.feed import Feed
from orchestrator.web.looking import Looker
from orchestrator.web.metrics import FleetCollector
from orchestrator.web.operator import Operators
from orchestrator.web.otlp import Export
from orchestrator.web.reference import endpoints
from orchestrator.web.sampling import Sampler
from orchestrator.web.sessions import OperatorTokens, Sessions
from orchestrator.web.throttle import Failures
from vecfleet import __version__
from vecfleet.tenancy import PineconeDelphiClient, TenantAuditLogger, tokens
from vecfleet.tenancy.api import RateLimit, delphi_router
from vecfleet.tenancy.api.problems import ProblemRoute
from vecfleet.tenancy.api.routes import THREADS, in_threads
from vecfleet.tenancy.monitor import PineconeMonitor
from vecfleet.tenancy.notifier import Webhook
from vecfleet.tenancy.providers import CachedRoutes
from vecfleet.tenancy.rollout import Rollout

_SESSIONS = "web"
AUDIT = "logs/tenants.jsonl"
_SCRAPES = 2  # at once; others wait, and hold up no page


def create(parts: Fleet, *, behind_proxy: bool = False) -> FastAPI:
    """Build the application. It asks Pinecone nothing before the first request.

    `behind_proxy`: a proxy in front of it speaks TLS.
    """
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
    runs = [sampler.run]
    if settings.otel_exporter_otlp_endpoint is not None:
        runs.append(Export(registry, settings).run)
    app = FastAPI(title="vecfleet", version=__version__, docs_url=None, redoc_url=None, lifespan=_running(*runs))
    # Applications whose token has ended must not lock an operator out.
    failures = Failures(registry)
    unknown = failures.apart()
    # Tenants and applications wait in threads of their own, which the page does not need.
    audit, threads = TenantAuditLogger(settings.vecfleet_home / AUDIT), anyio.CapacityLimiter(THREADS)
    delphi = delphi_router(
        client,
        tokens=known,
        rate=RateLimit(settings.api_requests_per_second, max(1, int(2 * settings.api_requests_per_second))),
        audit=audit,
        on_erasure=monitor.record_erasure,
        body_bytes=settings.api_body_bytes,
        threads=threads,
        failures=unknown,
    )
    for_applications = routers(parts, known, books, audit, threads, unknown)
    for_programs = api.routers(parts, known, audit, unknown, sampler)
    for router in (delphi, *for_applications, *for_programs, _for_monitoring(registry), _described(app)):
        app.router.routes += router.routes  # `include_router` would build each route a second time
    app.mount("/static", _Static(directory=pages.HERE / "static"))
    looker = Looker(parts.database, sampler, settings.freshness_wait_seconds)
    sessions = Sessions(known, settings.vecfleet_home / _SESSIONS, secure=behind_proxy)
    feed = Feed(lambda job_id: pages.draw(looker.look(job_id)))
    lists = Feed(lambda _: (looker.jobs(), looker.fillings()))
    page = Operators(parts, sessions, looker, feed, lists, failures, monitor.most_queried)
    app.router.routes += operator.router(page).routes
    app.add_exception_handler(404, _not_found)
    return app


class _Static(StaticFiles):
    """Our own style and script: requested again after an upgrade, and never read as another type."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response


def _running(*runs: Callable[[], Coroutine[Any, Any, None]]) -> Any:
    """Run these beside the application, from its start to its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(run()) for run in runs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    return lifespan


def _queued(parts: Fleet) -> Callable[[], int]:
    return lambda: queue.waiting(parts.celery) if parts.settings.redis_url is not None else 0


def _for_monitoring(registry: CollectorRegistry) -> APIRouter:
    """Serve the metrics, for anybody, in threads of their own."""
    router = APIRouter(include_in_schema=False, route_class=ProblemRoute)

    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    router.get("/metrics")(in_threads(metrics, anyio.CapacityLimiter(_SCRAPES)))
    return router


def _described(app: FastAPI) -> APIRouter:
    """Serve a page about the API, made from its own description: FastAPI's page loads its script from elsewhere."""
    router = APIRouter(include_in_schema=False, route_class=PageRoute)

    @router.get("/docs")
    def describe() -> Response:
        return pages.page("api.html", None, {"endpoints": endpoints(app.openapi())})

    return router


def _not_found(request: Request, error: Exception) -> Response:
    return nothing_here(request)
