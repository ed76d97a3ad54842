"""Events for Celery's monitors, Flower among them: each batch is shown as a task of its own, in its state.

Shown states are events, and nothing depends on them. For Celery every wake-up succeeds, so its message is acknowledged
once and never given back. A stale wake-up shows nothing. A further batch that a worker took without a wake-up is shown
as a child of the first one.

A pool of threads shows each batch as it begins and ends. A forked process cannot reach the worker's connection: there
only the wake-up is shown, when it is taken and when it ends, and its end stands for all its batches.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from celery.worker import request, state

from orchestrator.core.model import Lease
from orchestrator.core.wording import went_on
from orchestrator.queue import TASKS, args_text, kwargs_text, task_id, wakeup_of
from workers import signalling
from workers.outcomes import UNTOLD, Outcome, State

_EVENTS = {State.SUCCESS: "task-succeeded", State.RETRY: "task-retried", State.FAILURE: "task-failed"}
_SEVERITY = list(State)


class Request(request.Request):  # type: ignore[misc]
    """Celery's request, except for its events."""

    def send_event(self, type: str, **fields: Any) -> None:
        """Show Celery's own event of the wake-up, unless its batches are shown instead; never a traceback of ours."""
        if self.works_here and type in ("task-started", "task-succeeded"):
            return
        fields.pop("traceback", None)
        if type == "task-started":
            self.show("task-received", self.id, self._named)
        elif type == "task-succeeded":
            word, _, text = str(fields.pop("result")).partition(" ")
            type, fields = _EVENTS[State(word)], fields | _told(State(word), text)
        elif type == "task-failed":  # the process was killed, or our own code raised
            type, fields = _EVENTS[UNTOLD.state], _told(UNTOLD.state, UNTOLD.text)
        self.show(type, self.id, self._named | fields)

    @property
    def works_here(self) -> bool:
        """Say whether this very process works on the wake-up, or is about to."""
        return self.worker_pid in (None, os.getpid())

    @property
    def _named(self) -> dict[str, Any]:
        return {"name": self.name, "args": self.argsrepr, "kwargs": self.kwargsrepr}

    def show(self, type: str, uuid: str, fields: Mapping[str, Any]) -> None:
        """Send an event to the monitors, if there are any. Never raises while the broker is away."""
        if self.eventer is not None:
            self.eventer.send(type, uuid=uuid, **fields)


class Batches:
    """The batches of one wake-up, as its worker works on them."""

    def __init__(self, wakeup_id: str) -> None:
        taken = state.requests.get(wakeup_id)
        self._request = taken if isinstance(taken, Request) and taken.worker_pid == os.getpid() else None
        self._first: str | None = None
        self._began = 0.0
        self._outcomes: list[Outcome] = []

    def began(self, lease: Lease) -> None:
        self._began = time.monotonic()
        wakeup = wakeup_of(lease)
        uuid = task_id(wakeup)
        self._first = self._first or uuid
        if self._request is not None:
            shown = {"name": TASKS[lease.kind][0], "args": args_text(wakeup), "kwargs": kwargs_text(wakeup)}
            parent = None if uuid == self._first else self._first
            of = {"root_id": self._first, "parent_id": parent, "retries": max(lease.attempts - 1, 0)}
            self._request.show("task-received", uuid, shown | of)
            self._request.show("task-started", uuid, {})

    def ended(self, lease: Lease, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        wakeup, seconds = wakeup_of(lease), time.monotonic() - self._began
        if self._request is not None:
            fields = _told(outcome.state, outcome.text) | {"runtime": seconds}
            self._request.show(_EVENTS[outcome.state], task_id(wakeup), fields)
        signalling.send(wakeup, outcome.state, outcome.text, seconds)

    def unbegun(self, outcome: Outcome) -> None:
        """Show why no batch could be leased."""
        self._outcomes.append(outcome)
        if self._request is not None:
            fields = _told(outcome.state, outcome.text)
            self._request.send_event(_EVENTS[outcome.state], **fields)

    @property
    def result(self) -> "Result":
        """Return the outcome of the whole wake-up: its worst one, and how many batches followed the first."""
        if not self._outcomes:
            return Result(State.SUCCESS, "nothing to do: the batch was done, or is another worker's")
        worst = max(self._outcomes, key=lambda outcome: _SEVERITY.index(outcome.state))
        return Result(worst.state, worst.text + went_on(len(self._outcomes) - 1))


class Result:
    """The return value of a task. Celery takes its text from a forked process to the one that shows it."""

    def __init__(self, state: State, text: str) -> None:
        self._text = f"{state} {text}"

    def __repr__(self) -> str:
        return self._text


def _told(state: State, text: str) -> dict[str, Any]:
    """Return the fields of an end: the sentence as `result`, which Flower lists, and as `exception` after a failure."""
    return {"result": text} if state is State.SUCCESS else {"result": text, "exception": text}
