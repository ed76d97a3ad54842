"""The price and the hours of embedding a plan's texts, from a sample of them, before anything runs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from vecfleet.embedders.models import EmbeddingModel, expected_tokens
from vecfleet.embedders.texts import Prepared, prepare, requests_of

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class EmbeddingCost:
    """`distinct` texts are billed, with about so many `tokens`. A sample shows few duplicates: there may be fewer.

    `seconds`: at the whole of the plan's share of the model's limits. `refused`: texts of the sample that the model
    cannot embed. `counted`: the tokens were counted by the model's own tokenizer.
    """

    texts: int
    distinct: int
    tokens: int
    requests: int
    dollars: float
    seconds: float
    refused: int
    counted: bool


def estimate(
    model: EmbeddingModel, sample: Sequence[str], records: int, *, share: float = 1.0, cut: bool = False
) -> EmbeddingCost:
    """Return the cost of embedding the texts of so many records, of which these are a sample."""
    card = model.card
    forms = [prepare(model, text, cut=cut) for text in sample]
    usable = [form for form in forms if isinstance(form, Prepared)]
    distinct = {form.text: expected_tokens(model, form.tokens) for form in usable}
    grown = records / len(sample) if sample else 0.0
    tokens, requests = grown * sum(distinct.values()), grown * len(list(requests_of(card, distinct)))
    if card.is_local:
        seconds = grown * _seconds_here(model, list(distinct))
    else:
        minutes = max(requests / card.requests_per_minute, tokens / card.tokens_per_minute)
        seconds = minutes * _MINUTE_S / share
    return EmbeddingCost(
        texts=round(grown * len(usable)),
        distinct=round(grown * len(distinct)),
        tokens=round(tokens),
        requests=ceil(requests),
        dollars=round(card.dollars(tokens), 4),
        seconds=round(seconds, 1),
        refused=len(forms) - len(usable),
        counted=model.counts_exactly,
    )


def _seconds_here(model: EmbeddingModel, texts: Sequence[str]) -> float:
    """Return how long the local model takes for these texts, by trying."""
    began = time.perf_counter()
    if texts:
        model.request(texts)
    return time.perf_counter() - began
