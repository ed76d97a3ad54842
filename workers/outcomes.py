"""Outcomes of batches as Celery's monitors show them: one of their states, and a sentence. Pure.

The job table does not depend on these outcomes. A service may quote a record in an error: its words stay in the job
table, and the sentence here names only the kind of error.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.core.model import CopyOutcome, Lease
from orchestrator.core.wording import ONCE_GONE
from vecfleet.errors import StoreError


class State(StrEnum):
    """The words of Celery, the worst one last."""

    SUCCESS = "SUCCESS"
    RETRY = "RETRY"
    FAILURE = "FAILURE"


_WORDS = {
    "listed": "listed",
    "copied": "copied",
    "unchanged": "unchanged",
    "count": "read back",
    "queries": "asked",
    "missing": "missing",
    "different": "different",
    "extra": "extra",
    "proven": "proven",
    "changed": "changed",
    "deleted": "deleted",
    "removed": "removed",
    "dropped": "dropped",
    "identical": "identical",
    "gone": "gone",
    "left_behind": "left behind",
    "parked": "parked",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`goes_on`: nothing is wrong with the batch, and it is not due now, so its worker may take the next batch."""

    state: State
    text: str
    goes_on: bool = False


LEASE_LOST = Outcome(State.RETRY, "the lease was lost; another worker repeats the batch")
UNRECORDED = Outcome(State.RETRY, "the job table does not answer; the batch is retried once its lease has expired")
UNTOLD = Outcome(State.RETRY, "its worker could not record what became of it; it is retried once its lease has expired")
UNBEGUN = Outcome(State.RETRY, "the job table does not answer; the wake-up is sent again")
SPLIT = Outcome(State.SUCCESS, "too large: split in two")


def copied(outcome: CopyOutcome) -> dict[str, object]:
    """Return the counts of a copy: records written now, records that were there before, records not written."""
    if outcome.keeps:
        return {}
    sent = outcome.changed - outcome.removed
    return {
        "copied": sent,
        "unchanged": outcome.written - sent,
        "removed": outcome.removed,
        "identical": outcome.identical,
        "gone": outcome.gone,
        "left_behind": outcome.left_behind,
        "parked": len(outcome.parked),
    }


def done(lease: Lease, counts: Mapping[str, object], seconds: float) -> Outcome:
    """Return the outcome of a batch that is done. It counts as a failure if the batch parked records for a person."""
    numbers = {word: _number(counts.get(name)) for name, word in _WORDS.items()}
    shown = [f"{word} {number:,}" for word, number in numbers.items() if number]
    text = ", ".join([*(shown or ["nothing to do"]), f"{seconds:.1f} s"])
    if numbers["parked"]:
        return Outcome(State.FAILURE, f"{text}: `vecfleet park list {lease.job_id}` says why", goes_on=True)
    return Outcome(State.SUCCESS, text, goes_on=True)


def _number(value: object) -> int:
    return len(value) if isinstance(value, list) else int(value) if isinstance(value, int) else 0


def again(reason: str, after_seconds: float) -> Outcome:
    return Outcome(State.RETRY, f"{reason}; again {f'in {after_seconds:.0f} s' if after_seconds >= 1 else 'at once'}")


def later(reason: str, after_seconds: float) -> Outcome:
    """Return the outcome of a batch that waits for a moment, such as that from which reads show a deletion."""
    return replace(again(reason, after_seconds), goes_on=after_seconds > 0)


def parked(lease: Lease, reason: str) -> Outcome:
    step = f"`vecfleet retry {lease.job_id} failed --batch {lease.id}`"
    return Outcome(State.FAILURE, f"{reason}; parked: {step}{ONCE_GONE}")


def pausing(lease: Lease, reason: str) -> Outcome:
    step = f"`vecfleet resume {lease.job_id}`"
    return Outcome(State.FAILURE, f"{reason}; job {lease.job_id} pauses: {step}{ONCE_GONE}")


def told_by(error: Exception, text: str) -> str:
    """Return the reason in our own words: `text`, or what a vector store's error means."""
    if isinstance(error, StoreError):
        return f"{type(error).__name__}: {inspect.cleandoc(type(error).__doc__ or '').rstrip('.')}"
    return text
