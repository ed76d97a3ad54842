"""OpenAI's models, and those of any service that speaks its API: for applications and for the fleet."""

from collections.abc import Sequence
from dataclasses import replace

import httpx
import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from vecfleet.deadlines import BoundedTransport
from vecfleet.embedders import tokens
from vecfleet.embedders.base import TEXTS_AT_ONCE
from vecfleet.embedders.endpoint import OPENAI_URL, Embedded, Endpoint
from vecfleet.embedders.models import Answer, checked
from vecfleet.errors import BadInput, BadRequest, ModelChanged, Transient, UnusableAnswer
from vecfleet.model_cards import ModelCard, Purpose
from vecfleet.settings import Settings

DEFAULT_MODEL = "text-embedding-3-large"
_TIMEOUT_S = 30.0
_TRIES = 4
_LONGEST_WAIT_S = 20.0


class OpenAIEmbedder:
    """The embeddings endpoint of OpenAI, or of a compatible service at another address, for an application."""

    def __init__(self, api_key: str, model: str = DEFAULT_MODEL, *, base_url: str = OPENAI_URL) -> None:
        self.model = model
        headers = {"Authorization": f"Bearer {api_key}"}
        self._endpoint = Endpoint(httpx.Client(base_url=_folder(base_url), headers=headers, timeout=_TIMEOUT_S))

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            tries = Retrying(
                retry=retry_if_exception_type(Transient), stop=stop_after_attempt(_TRIES), wait=_wait, reraise=True
            )
            try:
                asked = tries(self._endpoint.ask, self.model, texts[start : start + TEXTS_AT_ONCE], dimension)
            except (BadRequest, ModelChanged) as error:
                wanted = "" if dimension is None else f" to give {dimension:,} dimensions"
                raise BadInput(
                    f"the embedder {self.model!r} refuses{wanted}: {error.message}",
                    next_step="choose a model that gives the dimension you need",
                ) from error
            vectors += asked.vectors
        return vectors


class OpenAIModel:
    """A model of OpenAI, or of the service at OPENAI_BASE_URL, for the fleet."""

    def __init__(self, card: ModelCard, endpoint: Endpoint) -> None:
        self.card = card
        self._endpoint = endpoint
        self._tokenizer = tokens.tokenizer_of(card)
        self.counts_exactly = self._tokenizer is not None
        self.cuts = self.counts_exactly

    def count_tokens(self, text: str) -> int:
        return len(text.encode()) if self._tokenizer is None else self._tokenizer.count(text)

    def cut(self, text: str) -> str:
        if self._tokenizer is None or self.card.max_tokens is None:
            return text
        return self._tokenizer.cut(text, self.card.max_tokens)

    def request(self, texts: Sequence[str], purpose: Purpose = "passage", *, cut: bool = False) -> Answer:
        asked = self._endpoint.ask(self.card.model, texts, self.card.dimension if self.card.shortened else None)
        answer = answer_of(self.card.model, asked)
        if not answer.tokens:  # the service does not tell them
            answer = replace(answer, tokens=sum(map(self.count_tokens, texts)))
        return checked(self.card, answer, len(texts))


def answer_of(model: str, asked: Embedded) -> Answer:
    """Return the answer with its vectors as float32. Raises UnusableAnswer."""
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            vectors = np.array(asked.vectors, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UnusableAnswer(f"the embedder {model!r} gave vectors of different lengths or of no numbers") from error
    if vectors.ndim != 2:
        raise UnusableAnswer(f"the embedder {model!r} gave vectors that are none")
    return Answer(vectors, asked.tokens, asked.revision)


def openai_embedder(settings: Settings) -> OpenAIEmbedder | None:
    """Return the embedder for OPENAI_API_KEY; None if it is not set."""
    if settings.openai_api_key is None:
        return None
    key = settings.openai_api_key.get_secret_value()
    return OpenAIEmbedder(key, settings.embedding_model, base_url=settings.openai_base_url)


def host_of(settings: Settings) -> str:
    """Return the host of OPENAI_BASE_URL; empty for OpenAI itself."""
    host = httpx.URL(settings.openai_base_url).netloc.decode()
    return "" if host == httpx.URL(OPENAI_URL).netloc.decode() else host


def endpoint(settings: Settings) -> Endpoint:
    """Return the endpoint at OPENAI_BASE_URL: each call ends within the request deadline. Raises BadInput.

    Only OpenAI itself must have a key.
    """
    headers = {}
    if settings.openai_api_key is not None:
        headers["Authorization"] = f"Bearer {settings.openai_api_key.get_secret_value()}"
    elif not host_of(settings):
        raise BadInput("OPENAI_API_KEY is not set", next_step="set it, or OPENAI_BASE_URL for a service of your own")
    limits = httpx.Limits(max_connections=settings.worker_threads, max_keepalive_connections=settings.worker_threads)
    transport = BoundedTransport(httpx.HTTPTransport(limits=limits), settings.request_deadline_seconds)
    return Endpoint(httpx.Client(base_url=_folder(settings.openai_base_url), headers=headers, transport=transport))


def _folder(base_url: str) -> str:
    return base_url.rstrip("/") + "/"


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else None
    return min(told if told is not None else 0.5 * 2.0**state.attempt_number, _LONGEST_WAIT_S)
