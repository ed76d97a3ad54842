"""The common part of the REST services: the route of a path, and pages of lists."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from emulator.calls import Call
from emulator.errors import Refusal, invalid
from emulator.gate import Job, Outcome, Weather
from emulator.http import Request
from emulator.index import LIST_LIMIT, Index
from emulator.tokens import make_token, read_token
from emulator.wire_json import encode

Prepare: TypeAlias = Callable[[Index, Request, Call], Job]
Route: TypeAlias = tuple[str, tuple[str, ...], str, Prepare]  # method, path ("{}": any segment), operation, reader


def find_route(routes: Iterable[Route], request: Request) -> tuple[str, Prepare]:
    """Return the operation and its reader; 404 for unknown paths, 405 for known paths with another method."""
    path, path_exists = request.segments, False
    for method, pattern, operation, prepare in routes:
        if len(path) == len(pattern) and all(p in ("{}", s) for p, s in zip(pattern, path, strict=True)):
            if method == request.method:
                return operation, prepare
            path_exists = True
    if path_exists:
        raise Refusal(405, f"Method {request.method} is not allowed here")
    raise unknown_path(request)


def unknown_path(request: Request) -> Refusal:
    return Refusal(404, f"Path /{'/'.join(request.segments)[:200]} not found")


def with_next(body: dict[str, object], token: str | None, weather: Weather) -> Outcome:
    """Return a page as an answer, with the token of the next one."""
    if token and not weather.lose_token:
        body["pagination"] = {"next": token}
    return Outcome(encode(body))


def page_of(request: Request, items: list[dict[str, object]], key: str) -> Outcome:
    """Return the page behind the item that the token names."""
    limit, after = request.number("limit", LIST_LIMIT), read_token(request.argument("paginationToken"), key)
    if not 1 <= limit <= LIST_LIMIT:
        raise invalid(f"limit must be between 1 and {LIST_LIMIT}, got {limit}")
    names = [str(item[key]) for item in items]
    start = names.index(after) + 1 if after in names else 0
    page = items[start : start + limit]
    answer: dict[str, object] = {"data": page}
    if start + limit < len(items):
        answer["pagination"] = {"next": make_token(key, names[start + limit - 1])}
    return Outcome(encode(answer))
