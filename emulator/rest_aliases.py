"""Namespace aliases over REST, the only transport the service offers for them."""

from collections.abc import Callable

from emulator.calls import Call
from emulator.gate import Job, Outcome, Weather
from emulator.http import Request
from emulator.index import LIST_LIMIT, Index
from emulator.wire_json import encode


def create_alias(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    name, target = body.get("name"), body.get("target_namespace")
    return _change(index, call, target, 201, lambda: index.aliases.create(name, target))


def list_aliases(index: Index, request: Request, call: Call) -> Job:
    prefix, target = request.argument("prefix") or "", request.argument("target_namespace")
    token, limit = request.argument("paginationToken"), request.number("limit", LIST_LIMIT)

    def run(weather: Weather) -> Outcome:
        page, following, total = index.aliases.list(prefix, target, token, limit)
        answer: dict[str, object] = {"namespace_aliases": page, "total_count": total}
        if following and not weather.lose_token:
            answer["pagination"] = {"next": following}
        return Outcome(encode(answer))

    return Job(run, has_token=bool(token))


def describe_alias(index: Index, request: Request, call: Call) -> Job:
    return Job(lambda _: Outcome(encode(index.aliases.find(request.segments[1]))))


def update_alias(index: Index, request: Request, call: Call) -> Job:
    target = request.json().get("target_namespace")
    return _change(index, call, target, 200, lambda: index.aliases.repoint(request.segments[1], target))


def delete_alias(index: Index, request: Request, call: Call) -> Job:
    return _change(index, call, None, 200, lambda: index.aliases.delete(request.segments[1]))


def _change(index: Index, call: Call, target: object, status: int, change: Callable[[], dict[str, str] | None]) -> Job:
    call.namespace = target if isinstance(target, str) else None

    def run(_: Weather) -> Outcome:
        answer = change()
        index.save_aliases()
        return Outcome(encode(answer or {}), status)

    return Job(run)
