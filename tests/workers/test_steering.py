"""A command to running workers that names no queue of the fleet's is refused: Celery would say that all is well."""

import pytest
from celery.worker.control import Panel

import workers.tasks  # as `celery -A workers` loads it

assert workers.tasks


@pytest.mark.parametrize("command", ["add_consumer", "cancel_consumer"])
def test_a_queue_that_the_fleet_does_not_have_is_refused(command: str) -> None:
    nobody = object()  # it is not asked
    assert Panel.data[command](nobody, queue="cpoy") == {
        "error": "there is no queue cpoy; it is one of control, copy, verify, cleanup"
    }
