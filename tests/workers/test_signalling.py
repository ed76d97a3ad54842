"""Receivers of Celery's signals hear of each batch what Flower shows of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals

import workers.tasks  # as `celery -A workers` loads it
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind
from workers import signalling
from workers.outcomes import State

assert workers.tasks

WAKEUP = Wakeup(1042, 3, BatchKind.COPY, job_id=17, namespace="alma", seq=2, of=5)
UUID = "j17.alma.copy2.b1042.g3"
NAMES = ("task_success", "task_retry", "task_failure")


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """Each signal that was sent: its name, the id that the sender works on, its arguments."""
    told: list[tuple[str, str, dict[str, Any]]] = []
    receivers = {name: _receiver(name, told) for name in NAMES}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    yield told
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)


def _receiver(name: str, told: list[tuple[str, str, dict[str, Any]]]) -> Any:
    def hear(sender: Any, signal: object, **said: Any) -> None:
        assert sender.name == "vecfleet.copy_batch"
        told.append((name, sender.request.id, said))

    return hear


def test_a_batch_that_is_done_is_a_success(heard: list[Any]) -> None:
    signalling.send(WAKEUP, State.SUCCESS, "copied 125, 0.8 s", 0.8)
    assert heard == [("task_success", UUID, {"result": "copied 125, 0.8 s", "runtime": 0.8})]


def test_a_batch_that_will_be_tried_again_is_a_retry(heard: list[Any]) -> None:
    signalling.send(WAKEUP, State.RETRY, "RateLimited: too fast; again in 4 s", 0.8)
    [(name, _, said)] = heard
    assert (name, said["request"].id, said["request"].args) == ("task_retry", UUID, [1042, 3])
    assert str(said["reason"]) == "RateLimited: too fast; again in 4 s"


def test_a_batch_that_waits_for_a_person_is_a_failure(heard: list[Any]) -> None:
    signalling.send(WAKEUP, State.FAILURE, "Conflict: parked", 0.8)
    [(name, _, said)] = heard
    assert (name, said["task_id"], said["args"], said["kwargs"]) == ("task_failure", UUID, [1042, 3], {})
    assert str(said["exception"]) == "Conflict: parked"
    assert "BatchFailed: Conflict: parked" in str(said["einfo"])
    assert said["traceback"] is not None


def test_a_receiver_that_raises_is_no_matter_of_the_batch(heard: list[Any]) -> None:
    def fall(**_: object) -> None:
        raise RuntimeError("a receiver of somebody's own")

    signals.task_failure.connect(fall)
    signalling.send(WAKEUP, State.FAILURE, "Conflict: parked", 0.8)
    signals.task_failure.disconnect(fall)
    assert [name for name, *_ in heard] == ["task_failure"]
