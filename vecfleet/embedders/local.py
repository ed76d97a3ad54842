"""The local model: `wordllama`, whose wheel brings its weights. No network, no key, no price.

It averages the vectors of a text's tokens: good enough to find related texts, for demos, rehearsals and tests.
"""

import logging
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from vecfleet.embedders.batching import vectors_of
from vecfleet.embedders.models import Answer, checked
from vecfleet.errors import BadInput, ModelChanged
from vecfleet.model_cards import ModelCard, Purpose

LOCAL_MODEL = "local/wordllama"
DIMENSION = 256
DIMENSIONS = (64, 128, DIMENSION)
# A text of so many tokens takes 32 MB while it is embedded.
MAX_TOKENS = 32_768

_WEIGHTS, _TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"


class LocalModel:
    """wordllama at one of its dimensions. A text has the same vector whatever texts it is embedded with."""

    counts_exactly = True
    cuts = True

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._inference = _inference(card.dimension)
        if revision() != card.revision:
            raise ModelChanged(
                f"{card.name} is installed here as {revision()!r}; the plan was made with {card.revision!r}, and "
                "vectors of both cannot be compared",
                next_step="install the version of `wordllama` that made the plan, then resume; or plan anew",
            )

    def count_tokens(self, text: str) -> int:
        return len(self._encoded(text).ids)

    def cut(self, text: str) -> str:
        assert self.card.max_tokens is not None, "the local model's limit is known"
        offsets = self._encoded(text).offsets
        return text if len(offsets) <= self.card.max_tokens else text[: offsets[self.card.max_tokens - 1][1]].rstrip()

    def request(self, texts: Sequence[str], purpose: Purpose = "passage", *, cut: bool = False) -> Answer:
        vectors = self._inference.embed(list(texts), norm=True, batch_size=1)
        return checked(self.card, Answer(vectors, 0, revision()), len(texts))

    def _encoded(self, text: str) -> Any:
        return self._inference.tokenizer.encode(text, add_special_tokens=False)


class LocalEmbedder:
    """The local model for an application."""

    model = LOCAL_MODEL

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        vectors: list[list[float]] = vectors_of(LocalModel(card(dimension)), texts).tolist()
        return vectors


def card(dimension: int | None = None) -> ModelCard:
    """Return the card of the local model at a dimension, its own by default. Raises BadInput."""
    if dimension is not None and dimension not in DIMENSIONS:
        raise BadInput(
            f"{LOCAL_MODEL} cannot give {dimension:,} dimensions",
            next_step=f"choose one of {', '.join(map(str, DIMENSIONS))}",
        )
    return ModelCard(name=LOCAL_MODEL, revision=revision(), dimension=dimension or DIMENSION, max_tokens=MAX_TOKENS)


@cache
def revision() -> str:
    """Return a digest of the model's weights and tokenizer. Raises BadInput if it is not installed."""
    digest = sha256()
    for name in (_WEIGHTS, _TOKENIZER):
        digest.update((_folder() / name).read_bytes())
    return digest.hexdigest()[:16]


@cache
def _inference(dimension: int) -> Any:
    folder = _folder()
    from wordllama import WordLlama

    # Its own search for the tokenizer misses the folder in which its wheel keeps it (0.4.0).
    return WordLlama.load(dim=DIMENSION, trunc_dim=dimension, cache_dir=folder, disable_download=True)


def _folder() -> Path:
    """Return the folder of the package. It configures the root logger where it is imported (0.4.0), unless that is."""
    guard = logging.NullHandler()
    logging.root.addHandler(guard)
    try:
        import wordllama
    except ImportError as error:
        raise BadInput(
            "the local model is not installed here", next_step="install it: pip install 'vecfleet[embedders]'"
        ) from error
    finally:
        logging.root.removeHandler(guard)
    return Path(str(wordllama.__file__)).parent
