"""OpenAI's models, and those of any service that speaks its API, for applications."""

from collections.abc import Sequence

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from vecfleet.embedders.base import TEXTS_AT_ONCE
from vecfleet.embedders.endpoint import Endpoint
from vecfleet.embedders.services import OPENAI
from vecfleet.errors import BadInput, BadRequest, ModelChanged, Transient
from vecfleet.settings import Settings

DEFAULT_MODEL = "text-embedding-3-large"
_TIMEOUT_S = 30.0
_TRIES = 4
_LONGEST_WAIT_S = 20.0


class OpenAIEmbedder:
    """The embeddings endpoint of OpenAI, or of a compatible service at another address, for an application."""

    def __init__(self, api_key: str, model: str = DEFAULT_MODEL, *, base_url: str = OPENAI.url) -> None:
        self.model = model
        headers = {"Authorization": f"Bearer {api_key}"}
        address = base_url.rstrip("/") + "/"
        self._endpoint = Endpoint(httpx.Client(base_url=address, headers=headers, timeout=_TIMEOUT_S))

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


def openai_embedder(settings: Settings) -> OpenAIEmbedder | None:
    """Return the embedder for OPENAI_API_KEY; None if it is not set."""
    if settings.openai_api_key is None:
        return None
    key = settings.openai_api_key.get_secret_value()
    return OpenAIEmbedder(key, settings.embedding_model, base_url=settings.openai_base_url)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else None
    return min(told if told is not None else 0.5 * 2.0**state.attempt_number, _LONGEST_WAIT_S)
