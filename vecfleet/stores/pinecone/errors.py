"""Errors of the SDK → errors of ours, in one table.

The status decides, and for 400, 403 and 429 the words beside it: one status stands for several causes there. Facts:
Pinecone's database-limits and error-handling pages, and the SDK's behaviour (over gRPC a 429 is a plain `ApiError`).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import orjson
from pinecone import (
    ApiError,
    IndexInitFailedError,
    IndexTerminatedError,
    PineconeConnectionError,
    PineconeError,
    PineconeTimeoutError,
    PineconeTypeError,
    PineconeValueError,
    ResponseParsingError,
)

from vecfleet.errors import (
    BadRequest,
    Conflict,
    KeyRefused,
    Missing,
    QuotaExhausted,
    RateLimited,
    StoreError,
    TimedOut,
    TooLarge,
    Transient,
    Unavailable,
    WrongDimension,
)

BY_STATUS: Mapping[int, type[StoreError]] = {
    400: BadRequest,
    401: KeyRefused,
    402: QuotaExhausted,
    403: KeyRefused,
    404: Missing,
    408: TimedOut,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    414: TooLarge,
    422: BadRequest,
    429: RateLimited,
    431: TooLarge,
    504: TimedOut,
}
# The first match holds, so a class stands before its base classes.
BY_CLASS: Mapping[type[Exception], type[StoreError]] = {
    PineconeTimeoutError: TimedOut,
    PineconeConnectionError: Unavailable,
    PineconeValueError: BadRequest,
    PineconeTypeError: BadRequest,
    ResponseParsingError: Unavailable,
    IndexInitFailedError: Conflict,
    IndexTerminatedError: Conflict,
    PineconeError: Unavailable,
    httpx.InvalidURL: TooLarge,  # over 65,536 characters; the SDK does not translate it
    httpx.HTTPError: Unavailable,
}
NEXT_STEPS: Mapping[type[StoreError], str] = {
    KeyRefused: (
        "check PINECONE_API_KEY, or the account's key in PINECONE_CONNECTIONS: it must belong to the project of this "
        "index and may read and write"
    ),
    QuotaExhausted: "raise the plan or the spending limit, or wait for the next period; then resume the job",
    WrongDimension: (
        "see what the index is now with `vecfleet audit`; cancel the job and plan anew, or give the index back the "
        "dimension that the plan names, then resume the job"
    ),
    Missing: "list what there is with `vecfleet audit`",
}

_PACE = re.compile(r"per second|per minute|\bQPS\b", re.IGNORECASE)
_ALLOWANCE = re.compile(r"current month|upgrade your|egress", re.IGNORECASE)
_QUOTA = re.compile(r"quota|limit|maximum|upgrade|storage", re.IGNORECASE)
_SIZE = re.compile(r"too large|too many|larger than|maximum supported size|request size|message length", re.IGNORECASE)
_DIMENSION = re.compile(r"dimension \d+ does not match the dimension", re.IGNORECASE)
_NO_VALUES = "must have either values or sparse_values"
# The service quotes metadata in this one sentence; our errors hold no record text.
_QUOTED_METADATA = re.compile(r"got '.*' for field", re.DOTALL)
_SHOWN_CHARS = 300


class AbsentNamespace(Missing):
    """The namespace is not there; the index is."""


class UnreadableRecord(BadRequest):
    """A record of the answer has neither values nor sparse values; the SDK then refuses the whole answer."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise an error of the SDK inside as one of our `StoreError`s, saying what was being done."""
    try:
        yield
    except (PineconeError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise understood(error, doing) from error


def understood(error: Exception, doing: str) -> StoreError:
    """Return the `StoreError` that stands for this error of the SDK."""
    said = str(getattr(error, "message", error))
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, ApiError) and error.status_code is not None:
        return of_status(error.status_code, said, doing, retry_after, error.error_code)
    return _made(_by_class(error), said or type(error).__name__, doing, "", retry_after)


def require_ok(answer: httpx.Response, doing: str) -> None:
    """Raise the `StoreError` that an answer stands for, unless it is none. Its body may be plain text."""
    if not answer.is_error:
        return
    hint = answer.headers.get("retry-after", "")
    retry_after = float(hint) if hint.replace(".", "", 1).isdecimal() else None
    try:
        told = orjson.loads(answer.content)
        error = told.get("error", told)
        said, code = str(error["message"]), str(error.get("code", ""))
    except (ValueError, LookupError, AttributeError, TypeError):
        said, code = answer.text, None
    raise of_status(answer.status_code, said, doing, retry_after, code)


@contextmanager
def readable(doing: str, next_step: str) -> Iterator[None]:
    """Raise Unavailable, with this next step, if what the service answered inside is not what it documents."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ResponseParsingError) as error:
        raise Unavailable(f"Pinecone could not {doing}: its answer cannot be read", next_step=next_step) from error


def instant(text: str) -> datetime:
    """Return a time that the service tells; one without a zone is UTC. Raises ValueError or TypeError for others."""
    told = datetime.fromisoformat(text)
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def of_status(
    status: int, said: str, doing: str, retry_after: float | None = None, code: str | None = None
) -> StoreError:
    """Return the `StoreError` that stands for this status and the words beside it."""
    return _made(_by_status(status, said, code), said, doing, f" (status {status})", retry_after)


def _made(ours: type[StoreError], said: str, doing: str, suffix: str, retry_after: float | None) -> StoreError:
    shown = _QUOTED_METADATA.sub("got another for field", said)[:_SHOWN_CHARS]
    message = f"Pinecone could not {doing}: {shown}{suffix}"
    if issubclass(ours, Transient):
        return ours(message, retry_after=retry_after)
    return ours(message, next_step=NEXT_STEPS.get(ours))


def _by_class(error: Exception) -> type[StoreError]:
    if isinstance(error, ResponseParsingError) and _NO_VALUES in str(error):
        return UnreadableRecord
    return next(ours for theirs, ours in BY_CLASS.items() if isinstance(error, theirs))


def _by_status(status: int, said: str, code: str | None) -> type[StoreError]:
    oversized = _SIZE.search(said) is not None and "metadata" not in said.lower()
    if status == 429 and not _PACE.search(said):
        if _ALLOWANCE.search(said):
            return QuotaExhausted
        if oversized:  # gRPC says RESOURCE_EXHAUSTED for a message that is too long, too
            return TooLarge
    if status == 400 and oversized:
        return TooLarge
    if status == 400 and _DIMENSION.search(said):
        return WrongDimension
    if status == 403 and (code == "QUOTA_EXCEEDED" or _QUOTA.search(said)):
        return QuotaExhausted
    if status == 404 and "namespace" in said.lower():
        return AbsentNamespace
    if status in BY_STATUS:
        return BY_STATUS[status]
    return Unavailable if status >= 500 else BadRequest
