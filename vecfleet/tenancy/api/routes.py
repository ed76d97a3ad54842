"""Routes that know who asks before they read the request's body, and that work in threads of their own."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import anyio
from anyio import to_thread
from fastapi import Request, Response

from vecfleet.tenancy.api.bodies import BODY_BYTES, Admit, bounded, check_shape
from vecfleet.tenancy.api.problems import Handler, ProblemRoute, problems

THREADS = 64  # for all tenants together
EACH = 8  # for one tenant: eight tenants that wait for a slow index do not hold up a ninth


Line = Callable[[Request], AbstractAsyncContextManager[None]]
"""Waits, by the headers alone, until it is this request's turn. Raises Refusal where its sender asks too often."""


def guarded(
    admit: Admit | None,
    threads: anyio.CapacityLimiter,
    body_bytes: int = BODY_BYTES,
    *,
    line: Line | None = None,
    shaped: bool = True,
    operators: bool = False,
) -> type[ProblemRoute]:
    """Make a kind of route: `admit` sees the headers, then the body is read up to the limit, then the endpoint runs.

    With a `line`, body and endpoint come when it is the request's turn. Not `shaped`: a decoder that knows the type of
    its JSON limits how deep it nests, and how many values it holds. For `operators`, refusals say what is wrong with
    the vector database.
    """

    class Guarded(ProblemRoute):
        for_operators = operators

        def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
            super().__init__(path, in_threads(endpoint, threads), **more)

        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                if admit is not None:
                    admit(request)
                async with line(request) if line is not None else nullcontext():
                    whole = await bounded(request, body_bytes)
                    if shaped:
                        check_shape(await whole.body())
                    return await handle(Request(whole.scope, whole.receive))

            return problems(handled, for_operators=operators)

    return Guarded


def in_threads(work: Callable[..., Any], threads: anyio.CapacityLimiter) -> Callable[..., Any]:
    """Return the work, run in these threads and no others; a coroutine needs none."""
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
    """Lets a few requests of a tenant work at a time; its others wait their turn, and nobody else's."""

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
