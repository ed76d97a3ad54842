"""A monitor of Celery's: its own picture of a cluster, made of the events that workers send, as Flower makes it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from celery.events.state import State, Task


class Monitor:
    """The tasks that a monitor knows of, by their ids."""

    def __init__(self, celery: Celery) -> None:
        self._state = State()
        self._connection = celery.connection_for_read()
        self._receiver = celery.events.Receiver(self._connection, handlers={"*": self._state.event})
        self._thread = threading.Thread(target=self._receiver.capture, daemon=True)
        self._thread.start()

    @property
    def workers(self) -> list[str]:
        return list(self._state.workers)

    def tasks(self, kind: str = "") -> list[Task]:
        """All tasks, in the order of their first events; of one name only if it is given."""
        return [task for task in list(self._state.tasks.values()) if (task.name or "").endswith(kind)]

    def ended(self, kind: str = "", *, state: str = "") -> list[Task]:
        return [task for task in self.tasks(kind) if task.state not in ("RECEIVED", "STARTED") and state in task.state]

    def stop(self) -> None:
        self._receiver.should_stop = True
        self._thread.join(timeout=30)
        self._connection.release()


@contextmanager
def watching(celery: Celery) -> Iterator[Monitor]:
    monitor = Monitor(celery)
    try:
        yield monitor
    finally:
        monitor.stop()
