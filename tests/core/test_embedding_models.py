"""Models for the fleet: looked up when a plan is made, asked one request at a time, and believed in nothing."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from embedding_service import KEY, EmbeddingService, Fault, refusal, rows, serving

from vecfleet import errors as e
from vecfleet.embedders import LOCAL_MODEL, local, normalised, remote, text_digest, vectors_of
from vecfleet.embedders.endpoint import retry_after
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.embedders.services import OPENAI
from vecfleet.embedders.texts import prepare, requests_of
from vecfleet.model_cards import ModelCard
from vecfleet.settings import Settings

NAME = "openai/a-model"


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        yield service


@pytest.fixture
def settings(service: EmbeddingService) -> Settings:
    return Settings(openai_api_key=KEY, openai_base_url=service.url)  # type: ignore[arg-type]


@pytest.fixture
def opened(settings: Settings) -> Callable[..., EmbeddingModel]:
    def opened(**changes: Any) -> EmbeddingModel:
        return open_model(look_up(NAME, settings).model_copy(update=changes), settings)

    return opened


def test_a_model_is_looked_up_by_asking_it_once(service: EmbeddingService, settings: Settings) -> None:
    service.revision = "a-model-2026-05"
    service.headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "40000"}

    card = look_up(NAME, settings)

    assert (card.name, card.revision, card.dimension, card.shortened) == (NAME, "a-model-2026-05", 8, False)
    assert (card.requests_per_minute, card.tokens_per_minute) == (500, 40_000)
    assert card.endpoint == service.url.removeprefix("http://").removesuffix("/v1")
    assert len(service.requests) == 1


def test_a_card_holds_neither_key_nor_address_and_survives_a_plan_file(settings: Settings) -> None:
    card = look_up(NAME, settings)
    written = card.model_dump_json()
    assert KEY not in written and "http" not in written
    assert ModelCard.model_validate_json(written) == card


def test_a_shorter_dimension_is_asked_for_in_each_request(service: EmbeddingService, settings: Settings) -> None:
    card = look_up(NAME, settings, 4)
    vectors = vectors_of(open_model(card, settings), ["one", "two"])
    assert card.shortened and vectors.tolist() == [service.vector("one", 4), service.vector("two", 4)]
    assert service.asked_for[-1]["dimensions"] == 4


def refuses_dimensions(service: EmbeddingService) -> None:
    service.shortens = True


def ignores_dimensions(service: EmbeddingService) -> None:
    service.shortens = False


@pytest.mark.parametrize("behaves", [refuses_dimensions, ignores_dimensions])
def test_a_dimension_that_the_model_cannot_give_is_refused(
    service: EmbeddingService, settings: Settings, behaves: Callable[[EmbeddingService], None]
) -> None:
    behaves(service)
    with pytest.raises(e.BadInput, match="cannot give 16 dimensions"):
        look_up(NAME, settings, 16)


def test_a_dimension_that_openais_model_is_known_not_to_give_is_refused_without_asking() -> None:
    for model, dimension in (("text-embedding-3-small", 3_072), ("text-embedding-ada-002", 512)):
        with pytest.raises(e.BadInput, match=f"cannot give {dimension:,} dimensions"):
            look_up(f"openai/{model}", Settings(openai_api_key=KEY), dimension)  # type: ignore[arg-type]


def test_a_model_that_the_service_does_not_know_is_refused(service: EmbeddingService, settings: Settings) -> None:
    service.only = "another"
    with pytest.raises(e.BadInput, match="knows no model 'a-model': model_not_found"):
        look_up(NAME, settings)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text-embedding-3-small", "names no provider"),
        ("acme/embed", "there is no provider 'acme'"),
        ("local/bert", "there is no local model 'local/bert'"),
    ],
)
def test_a_name_that_leads_to_no_model_is_refused(name: str, said: str, settings: Settings) -> None:
    with pytest.raises(e.BadInput, match=said) as refused:
        look_up(name, settings)
    assert refused.value.next_step


def test_openai_without_a_key_is_refused_and_a_service_of_ones_own_needs_none(service: EmbeddingService) -> None:
    with pytest.raises(e.BadInput, match="OPENAI_API_KEY is not set"):
        look_up("openai/text-embedding-3-small", Settings(openai_api_key=None))
    assert look_up(NAME, Settings(openai_api_key=None, openai_base_url=service.url)).dimension == 8
    assert service.keys == {None}


def test_two_paths_of_one_host_are_two_services(service: EmbeddingService) -> None:
    # Given a gateway that leads to two services
    service.prefixes = ["/a", "/b"]
    host = service.url.removesuffix("/v1")
    at_a, at_b = (Settings(openai_api_key=KEY, openai_base_url=f"{host}/{path}/v1/") for path in "ab")  # type: ignore[arg-type]
    one, two = (look_up(NAME, settings) for settings in (at_a, at_b))
    # Then they share no vectors, and a plan with the one is worked on with no other
    assert one.endpoint == f"{host.removeprefix('http://')}/a/v1"
    assert one.space("passage") != two.space("passage")
    assert open_model(one, at_a).card == one
    with pytest.raises(e.ModelChanged, match=f"OPENAI_BASE_URL leads to {two.endpoint} here"):
        open_model(one, at_b)


@pytest.mark.parametrize(
    "address", ["https://api.openai.com/v1", "https://api.openai.com/v1/", "https://API.openai.com:443/v1"]
)
def test_openai_under_its_own_address_is_openai_however_it_is_written(address: str) -> None:
    assert OPENAI.place(Settings(openai_base_url=address)) == ""


def test_another_path_of_openais_host_has_no_price_of_openais() -> None:
    place = OPENAI.place(Settings(openai_base_url="https://api.openai.com/elsewhere"))
    assert place == "api.openai.com/elsewhere" and OPENAI.known("text-embedding-3-small", place) is None


def test_the_key_goes_nowhere_but_where_the_settings_lead(service: EmbeddingService, settings: Settings) -> None:
    card = look_up(NAME, settings)
    with pytest.raises(e.ModelChanged, match="OPENAI_BASE_URL leads to"):
        open_model(card, settings.model_copy(update={"openai_base_url": "http://127.0.0.1:9/v1"}))


ANSWERS = {
    "429 with seconds": (Fault(429, {"retry-after": "2.5"}), e.RateLimited, "asks to wait"),
    "429 of an empty allowance": (refusal(429, "insufficient_quota"), e.QuotaExhausted, "is used up"),
    "401": (refusal(401, "invalid_api_key"), e.KeyRefused, "refuses the key"),
    "403": (Fault(403), e.KeyRefused, "refuses the key"),
    "404": (refusal(404, "model_not_found"), e.ModelChanged, "knows no model"),
    "408": (Fault(408), e.TimedOut, "did not answer in time"),
    "413": (Fault(413), e.TooLarge, "no request of this size"),
    "422": (Fault(422), e.BadRequest, "refuses the request"),
    "503 with a page": (Fault(503, body=b"<html>"), e.Unavailable, "status 503"),
    "a redirection": (Fault(302, {"location": "https://elsewhere.test"}), e.Unavailable, "status 302"),
    "nothing": (Fault(drops=True), e.TimedOut, "broke off"),
    "no JSON": (Fault(body=b"<html>"), e.UnusableAnswer, "an answer that cannot be read"),
    "too few vectors": (Fault(body=rows([0.5] * 8, model="a-model")), e.UnusableAnswer, "1 vectors for 2 texts"),
    "NaN": (Fault(body=rows([float("nan")] * 8, [0.5] * 8)), e.UnusableAnswer, "an answer that cannot be read"),
    "lengths that differ": (Fault(body=rows([0.5] * 8, [0.5] * 7)), e.UnusableAnswer, "different lengths"),
    "no vectors at all": (Fault(body=rows()), e.UnusableAnswer, "vectors that are none"),
    "another dimension": (Fault(body=rows([0.5] * 9, [0.5] * 9, model="a-model")), e.ModelChanged, "9 dimensions now"),
    "another revision": (Fault(body=rows([0.5] * 8, [0.5] * 8, model="a-model-2")), e.ModelChanged, "'a-model-2' now"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_each_answer_that_is_no_vectors_has_its_error_and_no_words_of_the_service(
    kind: str, service: EmbeddingService, opened: Callable[..., EmbeddingModel]
) -> None:
    fault, error, said = ANSWERS[kind]
    model = opened()
    service.fail(fault)
    with pytest.raises(error, match=said) as raised:
        model.request(["a secret text", "another"])
    assert type(raised.value) is error
    assert "secret" not in str(raised.value) and KEY not in str(raised.value)
    assert len(service.requests) == 2  # one was the look-up's: nothing is tried again here


def test_a_service_that_quotes_the_text_is_not_repeated(
    service: EmbeddingService, opened: Callable[..., EmbeddingModel]
) -> None:
    model = opened()
    service.most_tokens = 1
    with pytest.raises(e.BadRequest) as refused:
        model.request(["a secret text"])
    assert "context_length_exceeded" in refused.value.message and "secret" not in refused.value.message


def test_the_tokens_of_a_service_that_does_not_tell_them_are_counted_by_their_bound(
    service: EmbeddingService, opened: Callable[..., EmbeddingModel]
) -> None:
    model = opened()
    row = {"index": 0, "embedding": [0.5] * 8}
    service.fail(Fault(body=json.dumps({"data": [row], "model": "a-model"}).encode()))
    assert model.request(["a text"]).tokens == len("a text")


def test_a_service_that_is_not_there_is_unavailable(settings: Settings) -> None:
    gone = settings.model_copy(update={"openai_base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(e.Unavailable, match="cannot be reached"):
        look_up(NAME, gone)


def test_a_call_ends_with_its_deadline(service: EmbeddingService, settings: Settings) -> None:
    card = look_up(NAME, settings)
    hasty = settings.model_copy(update={"request_deadline_seconds": 0.2})
    with service.held(), pytest.raises(e.TimedOut):
        open_model(card, hasty).request(["a text"])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m1.5s"}, 361.5),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "a while"}, None),
    ],
)
def test_the_wait_that_a_service_asks_for_is_read_from_its_headers(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


# Texts


def test_texts_that_say_the_same_are_one_text() -> None:
    forms = ["Zoë was here\nand left", "  Zoë was here\r\nand left\n", "Zoe\u0308 was here\rand left"]
    assert set(map(normalised, forms)) == {forms[0]}
    assert len(set(map(text_digest, forms))) == 1 and text_digest("Zoe was here\nand left") != text_digest(forms[0])


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "its text is empty"), (" \n\t", "its text is empty"), ("half \ud800", "half a character")],
)
def test_a_text_that_cannot_be_embedded_says_why(text: str, reason: str) -> None:
    model = open_model(look_up(LOCAL_MODEL, Settings()), Settings())
    assert reason in str(prepare(model, text))


def test_requests_keep_within_the_texts_and_tokens_of_a_request_and_a_small_part_of_a_minute() -> None:
    card = ModelCard(name=NAME, revision="r", dimension=8, texts_per_request=3, tokens_per_request=100)
    tokens = {"a": 10, "b": 10, "c": 10, "d": 60, "e": 50, "f": 500, "g": 1}
    assert list(requests_of(card, tokens)) == [["a", "b", "c"], ["d"], ["e"], ["f"], ["g"]]
    slow = card.model_copy(update={"tokens_per_minute": 240.0})
    assert next(iter(requests_of(slow, tokens))) == ["a", "b"]


def test_many_texts_for_somebody_who_waits_are_asked_for_once_each(
    service: EmbeddingService, opened: Callable[..., EmbeddingModel]
) -> None:
    model = opened(texts_per_request=2)
    service.fail(Fault(429, {"retry-after": "0"}))
    vectors = vectors_of(model, ["one", "two ", "one", "three"])
    assert vectors.tolist() == [service.vector(text) for text in ("one", "two", "one", "three")]
    assert service.billed == {"vecfleet": 1, "one": 1, "two": 1, "three": 1}
    with pytest.raises(e.BadInput, match="text 2 cannot be embedded: its text is empty"):
        vectors_of(model, ["one", ""])


@pytest.mark.parametrize(
    ("vector", "said"),
    [([1e300] * 8, "has a value that is no number"), ([0.0] * 8, "is all zeros"), ([1e-9] * 8, "is all zeros")],
    ids=["an infinite value", "zeros", "what Pinecone takes for zeros"],
)
def test_a_vector_without_a_direction_is_given_to_nobody_who_waits(
    vector: list[float], said: str, service: EmbeddingService, opened: Callable[..., EmbeddingModel]
) -> None:
    model = opened()
    service.fail(Fault(body=rows([0.5] * 8, vector, model="a-model")))
    with pytest.raises(e.BadInput, match=f"text 2 cannot be embedded: {NAME} gave a vector for its text that {said}"):
        vectors_of(model, ["one", "two"])


# OpenAI's tokenizer


@pytest.fixture
def small() -> EmbeddingModel:
    card = ModelCard(name="openai/text-embedding-3-small", revision="r", dimension=1_536, max_tokens=10)
    return remote.RemoteModel(card, remote.endpoint(OPENAI, Settings(openai_api_key=KEY)))  # type: ignore[arg-type]


def test_tokens_of_openais_models_are_counted_as_openai_does(small: EmbeddingModel) -> None:
    assert small.counts_exactly
    assert small.count_tokens("The quick brown fox jumps over the lazy dog") == 9
    assert small.count_tokens("<|endoftext|>") == 7  # a text's own words, no command


def test_a_text_over_the_limit_is_refused_or_cut_as_the_plan_says(small: EmbeddingModel) -> None:
    text = "The quick brown fox jumps over the lazy dog and runs on 🦊🦊🦊"
    assert prepare(small, text) == f"its text has {small.count_tokens(text)} tokens; {small.card.name} takes 10 at most"
    form = prepare(small, text, cut=True)
    assert not isinstance(form, str) and form.is_cut and form.tokens == 10
    assert form.text == "The quick brown fox jumps over the lazy dog and"


def test_a_cut_never_ends_within_a_character(small: EmbeddingModel) -> None:
    form = prepare(small, "🦊" * 20, cut=True)
    assert not isinstance(form, str) and set(form.text) == {"🦊"} and form.tokens <= 10


def test_without_a_tokenizer_the_bound_is_the_bytes_and_the_service_has_the_last_word(
    opened: Callable[..., EmbeddingModel],
) -> None:
    model = opened(max_tokens=10)
    assert not model.counts_exactly and model.count_tokens("Zoë") == 4
    form = prepare(model, "more than ten bytes")
    assert not isinstance(form, str) and not form.is_cut


# The local model


@pytest.fixture(scope="module")
def here() -> EmbeddingModel:
    return open_model(look_up(LOCAL_MODEL, Settings()), Settings())


def test_the_local_model_needs_no_network_and_finds_what_is_related(here: EmbeddingModel) -> None:
    texts = ["a dog barks at the postman", "a puppy plays in the garden", "interest rates of the central bank"]
    question, *vectors = vectors_of(here, ["my dog", *texts])
    assert here.card.dimension == 256 and here.card.dollars(1e9) == 0
    nearness = [float(question @ vector) for vector in vectors]
    assert nearness[0] > nearness[2] and nearness[1] > nearness[2]


def test_the_local_model_gives_the_same_bytes_whatever_it_is_asked_together_with(here: EmbeddingModel) -> None:
    texts = [f"text number {n} " * n for n in range(1, 30)]
    together = vectors_of(here, texts)
    alone = np.concatenate([vectors_of(here, [text]) for text in texts])
    assert together.tobytes() == alone.tobytes()


def test_the_local_model_gives_its_dimensions_and_no_other() -> None:
    card = look_up(LOCAL_MODEL, Settings(), 64)
    vector = vectors_of(open_model(card, Settings()), ["a text"])
    assert vector.shape == (1, 64) and abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    with pytest.raises(e.BadInput, match="cannot give 100 dimensions") as refused:
        look_up(LOCAL_MODEL, Settings(), 100)
    assert "64, 128, 256" in (refused.value.next_step or "")


def test_a_local_model_of_other_weights_than_the_plans_is_refused() -> None:
    card = look_up(LOCAL_MODEL, Settings()).model_copy(update={"revision": "0123456789abcdef"})
    with pytest.raises(e.ModelChanged, match="'0123456789abcdef'"):
        open_model(card, Settings())


def test_a_local_text_over_the_limit_is_cut_at_a_word_of_its_own(here: EmbeddingModel) -> None:
    short = local.LocalModel(here.card.model_copy(update={"max_tokens": 3}))
    assert short.cut("one two three four five") == "one two three"


def test_the_local_model_leaves_the_log_alone() -> None:
    """wordllama configures the root logger where it is imported."""
    probe = (
        "import logging\nfrom vecfleet.embedders import local\nlocal.revision()\n"
        "print(logging.root.handlers, logging.root.level)"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"[] {logging.WARNING}"


def test_without_the_extra_the_local_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    local.revision.cache_clear()
    with pytest.raises(e.BadInput, match="not installed") as refused:
        look_up(LOCAL_MODEL, Settings())
    assert "vecfleet[embedders]" in (refused.value.next_step or "")
