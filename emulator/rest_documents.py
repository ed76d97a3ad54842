"""The documents API over REST, the only transport that the service offers for it: its routes, and all but search."""

import functools
from collections.abc import Callable, Mapping

from emulator.bodies import flag_in, integer_in, object_in, strings_in, token_in
from emulator.calls import Call
from emulator.documents import (
    Patch,
    check_count,
    fields_of,
    patched,
    read_document,
    read_patch,
    refuse_alias,
    shown,
)
from emulator.errors import invalid
from emulator.filters import Scope, compile_filter, matches_words
from emulator.gate import Job, Outcome, Weather
from emulator.http import Request
from emulator.index import LIST_LIMIT, Index
from emulator.records import Record, canonical_namespace, check_id, check_ids
from emulator.rest_document_search import search
from emulator.routing import Route, with_next
from emulator.wire_json import encode, fetch_units

FETCH_LIMIT = 10_000
FETCH_DEFAULT = 100


def _upsert(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    read = [read_document(index, body) for body in check_count(index, request.json().get("documents"))]
    records, tokens = [record for record, _ in read], sum(tokens for _, tokens in read)
    call.ids = [record.id for record in records]

    def run(weather: Weather) -> Outcome:
        refuse_alias(index, name, 409)
        kept = weather.share(records)
        answer: dict[str, object] = {"upserted_count": len(kept)}
        if tokens:
            answer["usage"] = {"embed_total_tokens": tokens}
        return Outcome(encode(answer), 202, written_lsn=index.upsert(name, kept))

    return Job(run, functools.partial(index.drop_namespace, name))


def _fetch(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    body = request.json()
    expression, token, show = _filter(index, body), token_in(body, "pagination_token"), _shown(index, body)
    limit = integer_in(body, "limit", FETCH_DEFAULT)
    vanish = functools.partial(index.drop_namespace, name)
    if not 1 <= limit <= FETCH_LIMIT:
        raise invalid(f"limit must be between 1 and {FETCH_LIMIT}, got {limit}")
    if (expression is None) == (body.get("ids") is None):
        raise invalid(
            "A document fetch needs 'ids' or 'filter', and not both. Provide at least one document ID in 'ids', or a "
            "metadata filter in 'filter'."
        )

    def answer(records: list[Record]) -> dict[str, object]:
        return {
            "documents": {record.id: show(record) for record in records},
            "namespace": index.aliases.resolve(name),
            "usage": {"read_units": fetch_units(records)},
        }

    if expression is None:
        if token is not None:
            raise invalid("pagination_token goes with filter only")
        call.ids = ids = check_ids(strings_in(body, "ids"), "fetch")
        return Job(lambda weather: Outcome(encode(answer(index.fetch(name, ids, weather.lag_s)))), vanish)
    call.operation = "fetch_by_metadata"
    finds = index.contested.filtered_fetch == "finds" or not fields_of(index).is_dense_only()

    def run(weather: Weather) -> Outcome:
        if not finds:
            return Outcome(encode(answer([])))
        records, following = index.fetch_by_metadata(name, expression, limit, token, weather.lag_s)
        call.ids = [record.id for record in records]
        return with_next(answer(records), following, weather)

    return Job(run, vanish, has_token=bool(token))


def _shown(index: Index, body: Mapping[str, object]) -> Callable[[Record], dict[str, object]]:
    fields = shown(index, strings_in(body, "include_fields"), empty_shows_all=True)
    return functools.partial(fields.document, index)


def _list(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    body = request.json()
    prefix, token = token_in(body, "prefix") or "", token_in(body, "pagination_token")
    if prefix:
        check_id(prefix, "prefix")
    limit = integer_in(body, "limit", LIST_LIMIT)

    def run(weather: Weather) -> Outcome:
        ids, following = index.list_ids(name, prefix, limit, token, weather.lag_s)
        call.ids = ids
        answer: dict[str, object] = {
            "documents": [{"_id": id} for id in ids],
            "namespace": index.aliases.resolve(name),
            "usage": {"read_units": 1},
        }
        return with_next(answer, following, weather)

    return Job(run, functools.partial(index.drop_namespace, name), has_token=bool(token))


def _delete(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    body = request.json()
    expression, everything, ids = _metadata_filter(index, body), flag_in(body, "delete_all"), body.get("ids")
    if sum((expression is not None, everything, ids is not None)) != 1:
        raise invalid("A document delete needs exactly one of 'ids', 'filter' and 'delete_all'")
    call.ids = strings_in(body, "ids")
    delete = index.deletion(name, call.ids, everything, expression)

    def run(_: Weather) -> Outcome:
        refuse_alias(index, name, 412)
        matching = len(index.candidates(name, expression, 0)) if expression else 0
        body = encode({"matched_records": matching} if expression else {})
        return Outcome(body, 202, written_lsn=delete())

    return Job(run, functools.partial(index.drop_namespace, name), by_metadata=expression is not None)


def _update(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    body = request.json()
    expression, sets = _metadata_filter(index, body), object_in(body, "set_fields") or {}
    removes, vanish = strings_in(body, "remove_fields"), functools.partial(index.drop_namespace, name)
    if (expression is None) == (body.get("documents") is None):
        raise invalid("A document update needs 'documents' or 'filter', and not both")
    if (expression is None) == bool(sets or removes):
        raise invalid("set_fields and remove_fields go with a filter, and a filter needs one of them")
    if expression is not None:
        patch = read_patch(index, "of the filter", sets, removes)

        def run_filter(_: Weather) -> Outcome:
            matching = {record.id: patch for record in index.candidates(name, expression, 0)}
            lsn = _apply(index, name, matching)
            return Outcome(encode({"matched_records": len(matching)}), 202, written_lsn=lsn)

        return Job(run_filter, vanish, by_metadata=True)
    patches = dict(_read_update(index, item) for item in check_count(index, body["documents"]))
    call.ids = list(patches)
    return Job(lambda _: Outcome(b"{}", 202, written_lsn=_apply(index, name, patches)), vanish)


def _read_update(index: Index, body: Mapping[str, object]) -> tuple[str, Patch]:
    id = check_id(body.get("_id"), "Document '_id'")
    sets = {key: value for key, value in body.items() if key not in ("_id", "_remove_fields")}
    return id, read_patch(index, id, sets, strings_in(body, "_remove_fields"))


def _apply(index: Index, name: str, patches: Mapping[str, Patch]) -> int | None:
    """Change the documents that exist; the others are no error. All are checked before the first is changed."""
    refuse_alias(index, name, 412)
    changed = [patched(index, record, patches[record.id]) for record in index.fetch(name, patches)]
    return index.upsert(name, changed) if changed else None


def _filter(index: Index, body: Mapping[str, object]) -> Mapping[str, object] | None:
    expression = object_in(body, "filter")
    if expression is None:
        return None
    if not expression:
        raise invalid("filter must not be empty; an empty filter does not match every document")
    compile_filter(expression, Scope(document=index.shape.document))
    return expression


def _metadata_filter(index: Index, body: Mapping[str, object]) -> Mapping[str, object] | None:
    expression = _filter(index, body)
    if matches_words(expression):
        raise invalid("Text-match operators are not supported here: documents are selected on metadata alone")
    return expression


DOCUMENT_ROUTES: tuple[Route, ...] = (
    ("POST", ("namespaces", "{}", "documents", "upsert"), "upsert", _upsert),
    ("POST", ("namespaces", "{}", "documents", "fetch"), "fetch", _fetch),
    ("POST", ("namespaces", "{}", "documents", "list"), "list", _list),
    ("POST", ("namespaces", "{}", "documents", "delete"), "delete", _delete),
    ("POST", ("namespaces", "{}", "documents", "update"), "update", _update),
    ("POST", ("namespaces", "{}", "documents", "search"), "search", search),
)
