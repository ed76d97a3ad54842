"""The data plane over REST: each route reads a request into a job, and writes its answer."""

import functools
from collections.abc import Callable, Mapping

from emulator.bodies import flag_in, integer_in, object_in, token_in
from emulator.calls import Call
from emulator.errors import Refusal, invalid
from emulator.gate import Gate, Job, Outcome, Weather
from emulator.http import Request, Response, json_response
from emulator.imports import Imports
from emulator.index import LIST_LIMIT, Index
from emulator.namespaces import Namespace, read_schema
from emulator.records import canonical_namespace, check_batch, check_id, check_ids, pack_floats, too_large
from emulator.rest_aliases import create_alias, delete_alias, describe_alias, list_aliases, update_alias
from emulator.rest_documents import DOCUMENT_ROUTES
from emulator.rest_imports import import_routes
from emulator.rest_text import search_records, upsert_records
from emulator.routing import Prepare, Route, find_route, with_next
from emulator.scoring import Wanted
from emulator.versions import NEWEST, Versions, namespace_name, refuse_newer
from emulator.wire_json import encode, fetch_units, match_json, read_ids, read_records, read_sparse, record_json


class DataPlane:
    """One index's REST service."""

    def __init__(
        self,
        index: Index,
        imports: Imports,
        gate: Gate,
        request_bytes: int,
        url_bytes: Callable[[], int],
        check_key: Callable[[Mapping[str, str]], None],
        versions: Versions,
    ) -> None:
        self._index = index
        self._routes = _ROUTES + DOCUMENT_ROUTES + import_routes(imports)
        self._gate = gate
        self._request_bytes = request_bytes
        self._url_bytes = url_bytes
        self._check_key = check_key
        self._versions = versions

    async def handle(self, request: Request) -> Response:
        try:
            request.version = self._versions.read(request.headers)
            operation, prepare = find_route(self._routes, request)
            if request.version != NEWEST:
                refuse_newer(operation, _api(request), request.version)
            size = len(request.body) + request.url_length
            agent = request.headers.get("user-agent")
            call = Call(operation, self._index.name, api=_api(request), agent=agent, bytes_in=size)
            outcome = await self._gate.serve(call, lambda call: self._prepare(request, call, prepare))
        except Refusal as refusal:
            headers = {} if refusal.retry_after is None else {"retry-after": f"{refusal.retry_after:g}"}
            if refusal.plain or refusal.status == 401:
                return Response(refusal.status, refusal.message.encode(), headers, "text/plain")
            return json_response(_words(refusal, _api(request)), refusal.status, headers)
        return Response(outcome.status, outcome.body, lsn_headers(outcome))

    def _prepare(self, request: Request, call: Call, prepare: Prepare) -> Job:
        self._check_key(request.headers)
        if self._request_bytes and len(request.body) > self._request_bytes:
            raise too_large(len(request.body), self._request_bytes)
        if 0 < self._url_bytes() < request.url_length:
            raise Refusal(414, "Request-URI Too Large")
        self._index.check_operation(call.operation, call.api)
        return prepare(self._index, request, call)


def _api(request: Request) -> str:
    """Return the name of the API that a path belongs to."""
    path = request.segments
    if len(path) == 4 and path[0] == "namespaces" and path[2] == "documents":
        return "documents"
    return "records" if path[0] == "records" else "vectors"


def _words(refusal: Refusal, api: str) -> dict[str, object]:
    return refusal.data_plane() if api == "vectors" else refusal.control_plane()


def lsn_headers(outcome: Outcome) -> dict[str, str]:
    headers: dict[str, str] = {}
    if outcome.written_lsn is not None:
        headers["x-pinecone-request-lsn"] = str(outcome.written_lsn)
    if outcome.indexed_lsn is not None:
        headers["x-pinecone-max-indexed-lsn"] = str(outcome.indexed_lsn)
    return headers


def _namespace_of(body: Mapping[str, object]) -> str:
    return canonical_namespace(body.get("namespace"))


def _upsert(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    call.namespace = name = _namespace_of(body)
    records = read_records(index, body.get("vectors"))
    call.ids = [record.id for record in records]
    check_batch(len(records))

    def run(weather: Weather) -> Outcome:
        kept = weather.share(records)
        lsn = index.upsert(name, kept)
        return Outcome(b'{"upsertedCount":%d}' % len(kept), written_lsn=lsn)

    return Job(run, vanish=functools.partial(index.drop_namespace, name))


def _fetch(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.argument("namespace"))
    call.ids = ids = check_ids(request.arguments("ids"), "fetch")

    def run(weather: Weather) -> Outcome:
        records = index.fetch(name, ids, weather.lag_s)
        answer = {
            "vectors": {record.id: record_json(record) for record in records},
            "namespace": namespace_name(index.aliases.resolve(name), request.version),
            "usage": {"readUnits": fetch_units(records)},
        }
        return Outcome(encode(answer))

    return Job(run, vanish=functools.partial(index.drop_namespace, name))


def _fetch_by_metadata(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    call.namespace = name = _namespace_of(body)
    expression, token = object_in(body, "filter"), token_in(body, "paginationToken")
    if not expression:
        raise invalid("Empty filter provided for fetch by metadata request")
    limit = integer_in(body, "limit", 100)

    def run(weather: Weather) -> Outcome:
        records, following = index.fetch_by_metadata(name, expression, limit, token, weather.lag_s)
        answer: dict[str, object] = {
            "vectors": {record.id: record_json(record) for record in records},
            "namespace": namespace_name(index.aliases.resolve(name), request.version),
            "usage": {"readUnits": fetch_units(records)},
        }
        return with_next(answer, following, weather)

    return Job(run, vanish=functools.partial(index.drop_namespace, name), has_token=bool(token))


def _list(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.argument("namespace"))
    prefix, token = request.argument("prefix") or "", request.argument("paginationToken")
    limit = request.number("limit", LIST_LIMIT)

    def run(weather: Weather) -> Outcome:
        ids, following = index.list_ids(name, prefix, limit, token, weather.lag_s)
        call.ids = ids
        answer: dict[str, object] = {
            "vectors": [{"id": id} for id in ids],
            "namespace": namespace_name(index.aliases.resolve(name), request.version),
            "usage": {"readUnits": 1},
        }
        return with_next(answer, following, weather)

    return Job(run, vanish=functools.partial(index.drop_namespace, name), has_token=bool(token))


def _query(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    call.namespace = name = _namespace_of(body)
    wanted = _wanted(index, body)
    top_k, expression = integer_in(body, "topK"), object_in(body, "filter")
    values, metadata = flag_in(body, "includeValues"), flag_in(body, "includeMetadata")

    def run(weather: Weather) -> Outcome:
        matches, lsn = index.query(name, wanted, top_k, expression, weather.lag_s)
        call.ids = [match.record.id for match in matches]
        answer = {
            "matches": [match_json(match, values, metadata) for match in matches],
            "namespace": namespace_name(index.aliases.resolve(name), request.version),
            "usage": {"readUnits": 1},
        }
        return Outcome(encode(answer), indexed_lsn=lsn)

    return Job(run, vanish=functools.partial(index.drop_namespace, name))


def _wanted(index: Index, body: Mapping[str, object]) -> Wanted | str:
    id, sparse = body.get("id"), read_sparse(body.get("sparseVector"), "The query")
    values = pack_floats(body.get("vector") or [], "vector")
    return index.check_wanted(check_id(id) if id else None, values, sparse)


def _delete(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    call.namespace = name = _namespace_of(body)
    call.ids = read_ids(body.get("ids", []))
    expression = object_in(body, "filter")
    delete = index.deletion(name, call.ids, flag_in(body, "deleteAll"), expression)
    vanish = functools.partial(index.drop_namespace, name)
    return Job(lambda _: Outcome(written_lsn=delete()), vanish, by_metadata=expression is not None)


def _update(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    call.namespace = name = _namespace_of(body)
    expression, fields = object_in(body, "filter"), object_in(body, "setMetadata")
    vanish = functools.partial(index.drop_namespace, name)
    if expression is not None:
        names_record = bool(body.get("id") or body.get("values") or body.get("sparseValues"))
        index.check_update_filter(expression, names_record)
        dry_run = flag_in(body, "dryRun")

        def run_filter(_: Weather) -> Outcome:
            matched, lsn = index.update_by_filter(name, expression, fields or {}, dry_run)
            return Outcome(b'{"matchedRecords":%d}' % matched, written_lsn=lsn)

        return Job(run_filter, vanish, by_metadata=True)
    id = check_id(body.get("id"))
    call.ids = [id]
    values = pack_floats(body.get("values") or [], "values")
    sparse = read_sparse(body.get("sparseValues"), f"Vector ID {id}")
    return Job(lambda _: Outcome(written_lsn=index.update(name, id, values, sparse, fields)), vanish)


def _stats(index: Index, request: Request, call: Call) -> Job:
    if request.json().get("filter"):
        raise invalid("Serverless indexes do not support describing index stats with metadata filtering")

    def run(weather: Weather) -> Outcome:
        counts = index.counts(weather.lag_in)
        answer: dict[str, object] = {
            "namespaces": {namespace_name(n, request.version): {"vectorCount": count} for n, count in counts.items()},
            "indexFullness": 0,
            "totalVectorCount": sum(counts.values()),
        }
        if request.version >= "2025-01":
            answer |= {"metric": index.shape.metric, "vectorType": index.shape.vector_type}
        if index.shape.dimension:
            answer["dimension"] = index.shape.dimension
        return Outcome(encode(answer))

    return Job(run)


def namespace_json(namespace: Namespace, lag_s: float, version: str) -> dict[str, object]:
    count = len(namespace.seen(lag_s))
    answer: dict[str, object] = {"name": namespace.name, "record_count": count}
    if version == NEWEST:
        answer |= {"record_count": str(count), "size_bytes": str(namespace.size_bytes)}
    if namespace.filterable is not None:
        names = sorted(namespace.filterable)
        answer["schema"] = {"fields": {name: {"filterable": True} for name in names}}
        answer["indexed_fields"] = {"fields": names}
    return answer


def _create_namespace(index: Index, request: Request, call: Call) -> Job:
    body = request.json()
    call.namespace = name = check_id(body.get("name"), "Namespace name")
    filterable = read_schema(body.get("schema"))
    return Job(
        lambda weather: Outcome(encode(namespace_json(index.create_namespace(name, filterable), 0, request.version)))
    )


def _list_namespaces(index: Index, request: Request, call: Call) -> Job:
    prefix, token = request.argument("prefix") or "", request.argument("paginationToken")
    limit = request.number("limit", LIST_LIMIT)

    def run(weather: Weather) -> Outcome:
        page, following, total = index.list_namespaces(prefix, token, limit, weather.lag_in)
        answer: dict[str, object] = {
            "namespaces": [namespace_json(namespace, lag_s, request.version) for namespace, lag_s in page],
            "total_count": total,
        }
        return with_next(answer, following, weather)

    return Job(run, has_token=bool(token))


def _describe_namespace(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])

    def run(weather: Weather) -> Outcome:
        seen = index.describe_namespace(name, weather.lag_s)
        return Outcome(encode(namespace_json(seen, weather.lag_s, request.version)))

    return Job(run, vanish=functools.partial(index.drop_namespace, name))


def _delete_namespace(index: Index, request: Request, call: Call) -> Job:
    call.namespace = name = canonical_namespace(request.segments[1])
    return Job(
        lambda _: Outcome(written_lsn=index.delete_namespace(name)),
        vanish=functools.partial(index.drop_namespace, name),
    )


_ROUTES: tuple[Route, ...] = (
    ("POST", ("vectors", "upsert"), "upsert", _upsert),
    ("GET", ("vectors", "fetch"), "fetch", _fetch),
    ("POST", ("vectors", "fetch_by_metadata"), "fetch_by_metadata", _fetch_by_metadata),
    ("GET", ("vectors", "list"), "list", _list),
    ("POST", ("query",), "query", _query),
    ("POST", ("vectors", "delete"), "delete", _delete),
    ("POST", ("vectors", "update"), "update", _update),
    ("POST", ("describe_index_stats",), "describe_index_stats", _stats),
    ("GET", ("describe_index_stats",), "describe_index_stats", _stats),
    ("POST", ("namespaces",), "create_namespace", _create_namespace),
    ("GET", ("namespaces",), "list_namespaces", _list_namespaces),
    ("GET", ("namespaces", "{}"), "describe_namespace", _describe_namespace),
    ("DELETE", ("namespaces", "{}"), "delete_namespace", _delete_namespace),
    ("POST", ("namespace-aliases",), "create_alias", create_alias),
    ("GET", ("namespace-aliases",), "list_aliases", list_aliases),
    ("GET", ("namespace-aliases", "{}"), "describe_alias", describe_alias),
    ("PATCH", ("namespace-aliases", "{}"), "update_alias", update_alias),
    ("DELETE", ("namespace-aliases", "{}"), "delete_alias", delete_alias),
    ("POST", ("records", "namespaces", "{}", "upsert"), "upsert_records", upsert_records),
    ("POST", ("records", "namespaces", "{}", "search"), "search", search_records),
)
