"""Pinecone's hosted models through the SDK: described, asked, cut and refused as the service does."""

from collections.abc import Callable

import httpx
import pytest

from vecfleet import errors as e
from vecfleet.embedders import vectors_of
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.embedders.texts import prepare
from vecfleet.settings import Settings

NAME = "pinecone/llama-text-embed-v2"


@pytest.fixture
def settings(emulator: str) -> Settings:
    return Settings(pinecone_api_key="any", pinecone_controller_host=emulator)  # type: ignore[arg-type]


@pytest.fixture
def opened(settings: Settings) -> Callable[..., EmbeddingModel]:
    def opened(name: str = NAME, dimension: int | None = None) -> EmbeddingModel:
        return open_model(look_up(name, settings, dimension), settings)

    return opened


def test_a_hosted_model_is_described_by_the_service(opened: Callable[..., EmbeddingModel]) -> None:
    card = opened().card
    assert (card.dimension, card.max_tokens, card.texts_per_request, card.metric) == (1_024, 2_048, 96, "cosine")
    assert (card.provider, card.model, card.revision) == ("pinecone", "llama-text-embed-v2", "llama-text-embed-v2")
    assert card.dollars(1e6) == 0.16


def test_texts_become_vectors_of_the_dimension_asked_for(opened: Callable[..., EmbeddingModel]) -> None:
    texts = [f"text number {n}" for n in range(200)]
    model = opened(dimension=384)
    vectors = vectors_of(model, texts)
    assert vectors.shape == (200, 384)
    assert (vectors[7] == vectors_of(model, texts[7:8], "query")[0]).all()


def test_a_dimension_that_a_hosted_model_cannot_give_is_refused(opened: Callable[..., EmbeddingModel]) -> None:
    with pytest.raises(e.BadInput, match="cannot give 3,072 dimensions") as refused:
        opened(dimension=3_072)
    assert refused.value.next_step == "it gives 384, 512, 768, 1024, 2048"


@pytest.mark.parametrize(
    ("name", "said"),
    [("pinecone/none", "hosts no model 'none'"), ("pinecone/pinecone-sparse-english-v0", "gives no dense vectors")],
)
def test_a_model_that_cannot_be_used_is_refused(name: str, said: str, opened: Callable[..., EmbeddingModel]) -> None:
    with pytest.raises(e.BadInput, match=said):
        opened(name)


def test_a_text_over_the_limit_is_refused_by_the_service_or_cut_by_it(opened: Callable[..., EmbeddingModel]) -> None:
    model = opened()
    text = "secret " * 2_049
    form = prepare(model, text, cut=True)
    assert not isinstance(form, str) and form.is_cut and form.text == text.strip()
    with pytest.raises(e.BadRequest) as refused:
        model.request([form.text])
    assert "secret" not in refused.value.message
    assert model.request([form.text], cut=True).tokens == 2_048


def test_a_model_that_is_not_hosted_any_more_stops_the_job(settings: Settings) -> None:
    card = look_up(NAME, settings).model_copy(update={"name": "pinecone/gone"})
    with pytest.raises(e.ModelChanged, match="hosts no such model"):
        open_model(card, settings).request(["a text"])


def test_a_service_that_asks_to_wait_is_waited_for(opened: Callable[..., EmbeddingModel], emulator: str) -> None:
    model = opened()
    rule = {"operation": "embed", "status": 429, "count": 1}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    with pytest.raises(e.RateLimited):
        model.request(["a text"])
    assert len(model.request(["a text"]).vectors) == 1
