"""Cohere and Voyage: asked as they document it, on loopback."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from embedding_apis import COHERE, VOYAGE, Api
from embedding_service import KEY, EmbeddingService, Fault, serving

from vecfleet import errors as e
from vecfleet.embedders import vectors_of
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.embedders.texts import prepare
from vecfleet.model_cards import ModelCard
from vecfleet.settings import Settings

SERVICES = [
    pytest.param(("cohere", "embed-v4.0", 1_536, 1_024, COHERE), id="Cohere"),
    pytest.param(("voyage", "voyage-4", 1_024, 512, VOYAGE), id="Voyage"),
]
Named = tuple[str, str, int, int, Api]


@pytest.fixture(params=SERVICES)
def named(request: pytest.FixtureRequest) -> Named:
    named: Named = request.param
    return named


@pytest.fixture
def service(named: Named) -> Iterator[EmbeddingService]:
    with serving(named[4]) as service:
        service.dimension = named[2]
        yield service


@pytest.fixture
def settings(named: Named, service: EmbeddingService) -> Settings:
    provider = named[0]
    return Settings(**{f"{provider}_api_key": KEY, f"{provider}_base_url": service.url})


@pytest.fixture
def name(named: Named) -> str:
    return f"{named[0]}/{named[1]}"


def asked(service: EmbeddingService, field: str) -> list[Any]:
    return [body.get(field) for body in service.asked_for]


def test_a_model_is_looked_up_with_its_limits_and_its_price(named: Named, name: str, settings: Settings) -> None:
    card = look_up(name, settings)
    most = {"cohere": (128_000, 96, 20, 0.12), "voyage": (32_000, 256, 2_000, 0.06)}[named[0]]
    told = (card.max_tokens, card.texts_per_request, card.requests_per_minute, card.dollars_per_million_tokens)
    assert told == most
    assert (card.name, card.revision, card.dimension, card.shortened) == (name, named[1], named[2], False)
    assert KEY not in card.model_dump_json() and ModelCard.model_validate_json(card.model_dump_json()) == card


def test_texts_that_are_stored_and_questions_are_told_apart(
    named: Named, name: str, service: EmbeddingService, settings: Settings
) -> None:
    model = open_model(look_up(name, settings), settings)
    stored = vectors_of(model, ["one", "two"])
    vectors_of(model, ["what is one?"], "query")
    words = {"cohere": ["search_document", "search_document", "search_query"], "voyage": ["document"] * 2 + ["query"]}
    assert asked(service, "input_type") == words[named[0]]
    assert stored.tolist() == [service.vector("one"), service.vector("two")]
    assert service.keys == {f"Bearer {KEY}"}


def test_a_dimension_of_the_model_is_asked_for_and_another_is_refused_before_anything_is_sent(
    named: Named, name: str, service: EmbeddingService, settings: Settings
) -> None:
    card = look_up(name, settings, named[3])
    vectors = vectors_of(open_model(card, settings), ["one"])
    assert card.shortened and vectors.tolist() == [service.vector("one", named[3])]
    requests = len(service.requests)
    with pytest.raises(e.BadInput, match="cannot give 100 dimensions") as refused:
        look_up(name, settings, 100)
    assert refused.value.next_step is not None and "256, 512, 1,024" in refused.value.next_step
    assert len(service.requests) == requests


def test_a_text_that_is_too_long_is_refused_and_cut_only_if_the_plan_says_so(
    name: str, service: EmbeddingService, settings: Settings
) -> None:
    model = open_model(look_up(name, settings), settings)
    service.most_tokens = 3
    with pytest.raises(e.BadRequest) as refused:
        model.request(["a secret text of six words"])
    assert "secret" not in str(refused.value)
    assert model.cuts and len(model.request(["a secret text of six words"], cut=True).vectors) == 1


def test_no_request_has_more_texts_than_the_service_takes(
    named: Named, name: str, service: EmbeddingService, settings: Settings
) -> None:
    model = open_model(look_up(name, settings), settings)
    vectors_of(model, [f"text {n}" for n in range(300)])
    sizes = {"cohere": [1, 96, 96, 96, 12], "voyage": [1, 256, 44]}
    assert list(map(len, service.requests)) == sizes[named[0]]


def test_the_bill_is_the_services_and_the_bound_before_it_is_never_less(
    name: str, service: EmbeddingService, settings: Settings
) -> None:
    model = open_model(look_up(name, settings), settings)
    texts = ["ok", "yes"]
    assert model.request(texts).tokens == 2
    # Given that each text is sent behind a prompt of up to eight words
    form = prepare(model, "ok")
    assert not model.counts_exactly and not isinstance(form, str) and form.tokens > len("ok")


ANSWERS = {
    "429 with seconds": (
        Fault(429, {"retry-after": "2.5"}, b'{"message": "slow down"}'),
        e.RateLimited,
        "asks to wait",
    ),
    "401": (Fault(401, body=b'{"message": "invalid api token"}'), e.KeyRefused, "refuses the key"),
    "402": (Fault(402, body=b'{"message": "billing limit"}'), e.QuotaExhausted, "is used up"),
    "400 in words": (Fault(400, body=b'{"detail": "a secret text"}'), e.BadRequest, "refuses the request"),
    "422": (Fault(422, body=b'{"message": "a secret text"}'), e.BadRequest, "refuses the request"),
    "499": (Fault(499), e.TimedOut, "did not answer in time"),
    "503": (Fault(503), e.Unavailable, "status 503"),
    "no JSON": (Fault(body=b"<html>"), e.UnusableAnswer, "cannot be read"),
    "another's answer": (Fault(body=json.dumps({"embeddings": [[1.0]]}).encode()), e.UnusableAnswer, "cannot be read"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_each_answer_that_is_no_vectors_has_its_error(
    kind: str, named: Named, name: str, service: EmbeddingService, settings: Settings
) -> None:
    fault, error, said = ANSWERS[kind]
    model = open_model(look_up(name, settings), settings)
    service.fail(fault)
    with pytest.raises(error, match=said) as raised:
        model.request(["a secret text", "another"])
    assert "secret" not in str(raised.value) and KEY not in str(raised.value)
    if isinstance(raised.value, e.RateLimited):
        assert raised.value.retry_after == 2.5
    if isinstance(raised.value, e.KeyRefused):
        assert raised.value.next_step == f"check {named[0].upper()}_API_KEY"


@pytest.mark.parametrize("provider", ["cohere", "voyage"])
def test_without_a_key_nothing_is_asked_and_the_setting_is_named(provider: str) -> None:
    with pytest.raises(e.BadInput, match=f"{provider.upper()}_API_KEY is not set"):
        look_up(f"{provider}/any", Settings(**{f"{provider}_api_key": None}))


def test_a_plan_is_worked_on_only_where_its_service_is(named: Named, name: str, settings: Settings) -> None:
    card = look_up(name, settings)
    elsewhere = settings.model_copy(update={f"{named[0]}_base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(e.ModelChanged, match=f"{named[0].upper()}_BASE_URL leads to"):
        open_model(card, elsewhere)
