"""Decide what follows a failure: a pure table from (error, attempts) to a decision. Nothing here sleeps.

error                                     decision
RateLimited, Unavailable                  retry after the service's hint, at least a second, for as long as the outage
                                          or limit lasts; no attempt is spent, so the wait does not grow
TimedOut, any other Transient             retry after a wait that doubles; park after `MAX_ATTEMPTS`
TooLarge                                  the batch is split in two; a single record is parked
NeedsOperator (key, quota, dimension)     the job pauses with the sentence that helps; no attempt is spent
Unreachable (our own Postgres or Redis)   retry shortly; no attempt is spent
BadPlan (of a newer version than this)    retry every half minute, until a worker can read it; no attempt is spent
anything else                             park at once: no retry helps
"""

from dataclasses import dataclass

from vecfleet.errors import (
    BadPlan,
    NeedsOperator,
    RateLimited,
    TooLarge,
    Transient,
    Unavailable,
    Unreachable,
    VecfleetError,
    in_a_sentence,
)

# With waits of 1, 2, 4 … 60 s the attempts last about three minutes, besides the waits within each attempt.
MAX_ATTEMPTS = 8
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_OTHER_VERSION_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Again:
    """Retry after `after_seconds`."""

    after_seconds: float
    spends_attempt: bool = True


@dataclass(frozen=True, slots=True)
class Split:
    """Halve the batch."""


@dataclass(frozen=True, slots=True)
class Park:
    """Set the batch aside with its reason, for a person."""


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Pause the whole job with this reason: no retry helps until a person acts."""

    reason: str


Decision = Again | Split | Park | PauseJob


def decide(error: Exception, *, attempts: int, size: int, jitter: float) -> Decision:
    """Return what follows `error`.

    `attempts`: made so far, this one included. `size`: ids in the batch. `jitter`: in [0, 1).
    """
    match error:
        case NeedsOperator():
            return PauseJob(_told(error))
        case Unreachable():
            return Again(_wait(attempts, jitter), spends_attempt=False)
        case TooLarge() if size > 1:
            return Split()
        case Unavailable() | RateLimited():
            # An outage or a limit is no fault of this batch: it is retried until the outage ends, and shows why it
            # waits.
            return Again(max(_wait(attempts, jitter), error.retry_after or 0), spends_attempt=False)
        case Transient() if attempts < MAX_ATTEMPTS:
            return Again(max(_wait(attempts, jitter), error.retry_after or 0))
        case BadPlan():
            # The batch has no fault: the next worker may have the version that can read its plan.
            return Again(_OTHER_VERSION_WAIT_S * (1 + jitter / 4), spends_attempt=False)
        case _:
            return Park()


def _wait(attempts: int, jitter: float) -> float:
    """Return a wait that doubles with each spent attempt: 1 s for the first."""
    return float(min(_FIRST_WAIT_S * 2 ** max(attempts - 1, 0), _LONGEST_WAIT_S)) * (1 + jitter / 4)


def describe(error: Exception) -> tuple[str, str]:
    """Return the error's class and the sentence to keep with the batch.

    The text of a foreign error may quote a record: only its class is kept.
    """
    if isinstance(error, VecfleetError):
        return type(error).__name__, _told(error)
    log = "the worker's log has the traceback (of `vecfleet up`: logs/worker-N.log under VECFLEET_HOME)"
    return type(error).__name__, f"an unexpected {type(error).__name__}; {log}"


def _told(error: VecfleetError) -> str:
    return f"{error.message}; {in_a_sentence(error.next_step)}" if error.next_step else error.message
