"""How a worker takes wake-ups from the broker: as Celery does it, but that none is ever given back."""

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Nothing is owed for a wake-up once it was taken: its batch is worked on under a lease, or sent again.

    Kombu would give it back when a connection is lost or a worker ends, and where Redis is away write it, with the name
    of its namespace, to a file in the folder for temporary ones.
    """

    def on_ready(self) -> None:
        """Begin to take over a connection; the first one, or the next after one was lost."""
        self.task_consumer.channel.do_restore = False
        super().on_ready()
