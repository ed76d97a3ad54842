"""The services that embed over HTTP: how each is asked, how each answers, and its models as documented in 2026."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from vecfleet.errors import UnusableAnswer
from vecfleet.model_cards import Purpose
from vecfleet.settings import Settings

Body = Callable[[str, Sequence[str], int | None, Purpose, bool], dict[str, Any]]
"""Makes a request of a model, texts, the dimension asked for, their purpose, and whether long texts are cut."""

Said = tuple[list[list[float]], int, str]
"""Vectors in the order of their texts, billed tokens (0: not told), and the model's name (empty: not told)."""


@dataclass(frozen=True, slots=True)
class Known:
    """A documented model: its own dimension, others that it gives, and its price and limits as a card has them."""

    dimension: int
    others: Sequence[int]
    limits: Mapping[str, float]

    @property
    def dimensions(self) -> str:
        if isinstance(self.others, range):
            return f"{self.others[0]:,} to {self.dimension:,}"
        return ", ".join(f"{given:,}" for given in sorted((*self.others, self.dimension)))


@dataclass(frozen=True, slots=True)
class Service:
    """One service and its API.

    `is_imitated`: others speak this API and may use its models' names for their own. `cuts`: it cuts long texts if
    asked to. `prompt_tokens`: at most so many are added to each text. `texts`: of a request to a model not known here.
    """

    provider: str
    title: str
    url: str
    path: str
    body: Body
    read: Callable[[Mapping[str, Any]], Said]
    models: Mapping[str, Known] = field(default_factory=dict)
    is_imitated: bool = False
    cuts: bool = False
    prompt_tokens: int = 0
    texts: int = 100

    @property
    def key_name(self) -> str:
        return f"{self.provider}_api_key".upper()

    @property
    def address_name(self) -> str:
        return f"{self.provider}_base_url".upper()

    def key(self, settings: Settings) -> str | None:
        secret = getattr(settings, self.key_name.lower())
        return None if secret is None else str(secret.get_secret_value())

    def address(self, settings: Settings) -> str:
        return str(getattr(settings, self.address_name.lower()))

    def place(self, settings: Settings) -> str:
        """Return the host that the settings lead to, with its path unless that is as the service's own.

        Empty for the service itself. Behind two paths of one host are two services.
        """
        here, own = httpx.URL(self.address(settings)), httpx.URL(self.url)
        path = here.path.rstrip("/")
        place = here.netloc.decode() + ("" if path == own.path else path)
        return "" if place == own.netloc.decode() else place

    def known(self, model: str, place: str) -> Known | None:
        """Return a model as documented; None for one that is not, or that may be another one of the same name."""
        return None if place and self.is_imitated else self.models.get(model)


def _ask_openai(model: str, texts: Sequence[str], dimension: int | None, purpose: Purpose, cut: bool) -> dict[str, Any]:
    body = {"model": model, "input": list(texts), "encoding_format": "float"}
    return body if dimension is None else body | {"dimensions": dimension}


def _ask_cohere(model: str, texts: Sequence[str], dimension: int | None, purpose: Purpose, cut: bool) -> dict[str, Any]:
    body = {
        "model": model,
        "texts": list(texts),
        "input_type": "search_query" if purpose == "query" else "search_document",
        "embedding_types": ["float"],
        "truncate": "END" if cut else "NONE",
    }
    return body if dimension is None else body | {"output_dimension": dimension}


def _ask_voyage(model: str, texts: Sequence[str], dimension: int | None, purpose: Purpose, cut: bool) -> dict[str, Any]:
    body = {
        "model": model,
        "input": list(texts),
        "input_type": "query" if purpose == "query" else "document",
        "truncation": cut,
    }
    return body if dimension is None else body | {"output_dimension": dimension}


def _read_rows(body: Mapping[str, Any]) -> Said:
    """Read the answer of OpenAI and of Voyage: rows in any order, each with the number of its text."""
    rows = {row["index"]: row["embedding"] for row in body["data"] if type(row["index"]) is int}
    if len(rows) != len(body["data"]) or rows.keys() != set(range(len(rows))):
        raise UnusableAnswer(f"the embedder {body.get('model')!r} does not number its vectors as the texts were asked")
    vectors = [rows[number] for number in range(len(rows))]
    usage = body.get("usage") or {}
    tokens = int(usage.get("total_tokens") or usage.get("prompt_tokens") or 0)
    return vectors, tokens, str(body.get("model") or "")


def _read_cohere(body: Mapping[str, Any]) -> Said:
    billed = (body.get("meta") or {}).get("billed_units") or {}
    return body["embeddings"]["float"], int(billed.get("input_tokens") or 0), ""


PRICES_OF = "November 2026"
"""The month in which the prices below were looked up.

Two sources or more agree about each of OpenAI's and Voyage's, and about Cohere's embed-v4.0: the vendors' pages as they
are stored publicly, gateways that resell the models, and price tables of others. About Cohere's v3 models the tables
have 0.10, and the vendor's page names no price for a token any more.
"""

# Texts of a request. OpenAI takes 2,048 and Voyage 1,000: with fewer an answer is a few MB, and a lost one is cheap.
_TEXTS, _COHERE_TEXTS = 256, 96


def _limits(price: float, text: int, texts: int, request: int) -> dict[str, float]:
    """Return a price for a million tokens and the most tokens of a text, texts and tokens of a request."""
    return {
        "dollars_per_million_tokens": price,
        "max_tokens": text,
        "texts_per_request": texts,
        "tokens_per_request": request,
    }


def _openai(dimension: int, price: float, *, shortens: bool) -> Known:
    return Known(dimension, range(1, dimension) if shortens else (), _limits(price, 8_191, _TEXTS, 300_000))


def _cohere(dimension: int, price: float, text: int, others: Sequence[int] = ()) -> Known:
    # It allows 2,000 texts a minute: 20 full requests.
    return Known(dimension, others, _limits(price, text, _COHERE_TEXTS, 100_000) | {"requests_per_minute": 20})


def _voyage(
    price: float, request: int, per_minute: float, others: Sequence[int] = (256, 512, 2_048), text: int = 32_000
) -> Known:
    paces = {"requests_per_minute": 2_000, "tokens_per_minute": per_minute}
    return Known(1_024, others, _limits(price, text, _TEXTS, request) | paces)


OPENAI = Service(
    provider="openai",
    title="OpenAI",
    url="https://api.openai.com/v1",
    path="embeddings",
    body=_ask_openai,
    read=_read_rows,
    models={
        "text-embedding-3-small": _openai(1_536, 0.02, shortens=True),
        "text-embedding-3-large": _openai(3_072, 0.13, shortens=True),
        "text-embedding-ada-002": _openai(1_536, 0.10, shortens=False),
    },
    is_imitated=True,
)
COHERE = Service(
    provider="cohere",
    title="Cohere",
    url="https://api.cohere.com/v2",
    path="embed",
    body=_ask_cohere,
    read=_read_cohere,
    models={
        "embed-v4.0": _cohere(1_536, 0.12, 128_000, (256, 512, 1_024)),
        "embed-english-v3.0": _cohere(1_024, 0.10, 512),
        "embed-multilingual-v3.0": _cohere(1_024, 0.10, 512),
        "embed-english-light-v3.0": _cohere(384, 0.10, 512),
        "embed-multilingual-light-v3.0": _cohere(384, 0.10, 512),
    },
    cuts=True,
    prompt_tokens=4,
    texts=_COHERE_TEXTS,
)
VOYAGE = Service(
    provider="voyage",
    title="Voyage",
    url="https://api.voyageai.com/v1",
    path="embeddings",
    body=_ask_voyage,
    read=_read_rows,
    models={
        "voyage-4-large": _voyage(0.12, 120_000, 3e6),
        "voyage-4": _voyage(0.06, 320_000, 8e6),
        "voyage-4-lite": _voyage(0.02, 1_000_000, 16e6),
        "voyage-3-large": _voyage(0.18, 120_000, 3e6),
        "voyage-3.5": _voyage(0.06, 320_000, 8e6),
        "voyage-3.5-lite": _voyage(0.02, 1_000_000, 16e6),
        "voyage-code-3": _voyage(0.18, 120_000, 3e6),
        "voyage-finance-2": _voyage(0.12, 120_000, 3e6, others=()),
        "voyage-law-2": _voyage(0.12, 120_000, 3e6, others=(), text=16_000),
    },
    cuts=True,
    prompt_tokens=16,
)
SERVICES = {service.provider: service for service in (OPENAI, COHERE, VOYAGE)}
