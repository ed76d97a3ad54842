"""The endpoint of a service that embeds: one request, every answer understood.

A service may quote a text in its answer. Our errors repeat nothing of it but the service's code for the error.
"""

import email.utils
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx
import orjson

from vecfleet.embedders.services import OPENAI, Service
from vecfleet.errors import (
    BadRequest,
    KeyRefused,
    ModelChanged,
    QuotaExhausted,
    RateLimited,
    StoreError,
    TimedOut,
    TooLarge,
    Unavailable,
    UnusableAnswer,
)
from vecfleet.model_cards import Purpose

NO_QUOTA = "insufficient_quota"

_CODE = re.compile(r"[\w.-]{1,60}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Embedded:
    """An answer as it came. `requests_per_minute` and `tokens_per_minute`: this key's limits, if the service tells."""

    vectors: list[list[float]]
    tokens: int
    revision: str
    requests_per_minute: float | None
    tokens_per_minute: float | None


class Endpoint:
    """One service. Safe between threads, as its client is."""

    def __init__(self, client: httpx.Client, service: Service = OPENAI) -> None:
        self._client = client
        self._service = service

    def ask(
        self,
        model: str,
        texts: Sequence[str],
        dimension: int | None,
        purpose: Purpose = "passage",
        *,
        cut: bool = False,
    ) -> Embedded:
        """Ask once. Raises a StoreError: BadRequest is about the texts or the dimension, TooLarge about the number."""
        body = self._service.body(model, texts, dimension, purpose, cut)
        try:
            answer = self._client.post(self._service.path, content=orjson.dumps(body), headers=_JSON)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unavailable(f"the embedder {model!r} cannot be reached: {type(error).__name__}") from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"the embedder {model!r} did not answer in time") from error
        except httpx.HTTPError as error:
            raise TimedOut(f"the embedder {model!r} broke off: {type(error).__name__}") from error
        if answer.status_code != 200:
            raise _refused(self._service, model, answer)
        return _read(self._service, model, answer)


_JSON = {"content-type": "application/json"}


def _read(service: Service, model: str, answer: httpx.Response) -> Embedded:
    """Understand an answer with status 200. Raises UnusableAnswer: the service has done the work, and may bill it."""
    try:
        vectors, tokens, revision = service.read(orjson.loads(answer.content))
        return Embedded(
            vectors=vectors,
            tokens=tokens,
            revision=revision or model,
            requests_per_minute=_number(answer.headers, "x-ratelimit-limit-requests"),
            tokens_per_minute=_number(answer.headers, "x-ratelimit-limit-tokens"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableAnswer(f"the embedder {model!r} gave an answer that cannot be read") from error


def _refused(service: Service, model: str, answer: httpx.Response) -> StoreError:
    status, code = answer.status_code, _code(answer)
    said = f": {code} (status {status})" if code else f": status {status}"
    hint = retry_after(answer.headers)
    if code == NO_QUOTA or status == 402:
        return QuotaExhausted(
            f"the allowance of the embedder {model!r} is used up", next_step="raise it, or wait for the next period"
        )
    match status:
        case 429:
            return RateLimited(f"the embedder {model!r} asks to wait", retry_after=hint)
        case 401 | 403:
            return KeyRefused(f"the embedder {model!r} refuses the key", next_step=f"check {service.key_name}")
        case 404:
            return ModelChanged(
                f"the service of {service.address_name} knows no model {model!r}{said}",
                next_step=f"check the model's name and {service.address_name}",
            )
        case 408 | 499 | 504:
            return TimedOut(f"the embedder {model!r} did not answer in time: status {status}")
        case 413:
            return TooLarge(f"the embedder {model!r} takes no request of this size{said}")
        case _ if status >= 500 or status < 400:
            return Unavailable(f"the embedder {model!r} answered with status {status}", retry_after=hint)
    return BadRequest(f"the embedder {model!r} refuses the request{said}")


def _code(answer: httpx.Response) -> str | None:
    """Return the service's code for an error, or its type; never its words, which may quote a text."""
    try:
        body = orjson.loads(answer.content)
    except ValueError:
        return None
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    told = (error.get(name) for name in ("code", "error_type", "type"))
    return next((code for code in told if isinstance(code, str) and _CODE.fullmatch(code)), None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the service asks to wait: as said, or until a limit of which nothing is left is new."""
    if (milliseconds := _number(headers, "retry-after-ms")) is not None:
        return milliseconds / 1_000
    if (told := headers.get("retry-after")) is not None:
        seconds = _number(headers, "retry-after")
        return seconds if seconds is not None else _until(told)
    resets = [
        _duration(headers.get(f"x-ratelimit-reset-{limit}", ""))
        for limit in ("requests", "tokens")
        if _number(headers, f"x-ratelimit-remaining-{limit}") == 0
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def _until(date: str) -> float | None:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None


def _duration(text: str) -> float | None:
    """Return the seconds of a duration as OpenAI writes it: 6m0s, 20ms."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    told = headers.get(name, "")
    return float(told) if told.replace(".", "", 1).isdecimal() else None
