"""The data plane over gRPC: `VectorService` with its twelve calls, on the same index methods as REST."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from emulator import vector_service_pb2 as pb
from emulator.calls import Call
from emulator.errors import invalid
from emulator.gate import Job, Outcome, Weather
from emulator.index import LIST_LIMIT, Index
from emulator.namespaces import Namespace, read_schema
from emulator.records import (
    Record,
    Sparse,
    canonical_namespace,
    check_batch,
    check_id,
    check_ids,
    pack_floats,
    sparse_of,
)
from emulator.scoring import Match
from emulator.versions import namespace_name
from emulator.wire_json import fetch_units
from emulator.wire_struct import decode_struct, encode_struct

Message = Any  # generated message classes carry no useful static types
Prepare = Callable[[Index, Message, Call, str], Job]  # ends with the version of the API


def _job(
    index: Index, name: str, run: Callable[[Weather], Outcome], token: str | None = None, by_metadata: bool = False
) -> Job:
    return Job(run, functools.partial(index.drop_namespace, name), bool(token), by_metadata)


def _sparse(message: Message, name: str) -> Sparse | None:
    return sparse_of(list(message.indices), pack_floats(list(message.values), name), name)


def _read(index: Index, vector: Message) -> Record:
    sparse = _sparse(vector.sparse_values, f"Vector ID {vector.id}") if vector.HasField("sparse_values") else None
    fields = decode_struct(vector.metadata) if vector.HasField("metadata") else None
    return index.check_record(vector.id, vector.values, sparse, fields)


def _write(message: Message, record: Record, values: bool = True, metadata: bool = True) -> None:
    message.id = record.id
    if values:
        message.values = record.values
        if record.sparse:
            message.sparse_values.CopyFrom(_sparse_message(record.sparse))
    if metadata and record.metadata:
        message.metadata = encode_struct(record.fields())


def _sparse_message(sparse: Sparse) -> Message:
    return pb.Sparse(indices=memoryview(sparse.indices).cast("I"), values=memoryview(sparse.weights).cast("f"))


def _upsert(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    call.ids = [vector.id for vector in request.vectors]
    check_batch(len(call.ids))
    records = [_read(index, vector) for vector in request.vectors]

    def run(weather: Weather) -> Outcome:
        kept = weather.share(records)
        lsn = index.upsert(name, kept)
        return _outcome(pb.UpsertResponse(upserted_count=len(kept)), written_lsn=lsn)

    return _job(index, name, run)


def _fetched(response: Message, name: str, records: Iterable[Record]) -> Message:
    fetched = list(records)
    for record in fetched:
        _write(response.vectors[record.id], record)
    response.namespace = name
    response.usage.read_units = fetch_units(fetched)
    return response


def _fetch(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    call.ids = ids = check_ids(request.ids, "fetch")

    def run(weather: Weather) -> Outcome:
        named = namespace_name(index.aliases.resolve(name), version)
        return _outcome(_fetched(pb.FetchResponse(), named, index.fetch(name, ids, weather.lag_s)))

    return _job(index, name, run)


def _fetch_by_metadata(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    expression = decode_struct(request.filter)
    if not expression:
        raise invalid("Empty filter provided for fetch by metadata request")
    limit = request.limit if request.HasField("limit") else 100

    def run(weather: Weather) -> Outcome:
        records, token = index.fetch_by_metadata(name, expression, limit, request.pagination_token, weather.lag_s)
        call.ids = [record.id for record in records]
        named = namespace_name(index.aliases.resolve(name), version)
        response = _fetched(pb.FetchByMetadataResponse(), named, records)
        return _with_next(response, token, weather)

    return _job(index, name, run, request.pagination_token)


def _list(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    limit = request.limit if request.HasField("limit") else LIST_LIMIT

    def run(weather: Weather) -> Outcome:
        ids, token = index.list_ids(name, request.prefix, limit, request.pagination_token, weather.lag_s)
        call.ids = ids
        items = [pb.ListItem(id=id) for id in ids]
        named = namespace_name(index.aliases.resolve(name), version)
        response = pb.ListResponse(vectors=items, namespace=named, usage=pb.Usage(read_units=1))
        return _with_next(response, token, weather)

    return _job(index, name, run, request.pagination_token)


def _query(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    sparse = _sparse(request.sparse_vector, "The query") if request.HasField("sparse_vector") else None
    wanted = index.check_wanted(request.id or None, request.vector, sparse)
    expression = decode_struct(request.filter)

    def run(weather: Weather) -> Outcome:
        matches, lsn = index.query(name, wanted, request.top_k, expression, weather.lag_s)
        call.ids = [match.record.id for match in matches]
        named = namespace_name(index.aliases.resolve(name), version)
        response = pb.QueryResponse(namespace=named, usage=pb.Usage(read_units=1))
        for match in matches:
            _match(response.matches.add(), match, request.include_values, request.include_metadata)
        return _outcome(response, indexed_lsn=lsn)

    return _job(index, name, run)


def _match(message: Message, match: Match, values: bool, metadata: bool) -> None:
    message.score = match.score
    _write(message, match.record, values, metadata)


def _delete(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    call.ids = list(request.ids)
    expression = decode_struct(request.filter) if request.HasField("filter") else None
    delete = index.deletion(name, call.ids, request.delete_all, expression)
    return _job(
        index,
        name,
        lambda _: _outcome(pb.DeleteResponse(), written_lsn=delete()),
        by_metadata=expression is not None,
    )


def _update(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    fields = decode_struct(request.set_metadata)
    if request.HasField("filter"):
        expression = decode_struct(request.filter)
        index.check_update_filter(expression, names_record=bool(request.id or request.values))

        def run_filter(_: Weather) -> Outcome:
            matched, lsn = index.update_by_filter(name, expression, fields, request.dry_run)
            return _outcome(pb.UpdateResponse(matched_records=matched), written_lsn=lsn)

        return _job(index, name, run_filter, by_metadata=True)
    id = check_id(request.id)
    call.ids = [id]
    sparse = _sparse(request.sparse_values, f"Vector ID {id}") if request.HasField("sparse_values") else None

    def run(_: Weather) -> Outcome:
        lsn = index.update(name, id, request.values, sparse, fields)
        return _outcome(pb.UpdateResponse(), written_lsn=lsn)

    return _job(index, name, run)


def _stats(index: Index, request: Message, call: Call, version: str) -> Job:
    if request.filter.fields:
        raise invalid("Serverless indexes do not support describing index stats with metadata filtering")

    def run(weather: Weather) -> Outcome:
        counts = index.counts(weather.lag_in)
        response = pb.DescribeIndexStatsResponse(
            namespaces={
                namespace_name(n, version): pb.NamespaceSummary(vector_count=count) for n, count in counts.items()
            },
            total_vector_count=sum(counts.values()),
            metric=index.shape.metric,
            vector_type=index.shape.vector_type,
        )
        if index.shape.dimension:
            response.dimension = index.shape.dimension
        return _outcome(response)

    return Job(run)


def _namespace(namespace: Namespace, lag_s: float) -> Message:
    message = pb.NamespaceDescription(name=namespace.name, record_count=len(namespace.seen(lag_s)))
    if namespace.filterable is not None:
        for name in sorted(namespace.filterable):
            message.schema.fields[name].filterable = True
            message.indexed_fields.fields.append(name)
    return message


def _create_namespace(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = check_id(request.name, "Namespace name")
    fields = {field: {"filterable": config.filterable} for field, config in request.schema.fields.items()}
    filterable = read_schema({"fields": fields} if request.HasField("schema") else None)
    return Job(lambda _: _outcome(_namespace(index.create_namespace(name, filterable), 0)))


def _list_namespaces(index: Index, request: Message, call: Call, version: str) -> Job:
    limit = request.limit if request.HasField("limit") else LIST_LIMIT

    def run(weather: Weather) -> Outcome:
        page, token, total = index.list_namespaces(request.prefix, request.pagination_token, limit, weather.lag_in)
        described = [_namespace(namespace, lag_s) for namespace, lag_s in page]
        return _with_next(pb.ListNamespacesResponse(namespaces=described, total_count=total), token, weather)

    return Job(run, has_token=bool(request.pagination_token))


def _describe_namespace(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    return _job(
        index, name, lambda weather: _outcome(_namespace(index.describe_namespace(name, weather.lag_s), weather.lag_s))
    )


def _delete_namespace(index: Index, request: Message, call: Call, version: str) -> Job:
    call.namespace = name = canonical_namespace(request.namespace)
    return _job(index, name, lambda _: _outcome(pb.DeleteResponse(), written_lsn=index.delete_namespace(name)))


def _with_next(response: Message, token: str | None, weather: Weather) -> Outcome:
    if token and not weather.lose_token:
        response.pagination.next = token
    return _outcome(response)


def _outcome(response: Message, written_lsn: int | None = None, indexed_lsn: int | None = None) -> Outcome:
    return Outcome(response.SerializeToString(), written_lsn=written_lsn, indexed_lsn=indexed_lsn)


# The service's name for a call -> the call log's, the request's class, the reader
RPCS: Mapping[str, tuple[str, Any, Prepare]] = {
    "Upsert": ("upsert", pb.UpsertRequest, _upsert),
    "Fetch": ("fetch", pb.FetchRequest, _fetch),
    "FetchByMetadata": ("fetch_by_metadata", pb.FetchByMetadataRequest, _fetch_by_metadata),
    "List": ("list", pb.ListRequest, _list),
    "Query": ("query", pb.QueryRequest, _query),
    "Delete": ("delete", pb.DeleteRequest, _delete),
    "Update": ("update", pb.UpdateRequest, _update),
    "DescribeIndexStats": ("describe_index_stats", pb.DescribeIndexStatsRequest, _stats),
    "CreateNamespace": ("create_namespace", pb.CreateNamespaceRequest, _create_namespace),
    "ListNamespaces": ("list_namespaces", pb.ListNamespacesRequest, _list_namespaces),
    "DescribeNamespace": ("describe_namespace", pb.DescribeNamespaceRequest, _describe_namespace),
    "DeleteNamespace": ("delete_namespace", pb.DeleteNamespaceRequest, _delete_namespace),
}
