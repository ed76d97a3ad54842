"""Values as JSON, and back: the shortest text of each float32, made from the bytes with no Python float on the way.

The shortest text of a float32 takes 13 characters; that of the same number as a float64 takes 21. It reads back to the
same bits.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import orjson

from vecfleet.errors import BadRequest

# A batch is measured, then sent. Texts are kept for a few batches of the threads in between, about 50 KB each at 3,072
# values.
_TEXTS_KEPT = 512


@lru_cache(maxsize=_TEXTS_KEPT)
def floats(data: bytes) -> bytes:
    """Return the values as JSON, the shortest text of each. Raises BadRequest for values that have none."""
    text = orjson.dumps(np.frombuffer(data, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:  # as in null: NaN and the infinities have no JSON
        raise BadRequest("a record has values that are no finite numbers")
    return text


def integers(data: bytes) -> bytes:
    """Return the indices of sparse values as JSON."""
    return orjson.dumps(np.frombuffer(data, "<u4"), option=orjson.OPT_SERIALIZE_NUMPY)


def pack(values: Sequence[float]) -> bytes:
    """Return the values as little-endian float32 bytes."""
    return struct.pack(f"<{len(values)}f", *values)
