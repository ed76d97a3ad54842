"""Records to and from the data plane's JSON."""

from collections.abc import Iterable, Mapping

import numpy as np
import orjson

from emulator.errors import invalid
from emulator.index import Index
from emulator.records import Record, Sparse, pack_floats, sparse_of
from emulator.scoring import Match


def encode(value: object) -> bytes:
    """Encode as JSON. A float32 array becomes the shortest text that reads back as the same float32."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def record_json(record: Record, values: bool = True, metadata: bool = True) -> dict[str, object]:
    answer: dict[str, object] = {"id": record.id}
    if values:
        answer["values"] = np.frombuffer(record.values, "<f4")
        if record.sparse:
            answer["sparseValues"] = {
                "indices": np.frombuffer(record.sparse.indices, "<u4"),
                "values": np.frombuffer(record.sparse.weights, "<f4"),
            }
    if metadata and record.metadata:
        answer["metadata"] = orjson.Fragment(record.metadata)
    return answer


def match_json(match: Match, values: bool, metadata: bool) -> dict[str, object]:
    record = match.record
    answer: dict[str, object] = {"id": record.id, "score": match.score, "values": []}
    return answer | record_json(record, values, metadata)


def read_records(index: Index, vectors: object) -> list[Record]:
    if not isinstance(vectors, list) or not all(isinstance(item, dict) for item in vectors):
        raise invalid("vectors must be a list of objects")
    return [read_record(index, item) for item in vectors]


def read_record(index: Index, item: Mapping[str, object]) -> Record:
    name = f"Vector ID {item.get('id')}"
    values = pack_floats(item.get("values") or [], f"{name}: values")
    return index.check_record(item.get("id"), values, read_sparse(item.get("sparseValues"), name), item.get("metadata"))


def read_sparse(value: object, name: str) -> Sparse | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid(f"{name}: sparseValues must be an object with indices and values")
    indices = value.get("indices", [])
    if not isinstance(indices, list) or not all(type(number) is int for number in indices):
        raise invalid(f"{name}: sparse indices must be a list of integers")
    return sparse_of(indices, pack_floats(value.get("values", []), f"{name}: sparse values"), name)


def read_ids(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(id, str) for id in value):
        raise invalid("ids must be a list of strings")
    return value


def fetch_units(records: Iterable[Record]) -> int:
    """Return the read units of a fetch: one for ten records, at least one a request."""
    return max(1, -(-sum(1 for _ in records) // 10))
