"""Embedders of applications: any object that turns texts into vectors of the dimension asked for."""

from collections.abc import Sequence
from typing import Protocol

from vecfleet.errors import BadInput
from vecfleet.model_cards import without_direction

# OpenAI takes 2,048 texts and 300,000 tokens in a request; a hundred chunks are well below.
TEXTS_AT_ONCE = 100


class Embedder(Protocol):
    """Turns texts into vectors of the given dimension, or refuses."""

    @property
    def model(self) -> str: ...

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        """Return one vector for each text, in their order; None asks for the model's own dimension.

        Raises BadInput if the dimension is not available.
        """


def embed(embedder: Embedder, texts: Sequence[str], dimension: int) -> list[list[float]]:
    """Return vectors of exactly this dimension. Raises BadInput for others, and for one that has no direction."""
    vectors = embedder.embed(texts, dimension)
    if len(vectors) != len(texts):
        raise BadInput(
            f"the embedder {embedder.model!r} gave {len(vectors)} vectors for {len(texts)} texts",
            next_step="it must give one for each text, in their order: correct it, or name another",
        )
    other = next((len(vector) for vector in vectors if len(vector) != dimension), None)
    if other is not None:
        raise BadInput(
            f"the embedder {embedder.model!r} gives {other:,} dimensions; the table has {dimension:,}",
            next_step=f"choose a model that gives {dimension:,}, or a namespace of {other:,} dimensions",
        )
    for number, vector in enumerate(vectors, start=1):
        _require_direction(embedder, vector, "the text" if len(texts) == 1 else f"text {number} of {len(texts)}")
    return vectors


def embed_one(embedder: Embedder | None, text: str) -> list[float]:
    """Return the vector of a text, of the model's own dimension. Raises BadInput without an embedder or a direction."""
    if embedder is None:
        raise BadInput("texts cannot be embedded here", next_step="ask with a `vector`, or set OPENAI_API_KEY")
    vector = embedder.embed([text], None)[0]
    _require_direction(embedder, vector, "the text")
    return vector


def _require_direction(embedder: Embedder, vector: Sequence[float], of: str) -> None:
    """Raise BadInput for zeros, NaN and the infinities: stored or asked with, they would find what is not alike."""
    if (why := without_direction(vector)) is not None:
        raise BadInput(
            f"the embedder {embedder.model!r} gave a vector for {of} that {why}",
            next_step="correct or leave out that text; if it happens with every text, correct or change the embedder",
        )
