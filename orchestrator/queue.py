"""The Celery app. Messages are wake-ups and nothing more: flush, restart or duplicate the queue without harm.

No retries, chords, ETA, beat or result backend: the job table is the record and the dispatcher the timer. A message
carries a batch id and its generation. Celery's tools show the job, namespace and batch i of n from the task's id and
the text of its arguments.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click
import structlog
from amqp.exceptions import AMQPError, ChannelError
from celery import Celery
from click.core import ParameterSource
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES, base
from redis.exceptions import RedisError, ResponseError

from orchestrator import rabbitmq
from orchestrator.core.model import Lease, Wakeup
from orchestrator.core.states import PROBE, QUEUES, BatchKind
from orchestrator.telemetry import tracing
from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import JOIN, Settings

log = structlog.get_logger("vecfleet.queue")

_K = BatchKind
TASKS = {
    _K.LIST: ("vecfleet.list_namespace", "control"),
    _K.COPY: ("vecfleet.copy_batch", "copy"),
    _K.VERIFY: ("vecfleet.verify_batch", "verify"),
    _K.SURVEY: ("vecfleet.survey_target", "verify"),
    _K.QUERY: ("vecfleet.ask_both_sides", "verify"),
    _K.RECHECK: ("vecfleet.recheck_batch", "cleanup"),
    _K.CLEAR: ("vecfleet.clear_namespace", "cleanup"),
    _K.REMOVE: ("vecfleet.remove_batch", "cleanup"),
    _K.COMPARE: ("vecfleet.compare_batch", "verify"),
    _K.UNDO: ("vecfleet.undo_batch", "cleanup"),
    _K.DROP: ("vecfleet.drop_namespace", "cleanup"),
}
_REDIS = {
    "ack_emulation": False,  # the job table, not Redis, remembers a taken message
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "max_connections": 64,
    "queue_order_strategy": "round_robin",
    "global_keyprefix": "vecfleet:",
}
_AMQP = {
    "confirm_publish": True,  # else RabbitMQ silently drops a message that it cannot take
    "write_timeout": int(rabbitmq.ANSWERS_WITHIN_S),
}


AWAY = (OperationalError, RedisError, AMQPError, rabbitmq.TakesNothing, OSError)
"""Errors of a broker that does not answer, or takes nothing."""

ACCOUNTS = "vecfleet_accounts"
"""The question to each worker: which named accounts of Pinecone it knows."""

# Celery reads these first. They may be another project's, or Celery's command line copied BROKER_URL there: it knows
# neither .env nor `none`. An address that was typed there, too, is refused below.
_OVERRIDES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")

_NO_BROKER = "unset://"
TRANSPORT_ALIASES["unset"] = "orchestrator.queue:NoBroker"


class NoBroker(base.Transport):
    """The broker of an app without an address. Celery's own would be a RabbitMQ on this machine, perhaps another's."""

    def establish_connection(self) -> Any:
        raise without_address()


def without_address() -> BadInput:
    return BadInput("REDIS_URL is not set", next_step=JOIN)


def _queue(name: str) -> Queue:
    """Declare a queue as Celery would by itself once a wake-up is sent there, so that a broker has no other before."""
    return Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]


def make_app(broker_url: str) -> Celery:
    for variable in _OVERRIDES:
        os.environ.pop(variable, None)
    over_amqp = broker_url.startswith("amqp")
    if over_amqp:
        rabbitmq.install()
    app = Celery("vecfleet", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # the lease, not Redis, brings lost work back
        worker_prefetch_multiplier=1,
        task_queues=[_queue(name) for name in QUEUES],
        task_routes={name: {"queue": queue} for name, queue in TASKS.values()},
        task_default_queue="control",
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Kombu takes the error of a Redis that is read-only or full for a while for a mistake of the caller.
        broker_channel_error_retry=not over_amqp,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,  # events are a third of a wake-up's cost; Flower turns them on while it runs
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_timeout=3,
        broker_transport_options=_AMQP if over_amqp else _REDIS,
    )
    return app


def _broker_from_settings() -> str:
    url = Settings.load().wake_ups
    return url.get_secret_value() if url else _NO_BROKER


def _refuse_another_broker(ours: str) -> None:
    """End a command of Celery's whose `-b` names another broker than ours: it would reach ours all the same."""
    typed = click.get_current_context(silent=True)
    if typed is None or typed.get_parameter_source("broker") is not ParameterSource.COMMANDLINE:
        return
    if typed.params["broker"] != ours:
        raise SystemExit(
            "`-b` names another broker than this fleet's, and nothing was sent to either\n"
            "next: leave `-b` out; for another fleet type its REDIS_URL=…, or BROKER_URL=…, before the command"
        )


app = make_app(_broker_from_settings())
_refuse_another_broker(app.conf.broker_url)
# Plain `celery -A workers flower` has our options, too. By its own Flower listens everywhere, and lets anybody act.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flower_settings.py")))


def kinds_of(queues: Collection[str]) -> frozenset[BatchKind]:
    """Return the kinds of batches whose wake-ups go to these queues."""
    return frozenset(kind for kind, (_, queue) in TASKS.items() if queue in queues)


def send(celery: Celery, wakeups: Sequence[Wakeup]) -> list[Wakeup]:
    """Send wake-ups over one connection. Return the unsent ones. Never blocks for long."""
    if not wakeups:
        return []
    sent = 0
    try:
        with celery.producer_pool.acquire(block=True, timeout=5) as producer:
            for wakeup in wakeups:
                _send(celery, producer, wakeup)
                sent += 1
    except AWAY as error:
        # Log the class only: the broker's text may quote its address.
        log.warning("the broker did not take wake-ups", unsent=len(wakeups) - sent, why=type(error).__name__)
        return list(wakeups[sent:])
    return []


def _send(celery: Celery, producer: Any, wakeup: Wakeup) -> None:
    """Send one wake-up. Where its job is traced, its headers tell the worker of which trace its work is a part."""
    name = TASKS[wakeup.kind][0]
    with tracing.span(
        "dispatch",
        within=wakeup.traceparent,
        job=wakeup.job_id,
        batch=wakeup.batch_id,
        generation=wakeup.generation,
        task=name,
    ):
        traceparent = tracing.position()
        celery.send_task(
            name,
            args=(wakeup.batch_id, wakeup.generation),
            task_id=task_id(wakeup),
            producer=producer,
            headers={tracing.HEADER: traceparent} if traceparent is not None else None,
            argsrepr=args_text(wakeup),
            kwargsrepr=kwargs_text(wakeup),
            retry=False,
            ignore_result=True,
        )


def waiting(celery: Celery) -> int:
    """Return how many wake-ups wait at the broker. 0 if it does not answer: they may be lost."""
    return sum(waiting_by_queue(celery).values())


def waiting_by_queue(celery: Celery) -> dict[str, int]:
    """Return how many wake-ups wait in each queue. 0 if the broker does not answer: they may be lost."""
    try:
        with celery.connection_for_write() as connection:
            return {queue: _length(connection, queue) for queue in QUEUES}
    except AWAY:
        return dict.fromkeys(QUEUES, 0)


def _length(connection: Any, queue: str) -> int:
    with connection.channel() as channel:
        if connection.transport.driver_type == "redis":  # with Redis, Kombu 5.7 looks for a queue without our prefix
            return int(channel.client.llen(queue))
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            return 0  # nobody has sent to it, or served it, yet


def task_id(wakeup: Wakeup) -> str:
    """Return the task id for Celery's logs and Flower; `orchestrator.core.redaction` finds a tenant's name in it."""
    return f"j{wakeup.job_id}.{wakeup.namespace}.{wakeup.kind}{wakeup.seq}.b{wakeup.batch_id}.g{wakeup.generation}"


def args_text(wakeup: Wakeup) -> str:
    return f"({wakeup.batch_id},)"


def kwargs_text(wakeup: Wakeup) -> str:
    """Return the arguments as Celery's tools show them; Flower finds `kwargs:job=17` in them."""
    return repr({"job": wakeup.job_id, "namespace": wakeup.namespace, "batch": _number(wakeup)})


def _number(wakeup: Wakeup) -> str:
    """Return `3 of 12`; `3 of at least 7` while its source is listed; `3` if nobody counts them; else `whole`."""
    number = wakeup.seq + (wakeup.kind is BatchKind.QUERY)  # questions are counted from 0
    if not number:
        return "whole"
    return f"{number} of {'' if wakeup.listed_all else 'at least '}{wakeup.of}" if wakeup.of else str(number)


def wakeup_of(lease: Lease) -> Wakeup:
    """Return the wake-up that would have brought this batch."""
    move, target = lease.move, lease.target if lease.target_id is not None else None
    counted = move if target is None else None
    return Wakeup(
        batch_id=lease.id,
        generation=lease.generation,
        kind=lease.kind,
        job_id=lease.job_id,
        namespace=target.namespace if target is not None else move.source if move is not None else "",
        seq=lease.seq,
        of=counted.batches if counted is not None else 0,
        listed_all=counted.listed_all if counted is not None else True,
    )


def require_broker(celery: Celery) -> None:
    """Raise Unreachable if the broker does not answer, or if it takes nothing.

    A Redis that is full or read-only takes nothing, nor does a RabbitMQ with an alarm.
    """
    ours = str(celery.conf.broker_url).startswith("redis")
    try:
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            with connection.channel() as channel:
                if ours:
                    channel.client.set(PROBE, 1, px=1_000)
                elif connection.transport.driver_type == "amqp":
                    _probe(connection, channel)
    except AWAY as error:
        name, variable = ("Redis", "REDIS_URL") if ours else ("the broker", "BROKER_URL")
        does, step = "does not answer", f"check {variable} and that it runs: `vecfleet doctor`"
        if isinstance(error, ResponseError):
            does = f"answers and takes nothing ({type(error).__name__})"
            step = "see whether it is full (`maxmemory`), a replica, or does not let this account write"
        if isinstance(error, rabbitmq.TakesNothing):
            does = "answers and takes nothing"
            step = "end the alarm for its disk or memory, which `rabbitmq-diagnostics alarms` names; jobs then go on"
        raise Unreachable(f"{name} {does}: workers could not be woken", next_step=step) from error


def _probe(connection: Any, channel: Any) -> None:
    """Send a message that goes nowhere, twice: RabbitMQ takes the first one, and then says that an alarm is on."""
    producer = connection.Producer(channel)
    try:
        for _ in range(2):
            producer.publish("", exchange="", routing_key=PROBE, retry=False)
    except ChannelError as error:
        log.debug("this account may write to our queues alone", why=type(error).__name__)
