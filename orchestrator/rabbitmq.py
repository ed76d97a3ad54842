"""RabbitMQ's client, made impatient: no answer is waited for longer than five seconds, a blocked one not at all.

A RabbitMQ that runs out of disk or memory blocks each connection that sends it a message, until its alarm ends: it
reads nothing from there any more. Kombu's own client waits for as long as that lasts, and a dispatcher with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu import transport
from kombu.transport import pyamqp

ANSWERS_WITHIN_S = 5.0


class TakesNothing(Exception):
    """RabbitMQ takes no message over this connection, until the alarm for its disk or memory ends.

    It is none of the errors after which Celery connects again, and again, until it may send.
    """


class _Impatient:
    def wait(self, method: Any, callback: Any = None, timeout: float | None = None, returns_tuple: bool = False) -> Any:
        """Wait for an answer. Raises TimeoutError, an OSError as that of a connection that is lost."""
        return super().wait(method, callback, timeout or ANSWERS_WITHIN_S, returns_tuple)  # type: ignore[misc]


class Channel(_Impatient, pyamqp.Channel):
    """A channel whose calls end: with an answer, with TakesNothing, or with an error of a lost connection."""

    def send_method(self, *arguments: Any, wait: Any = None, **options: Any) -> Any:
        """Send a method. Of those that wait for an answer, send none over a blocked connection."""
        if wait:
            self.connection.require_unblocked()
        return super().send_method(*arguments, wait=wait, **options)

    def close(self, *arguments: Any, **options: Any) -> None:
        """Close it; a blocked one is closed with its connection."""
        if self.connection is None or not self.connection.is_blocked:
            super().close(*arguments, **options)

    def basic_publish_confirm(self, *arguments: Any, **options: Any) -> Any:
        """Publish, and return once RabbitMQ has the message. Raise TakesNothing as soon as it says so.

        A message that it blocked on arrives when the alarm ends: a wake-up may come twice.
        """
        self.connection.require_unblocked()
        with self.connection.publishing():
            return super().basic_publish_confirm(*arguments, **options)


class Connection(_Impatient, pyamqp.Connection):
    """A connection that knows whether RabbitMQ blocks it."""

    Channel = Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.is_blocked = self._publishes = False
        super().__init__(*arguments, on_blocked=self._block, on_unblocked=self._unblock, **options)

    def require_unblocked(self) -> None:
        """Read what RabbitMQ said meanwhile. Raise TakesNothing if it still blocks this connection."""
        while self.is_blocked:
            try:
                self.drain_events(timeout=0)
            except TimeoutError:
                raise TakesNothing from None

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Raise TakesNothing, while this lasts, as soon as RabbitMQ blocks the connection."""
        self._publishes = True
        try:
            yield
        finally:
            self._publishes = False

    def close(self, *arguments: Any, **options: Any) -> None:
        """Close it; without a farewell if it is blocked, which RabbitMQ would not read."""
        if self.is_blocked:
            self.collect()
        else:
            super().close(*arguments, **options)

    def _block(self, _: str) -> None:
        self.is_blocked = True
        if self._publishes:
            raise TakesNothing

    def _unblock(self) -> None:
        self.is_blocked = False


class Transport(pyamqp.Transport):
    """Kombu's transport, with our connections."""

    Connection = Connection


class SSLTransport(pyamqp.SSLTransport):
    """The same over TLS."""

    Connection = Connection


def install() -> None:
    """Have kombu use these for `amqp://` and `amqps://`, whatever used these before. Safe to repeat."""
    ours = dict.fromkeys(("amqp", "pyamqp"), f"{__name__}:{Transport.__name__}")
    ours["amqps"] = f"{__name__}:{SSLTransport.__name__}"
    transport.TRANSPORT_ALIASES.update(ours)
    for name in ours:
        transport._transport_cache.pop(name, None)  # kombu keeps the class that a name led to before
