"""A service on loopback that speaks the embeddings API of OpenAI, Cohere or Voyage. It counts what it bills, and fails
on demand.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

KEY = "sk-" + "a" * 40


@dataclass(frozen=True)
class Api:
    """An embeddings API, as documented.

    `fields`: what may be asked, by name; None allows any value. `needs`: what must be. `truncates`: a field and the
    value by which long texts are cut.
    """

    path: str
    texts: str
    dimension: str
    most_texts: int
    fields: Mapping[str, tuple[Any, ...] | None]
    needs: tuple[str, ...]
    answer: Callable[[str, Sequence[Sequence[float]], int], dict[str, Any]]
    truncates: tuple[str, Any] | None = None

    def objection(self, body: Mapping[str, Any]) -> str | None:
        """Say what of a request is not documented."""
        for name, value in body.items():
            allowed = self.fields.get(name, ())
            if allowed is not None and value not in allowed:
                return f"{name}: {value!r}"
        missing = [name for name in self.needs if name not in body]
        if missing:
            return f"needs {missing}"
        return "too many texts" if not 1 <= len(body[self.texts]) <= self.most_texts else None

    def cuts(self, body: Mapping[str, Any]) -> bool:
        """Say whether long texts are cut. Cohere and Voyage do so unless they are told not to."""
        if self.truncates is None:
            return False
        name, value = self.truncates
        return bool(body.get(name, value) == value)


def answer_in_rows(model: str, vectors: Sequence[Sequence[float]], tokens: int) -> dict[str, Any]:
    rows = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    # In any order: the index counts.
    return {"object": "list", "data": rows[::-1], "model": model, "usage": {"total_tokens": tokens}}


OPENAI = Api(
    path="/v1/embeddings",
    texts="input",
    dimension="dimensions",
    most_texts=2_048,
    fields={"model": None, "input": None, "dimensions": None, "encoding_format": ("float", "base64"), "user": None},
    needs=("model", "input"),
    answer=answer_in_rows,
)


@dataclass(frozen=True)
class Fault:
    """An answer to one request in place of vectors. `bills`: the service has done the work all the same."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    bills: bool = False
    drops: bool = False


class EmbeddingService:
    """`billed` counts each text by how often it was billed; `requests` holds the texts of each request in order."""

    def __init__(self, api: Api = OPENAI) -> None:
        self.api = api
        self.billed: Counter[str] = Counter()
        self.tokens = 0
        self.requests: list[list[str]] = []
        self.asked_for: list[Mapping[str, Any]] = []
        self.keys: set[str | None] = set()
        self.revision: str | None = None  # the name asked for, unless set
        self.dimension = 8
        self.shortens = True
        self.drifts = False  # other last bits for a text from one request to the next
        self.most_tokens = 1_000  # of a text: one a word
        self.headers: dict[str, str] = {}
        self.faults: list[Fault | None] = []  # None: an answer as it should be
        self.only: str | None = None  # the one model that it knows, if set
        self.prefixes = [""]  # of the path: what stands behind each is another service of this host
        self.url = ""
        self._open = threading.Event()
        self._open.set()
        self._arrived = threading.Condition()

    def fail(self, *faults: Fault | None, times: int = 1) -> None:
        """Answer the next requests with these, each so many times; None is an answer as it should be."""
        self.faults += [fault for fault in faults for _ in range(times)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answer nothing meanwhile."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def wait_for_requests(self, count: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, timeout=60)

    def vector(self, text: str, dimension: int | None = None) -> list[float]:
        """Return the vector of a text: always the same one."""
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
        values = np.random.default_rng(seed).standard_normal(self.dimension)[: dimension or self.dimension]
        unit: list[float] = (values / np.linalg.norm(values)).astype("<f4").tolist()
        return unit

    def answer(self, key: str | None, body: Mapping[str, Any]) -> Fault:
        texts, dimension = body[self.api.texts], body.get(self.api.dimension)
        with self._arrived:
            self.requests.append(list(texts))
            self.asked_for.append(body)
            self.keys.add(key)
            fault = self.faults.pop(0) if self.faults else None
            self._arrived.notify_all()
        self._open.wait(timeout=60)
        if fault is None:
            fault = self._refusal(body, texts, dimension)
        if fault is None or fault.bills:
            with self._arrived:
                self.billed.update(texts)
                self.tokens += sum(map(tokens_of, texts))
        return fault or self._embedded(texts, body["model"], dimension)

    def _refusal(self, body: Mapping[str, Any], texts: Sequence[str], dimension: int | None) -> Fault | None:
        if (odd := self.api.objection(body)) is not None:
            return refusal(400, "not_documented", words=odd)
        if self.only not in (None, body["model"]):
            return refusal(404, "model_not_found")
        if dimension is not None and self.shortens and dimension > self.dimension:
            return refusal(400, "invalid_dimensions")
        if not self.api.cuts(body) and any(tokens_of(text) > self.most_tokens for text in texts):
            return refusal(400, "context_length_exceeded", words=" ".join(texts)[:100])
        return None

    def _embedded(self, texts: Sequence[str], model: str, dimension: int | None) -> Fault:
        wanted = dimension if self.shortens else None
        vectors = [self.vector(text, wanted) for text in texts]
        if self.drifts:
            vectors = [[first + len(self.requests) * 1e-6, *rest] for first, *rest in vectors]
        body = self.api.answer(self.revision or model, vectors, sum(map(tokens_of, texts)))
        return Fault(headers=self.headers, body=json.dumps(body).encode())


def tokens_of(text: str) -> int:
    return len(text.split())


def refusal(status: int, code: str, words: str = "no") -> Fault:
    return Fault(status, body=json.dumps({"error": {"code": code, "message": words}}).encode())


def rows(*vectors: Sequence[float | None], model: str = "m", numbers: Sequence[Any] | None = None) -> bytes:
    """Return an answer with these vectors, whatever was asked for; `numbers`: the text that each claims to be of."""
    numbers = range(len(vectors)) if numbers is None else numbers
    data = [{"index": n, "embedding": list(vector)} for n, vector in zip(numbers, vectors, strict=True)]
    return json.dumps({"data": data, "model": model, "usage": {"total_tokens": 1}}).encode()


@contextmanager
def serving(api: Api = OPENAI) -> Iterator[EmbeddingService]:
    service = EmbeddingService(api)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path not in {prefix + api.path for prefix in service.prefixes}:
                answer = refusal(404, "no_such_path")
            else:
                answer = service.answer(self.headers.get("authorization"), body)
            if answer.drops:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that has gone away needs no answer."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}{api.path.rpartition('/')[0]}"
    try:
        yield service
    finally:
        service._open.set()
        server.shutdown()
        server.server_close()
