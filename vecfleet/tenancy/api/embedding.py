"""How a text becomes a vector, where the index does not embed texts itself."""

from typing import Protocol

import httpx

from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import Settings

_TIMEOUT_S = 20.0


class Embedder(Protocol):
    def embed(self, text: str) -> list[float]:
        """The vector of a text, by the model that the index's records were embedded with."""


class OpenAIEmbedder:
    """Any service with OpenAI's embeddings endpoint."""

    def __init__(self, api_key: str, base_url: str, model: str) -> None:
        self._model = model
        self._client = httpx.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {api_key}"}, timeout=_TIMEOUT_S
        )

    def embed(self, text: str) -> list[float]:
        try:
            answer = self._client.post("/embeddings", json={"model": self._model, "input": text})
            answer.raise_for_status()
            return [float(value) for value in answer.json()["data"][0]["embedding"]]
        except httpx.HTTPStatusError as error:
            raise Unreachable(
                f"the embedding service refused with status {error.response.status_code}",
                next_step="check OPENAI_API_KEY and its limits",
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the embedding service does not answer: {type(error).__name__}", next_step="try again"
            ) from error
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Unreachable("the embedding service answered with no embedding", next_step="try again") from error


def embedder_of(settings: Settings) -> OpenAIEmbedder | None:
    """What OPENAI_API_KEY gives; None where it is not set."""
    if settings.openai_api_key is None:
        return None
    return OpenAIEmbedder(
        settings.openai_api_key.get_secret_value(), settings.openai_base_url, settings.embedding_model
    )


def embedded(embedder: Embedder | None, text: str) -> list[float]:
    """Raises BadInput where there is no way to embed a text here."""
    if embedder is None:
        raise BadInput("texts cannot be embedded here", next_step="ask with a `vector`, or set OPENAI_API_KEY")
    return embedder.embed(text)
