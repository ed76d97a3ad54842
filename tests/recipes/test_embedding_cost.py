"""The cost of embedding a plan's texts, from a sample of them."""

import pytest

from migrations.embedding_cost import estimate
from vecfleet.embedders import LOCAL_MODEL, remote
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.embedders.services import OPENAI
from vecfleet.model_cards import ModelCard
from vecfleet.settings import Settings

WORDS = "the quick brown fox jumps over the lazy dog"


def small(**changes: object) -> remote.RemoteModel:
    card = ModelCard(
        name="openai/text-embedding-3-small",
        revision="r",
        dimension=1_536,
        max_tokens=100,
        texts_per_request=10,
        dollars_per_million_tokens=0.02,
    )
    settings = Settings(openai_api_key="sk-" + "a" * 40)  # type: ignore[arg-type]
    return remote.RemoteModel(card.model_copy(update=changes), remote.endpoint(OPENAI, settings))


def test_a_sample_tells_the_price_of_all_texts_and_a_duplicate_costs_nothing() -> None:
    # Given ten texts of nine tokens, of which two are the same, out of a million
    sample = [f"{WORDS}", *(f"{WORDS} {n}" for n in range(1, 9)), WORDS]
    tokens = sum(small().count_tokens(text) for text in set(sample))
    cost = estimate(small(), sample, 1_000_000)
    assert (cost.texts, cost.distinct, cost.refused, cost.counted) == (1_000_000, 900_000, 0, True)
    assert cost.tokens == tokens * 100_000
    assert cost.dollars == pytest.approx(tokens * 100_000 * 0.02 / 1e6)


def test_the_hours_are_those_of_the_limit_that_is_met_first_at_the_plans_share_of_it() -> None:
    sample = [f"{WORDS} {n}" for n in range(10)]
    by_requests = estimate(small(requests_per_minute=100.0, tokens_per_minute=1e9), sample, 1_000_000)
    assert by_requests.requests == 100_000 and by_requests.seconds == 60_000
    by_tokens = estimate(small(requests_per_minute=1e9, tokens_per_minute=1_000_000.0), sample, 1_000_000, share=0.5)
    assert by_tokens.seconds == pytest.approx(by_tokens.tokens / 1e6 * 60 / 0.5, rel=0.01)


def test_texts_that_cannot_be_embedded_cost_nothing_and_are_counted() -> None:
    sample = ["", "word " * 200, WORDS, WORDS + " again"]
    cost = estimate(small(), sample, 400)
    assert (cost.texts, cost.refused) == (200, 2)
    assert estimate(small(), sample, 400, cut=True).refused == 1


def test_the_local_model_costs_nothing_but_time() -> None:
    model = open_model(look_up(LOCAL_MODEL, Settings()), Settings())
    cost = estimate(model, [WORDS, "another text"], 2_000)
    assert cost.dollars == 0 and cost.seconds > 0


def test_nothing_to_embed_costs_nothing() -> None:
    cost = estimate(small(), [], 0)
    assert (cost.tokens, cost.dollars, cost.seconds) == (0, 0.0, 0.0)
