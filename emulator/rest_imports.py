"""Bulk imports over REST, the only transport the service offers for them."""

from emulator.calls import Call
from emulator.gate import Job, Outcome
from emulator.http import Request
from emulator.imports import Imports
from emulator.index import Index
from emulator.routing import Route, page_of
from emulator.wire_json import encode


def import_routes(imports: Imports) -> tuple[Route, ...]:
    def start(index: Index, request: Request, call: Call) -> Job:
        body = request.json()
        return Job(lambda _: Outcome(encode({"id": imports.start(body)})))

    def list_all(index: Index, request: Request, call: Call) -> Job:
        return Job(lambda _: page_of(request, imports.all(), "id"), has_token=bool(request.argument("paginationToken")))

    def describe(index: Index, request: Request, call: Call) -> Job:
        return Job(lambda _: Outcome(encode(imports.find(request.segments[2]))))

    def cancel(index: Index, request: Request, call: Call) -> Job:
        def run() -> Outcome:
            imports.cancel(request.segments[2])
            return Outcome()

        return Job(lambda _: run())

    return (
        ("POST", ("bulk", "imports"), "start_import", start),
        ("GET", ("bulk", "imports"), "list_imports", list_all),
        ("GET", ("bulk", "imports", "{}"), "describe_import", describe),
        ("DELETE", ("bulk", "imports", "{}"), "cancel_import", cancel),
    )
