"""Every state and every edge of a job, a move, a batch and a target, with its cause. The only place that knows them.

The job table, its triggers, the CLI, the docs diagram and the tests read these tables. *Pausing*: somebody asked for a
pause; *paused*: the pause has begun. The same holds for cancelling and rolling back.
"""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    PLANNED = "planned"
    RUNNING = "running"
    COPIED = "copied"
    VERIFIED = "verified"
    CUT_OVER = "cut_over"
    CLEANING = "cleaning"
    CLEANED = "cleaned"
    FINISHED = "finished"
    NEEDS_ATTENTION = "needs_attention"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class MoveState(StrEnum):
    PENDING = "pending"
    LISTING = "listing"
    COPYING = "copying"
    COPIED = "copied"
    MISMATCHED = "mismatched"
    REPAIRING = "repairing"
    PARKED = "parked"
    VERIFIED = "verified"
    CLEANING = "cleaning"
    CLEANED = "cleaned"
    ROLLED_BACK = "rolled_back"


class BatchState(StrEnum):
    READY = "ready"
    DISPATCHED = "dispatched"
    LEASED = "leased"
    DONE = "done"
    SPLIT = "split"
    PARKED = "parked"


class CheckState(StrEnum):
    """State of a target."""

    WAITING = "waiting"
    CHECKING = "checking"
    VERIFIED = "verified"
    MISMATCHED = "mismatched"
    EMPTY = "empty"


class BatchKind(StrEnum):
    """Work that a worker does with a leased batch. Most kinds work on a copy batch's ids."""

    LIST = "list"  # page through a source namespace; each group of pages becomes one copy batch
    COPY = "copy"  # fetch → enrich → upsert
    VERIFY = "verify"  # read the target's records back and compare them with the tally
    SURVEY = "survey"  # list a target and compare its ids with the manifests
    QUERY = "query"  # ask both sides the same questions and compare the answers
    RECHECK = "recheck"  # read both sides again before a namespace is deleted whole
    CLEAR = "clear"  # delete a whole source namespace, or list what is left after a deletion by ids
    REMOVE = "remove"  # read both sides again and delete these ids from the source
    COMPARE = "compare"  # before rolling back: find records at the target that changed since we wrote them
    UNDO = "undo"  # delete from the target the records that we wrote and nobody changed
    DROP = "drop"  # delete a target namespace that we created and that is empty again


Edges = Mapping[StrEnum, Mapping[StrEnum, str]]

_J, _M, _B, _C = JobState, MoveState, BatchState, CheckState

JOB_EDGES: Mapping[JobState, Mapping[JobState, str]] = {
    _J.PLANNED: {
        _J.RUNNING: "the dispatcher starts it",
        _J.CANCELLING: "a person drops it before it starts",
    },
    _J.RUNNING: {
        _J.COPIED: "every batch of every move is copied",
        _J.NEEDS_ATTENTION: "a batch is parked and nothing else is left to copy",
        _J.PAUSING: "a person, a quota, a refused key or a budget asks for a pause",
        _J.CANCELLING: "a person gives it up",
    },
    _J.COPIED: {
        _J.VERIFIED: "every target was read back and found equal",
        _J.RUNNING: "a repair, a retry, another pass or a late write opens batches again",
        _J.NEEDS_ATTENTION: "a target differs beyond repair, or parked records wait for a decision",
        _J.PAUSING: "a person, a quota, a refused key or a budget asks for a pause",
        _J.CANCELLING: "a person gives it up",
        _J.ROLLING_BACK: "a person goes back",
    },
    _J.VERIFIED: {
        _J.COPIED: "a person asks for another pass or verification, or a late write voids a verdict",
        _J.CUT_OVER: "a person or the policy moves all readers to the new side",
        _J.CLEANING: "the plan needs no cut-over, and a person or the policy deletes the old",
        _J.FINISHED: "a person keeps both sides",
        _J.CANCELLING: "a person gives it up",
        _J.ROLLING_BACK: "a person goes back",
    },
    _J.CUT_OVER: {
        _J.VERIFIED: "a person reverses the cut-over",
        _J.COPIED: "a person asks for another pass or verification, or a late write voids a verdict",
        _J.CLEANING: "a person or the policy deletes the old, after the soak time",
        _J.FINISHED: "a person keeps both sides",
        _J.ROLLING_BACK: "a person goes back",
    },
    _J.CLEANING: {
        _J.CLEANED: "every source is confirmed gone",
        _J.NEEDS_ATTENTION: "a source changed or a batch is parked: what is left stays",
        _J.PAUSING: "a person, a quota, a refused key or a budget asks for a pause",
    },
    _J.NEEDS_ATTENTION: {
        _J.RUNNING: "batches were released by `retry`",
        _J.COPIED: "the differences were accepted, or a person asks for another pass or verification",
        _J.CLEANING: "clean-up was asked for again",
        _J.FINISHED: "a person keeps the sources that a clean-up left",
        _J.ROLLING_BACK: "a person goes back",
        _J.CANCELLING: "a person gives it up",
    },
    _J.PAUSING: {
        _J.PAUSED: "the last batch in flight has ended",
        _J.RUNNING: "a person resumes it before the pause took hold",
        _J.COPIED: "a person resumes it before the pause took hold",
        _J.CLEANING: "a person resumes it before the pause took hold",
        _J.ROLLING_BACK: "a person resumes it before the pause took hold",
        _J.CANCELLING: "a person gives it up",
    },
    _J.PAUSED: {
        _J.RUNNING: "a person resumes it",
        _J.COPIED: "a person resumes it, or asks for another pass or verification within its clean-up",
        _J.CLEANING: "a person resumes it",
        _J.ROLLING_BACK: "a person resumes it",
        _J.CANCELLING: "a person gives it up",
    },
    _J.CANCELLING: {_J.CANCELLED: "the last batch in flight has ended"},
    _J.CANCELLED: {_J.ROLLING_BACK: "a person removes what was written so far"},
    _J.ROLLING_BACK: {
        _J.ROLLED_BACK: "everything we wrote is gone from the targets",
        _J.NEEDS_ATTENTION: "records changed since we wrote them, or a batch is parked",
        _J.PAUSING: "a person, a quota, a refused key or a budget asks for a pause",
    },
    _J.CLEANED: {},
    _J.FINISHED: {_J.ROLLING_BACK: "a person removes what was written"},
    _J.ROLLED_BACK: {_J.ROLLING_BACK: "a frozen worker woke up and wrote: its write is removed too"},
}

MOVE_EDGES: Mapping[MoveState, Mapping[MoveState, str]] = {
    _M.PENDING: {_M.LISTING: "the job starts", _M.ROLLED_BACK: "the job is rolled back"},
    _M.LISTING: {
        _M.COPYING: "the last page of ids is listed",
        _M.COPIED: "the last page is listed and every batch is settled already",
        _M.PARKED: "its listing failed beyond retry",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.COPYING: {
        _M.COPIED: "its last batch is settled",
        _M.PARKED: "its last open batch is parked",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.COPIED: {
        _M.LISTING: "another pass reads its source again",
        _M.COPYING: "a person retries its parked records",
        _M.VERIFIED: "each target it wrote to is verified",
        _M.MISMATCHED: "a target it wrote to differs",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.MISMATCHED: {
        _M.REPAIRING: "its differing batches are copied again",
        _M.COPIED: "its targets are verified again, or the tenant of those that differ is erased",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.REPAIRING: {
        _M.COPIED: "its last batch is settled again",
        _M.PARKED: "its last open batch is parked",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.PARKED: {
        _M.LISTING: "a person retries its listing",
        _M.COPYING: "a person retries its parked batches",
        _M.CLEANING: "a person retries its clean-up",
        _M.COPIED: "a person lets what is parked of it stay behind, or asks for another pass or verification",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.VERIFIED: {
        _M.LISTING: "it wrote nothing, and another pass reads its source again",
        _M.COPYING: "a person retries its parked records",
        _M.COPIED: "a verdict of one of its targets became void or stale",
        _M.CLEANING: "its source is being deleted",
        _M.ROLLED_BACK: "the job is rolled back",
    },
    _M.CLEANING: {
        _M.CLEANED: "its source is confirmed gone",
        _M.PARKED: "a guard refused one of its batches",
        _M.COPIED: "a person asks for another pass or verification before it is asked to be deleted",
    },
    _M.CLEANED: {},
    _M.ROLLED_BACK: {},
}

BATCH_EDGES: Mapping[BatchState, Mapping[BatchState, str]] = {
    _B.READY: {
        _B.DISPATCHED: "the dispatcher sends its wake-up",
        _B.LEASED: "a worker that has just finished a batch goes on with it",
        _B.PARKED: "its workers stopped answering too often",
    },
    _B.DISPATCHED: {
        _B.LEASED: "a worker takes it",
        _B.READY: "its wake-up was lost, or its job is pausing",
    },
    _B.LEASED: {
        _B.DONE: "its work and its results are committed",
        _B.READY: "its lease ran out, or it is tried again after a wait",
        _B.SPLIT: "it was too large: its two parts are ready",
        _B.PARKED: "it is beyond retry",
    },
    _B.DONE: {_B.READY: "a repair or another pass copies it again, or a stopped clean-up proves it again"},
    _B.PARKED: {_B.READY: "a person retries it", _B.DONE: "a person lets its records stay behind"},
    _B.SPLIT: {},
}

_WRITTEN = "it was written to, its verdict is stale, or a person asks for another verification"
_ERASED = "its tenant is erased: nothing of it is to be proven"

CHECK_EDGES: Mapping[CheckState, Mapping[CheckState, str]] = {
    _C.WAITING: {_C.CHECKING: "every move that writes to it is copied"},
    _C.CHECKING: {
        _C.VERIFIED: "it holds exactly what was written, and equal",
        _C.MISMATCHED: "it differs from what was written",
        _C.EMPTY: "nothing was written to it, or its tenant is erased",
        _C.WAITING: "it was written to, records of it are erased, or a person goes back or verifies again",
    },
    _C.VERIFIED: {_C.WAITING: _WRITTEN, _C.EMPTY: _ERASED},
    _C.MISMATCHED: {
        _C.WAITING: "a repair wrote to it, records of it are erased, or a person asks for another verification",
        _C.EMPTY: _ERASED,
    },
    _C.EMPTY: {_C.WAITING: _WRITTEN},
}

JOB_ENDED = frozenset({_J.CLEANED, _J.FINISHED, _J.CANCELLED, _J.ROLLED_BACK})
JOB_WORKING = frozenset({_J.RUNNING, _J.COPIED, _J.CLEANING, _J.ROLLING_BACK})
JOB_PAUSABLE = frozenset(state for state, edges in JOB_EDGES.items() if _J.PAUSING in edges)
CHECK_PASSED = frozenset({_C.VERIFIED, _C.EMPTY})
BATCH_OPEN = frozenset({_B.READY, _B.DISPATCHED, _B.LEASED})
BATCH_IN_FLIGHT = frozenset({_B.DISPATCHED, _B.LEASED})

COPYING = (BatchKind.LIST, BatchKind.COPY)
CHECKING = (BatchKind.VERIFY, BatchKind.SURVEY, BatchKind.QUERY)
CLEANING = (BatchKind.RECHECK, BatchKind.CLEAR, BatchKind.REMOVE)
ROLLING_BACK = (BatchKind.COMPARE, BatchKind.UNDO, BatchKind.DROP)

KINDS_OF: Mapping[JobState, frozenset[BatchKind]] = {
    _J.RUNNING: frozenset({*COPYING, *CHECKING}),
    _J.COPIED: frozenset(CHECKING),
    _J.CLEANING: frozenset(CLEANING),
    _J.ROLLING_BACK: frozenset(ROLLING_BACK),
}
"""Kinds of batch that may be leased, by job state. Pausing or cancelling a job stops the leasing, never a call."""


def why(state: JobState, to: JobState) -> str | None:
    """Return the sentence on the edge from one job state to another, or None if there is no such edge."""
    return JOB_EDGES[state].get(to)


def reason_of_edge(machine: str, state: str | None, to: str) -> str | None:
    """Return the sentence on an edge of a machine; None if there is no such edge."""
    edges: Mapping[str, Mapping[str, str]] = {
        "job": JOB_EDGES,
        "move": MOVE_EDGES,
        "batch": BATCH_EDGES,
        "target": CHECK_EDGES,
    }[machine]  # type: ignore[assignment]
    return edges.get(state or "", {}).get(to)


QUEUES = ("control", "copy", "verify", "cleanup")
"""Queues in Redis that hand out batches."""

PROBE = "vecfleet:probe"
"""Key beside the queues that a process writes for a second to test whether Redis accepts writes."""
