"""An embedding service as OpenAI's: asked over a socket, waited for, refused in words, never trusted blindly."""

from collections.abc import Iterator

import pytest
from embedding_service import KEY, EmbeddingService, Fault, rows, serving

from vecfleet.embedders import OpenAIEmbedder, embed, embed_one
from vecfleet.errors import BadInput, KeyRefused, UnusableAnswer


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
