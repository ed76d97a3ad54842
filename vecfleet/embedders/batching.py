"""Many texts embedded for a command that somebody waits for: in requests, each tried again while it may pass.

The fleet embeds by `workers/embedding.py`, which has the cache and the pace besides.
"""

from collections.abc import Sequence

import numpy as np

from vecfleet.embedders.models import EmbeddingModel, Vectors, no_vectors
from vecfleet.embedders.texts import prepare, requests_of
from vecfleet.errors import BadInput
from vecfleet.model_cards import Purpose
from vecfleet.patience import patiently


def vectors_of(model: EmbeddingModel, texts: Sequence[str], purpose: Purpose = "passage") -> Vectors:
    """Return a row for each text. Raises BadInput naming the number of a text that cannot be embedded."""
    prepared: dict[str, int] = {}
    forms = []
    for number, text in enumerate(texts, start=1):
        form = prepare(model, text)
        if isinstance(form, str):
            raise _refused(number, form)
        prepared[form.text] = form.tokens
        forms.append(form.text)
    rows: dict[str, Vectors] = {}
    for request in requests_of(model.card, prepared):
        answer = patiently(lambda request=request: model.request(request, purpose))  # type: ignore[misc]
        rows |= zip(request, answer.vectors, strict=True)
    vectors = np.array([rows[text] for text in forms], dtype=np.float32).reshape(len(forms), model.card.dimension)
    for position, reason in no_vectors(model.card, vectors).items():
        raise _refused(position + 1, reason)
    return vectors


def _refused(number: int, reason: str) -> BadInput:
    return BadInput(f"text {number} cannot be embedded: {reason}", next_step="correct or leave out that text")
