"""Embedders, which turn text into vectors: OpenAI's API or one like it, or a deterministic one for tests.

An embedder is asked for vectors of the table's dimension, and vectors of another dimension are refused: else a model of
3,072 dimensions could fill a table of 1,536 unnoticed.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import httpx
import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from vecfleet.errors import BadInput, KeyRefused, RateLimited, TimedOut, Transient, Unavailable
from vecfleet.settings import Settings

DEFAULT_MODEL = "text-embedding-3-large"
OPENAI_URL = "https://api.openai.com/v1"
# OpenAI takes 2,048 texts and 300,000 tokens in a request; a hundred chunks are well below.
TEXTS_AT_ONCE = 100
_TIMEOUT_S = 30.0
_TRIES = 4
_LONGEST_WAIT_S = 20.0
_WORDS_DIMENSION = 1_536


class Embedder(Protocol):
    """Turns texts into vectors of the given dimension, or refuses."""

    @property
    def model(self) -> str: ...

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        """Return one vector for each text, in their order; None asks for the model's own dimension.

        Raises BadInput if the dimension is not available.
        """


def embed(embedder: Embedder, texts: Sequence[str], dimension: int) -> list[list[float]]:
    """Return vectors of exactly this dimension, or raise BadInput naming both."""
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
    return vectors


def embed_one(embedder: Embedder | None, text: str) -> list[float]:
    """Return the vector of a text, of the model's own dimension. Raises BadInput if there is no embedder."""
    if embedder is None:
        raise BadInput("texts cannot be embedded here", next_step="ask with a `vector`, or set OPENAI_API_KEY")
    return embedder.embed([text], None)[0]


class OpenAIEmbedder:
    """The embeddings endpoint of OpenAI, or of a compatible service at another address."""

    def __init__(self, api_key: str, model: str = DEFAULT_MODEL, *, base_url: str = OPENAI_URL) -> None:
        self.model = model
        self._http = httpx.Client(
            base_url=base_url.rstrip("/"), headers={"Authorization": f"Bearer {api_key}"}, timeout=_TIMEOUT_S
        )

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            tries = Retrying(
                retry=retry_if_exception_type(Transient), stop=stop_after_attempt(_TRIES), wait=_wait, reraise=True
            )
            vectors += tries(self._ask, list(texts[start : start + TEXTS_AT_ONCE]), dimension)
        return vectors

    def _ask(self, texts: list[str], dimension: int | None) -> list[list[float]]:
        body: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "float"}
        if dimension is not None:
            body["dimensions"] = dimension
        try:
            answer = self._http.post("/embeddings", json=body)
        except httpx.TimeoutException as error:
            raise TimedOut(f"the embedder {self.model!r} did not answer within {_TIMEOUT_S:g} s") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the embedder {self.model!r} cannot be reached: {type(error).__name__}") from error
        if answer.status_code == 429:
            raise RateLimited(f"the embedder {self.model!r} asks to wait", retry_after=_seconds(answer))
        if answer.status_code in (401, 403):
            raise KeyRefused(f"the embedder {self.model!r} refuses the key", next_step="check OPENAI_API_KEY")
        if answer.status_code >= 500:
            raise Unavailable(f"the embedder {self.model!r} answered with status {answer.status_code}")
        if answer.status_code != 200:
            wanted = "" if dimension is None else f" to give {dimension:,} dimensions"
            raise BadInput(
                f"the embedder {self.model!r} refuses{wanted}: status {answer.status_code}",
                next_step="choose a model that gives the dimension you need",
            )
        try:
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            return [row["embedding"] for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the embedder {self.model!r} gave an answer that is none") from error


def openai_embedder(settings: Settings) -> OpenAIEmbedder | None:
    """Return the embedder for OPENAI_API_KEY; None if it is not set."""
    if settings.openai_api_key is None:
        return None
    key = settings.openai_api_key.get_secret_value()
    return OpenAIEmbedder(key, settings.embedding_model, base_url=settings.openai_base_url)


class HashEmbedder:
    """Vectors from the words of a text, the same for the same words: no meaning, but near texts are near."""

    model = "words-by-hash"

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        return [self._one(text, dimension or _WORDS_DIMENSION) for text in texts]

    @staticmethod
    def _one(text: str, dimension: int) -> list[float]:
        total = np.zeros(dimension)
        for word in re.findall(r"\w+", text.lower()) or [""]:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8])
            total += np.random.default_rng(seed).standard_normal(dimension)
        unit: list[float] = (total / np.linalg.norm(total)).astype("<f4").tolist()
        return unit


def _seconds(answer: httpx.Response) -> float | None:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.replace(".", "", 1).isdecimal() else None


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else None
    return min(told if told is not None else 0.5 * 2.0**state.attempt_number, _LONGEST_WAIT_S)
