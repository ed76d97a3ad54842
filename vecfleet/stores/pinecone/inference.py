"""Pinecone's hosted embedding models, asked through the SDK one request at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from pinecone._internal.adapters import inference_adapter
from pinecone.client.inference import Inference
from pinecone.models.inference import EmbeddingsList, ModelInfo

from vecfleet.embedders.models import Answer, checked
from vecfleet.errors import BadInput, BadRequest, Missing, ModelChanged, UnusableAnswer
from vecfleet.model_cards import ModelCard, Purpose
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.clients import PerProcess, bound_calls, control_plane, meet
from vecfleet.stores.pinecone.errors import translated

# Dollars for a million tokens, as documented in 2026; the service does not tell them.
_PRICES = {"llama-text-embed-v2": 0.16, "multilingual-e5-large": 0.08}
# The lowest documented allowance; a plan may name the account's own.
_TOKENS_PER_MINUTE = 250_000
_TEXTS, _TEXT_TOKENS = 96, 2_048

meet(inference_adapter)


class PineconeModel:
    """A hosted model. Its tokenizer is not published as a package: tokens are counted by their upper bound."""

    counts_exactly = False
    cuts = True

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        self.card = card
        self._client = PerProcess(lambda: _client(settings))

    def count_tokens(self, text: str) -> int:
        return len(text.encode())

    def cut(self, text: str) -> str:
        return text

    def request(self, texts: Sequence[str], purpose: Purpose = "passage", *, cut: bool = False) -> Answer:
        parameters: dict[str, object] = {"input_type": purpose, "truncate": "END" if cut else "NONE"}
        if self.card.shortened:
            parameters["dimension"] = self.card.dimension
        model = self.card.model
        with _translated(f"embed texts with {model}"):
            answer = self._client.get().embed(model=model, inputs=list(texts), parameters=parameters)
        return checked(self.card, _read(answer), len(texts))


def look_up(model: str, settings: Settings, dimension: int | None) -> ModelCard:
    """Return the card of a hosted model as the service describes it. Raises BadInput and StoreErrors."""
    try:
        with translated(f"describe the model {model}"):
            info = _client(settings).get_model(model=model)
    except Missing as error:
        raise BadInput(
            f"Pinecone hosts no model {model!r} for this project",
            next_step="choose another: https://docs.pinecone.io/guides/inference/understanding-inference lists them",
        ) from error
    if info.type != "embed" or info.vector_type != "dense" or info.default_dimension is None:
        raise BadInput(f"{model!r} gives no dense vectors", next_step="choose an embedding model with dense vectors")
    dimensions = sorted({info.default_dimension, *(info.supported_dimensions or ())})
    if dimension is not None and dimension not in dimensions:
        raise BadInput(
            f"the model {model!r} cannot give {dimension:,} dimensions",
            next_step=f"it gives {', '.join(map(str, dimensions))}",
        )
    return ModelCard(
        name=f"pinecone/{model}",
        revision=info.model,
        dimension=dimension or info.default_dimension,
        shortened=dimension not in (None, info.default_dimension),
        metric=_metric(info),
        max_tokens=info.max_sequence_length or _TEXT_TOKENS,
        texts_per_request=info.max_batch_size or _TEXTS,
        tokens_per_minute=_TOKENS_PER_MINUTE,
        dollars_per_million_tokens=_PRICES.get(model, 0.0),
    )


def _metric(info: ModelInfo) -> str:
    metrics = info.supported_metrics or ["cosine"]
    return "cosine" if "cosine" in metrics else str(metrics[0])


def _client(settings: Settings) -> Inference:
    client = control_plane(settings).inference
    bound_calls(client, settings.request_deadline_seconds)
    return client


def _read(answer: EmbeddingsList) -> Answer:
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            vectors = np.array([row["values"] for row in answer.data], dtype=np.float32)
    except (KeyError, ValueError, TypeError) as error:
        raise UnusableAnswer(f"{answer.model} gave vectors of different lengths or of no numbers") from error
    if vectors.ndim != 2:
        raise UnusableAnswer(f"{answer.model} gave vectors that are none")
    return Answer(vectors, answer.usage.total_tokens, answer.model)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Raise the SDK's errors as ours. A refusal may quote a text, which our errors do not repeat."""
    try:
        with translated(doing):
            yield
    except BadRequest as error:
        raise BadRequest(f"Pinecone could not {doing}: it refuses the texts") from error
    except Missing as error:
        raise ModelChanged(
            f"Pinecone could not {doing}: it hosts no such model any more",
            next_step="ask Pinecone's support, or cancel and plan anew with another model",
        ) from error
