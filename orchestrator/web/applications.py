"""Calls of an application's clients: routes, evidence of shadow reads, and the fence. Each has a role.

A token of the role `service` reads routes and nothing else. A client that reports evidence may move readers, and one
that fences makes the fleet forget a tenant. So each of these is a role of its own, which reads routes besides.
"""

import functools
import hashlib
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from msgspec.structs import replace

from orchestrator.bootstrap import Fleet
from orchestrator.core.two_persons import UNNAMED
from orchestrator.ledger import clients, route_table
from orchestrator.ledger.database import Database
from orchestrator.services import cut_over
from orchestrator.services.erase import JobTableBooks
from vecfleet import clock, names
from vecfleet.errors import BadInput
from vecfleet.names import Tenant
from vecfleet.tenancy import TenantAuditLogger
from vecfleet.tenancy.api import RateLimit, bearer
from vecfleet.tenancy.api.problems import documented
from vecfleet.tenancy.api.routes import Line, Turns, guarded, in_threads
from vecfleet.tenancy.api.users import Failures, admitting, user_of
from vecfleet.tenancy.fences import BEGINNING, ENDING, Ending
from vecfleet.tenancy.providers import AGE, CLIENT
from vecfleet.tenancy.routes import bare, write_table
from vecfleet.tenancy.shadow_reads import read_evidence
from vecfleet.tenancy.tokens import TokenFile, User

T = TypeVar("T")

SERVICE, EVIDENCE, FENCING = "service", "evidence", "fencing"
_LARGEST_ENDING = 64_000_000  # the ids of a tenant among others' records; by then the client has shown its token
_LARGEST = 2**63 - 1  # the job table counts in 8 bytes
# Requests of one token: a thousand processes of an application share it, and each reads its routes every five seconds.
_PER_SECOND, _AT_ONCE = 200.0, 400
_EACH = 8  # of them at work; others of that token wait, and nobody else's
_ROUTES_EVERY_S = 0.5  # the job table is read at most twice a second, however many applications ask

_LONGEST_NAME = 100

Number = Annotated[int, Path(ge=1, le=_LARGEST)]


class JobTableRoutes:
    """A provider of routes that reads the job table. Shared by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._bodies: dict[bool, bytes] = {}
        self._asked_at = self._read_at = float("-inf")
        self._given = ""
        self.age_s = 0.0

    def tagged(self, *, freezes: bool = True, anew: bool = False) -> tuple[bytes, str, float]:
        """Return the table, its tag, and its age in seconds: at most 0.5 and the time of its reading.

        `freezes` False leaves out what is frozen and the models and names of places: clients from before that refuse a
        table with it. `anew` reads it now.
        """
        with self._lock:
            if anew or clock.now() - self._read_at > _ROUTES_EVERY_S:
                asked_at = clock.now()
                with self._database.begin() as connection:
                    table = route_table.read(connection)
                self._bodies = {True: write_table(table), False: write_table(bare(replace(table, frozen=())))}
                self._asked_at, self._read_at = asked_at, clock.now()
            body = self._bodies[freezes]
            return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', clock.now() - self._asked_at

    def read(self) -> bytes | None:
        """Return the table, or None if it has not changed: see `vecfleet.tenancy.providers.RouteProvider`."""
        body, tag, self.age_s = self.tagged()
        if tag == self._given:
            return None
        self._given = tag
        return body


class Clients:
    """Notes which clients ask for the routes: each at its first question, and again from time to time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._noted: dict[tuple[str, str], float] = {}

    def note(self, name: str, token: str, *, freezes: bool) -> bool:
        """Note a client unless it was a moment ago; say whether it was now. It must not be answered before that.

        Dies in between: the client gets no answer, and asks again.
        """
        with self._lock:
            now = clock.now()
            self._noted = {key: at for key, at in self._noted.items() if now - at < clients.NOTED_EVERY_S}
            if (name, token) in self._noted:
                return False
        with self._database.begin() as connection:
            clients.note(connection, name, token, freezes=freezes)
        with self._lock:
            self._noted[name, token] = now
        return True


def routers(
    parts: Fleet,
    tokens: TokenFile,
    books: JobTableBooks,
    audit: TenantAuditLogger,
    threads: anyio.CapacityLimiter,
    failures: Failures,
) -> Sequence[APIRouter]:
    """Build a router for each role, each with a line of its own: long erasures hold up nobody's routes."""
    limit = RateLimit(_PER_SECOND, _AT_ONCE)

    def router(
        role: str, *more: str, body_bytes: int = parts.settings.api_body_bytes, shaped: bool = True
    ) -> APIRouter:
        admit = admitting(tokens, audit, role, *more, failures=failures)
        line = line_of(tokens, limit, Turns(_EACH))
        return APIRouter(
            prefix="/delphi",
            tags=["applications"],
            route_class=guarded(admit, threads, body_bytes, line=line, shaped=shaped),
            dependencies=[Depends(bearer(tokens))],
            responses=documented(401, 403, 413, 429, 503),
        )

    reading, reporting = router(SERVICE, EVIDENCE, FENCING), router(EVIDENCE)
    fencing, ending = router(FENCING), router(FENCING, body_bytes=_LARGEST_ENDING, shaped=False)
    _reading(reading, JobTableRoutes(parts.database), Clients(parts.database), tokens)
    _reporting(reporting, parts, threads)
    _fencing(fencing, books, tokens, threads)
    _ending(ending, parts, books, tokens, threads)
    return reading, reporting, fencing, ending


def line_of(tokens: TokenFile, limit: RateLimit, turns: Turns) -> Line:
    """Let each token ask so often, and have a few of its requests at work, from the first byte of their bodies on."""

    @asynccontextmanager
    async def line(request: Request) -> AsyncIterator[None]:
        token = user_of(request, tokens)["token"]
        limit.require(token)
        async with turns.of(token):
            yield

    return line


def _reading(router: APIRouter, routes: JobTableRoutes, seen: Clients, tokens: TokenFile) -> None:
    @router.get("/routes", response_class=JSONResponse)
    def read_routes(request: Request) -> Response:
        """Return every tenant's route and every frozen namespace, for `VECFLEET_ROUTES`.

        The table was read after the client was noted, so a job that starts without waiting for it is in there, and at
        most `NOTED_EVERY_S` after.
        """
        name, token = _printable(request.headers.get(CLIENT, "")), called(user_of(request, tokens))
        body, tag, age_s = routes.tagged(freezes=bool(name))
        while seen.note(name, token, freezes=bool(name)):
            body, tag, age_s = routes.tagged(freezes=bool(name), anew=True)
        headers = {"ETag": tag, AGE: f"{age_s:.3f}", "Cache-Control": "no-store"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)


def _reporting(router: APIRouter, parts: Fleet, threads: anyio.CapacityLimiter) -> None:
    record_evidence = in_threads(cut_over.record_evidence, threads)

    @router.post("/evidence/{job_id}", status_code=204, responses=documented(404, 422))
    async def note_evidence(job_id: Number, request: Request) -> None:
        """Record an application's shadow reads of a job's new side: `ShadowLog.take`, as JSON."""
        try:
            evidence = read_evidence(await request.body())
        except ValueError as error:
            raise BadInput(f"this is not evidence: {error}", next_step="send what `EvidenceSender` sends") from error
        await record_evidence(parts, job_id, evidence)


def _fencing(router: APIRouter, books: JobTableBooks, tokens: TokenFile, threads: anyio.CapacityLimiter) -> None:
    begin = in_threads(books.begin, threads)

    @router.post("/erasures", response_class=Response, responses=documented(409, 422))
    async def begin_erasure(request: Request) -> Response:
        """Raise the fence against a tenant: `VECFLEET_FENCE`."""
        body = _read(BEGINNING, await request.body())
        if not body.who.isprintable():
            raise BadInput("`who` is not a name", next_step="send letters, digits, spaces and signs")
        names.build(body.creator, body.twin)
        who = f"{called(user_of(request, tokens))}, for {body.who}"
        begun = await begin(Tenant(body.creator, body.twin), who)
        return Response(msgspec.json.encode(begun), media_type="application/json")

    @router.get("/erasures", responses=documented(422))
    def fenced(subject: Annotated[list[str], Query(min_length=1, max_length=2)]) -> dict[str, bool]:
        """Say whether a tenant, named by its digests, was erased and did not come back. Copiers of records ask this."""
        return {"fenced": books.any_fenced([digest.replace("\0", "") for digest in subject])}

    @router.get("/erasures/{number}", responses=documented(404, 422))
    def erasure(number: Number) -> dict[str, float]:
        """Say for how many seconds a write from before the fence may still land."""
        return {"wait_s": books.wait_s(number)}


def _ending(
    router: APIRouter, parts: Fleet, books: JobTableBooks, tokens: TokenFile, threads: anyio.CapacityLimiter
) -> None:
    @router.post("/erasures/{number}", response_class=JSONResponse, responses=documented(404, 409, 422))
    async def finish_erasure(number: Number, request: Request) -> JSONResponse:
        """Forget a tenant and certify it, once no index holds a record of it; this server checks that too."""
        who = called(user_of(request, tokens))
        finish = functools.partial(_finish, parts, books, number, who)
        return JSONResponse(await in_threads(finish, threads)(await request.body()))


def _finish(parts: Fleet, books: JobTableBooks, number: int, who: str, body: bytes) -> dict[str, Any]:
    ending: Ending = _read(ENDING, body)
    names.build(ending.creator, ending.twin)
    return books.finish_told(parts.accounts, number, ending, who)


def called(user: User) -> str:
    """Name the client for the record: by its name, and by its token."""
    return f"{user.get('id', UNNAMED)} ({user.get('token', 'no token')})"


def _printable(name: str) -> str:
    return "".join(filter(str.isprintable, name))[:_LONGEST_NAME]


def _read(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(f"this is not an erasure: {error}", next_step="send what `HttpBooks` sends") from error
