"""Errors: one tree of ours, and one table by which each of the SDK's errors finds its place in it."""

import inspect

import httpx
import pinecone
import pinecone.errors.exceptions
import pytest
from pinecone import ApiError, PineconeError

from vecfleet import errors
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
    VecfleetError,
    WrongDimension,
)
from vecfleet.stores.pinecone.errors import BY_CLASS, BY_STATUS, require_ok, translated, understood

OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, VecfleetError)]


def derived(kind: type[PineconeError]) -> set[type[PineconeError]]:
    return set(kind.__subclasses__()).union(*map(derived, kind.__subclasses__()))


@pytest.mark.parametrize("kind", OURS)
def test_every_error_of_ours_says_something_by_itself_and_stands_in_the_drawn_tree(kind: type[VecfleetError]) -> None:
    assert kind().message
    assert f" {kind.__name__} " in errors.__doc__.replace("\n", " ") or kind is VecfleetError


def test_every_error_class_of_the_sdk_has_a_place_in_the_table() -> None:
    """Fails when the SDK grows an error we have not thought about."""
    by_status = {
        pinecone.UnauthorizedError: 401,
        pinecone.PaymentRequiredError: 402,
        pinecone.ForbiddenError: 403,
        pinecone.NotFoundError: 404,
        pinecone.ConflictError: 409,
        pinecone.FailedPreconditionError: 412,
        pinecone.PayloadTooLargeError: 413,
        pinecone.RateLimitError: 429,
    }

    assert derived(PineconeError) == {ApiError, pinecone.ServiceError, *by_status, *BY_CLASS} & derived(PineconeError)
    assert set(by_status.values()) <= set(BY_STATUS)


PER_SECOND = "Request failed. You've reached the max fetch requests per second for index x. Pace your requests."
QPS = "Request failed. You've reached the upsert QPS limit for namespace ns (100 QPS). Pace your upsert requests."
DIMENSION = "Vector dimension 3 does not match the dimension of the index 4"
MONTHLY = "You've reached your read unit limit for the current month. To continue reading data, upgrade your plan."


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (429, PER_SECOND, RateLimited),
        (429, QPS, RateLimited),
        (429, "Too busy", RateLimited),
        (429, MONTHLY, QuotaExhausted),
        (429, "You've used up the egress of your plan", QuotaExhausted),
        (429, "Received message larger than max (5 vs. 4)", TooLarge),
        (401, "Invalid API Key", KeyRefused),
        (402, "Payment required", QuotaExhausted),
        (403, "Your key may not write", KeyRefused),
        (403, "You've reached the max namespaces limit (100)", QuotaExhausted),
        (404, "Index not found", Missing),
        (408, "Timeout", TimedOut),
        (409, "Exists", Conflict),
        (412, "Not ready", Conflict),
        (413, "", TooLarge),
        (414, "URI too long", TooLarge),
        (400, "Error, message length too large: found 4194305 bytes, the limit is: 4194304 bytes", TooLarge),
        (400, "Request is larger than the maximum supported size - 2MB", TooLarge),
        (400, "Metadata is too large: 41000 bytes, the limit is 40960 bytes per vector", BadRequest),
        (400, DIMENSION, WrongDimension),
        (418, "Teapot", BadRequest),
        (422, "Unprocessable", BadRequest),
        (500, "Internal", Unavailable),
        (503, "Down", Unavailable),
        (504, "Gateway timeout", TimedOut),
    ],
)
def test_a_status_with_its_words_is_understood(status: int, said: str, expected: type[StoreError]) -> None:
    error = understood(ApiError(said, status), "fetch 3 records")

    assert type(error) is expected
    assert error.message.startswith("Pinecone could not fetch 3 records: ")
    assert f"(status {status})" in error.message


def test_errors_without_a_status_are_understood_by_their_class() -> None:
    assert isinstance(understood(pinecone.PineconeTimeoutError("late"), "list"), TimedOut)
    assert isinstance(understood(pinecone.PineconeConnectionError("refused"), "list"), Unavailable)
    assert isinstance(understood(pinecone.PineconeValueError("id too long"), "list"), BadRequest)
    assert isinstance(understood(pinecone.ResponseParsingError("not JSON"), "list"), Unavailable)
    assert isinstance(understood(httpx.InvalidURL("too long"), "list"), TooLarge)
    assert isinstance(understood(PineconeError("ABORTED"), "list"), Unavailable)


def test_the_wait_that_the_service_asks_for_is_kept() -> None:
    error = understood(pinecone.RateLimitError(PER_SECOND, retry_after=2.5), "list")

    assert isinstance(error, Transient)
    assert error.retry_after == 2.5


@pytest.mark.parametrize("told", ["9" * 400, "31536000"], ids=["no number at all", "a year"])
def test_no_service_makes_anybody_wait_longer_than_a_day(told: str) -> None:
    with pytest.raises(RateLimited) as limited:
        require_ok(httpx.Response(429, headers={"retry-after": told}), "list")
    assert limited.value.retry_after == 86_400


def test_what_only_a_person_can_change_comes_with_the_next_step() -> None:
    for status, said in ((401, "no"), (429, MONTHLY), (403, "quota"), (400, DIMENSION)):
        assert understood(ApiError(said, status), "list").next_step


def test_an_error_holds_no_metadata() -> None:
    said = "Metadata value must be a string, got '{\"diary\":\"dear' for field 'diary'"

    assert "dear" not in understood(ApiError(said, 400), "upsert").message
    assert "'diary'" in understood(ApiError(said, 400), "upsert").message


def test_other_errors_pass_untranslated() -> None:
    with pytest.raises(ZeroDivisionError), translated("divide"):
        _ = 1 / 0
