"""The embedding model of the lives that embed anew, and what it makes of a record. No code of vecfleet."""

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from tests.embedding_service import EmbeddingService, Fault, serving

MODEL = "openai/chaos"
PROBE = "vecfleet"  # the text that a plan asks for
# A model that does the work and says nothing, one that is down, and one that asks to wait.
AILMENTS = (None, Fault(drops=True, bills=True), None, Fault(503), Fault(429, {"retry-after": "0.1"}))
_DIMENSION = 24  # its own: as large as any index of a life


def vector_of(metadata: Mapping[str, Any], dimension: int) -> bytes | None:
    """Return the vector of a record's text; None where it has none."""
    text = metadata.get("text")
    if not isinstance(text, str) or not text.strip():
        return None
    said = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return _vector(said, dimension)


@cache
def _vector(text: str, dimension: int) -> bytes:
    service = EmbeddingService()
    service.dimension = _DIMENSION
    return np.asarray(service.vector(text, dimension), "<f4").tobytes()


@contextmanager
def serving_model() -> Iterator[EmbeddingService]:
    """Serve it on loopback."""
    with serving() as service:
        service.dimension = _DIMENSION
        yield service
