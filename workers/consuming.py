"""Take wake-ups from the broker as Celery does, but never give one back.

A message that is no wake-up of ours stops nothing: it is taken off its queue, logged without its content, and counted.
Nothing is lost, because the dispatcher sends a wake-up for every due batch again.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from queue import Empty
from typing import Any

import structlog
from celery.worker import consumer
from kombu.transport import redis
from redis.exceptions import NoPermissionError

from orchestrator.queue import TASKS
from orchestrator.telemetry.counters import MESSAGES_SET_ASIDE, Counters
from vecfleet.settings import Settings
from workers.process import leave_after, leave_now

# Wait before the next try if the broker can be reached but refuses, such as a Redis that is read-only for a while.
_REFUSED_WAIT_S = 2.0
# Limits of our own messages: two numbers in the body, and the name of a namespace in the id.
_LARGEST_BODY, _LONGEST_ID = 1_024, 4_096
_OURS = frozenset(name for name, _ in TASKS.values())
# AMQP's errors are among them. Kombu adds KeyError, which it raises for a message that lacks a needed field.
_OF_THE_BROKER = tuple({*redis.Transport.connection_errors, *redis.Transport.channel_errors} - {KeyError})
_LARGEST = 2**63, 2**31  # a batch's id and its generation, as the job table's columns hold them

log = structlog.get_logger("vecfleet.consuming")


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Consumer that gives no wake-up back: the batch is worked on under a lease, or the dispatcher sends it again.

    Kombu would give a wake-up back when a connection is lost or a worker ends. While Redis is away, Kombu would write
    the wake-up, with the name of its namespace, to a file in the temporary folder.
    """

    def on_ready(self) -> None:
        """Begin to take messages over a new connection."""
        self.task_consumer.channel.do_restore = False
        super().on_ready()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again. End the worker with an error if this user may not connect, because no retry would help."""
        if isinstance(exc, NoPermissionError):
            raise exc
        if isinstance(exc, self.channel_errors):
            time.sleep(_REFUSED_WAIT_S)
        super().on_connection_error_after_connected(exc)

    def stop(self) -> None:
        """Take no more messages, and give the work in hand its grace: `celery control shutdown` sends no signal."""
        leave_after(Settings.load().worker_grace_seconds)
        super().stop()

    def cancel_active_requests(self) -> None:
        """End a cold shutdown, by SIGQUIT or a second Ctrl-C: forked processes are killed, threads hand back."""
        leave_now()
        with suppress(NotImplementedError):  # Celery's word that this pool cannot kill what runs in it
            super().cancel_active_requests()

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Return a handler that gives Celery our wake-ups and sets other messages aside."""
        handle = super().create_task_handler(*arguments, **options)

        def on_message(message: Any) -> None:
            try:
                _require_ours(message)
                handle(message)
            except _OF_THE_BROKER:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one message
                self.on_decode_error(message, error)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Set a message aside. Celery's own handler would log its content."""
        _set_aside(exc)
        if not message.acknowledged:
            message.reject_log_error(log, self.connection_errors)


class Channel(redis.Channel):
    """Kombu's channel, except that it sets aside content that is no message. Kombu's own would end the worker."""

    def _brpop_read(self, **options: Any) -> Any:
        return self._or_set_aside(lambda: super(Channel, self)._brpop_read(**options))  # type: ignore[no-untyped-call]

    def _receive(self) -> Any:
        return self._or_set_aside(super()._receive)

    def _or_set_aside(self, take: Callable[[], Any]) -> Any:
        try:
            return take()
        except (Empty, *_OF_THE_BROKER):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is off its queue
            _set_aside(error)
            return True


class Transport(redis.Transport):
    """Kombu's transport, with our channels."""

    Channel = Channel


class _NotOurs(Exception):
    """A message that no dispatcher of ours sent. Its text never quotes the message."""


def _require_ours(message: Any) -> None:
    """Raise unless the message is as `orchestrator.queue.send` makes it: JSON, small, due now, with two numbers."""
    if message.content_type != "application/json":
        raise _NotOurs("its content type is not JSON")
    if len(message.body) > _LARGEST_BODY or len(message.headers["id"]) > _LONGEST_ID:
        raise _NotOurs("it is too large")
    if message.headers["task"] not in _OURS:
        raise _NotOurs("it names none of our tasks")
    if message.headers.get("eta") is not None or message.headers.get("expires") is not None:
        raise _NotOurs("it is to run at another time")
    numbers, named, follow_ups = message.payload
    if named or any(follow_ups.values()):
        raise _NotOurs("it asks for more than a wake-up may")
    if len(numbers) != len(_LARGEST) or not all(map(_fits, numbers, _LARGEST)):
        raise _NotOurs("it does not name a batch and its generation")


def _fits(value: object, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit


def _set_aside(error: Exception) -> None:
    """Count the message and log the error's name. The error's text may quote the message."""
    why = str(error) if isinstance(error, _NotOurs) else type(error).__name__
    log.warning("a message in the broker is no wake-up and was set aside", why=why)
    counters = _counters()
    if counters is not None:
        counters.note(MESSAGES_SET_ASIDE)


@cache
def _counters() -> Counters | None:
    url = Settings.load().redis_url
    return Counters(url.get_secret_value()) if url is not None else None
