"""The decision after a failure: a table from error to decision, without a clock or a wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.retrying import MAX_ATTEMPTS, Again, Park, PauseJob, Split, decide, describe
from vecfleet import errors as e

HOURS = 3_600.0


def decided(error: Exception, attempts: int = 1, size: int = 10, jitter: float = 0.0) -> object:
    return decide(error, attempts=attempts, size=size, jitter=jitter)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (e.TimedOut(), Again(1.0)),
        (e.Transient(), Again(1.0)),
        (e.TimedOut(retry_after=7.0), Again(7.0)),
        (e.RateLimited(), Again(1.0, spends_attempt=False)),
        (e.RateLimited(retry_after=HOURS), Again(HOURS, spends_attempt=False)),
        (e.Unavailable(), Again(1.0, spends_attempt=False)),
        (e.Unreachable(), Again(1.0, spends_attempt=False)),
        (e.TooLarge(), Split()),
        (e.KeyRefused("401", next_step="set PINECONE_API_KEY"), PauseJob("401; set PINECONE_API_KEY")),
        (e.WrongDimension("8, not 16"), PauseJob("8, not 16")),
        (e.QuotaExhausted("the month's read units are used up"), PauseJob("the month's read units are used up")),
        (e.BadRequest(), Park()),
        (e.Missing(), Park()),
        (e.Conflict(), Park()),
        (e.WrongKind(), Park()),
        (e.Refused(), Park()),
        (KeyError("a bug of ours"), Park()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_first_failure(error: Exception, expected: object) -> None:
    assert decided(error) == expected


def test_waits_double_up_to_a_minute() -> None:
    waits = [decided(e.TimedOut(), attempts=attempts) for attempts in range(1, MAX_ATTEMPTS)]
    assert [wait.after_seconds for wait in waits if isinstance(wait, Again)] == [1, 2, 4, 8, 16, 32, 60]


def test_the_last_attempt_parks() -> None:
    assert isinstance(decided(e.TimedOut(), attempts=MAX_ATTEMPTS - 1), Again)
    assert decided(e.TimedOut(), attempts=MAX_ATTEMPTS) == Park()
    assert decided(e.TimedOut(), attempts=MAX_ATTEMPTS + 5) == Park()


@pytest.mark.parametrize("error", [e.Unreachable(), e.Unavailable(), e.RateLimited()])
def test_an_outage_is_waited_out_however_long_it_lasts(error: Exception) -> None:
    answer = decided(error, attempts=1_000)
    assert isinstance(answer, Again) and not answer.spends_attempt


def test_a_single_record_that_is_too_large_is_parked() -> None:
    assert decided(e.TooLarge(), size=2) == Split()
    assert decided(e.TooLarge(), size=1) == Park()


def test_a_pause_needs_no_attempts() -> None:
    assert isinstance(decided(e.KeyRefused(), attempts=MAX_ATTEMPTS), PauseJob)


@given(
    st.sampled_from([e.TimedOut, e.RateLimited, e.Unavailable]),
    st.integers(1, MAX_ATTEMPTS - 1),
    st.one_of(st.none(), st.floats(0, 100)),
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_shorter_than_the_service_asked_or_longer_than_it_need_be(
    kind: type[e.Transient], attempts: int, hint: float | None, jitter: float
) -> None:
    answer = decided(kind(retry_after=hint), attempts=attempts, jitter=jitter)
    assert isinstance(answer, Again)
    assert max(1.0, hint or 0) <= answer.after_seconds <= max(75.0, hint or 0)


def test_jitter_keeps_workers_from_coming_back_together() -> None:
    first, second = decided(e.TimedOut(), jitter=0.1), decided(e.TimedOut(), jitter=0.9)
    assert first != second


def test_every_error_of_the_tree_has_a_decision() -> None:
    def leaves(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(e.VecfleetError):
        if not kind.__module__.startswith(("vecfleet.", "workers.")) or kind.__module__.startswith("vecfleet.fleet."):
            continue  # raised where people and programs act; no worker meets it
        answer = decided(kind(), attempts=MAX_ATTEMPTS)
        assert isinstance(answer, Again | Split | Park | PauseJob)
        if isinstance(answer, Again):
            assert not answer.spends_attempt, f"{kind.__name__} would be tried for ever"


def test_our_own_errors_are_kept_with_their_sentence_and_foreign_ones_without_their_text() -> None:
    assert describe(e.BadRequest("the record 'a' has 3 values, not 4")) == (
        "BadRequest",
        "the record 'a' has 3 values, not 4",
    )
    kind, sentence = describe(ValueError("what the record says is nobody's business"))
    assert kind == "ValueError"
    assert "nobody" not in sentence and "log" in sentence
