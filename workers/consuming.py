"""How a worker takes wake-ups from the broker: as Celery does it, and it survives a broker that goes away."""

from typing import Any

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Neither gives back nor acknowledges what came over a connection that is lost.

    Kombu 5.7 would try: its Redis channel asks a transport that is no more for an address, and the AttributeError ends
    the worker. Nothing is owed either: what was taken is worked on under a lease, and a wake-up that Redis delivers
    once more finds its batch done.
    """

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if self.task_consumer:
            lost = self.task_consumer.channel
            lost.do_restore = False
            lost.basic_ack = _do_nothing
        super().on_connection_error_after_connected(exc)


def _do_nothing(*_: Any, **__: Any) -> None:
    """In the place of an acknowledgement that can reach no one."""
