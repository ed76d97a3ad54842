"""How a worker takes wake-ups from the broker: as Celery does it, but that none is ever given back."""

import time

from celery.worker import consumer
from redis.exceptions import NoPermissionError

# A broker that refuses, as a Redis that is read-only for a while, is asked again so often: it can be connected to.
_REFUSED_WAIT_S = 2.0


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Nothing is owed for a wake-up once it was taken: its batch is worked on under a lease, or sent again.

    Kombu would give it back when a connection is lost or a worker ends, and where Redis is away write it, with the name
    of its namespace, to a file in the folder for temporary ones.
    """

    def on_ready(self) -> None:
        """Begin to take over a connection; the first one, or the next after one was lost."""
        self.task_consumer.channel.do_restore = False
        super().on_ready()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again. Where that would help nothing, because this user may not, the worker ends and says so."""
        if isinstance(exc, NoPermissionError):
            raise exc
        if isinstance(exc, self.channel_errors):
            time.sleep(_REFUSED_WAIT_S)
        super().on_connection_error_after_connected(exc)
