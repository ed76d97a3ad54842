"""The Celery tasks, thin: a name, a batch id and its generation. Start with `celery -A workers worker`.

`acks_late` and a lease make a task safe to lose and to deliver twice; see `runner.run`.
"""

import structlog
from celery import Task, signals
from celery.app import trace
from celery.concurrency import ALIASES
from kombu.transport import TRANSPORT_ALIASES

from orchestrator.queue import TASKS, app
from orchestrator.telemetry import logs, tracing
from vecfleet.errors import Unreachable
from vecfleet.settings import Settings
from workers import outcomes, signalling, starting, steering
from workers.process import leave_after, process
from workers.runner import run
from workers.showing import Batches, Result

log = structlog.get_logger("vecfleet.worker")

celery = app
celery.conf.update(
    worker_consumer="workers.consuming:Consumer",
    worker_pool="threads",
    worker_concurrency=Settings.load().worker_threads,
)
TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "workers.consuming:Transport")
ALIASES["threads"] = "workers.threads:TaskPool"
# Celery would log that the task succeeded. The outcome of its batches is in the return value.
trace.LOG_SUCCESS = "Task %(name)s[%(id)s] ended in %(runtime)ss: %(return_value)s"


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _configure(loglevel: int, logfile: str | None, **_: object) -> None:
    settings = Settings.load()
    logs.configure(settings, loglevel, logfile)
    tracing.start(settings, "worker")


signals.celeryd_init.connect(starting.require_all)
steering.refuse_what_would_do_nothing()
starting.set_options()
signalling.silence_wake_ups()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _leave(**_: object) -> None:
    leave_after(Settings.load().worker_grace_seconds)


def _work(self: Task, batch_id: int, generation: int) -> Result:
    """Work one wake-up; safe to repeat. The return value is for monitors alone."""
    batches = Batches(self.request.id)
    try:
        with tracing.continued(self.request.get(tracing.HEADER)):
            run(process(), batch_id, generation, celery.amqp.queues.consume_from, batches)
    except Unreachable as error:
        log.warning("no batch was begun: its wake-up is sent again", why=error.message)
        batches.unbegun(outcomes.UNBEGUN)
    return batches.result


for name, _ in TASKS.values():
    app.task(
        _work,
        name=name,
        bind=True,
        acks_late=True,
        ignore_result=True,
        send_events=False,  # `Request` sends them
        Request="workers.showing:Request",
    )
