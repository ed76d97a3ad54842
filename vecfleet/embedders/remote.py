"""A model behind a service's HTTP API, for the fleet."""

from collections.abc import Sequence
from dataclasses import replace

import httpx
import numpy as np

from vecfleet.bounded_transport import BoundedTransport
from vecfleet.embedders import tokens
from vecfleet.embedders.endpoint import Embedded, Endpoint
from vecfleet.embedders.models import Answer, checked
from vecfleet.embedders.services import SERVICES, Service
from vecfleet.errors import BadInput, UnusableAnswer
from vecfleet.model_cards import ModelCard, Purpose
from vecfleet.settings import Settings


class RemoteModel:
    """A model of OpenAI, Cohere or Voyage, or of another service that speaks the API of one of them."""

    def __init__(self, card: ModelCard, endpoint: Endpoint) -> None:
        self.card = card
        self._endpoint = endpoint
        self._service = SERVICES[card.provider]
        self._tokenizer = tokens.tokenizer_of(card)
        self.counts_exactly = self._tokenizer is not None
        self.cuts = self.counts_exactly or (self._service.cuts and card.max_tokens is not None)

    def count_tokens(self, text: str) -> int:
        if self._tokenizer is not None:
            return self._tokenizer.count(text)
        return len(text.encode()) + self._service.prompt_tokens

    def cut(self, text: str) -> str:
        if self._tokenizer is None or self.card.max_tokens is None:
            return text
        return self._tokenizer.cut(text, self.card.max_tokens)

    def request(self, texts: Sequence[str], purpose: Purpose = "passage", *, cut: bool = False) -> Answer:
        dimension = self.card.dimension if self.card.shortened else None
        asked = self._endpoint.ask(self.card.model, texts, dimension, purpose, cut=cut)
        answer = answer_of(self.card.model, asked)
        if not answer.tokens:  # the service does not tell them
            answer = replace(answer, tokens=sum(map(self.count_tokens, texts)))
        return checked(self.card, answer, len(texts))


def answer_of(model: str, asked: Embedded) -> Answer:
    """Return the answer with its vectors as float32. Raises UnusableAnswer."""
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            vectors = np.array(asked.vectors, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UnusableAnswer(f"the embedder {model!r} gave vectors of different lengths or of no numbers") from error
    if vectors.ndim != 2:
        raise UnusableAnswer(f"the embedder {model!r} gave vectors that are none")
    return Answer(vectors, asked.tokens, asked.revision)


def endpoint(service: Service, settings: Settings) -> Endpoint:
    """Return the endpoint that the settings lead to: each call ends within the request deadline. Raises BadInput.

    Only the service itself must have a key.
    """
    headers = {}
    if (key := service.key(settings)) is not None:
        headers["Authorization"] = f"Bearer {key}"
    elif not service.place(settings):
        raise BadInput(
            f"{service.key_name} is not set", next_step=f"set it, or {service.address_name} for a service of your own"
        )
    limits = httpx.Limits(max_connections=settings.worker_threads, max_keepalive_connections=settings.worker_threads)
    transport = BoundedTransport(httpx.HTTPTransport(limits=limits), settings.request_deadline_seconds)
    address = service.address(settings).rstrip("/") + "/"
    return Endpoint(httpx.Client(base_url=address, headers=headers, transport=transport), service)
