"""Texts before they are embedded: one form and one digest for what says the same, and requests of the right size."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from vecfleet.embedders.models import EmbeddingModel
from vecfleet.model_cards import ModelCard, Purpose
from vecfleet.portions import portions

K = TypeVar("K")

EMPTY = "its text is empty"
HALF_A_CHARACTER = "its text holds half a character, which cannot be sent"
# A request takes its tokens from the allowance of a minute at once: a small part of it, or others wait long.
_SHARE_OF_A_MINUTE = 1 / 12


def normalised(text: str) -> str:
    """Return the form that is embedded: composed characters, one kind of line end, no white space around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def text_digest(text: str) -> bytes:
    """Return the digest of the normalised text: equal for texts that have the same vector."""
    return sha256(normalised(text).encode()).digest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A text as it is embedded. `is_cut`: it is, or where only a bound of its tokens is known, may be cut."""

    text: str
    tokens: int
    is_cut: bool = False


def prepare(model: EmbeddingModel, text: str, *, cut: bool = False) -> Prepared | str:
    """Return the text in the form that is embedded, or why it cannot be. `cut`: cut it if it is too long."""
    text = normalised(text)
    if not text:
        return EMPTY
    try:
        text.encode()
    except UnicodeEncodeError:
        return HALF_A_CHARACTER
    tokens, most = model.count_tokens(text), model.card.max_tokens
    if most is None or tokens <= most:
        return Prepared(text, tokens)
    if cut:
        text = model.cut(text)
        return Prepared(text, model.count_tokens(text), is_cut=True)
    if model.counts_exactly:
        return f"its text has {tokens:,} tokens; {model.card.name} takes {most:,} at most"
    return Prepared(text, tokens)


def refused(card: ModelCard) -> str:
    """Return the reason for a text that the model refuses."""
    most = f", which takes {card.max_tokens:,} tokens at most" if card.max_tokens is not None else ""
    return f"its text is refused by {card.name}{most}"


def cache_key(card: ModelCard, purpose: Purpose, text: str, *, cut: bool) -> bytes:
    """Return the key of a text's vector: of the model's space and the text. `cut`: the service may cut it."""
    return sha256(b"\0".join((card.space(purpose).encode(), b"cut" if cut else b"", text_digest(text)))).digest()


def requests_of(card: ModelCard, tokens: Mapping[K, int]) -> Iterator[list[K]]:
    """Yield keys of texts in requests within the card's limits; `tokens` counts the text of each."""
    return portions(tokens, card.texts_per_request, _room(card))


def _room(card: ModelCard) -> float:
    return min(card.tokens_per_request, card.tokens_per_minute * _SHARE_OF_A_MINUTE)
