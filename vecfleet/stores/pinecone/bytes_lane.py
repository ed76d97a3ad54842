"""List, fetch and upsert over gRPC without decoding a value: vectors stay the float32 bytes they are on the wire.

A message that is wire-compatible with the service's own declares `values` as bytes. Unexpected content (an unknown
field, values that are not 4 bytes each of the index's dimension) is reported back by id. The caller then reads it
through the SDK. Channels are made per process, on first use, never before a fork.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError

from vecfleet.deadlines import left_of
from vecfleet.errors import StoreError, TimedOut, TooLarge
from vecfleet.records import Metadata, Record
from vecfleet.stores import rules
from vecfleet.stores.base import IndexInfo
from vecfleet.stores.pinecone import answers, upserts
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb
from vecfleet.stores.pinecone.channels import Channels
from vecfleet.stores.pinecone.clients import API_VERSION, PerProcess
from vecfleet.stores.pinecone.errors import of_status
from vecfleet.structs import Struct

# As much as the service's own channel accepts; an answer of 1,000 records of 20,000 dimensions is 80 MB.
MESSAGE_BYTES = 128 * 1024 * 1024
_SERVICE = "/VectorService/"
_TLS_PORT = 443

# The most that surrounds a record, a metadata field and a list item in an upsert.
_RECORD_BYTES, _FIELD_BYTES, _ITEM_BYTES = 32, 24, 8
# For each sparse value: an index above 2**28 takes five bytes where four are billed.
_INDEX_BYTES = 1

HTTP_STATUS: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 503,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.ABORTED: 503,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""gRPC's codes as the statuses REST would have answered, so that one table of errors serves both."""


@dataclass(frozen=True, slots=True)
class BytesRead:
    """The records read, the ids that must be read another way, and the cost."""

    records: dict[str, Record]
    unreadable: list[str]
    read_units: float | None
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of ids, the token of the next one, and the cost."""

    ids: list[str]
    next_token: str | None
    read_units: float | None
    answer_bytes: int


class BytesLane:
    """One index's list, fetch and upsert. Safe between threads; each call is one attempt inside its deadline."""

    def __init__(self, info: IndexInfo, api_key: str, deadline_s: float) -> None:
        self._info = info
        self._deadline_s = deadline_s
        self._metadata = (("api-key", api_key), ("x-pinecone-api-version", API_VERSION))
        self._channels = PerProcess(lambda: Channels(lambda: _channel(info.host)))

    def list_ids(self, namespace: str, prefix: str | None, limit: int, token: str | None) -> Listed:
        request = pb.ListRequest(namespace=namespace, prefix=prefix, limit=limit, pagination_token=token)
        answer, size = self._call(
            "List", request.SerializeToString(), pb.ListResponse.FromString, f"list the ids of {namespace!r}"
        )
        ids = [item.id for item in answer.vectors]
        units = float(answer.usage.read_units) if answer.HasField("usage") else None
        return Listed(ids, answer.pagination.next or None, units, size)

    def fetch(self, namespace: str, ids: Sequence[str]) -> BytesRead:
        request = pb.FetchRequest(ids=ids, namespace=namespace).SerializeToString()
        doing = f"fetch {len(ids):,} records of {namespace!r}"
        answer, size = self._call("Fetch", request, lambda body: answers.fetched(body, self._info), doing)
        return BytesRead(answer.records, answer.unreadable, answer.read_units, size)

    def upsert(self, namespace: str, records: Sequence[Record], limit: int) -> int:
        """Write all records or raise: TooLarge, unsent, if the request is over `limit` bytes.

        Returns the number that the service acknowledges.
        """
        body = upserts.request(namespace, records)
        doing = f"upsert into {namespace!r}"
        if len(body) > limit:
            raise TooLarge(f"will not {doing}: {len(body):,} bytes are over the {limit:,} of a request")
        answer, _ = self._call("Upsert", body, pb.UpsertResponse.FromString, doing)
        return int(answer.upserted_count)

    def _call(self, name: str, body: bytes, read: Callable[[bytes], Any], doing: str) -> tuple[Any, int]:
        """Return the answer and its size: a message counts its bytes by serializing itself again."""
        left_s = left_of(self._deadline_s)
        if left_s <= 0:
            raise TimedOut(f"did not {doing}: the time of the call was over before it left")
        try:
            with self._channels.get().least_busy() as channel:
                call = channel.unary_unary(_SERVICE + name)
                answer = call(body, timeout=left_s, metadata=self._metadata)
            return read(answer), len(answer)
        except grpc.RpcError as error:
            raise _understood(error, doing) from error
        except DecodeError as error:
            raise of_status(500, "its answer cannot be read", doing, None) from error


def request_bytes(record: Record) -> int:
    """Return the most bytes that this record takes in an upsert."""
    entries = len(record.sparse) if record.sparse is not None else 0
    return _RECORD_BYTES + rules.billed_bytes(record) + _INDEX_BYTES * entries + _around(record.metadata)


def _around(metadata: Metadata) -> int:
    """Return the most bytes that surround the fields of metadata, beside their JSON."""
    if isinstance(metadata, Struct):
        return max(0, metadata.wire_bytes - metadata.json_bytes)
    items = sum(len(value) for value in metadata.values() if isinstance(value, list))
    return _FIELD_BYTES * len(metadata) + _ITEM_BYTES * items


def _channel(host: str) -> grpc.Channel:
    place = urlsplit(host if "://" in host else f"https://{host}")
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        # Connections are this lane's own: else it would share those of anybody who dialed the same address before.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if place.scheme == "http":
        return grpc.insecure_channel(place.netloc, options)
    certificates = os.environ.get("SSL_CERT_FILE")
    roots = Path(certificates).read_bytes() if certificates else None
    address = f"{place.hostname}:{place.port or _TLS_PORT}"
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options)


def _understood(error: grpc.RpcError, doing: str) -> StoreError:
    trailers = dict(error.trailing_metadata() or ())
    hint = str(trailers.get("retry-after", ""))
    retry_after = float(hint) if hint.replace(".", "", 1).isdecimal() else None
    return of_status(HTTP_STATUS.get(error.code(), 500), error.details() or str(error.code()), doing, retry_after)
