"""The bytes lane against the official SDK: what either writes the other reads, and what the lane does not know it loses
nothing of.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinecone import Pinecone

from tests.contracts.making import DIMENSION, like, pinecone_store
from vecfleet.records import MetadataValue, Record, Sparse
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb
from vecfleet.stores.pinecone.bytes_lane import BytesLane
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.index import PineconeIndex

NS = "creator_x_twin_y"
KEY = "a key"
DEADLINE_S = 60.0
TRANSPORTS = ("rest", "grpc")
KINDS = (Kind.DENSE, Kind.SPARSE, Kind.HYBRID)


# --- the same records, written and read by both -----------------------------------------------------------------------

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
METADATA = st.dictionaries(
    TEXTS.filter(lambda key: not key.startswith("$")),
    st.one_of(TEXTS, st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.lists(TEXTS, max_size=4)),
    max_size=6,
)
SPARSE = st.dictionaries(st.integers(0, 2**32 - 1), FLOATS.filter(bool), min_size=1, max_size=6)


@st.composite
def contents(draw: st.DrawFn, kind: Kind) -> tuple[list[float], dict[int, float], dict[str, MetadataValue]]:
    """Values, sparse values and metadata, as this kind of index may hold them."""
    some = st.lists(FLOATS, min_size=DIMENSION, max_size=DIMENSION).filter(_is_stored)
    values = draw(some) if kind is not Kind.SPARSE else []
    sparse = draw(SPARSE if kind is Kind.SPARSE else st.one_of(st.just({}), SPARSE)) if kind is not Kind.DENSE else {}
    return values, sparse, draw(METADATA)


def _is_stored(values: list[float]) -> bool:
    """Say whether some value is far enough from zero: cosine has no angle for zero."""
    return any(abs(value) >= 1e-8 for value in values)


class Sides:
    """One index: our lane, and the SDK by REST and by gRPC."""

    def __init__(self, emulator: str, kind: Kind) -> None:
        store = pinecone_store(emulator)
        self.lane = store.open(store.create_like(f"index-{uuid4().hex[:8]}", like(kind), None, None))
        host = self.lane.info.host
        pc = Pinecone(api_key=KEY, host=emulator, grpc_scheme="http")
        self.sdk: dict[str, Any] = {"rest": pc.index(host=host), "grpc": pc.index(host=host, grpc=True)}


def as_sdk(record: Record) -> dict[str, Any]:
    """A record as a user of the SDK writes it."""
    vector: dict[str, Any] = {"id": record.id, "metadata": dict(record.metadata)}
    if record.values:
        vector["values"] = list(struct.unpack(f"<{record.dimension}f", record.values))
    if record.sparse is not None:
        count = len(record.sparse)
        vector["sparse_values"] = {
            "indices": list(struct.unpack(f"<{count}I", record.sparse.indices)),
            "values": list(struct.unpack(f"<{count}f", record.sparse.values)),
        }
    return vector


def as_read(vector: Any) -> dict[str, Any]:
    """Return what the SDK says of a record, its floats as the float32 they are and the sparse ones by index."""
    sparse = vector.sparse_values
    entries = dict(zip(sparse.indices, map(float32, sparse.values), strict=True)) if sparse is not None else {}
    metadata = {key: (type(value), value) for key, value in dict(vector.metadata or {}).items()}
    return {"id": vector.id, "values": [float32(one) for one in vector.values], "sparse": entries, "metadata": metadata}


def float32(value: float) -> bytes:
    return struct.pack("<f", value)


def record_of(values: list[float], sparse: Mapping[int, float], metadata: Mapping[str, MetadataValue]) -> Record:
    some = None
    if sparse:
        some = Sparse(struct.pack(f"<{len(sparse)}I", *sparse), struct.pack(f"<{len(sparse)}f", *sparse.values()))
    return Record("r", struct.pack(f"<{len(values)}f", *values), some, dict(metadata))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", TRANSPORTS)
def test_what_the_sdk_wrote_and_the_lane_copied_the_sdk_reads_unchanged(emulator: str, kind: Kind, writer: str) -> None:
    sides = Sides(emulator, kind)

    @settings(max_examples=60, deadline=None)
    @given(contents(kind))
    def holds(some: tuple[list[float], dict[int, float], dict[str, MetadataValue]]) -> None:
        # Given a record that an application wrote with the SDK
        sides.sdk[writer].upsert(vectors=[as_sdk(record_of(*some))], namespace="old")

        # When the lane copies it
        sides.lane.upsert("new", list(sides.lane.fetch("old", ["r"]).records.values()))

        # Then the SDK reads the same from both, whichever way it asks
        for sdk in sides.sdk.values():
            old, new = (sdk.fetch(ids=["r"], namespace=side).vectors["r"] for side in ("old", "new"))
            assert as_read(new) == as_read(old)

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_lane_wrote_the_sdk_copies_and_the_lane_reads_unchanged(emulator: str, kind: Kind) -> None:
    sides = Sides(emulator, kind)

    @settings(max_examples=60, deadline=None)
    @given(contents(kind), st.sampled_from(TRANSPORTS))
    def holds(some: tuple[list[float], dict[int, float], dict[str, MetadataValue]], transport: str) -> None:
        # Given a record that the lane wrote
        record, sdk = record_of(*some), sides.sdk[transport]
        sides.lane.upsert("old", [record])

        # When an application copies it with the SDK
        vector = sdk.fetch(ids=["r"], namespace="old").vectors["r"]
        copied = {"id": "r", "values": list(vector.values), "metadata": dict(vector.metadata or {})}
        if vector.sparse_values is not None and len(vector.sparse_values.indices):
            names = ("indices", "values")
            copied["sparse_values"] = {name: list(getattr(vector.sparse_values, name)) for name in names}
        sdk.upsert(vectors=[copied], namespace="new")

        # Then the lane reads what it wrote
        assert sides.lane.fetch("new", ["r"]).records == sides.lane.fetch("old", ["r"]).records

    holds()


# --- what the lane does not know --------------------------------------------------------------------------------------


def field(number: int, body: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    length, varint = len(body), b""
    while length > 0x7F:
        varint, length = varint + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + varint + bytes([length]) + body


def single(number: int, four: bytes) -> bytes:
    """A float by itself, not packed with its neighbours."""
    return bytes([number << 3 | 5]) + four


def unpacked(number: int, values: bytes) -> bytes:
    return b"".join(single(number, values[at : at + 4]) for at in range(0, len(values), 4))


UNKNOWN = 15
Rewrite = Callable[[pb.Vector], bytes]


def rewritten(vector: pb.Vector, *dropped: str, **more: bytes) -> bytes:
    """The vector without some fields, and raw bytes behind it."""
    for name in dropped:
        vector.ClearField(name)  # type: ignore[arg-type]
    return vector.SerializeToString() + b"".join(more.values())


def sparse_rewritten(vector: pb.Vector, values: bytes) -> bytes:
    indices = struct.pack(f"<{len(vector.sparse_values.indices)}I", *vector.sparse_values.indices)
    body = b"".join(pb.SparseValues(indices=[one]).SerializeToString() for one in struct.unpack("<2I", indices))
    return rewritten(vector, "sparse_values", sparse=field(4, body + values))


REWRITES: Mapping[str, Rewrite] = {
    "values one by one": lambda v: rewritten(v, "values", values=unpacked(2, v.values)),
    "values in two chunks": lambda v: rewritten(v, "values", values=field(2, v.values[:8]) + field(2, v.values[8:])),
    "values half in a chunk and half one by one": lambda v: rewritten(
        v, "values", values=field(2, v.values[:8]) + unpacked(2, v.values[8:])
    ),
    "a field of the record": lambda v: rewritten(v, more=field(UNKNOWN, b"of the year 2030")),
    "a field of the sparse values": lambda v: sparse_rewritten(
        v, field(2, v.sparse_values.values) + field(UNKNOWN, b"2030")
    ),
    "sparse values one by one": lambda v: sparse_rewritten(v, unpacked(2, v.sparse_values.values)),
    "sparse values in two chunks": lambda v: sparse_rewritten(
        v, field(2, v.sparse_values.values[:4]) + field(2, v.sparse_values.values[4:])
    ),
    "a kind of metadata": lambda v: rewritten(
        v, more=field(3, field(1, field(1, b"new") + field(2, field(UNKNOWN, b"x"))))
    ),
    "a field of the metadata": lambda v: rewritten(v, more=field(3, field(UNKNOWN, b"x"))),
}


@contextmanager
def service(host: str, rewrite: Rewrite) -> Iterator[str]:
    """The emulator, with each record that it answers a fetch with rewritten on the way."""
    place = host.removeprefix("http://")

    def fetch(request: bytes, context: grpc.ServicerContext) -> bytes:
        with grpc.insecure_channel(place) as channel:
            metadata = [(name, value) for name, value in context.invocation_metadata() if name != "user-agent"]
            answer = channel.unary_unary("/VectorService/Fetch")(request, metadata=metadata)
        return b"".join(
            field(1, field(1, record_id.encode()) + field(2, rewrite(vector)))
            for record_id, vector in pb.FetchResponse.FromString(answer).vectors.items()
        )

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        handlers = {"Fetch": grpc.unary_unary_rpc_method_handler(fetch)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("VectorService", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop(None).wait()


def through(index: Index, host: str) -> PineconeIndex:
    """The same index, its lane led past that host."""
    info: IndexInfo = index.info
    sdk = PerProcess(lambda: Pinecone(api_key=KEY, host=info.host).index(host=info.host))
    return PineconeIndex(info, sdk, BytesLane(replace(info, host=host), KEY, DEADLINE_S))


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
def test_a_record_in_a_form_that_the_lane_does_not_know_is_read_whole_by_the_sdk(
    emulator: str, rewrite: Rewrite
) -> None:
    # Given a service that spells records in a way the protocol allows, or will allow
    index = Sides(emulator, Kind.HYBRID).lane
    records = [
        Record(
            f"r{n}", struct.pack("<4f", n, 1, 2, 3), Sparse(struct.pack("<2I", 3, n + 9), struct.pack("<2f", 0.5, n))
        )
        for n in range(1, 4)
    ]
    index.upsert(NS, records)
    whole = index.fetch(NS, [record.id for record in records])

    with service(index.info.host, rewrite) as host:
        # When the lane cannot tell what that is
        lane = BytesLane(replace(index.info, host=host), KEY, DEADLINE_S)
        assert lane.fetch(NS, ["r1", "r2", "r3"]).records == {}

        # Then each record is read through the SDK, and nothing of it is missing
        found = through(index, host).fetch(NS, ["r1", "r2", "r3"])
        assert found.records == whole.records
        assert found.usage.requests == 2


def test_records_spelt_as_ever_are_read_by_the_lane_beside_those_that_are_not(emulator: str) -> None:
    index = Sides(emulator, Kind.DENSE).lane
    index.upsert(NS, [Record(name, struct.pack("<4f", 1, 2, 3, 4)) for name in ("new", "old")])

    def only_new(vector: pb.Vector) -> bytes:
        return rewritten(vector, more=field(UNKNOWN, b"x") if vector.id == "new" else b"")

    with service(index.info.host, only_new) as host:
        answer = BytesLane(replace(index.info, host=host), KEY, DEADLINE_S).fetch(NS, ["new", "old"])

        assert (list(answer.records), answer.unreadable) == (["old"], ["new"])
        assert through(index, host).fetch(NS, ["new", "old"]).records == index.fetch(NS, ["new", "old"]).records
