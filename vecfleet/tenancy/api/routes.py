"""Routes that know who asks before they read what is asked, and that work in threads of their own."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from anyio import to_thread
from fastapi import Request, Response

from vecfleet.tenancy.api.bodies import BODY_BYTES, Admit, bounded, check_shape
from vecfleet.tenancy.api.problems import Handler, ProblemRoute, problems

THREADS = 64  # of all tenants together
EACH = 8  # of one tenant: eight tenants that wait for a slow index leave no ninth waiting for them


def guarded(
    admit: Admit | None, threads: anyio.CapacityLimiter, body_bytes: int = BODY_BYTES, *, shaped: bool = True
) -> type[ProblemRoute]:
    """A kind of route: `admit` looks at the headers, then the body is read up to the limit, then the endpoint runs.

    Not `shaped`: how deep its JSON nests, and how many values it holds, is told by a decoder that knows its type.
    """

    class Guarded(ProblemRoute):
        def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
            super().__init__(path, in_threads(endpoint, threads), **more)

        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                if admit is not None:
                    admit(request)
                whole = await bounded(request, body_bytes)
                if shaped:
                    check_shape(await whole.body())
                return await handle(Request(whole.scope, whole.receive))

            return problems(handled)

    return Guarded


def in_threads(work: Callable[..., Any], threads: anyio.CapacityLimiter) -> Callable[..., Any]:
    """The same, run in these threads and no others; what waits by itself needs none."""
    if inspect.iscoroutinefunction(work):
        return work

    @functools.wraps(work)
    async def run(*args: Any, **named: Any) -> Any:
        return await to_thread.run_sync(functools.partial(work, *args, **named), limiter=threads)

    return run


@dataclass(slots=True)
class _Line:
    """The requests of one tenant: how many are there, and how many of them may be at work."""

    turns: anyio.Semaphore
    there: int = 0


class Turns:
    """A few requests of a tenant are at work at a time; its others wait their turn, and nobody else's."""

    def __init__(self, each: int = EACH) -> None:
        self._each = each
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        line = self._lines.setdefault(tenant, _Line(anyio.Semaphore(self._each)))
        line.there += 1
        try:
            async with line.turns:
                yield
        finally:
            line.there -= 1
            if not line.there:
                self._lines.pop(tenant, None)
