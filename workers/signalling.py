"""Celery's signals of each batch, for receivers of somebody's own: `task_success`, `task_retry` and `task_failure`.

To Celery every wake-up succeeds: it would send `task_success` of batches that failed, too. So it sends none, and each
batch has the signal of the state that Flower shows. A receiver that raises is logged by Celery, and changes nothing.
"""

from typing import Any

from celery import signals
from celery.app import trace
from celery.exceptions import Retry
from celery.utils.dispatch import Signal

from orchestrator.core.model import Wakeup
from orchestrator.queue import TASKS, app, task_id
from workers.outcomes import State

_SIGNALS: dict[State, Signal] = {
    State.SUCCESS: signals.task_success,
    State.RETRY: signals.task_retry,
    State.FAILURE: signals.task_failure,
}


class BatchFailed(Exception):
    """A batch waits for a person. The text is the sentence that Flower shows."""


def silence_wake_ups() -> None:
    """Keep Celery from sending `task_success` of wake-ups."""
    trace.send_success = lambda **_: None


def send(wakeup: Wakeup, state: State, text: str, seconds: float) -> None:
    """Send the signal of a batch's end, with the arguments of Celery's own; the sender's request has the batch's id."""
    signal = _SIGNALS[state]
    if not signal.receivers:
        return
    task = app.tasks[TASKS[wakeup.kind][0]]
    arguments = [wakeup.batch_id, wakeup.generation]
    task.push_request(id=task_id(wakeup), args=arguments, kwargs={})
    try:
        if state is State.SUCCESS:
            signal.send(sender=task, result=text, runtime=seconds)
        elif state is State.RETRY:
            reason = Retry(text)
            signal.send(sender=task, request=task.request, reason=reason, einfo=_info(reason))
        else:
            error = BatchFailed(text)
            einfo = _info(error)
            of = {"task_id": task.request.id, "args": arguments, "kwargs": {}, "traceback": error.__traceback__}
            signal.send(sender=task, exception=error, einfo=einfo, **of)
    finally:
        task.pop_request()


def _info(error: Exception) -> Any:
    """Return what receivers know a failure by. Its traceback begins and ends here: what a service said is not in it."""
    try:
        raise error
    except type(error):
        return trace.ExceptionInfo()
