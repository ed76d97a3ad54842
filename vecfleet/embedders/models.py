"""An embedding model that is asked one request at a time. Waits, batches and the cache are around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vecfleet.errors import (
    BadRequest,
    KeyRefused,
    ModelChanged,
    QuotaExhausted,
    RateLimited,
    TooLarge,
    Unavailable,
    UnusableAnswer,
)
from vecfleet.model_cards import ALL_ZEROS, NEARLY_ZERO, NO_NUMBER, ModelCard, Purpose

Vectors = npt.NDArray[np.float32]
"""A row for each text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request. `tokens`: billed; as counted before the request if the service does not tell."""

    vectors: Vectors
    tokens: int
    revision: str


class EmbeddingModel(Protocol):
    """One model at one dimension. Safe between threads."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def counts_exactly(self) -> bool:
        """Say whether `count_tokens` counts with the model's own tokenizer; otherwise it gives an upper bound."""

    @property
    def cuts(self) -> bool:
        """Say whether a text that is too long can be cut: by `cut`, or by the service."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text, or an upper bound of them."""

    def cut(self, text: str) -> str:
        """Return the longest beginning that the model takes, if the tokens are counted exactly; else the text."""

    def request(self, texts: Sequence[str], purpose: Purpose = "passage", *, cut: bool = False) -> Answer:
        """Ask once, without a retry. `cut`: the service cuts texts that are too long for the model.

        Raises a StoreError. BadRequest is about the texts, TooLarge about their number; ModelChanged if the service
        embeds with another model than the card's; UnusableAnswer if the vectors cannot be used.
        """


# Of the usual tokenizers, on the usual texts. An upper bound of bytes is divided by it where a mean is wanted.
BYTES_PER_TOKEN = 3

NOT_BILLED = (BadRequest, KeyRefused, QuotaExhausted, RateLimited, TooLarge, Unavailable)
"""Answers of a service that did nothing. However else a request ends, it may be billed."""


def expected_tokens(model: EmbeddingModel, counted: int) -> int:
    """Return about how many tokens are billed for what `count_tokens` counted."""
    return counted if model.counts_exactly else -(-counted // BYTES_PER_TOKEN)


def checked(card: ModelCard, answer: Answer, texts: int) -> Answer:
    """Return the answer if it can be used: the card's model and dimension, and a vector for each text."""
    if card.revision and answer.revision != card.revision:
        raise ModelChanged(
            f"{card.name} answers as {answer.revision!r} now; the plan was made with {card.revision!r}, and vectors of "
            "both cannot be compared",
            next_step="give the service back the model of the plan, then resume; or cancel and plan anew",
        )
    if len(answer.vectors) != texts:
        raise UnusableAnswer(f"{card.name} gave {len(answer.vectors):,} vectors for {texts:,} texts")
    if answer.vectors.shape[1] != card.dimension:
        raise ModelChanged(
            f"{card.name} gives {answer.vectors.shape[1]:,} dimensions now; the plan was made for {card.dimension:,}",
            next_step="give the service back the model of the plan, then resume; or cancel and plan anew",
        )
    return answer


def no_vectors(card: ModelCard, vectors: Vectors) -> dict[int, str]:
    """Return why a text is without a vector though the model answered, by its position: it has no direction."""
    said = f"{card.name} gave a vector for its text that"
    zeros = np.flatnonzero((np.abs(vectors) < NEARLY_ZERO).all(axis=1))
    others = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    return {int(position): f"{said} {ALL_ZEROS}" for position in zeros} | {
        int(position): f"{said} {NO_NUMBER}" for position in others
    }
