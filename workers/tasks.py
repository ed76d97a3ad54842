"""The Celery tasks, thin: a name, a batch id and its generation. Start with `celery -A workers.tasks worker`.

`acks_late` and a lease make a task safe to lose and to deliver twice; see `runner.run`.
"""

from celery import signals
from kombu.transport import TRANSPORT_ALIASES

from orchestrator import logs
from orchestrator.queue import TASKS, app
from vecfleet.settings import Settings
from workers.process import leave_after, process
from workers.runner import run

celery = app
celery.conf.worker_consumer = "workers.consuming:Consumer"
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "workers.consuming:Transport")


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _configure(loglevel: int, **_: object) -> None:
    logs.configure(Settings.load(), loglevel)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _leave(**_: object) -> None:
    leave_after(Settings.load().worker_grace_seconds)


def _work(batch_id: int, generation: int) -> None:
    """Work one batch; safe to repeat."""
    run(process(), batch_id, generation, celery.amqp.queues.consume_from)


for name, _ in TASKS.values():  # the sender of a wake-up names its queue
    app.task(_work, name=name, acks_late=True, ignore_result=True)
