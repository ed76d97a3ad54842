"""An embedding service as OpenAI's: asked over a socket, waited for, refused in words, never trusted blindly."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from vecfleet.embedders import OpenAIEmbedder, embed, embed_one
from vecfleet.errors import BadInput, KeyRefused, Unavailable

KEY = "sk-a-secret"


@dataclass
class Service:
    """Give the answers it was told to give, each once; then embed: a text becomes its length, repeated."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def refuses(self, status: int, times: int = 1, body: bytes = b"{}", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers += [(status, named, body)] * times

    def answer(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((key, body))
        if self.answers:
            return self.answers.pop(0)
        dimension = body.get("dimensions", 3)
        rows = [{"index": n, "embedding": [float(len(text))] * dimension} for n, text in enumerate(body["input"])]
        return 200, {}, json.dumps({"data": rows[::-1]}).encode()  # in any order: the index counts


@pytest.fixture
def service() -> Iterator[Service]:
    here = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, content = here.answer(self.headers["authorization"], body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield here
    server.shutdown()
    server.server_close()


@pytest.fixture
def embedder(service: Service) -> OpenAIEmbedder:
    return OpenAIEmbedder(KEY, "a-model", base_url=service.url)


def test_texts_come_back_as_vectors_of_the_dimension_asked_for_in_their_order(
    service: Service, embedder: OpenAIEmbedder
) -> None:
    texts = ["x" * n for n in range(1, 251)]

    found = embed(embedder, texts, 4)

    assert found == [[float(n)] * 4 for n in range(1, 251)]
    assert [len(body["input"]) for _, body in service.asked] == [100, 100, 50]
    assert {(key, body["model"], body["dimensions"]) for key, body in service.asked} == {
        (f"Bearer {KEY}", "a-model", 4)
    }


def test_the_models_own_dimension_is_not_named_to_it(service: Service, embedder: OpenAIEmbedder) -> None:
    assert embed_one(embedder, "four") == [4.0] * 3
    assert "dimensions" not in service.asked[0][1]


def test_a_service_that_asks_to_wait_or_stumbles_is_asked_again(service: Service, embedder: OpenAIEmbedder) -> None:
    service.refuses(429, retry_after="0")
    service.refuses(429, retry_after="0.01")

    assert embed(embedder, ["four"], 2) == [[4.0, 4.0]]
    assert len(service.asked) == 3


def test_one_that_never_recovers_is_given_up_after_four_tries(service: Service, embedder: OpenAIEmbedder) -> None:
    service.refuses(429, times=9, retry_after="0")

    with pytest.raises(Exception, match="asks to wait"):
        embed(embedder, ["four"], 2)
    assert len(service.asked) == 4


def test_a_refused_key_is_named_at_once_and_never_shown(service: Service, embedder: OpenAIEmbedder) -> None:
    service.refuses(401)

    with pytest.raises(KeyRefused) as refused:
        embed(embedder, ["four"], 2)
    assert refused.value.next_step == "check OPENAI_API_KEY"
    assert KEY not in str(refused.value) and len(service.asked) == 1


def test_a_dimension_that_the_model_does_not_have_is_refused_in_words(
    service: Service, embedder: OpenAIEmbedder
) -> None:
    service.refuses(400)

    with pytest.raises(BadInput, match="refuses to give 1,536 dimensions"):
        embed(embedder, ["four"], 1_536)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": [{"index": 0}]}', b'{"data": 7}'])
def test_an_answer_that_is_none_is_not_taken_for_one(
    service: Service, embedder: OpenAIEmbedder, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecfleet.embedders._LONGEST_WAIT_S", 0.0)
    service.refuses(200, times=4, body=body)

    with pytest.raises(Unavailable, match="gave an answer that is none"):
        embed(embedder, ["four"], 2)


def test_fewer_vectors_than_texts_are_refused(service: Service, embedder: OpenAIEmbedder) -> None:
    service.refuses(200, body=b'{"data": [{"index": 0, "embedding": [1.0, 2.0]}]}')

    with pytest.raises(BadInput, match="gave 1 vectors for 2 texts"):
        embed(embedder, ["four", "five"], 2)


def test_without_an_embedder_the_question_says_what_to_do() -> None:
    with pytest.raises(BadInput, match="cannot be embedded here"):
        embed_one(None, "four")
