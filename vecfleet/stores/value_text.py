"""Values as JSON, and back: the shortest text of each float32, made from the bytes with no Python float on the way.

The shortest text of a float32 takes 13 characters; that of the same number as a float64 takes 21. It reads back to the
same bits, also by a reader that rounds it to a float64 and then to a float32, as most readers of JSON do. Of all
float32 values (each was tried) only one, and its negative, have a shortest text that such a reader takes for another
value: it is halfway between two. So that value is written with a digit more, and its shortest text is read as it.
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
_HALFWAY, _EXACT = b"7.038531e-26", b"7.0385307e-26"
_ROUNDED_TWICE = struct.pack("<f", float(_HALFWAY))[:3]  # the fourth byte has the sign
_EXACT_OF = {sign * float(_HALFWAY): sign * float(_EXACT) for sign in (1, -1)}


@lru_cache(maxsize=_TEXTS_KEPT)
def floats(data: bytes) -> bytes:
    """Return the values as JSON, the shortest text of each. Raises BadRequest for values that have none."""
    text = orjson.dumps(np.frombuffer(data, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:  # as in null: NaN and the infinities have no JSON
        raise BadRequest("a record has values that are no finite numbers")
    return text.replace(_HALFWAY, _EXACT)


def integers(data: bytes) -> bytes:
    """Return the indices of sparse values as JSON."""
    return orjson.dumps(np.frombuffer(data, "<u4"), option=orjson.OPT_SERIALIZE_NUMPY)


def pack(values: Sequence[float]) -> bytes:
    """Return the values, which a reader of JSON made, as little-endian float32 bytes."""
    packed = struct.pack(f"<{len(values)}f", *values)
    if _ROUNDED_TWICE in packed:
        packed = struct.pack(f"<{len(values)}f", *(_EXACT_OF.get(value, value) for value in values))
    return packed
