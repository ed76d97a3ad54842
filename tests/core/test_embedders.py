"""An embedding service as OpenAI's: asked over a socket, waited for, refused in words, never trusted blindly."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from embedding_service import KEY, EmbeddingService, Fault, rows, serving

from vecfleet.embedders import OpenAIEmbedder, embed, embed_one
from vecfleet.embedders.models import no_vectors
from vecfleet.errors import BadInput, KeyRefused, UnusableAnswer
from vecfleet.model_cards import ModelCard


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        yield service


@pytest.fixture
def embedder(service: EmbeddingService) -> OpenAIEmbedder:
    return OpenAIEmbedder(KEY, "a-model", base_url=service.url)


def test_texts_come_back_as_vectors_of_the_dimension_asked_for_in_their_order(
    service: EmbeddingService, embedder: OpenAIEmbedder
) -> None:
    texts = [f"text {n}" for n in range(250)]

    vectors = embed(embedder, texts, 4)

    assert vectors == [service.vector(text, 4) for text in texts]
    assert list(map(len, service.requests)) == [100, 100, 50]
    assert {(body["model"], body["dimensions"]) for body in service.asked_for} == {("a-model", 4)}
    assert service.keys == {f"Bearer {KEY}"}


def test_the_models_own_dimension_is_not_named_to_it(service: EmbeddingService, embedder: OpenAIEmbedder) -> None:
    assert embed_one(embedder, "four") == service.vector("four")
    assert "dimensions" not in service.asked_for[0]


def test_a_service_that_asks_to_wait_or_stumbles_is_asked_again(
    service: EmbeddingService, embedder: OpenAIEmbedder
) -> None:
    service.fail(Fault(429, {"retry-after": "0"}), Fault(429, {"retry-after-ms": "10"}))

    assert embed(embedder, ["four"], 2) == [service.vector("four", 2)]
    assert len(service.requests) == 3


def test_one_that_never_recovers_is_given_up_after_four_tries(
    service: EmbeddingService, embedder: OpenAIEmbedder
) -> None:
    service.fail(Fault(429, {"retry-after": "0"}), times=9)

    with pytest.raises(Exception, match="asks to wait"):
        embed(embedder, ["four"], 2)
    assert len(service.requests) == 4


def test_a_refused_key_is_named_at_once_and_never_shown(service: EmbeddingService, embedder: OpenAIEmbedder) -> None:
    service.fail(Fault(401))

    with pytest.raises(KeyRefused) as refused:
        embed(embedder, ["four"], 2)
    assert refused.value.next_step == "check OPENAI_API_KEY"
    assert KEY not in str(refused.value) and len(service.requests) == 1


def test_a_dimension_that_the_model_does_not_have_is_refused_in_words(
    service: EmbeddingService, embedder: OpenAIEmbedder
) -> None:
    service.fail(Fault(400))

    with pytest.raises(BadInput, match="refuses to give 1,536 dimensions"):
        embed(embedder, ["four"], 1_536)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": [{"index": 0}]}', b'{"data": 7}'])
def test_an_answer_that_is_none_is_not_taken_for_one(
    service: EmbeddingService, embedder: OpenAIEmbedder, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecfleet.embedders.openai._LONGEST_WAIT_S", 0.0)
    service.fail(Fault(body=body), times=4)

    with pytest.raises(UnusableAnswer, match="gave an answer that cannot be read"):
        embed(embedder, ["four"], 2)


def test_fewer_vectors_than_texts_are_refused(service: EmbeddingService, embedder: OpenAIEmbedder) -> None:
    service.fail(Fault(body=rows([1.0, 2.0])))

    with pytest.raises(BadInput, match="gave 1 vectors for 2 texts"):
        embed(embedder, ["four", "five"], 2)


def test_without_an_embedder_the_question_says_what_to_do() -> None:
    with pytest.raises(BadInput, match="cannot be embedded here"):
        embed_one(None, "four")


WITHOUT_DIRECTION = {
    "zeros": ([0.0, 0.0], "is all zeros"),
    "what Pinecone takes for zeros": ([1e-9, -1e-9], "is all zeros"),
    "NaN": ([math.nan, 1.0], "has a value that is no number"),
    "an infinite value": ([1.0, -math.inf], "has a value that is no number"),
    "what no float32 holds": ([1e39, 1.0], "has a value that is no number"),
    "nothing": ([None, 1.0], "has a value that is no number"),
}


@pytest.mark.parametrize(("vector", "said"), WITHOUT_DIRECTION.values(), ids=WITHOUT_DIRECTION)
def test_a_vector_by_which_nothing_can_be_found_is_given_to_nobody(vector: list[float], said: str) -> None:
    # Given an application's embedder that answers a text with such a vector
    class Own:
        model = "own"

        def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
            return [vector if text == "bad" else [1.0, 0.5] for text in texts]

    # Then what would be stored or asked with is refused, and the text and the embedder are named
    with pytest.raises(BadInput, match=f"the embedder 'own' gave a vector for text 2 of 2 that {said}"):
        embed(Own(), ["good", "bad"], 2)
    with pytest.raises(BadInput, match=f"the embedder 'own' gave a vector for the text that {said}"):
        embed_one(Own(), "bad")
    # And what is said of one vector is said of it among many, too
    card = ModelCard(name="openai/own", revision="r", dimension=2)
    with np.errstate(over="ignore"):
        many = np.array([[1.0, 0.5], vector], np.float32)
    assert no_vectors(card, many) == {1: f"openai/own gave a vector for its text that {said}"}
    assert embed(Own(), ["good", "good"], 2) == [[1.0, 0.5]] * 2
