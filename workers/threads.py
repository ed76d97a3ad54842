"""Celery's pool of threads, which can be resized while it runs: by `celery control pool_grow` and `--autoscale`."""

from typing import NoReturn

from celery.concurrency import thread


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """A pool that can be resized: a worker takes as many wake-ups as the pool's size. Idle threads cost nothing."""

    def terminate_job(self, _pid: int, _signal: object = None) -> NoReturn:
        """Refuse to kill a thread. Celery answers with the sentence."""
        raise NotImplementedError("a thread cannot be killed: `vecfleet pause JOB` stops its work")

    def grow(self, n: int = 1) -> None:
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Take fewer wake-ups at once. Raises ValueError if no thread would be left."""
        if self.limit <= n:
            raise ValueError("a worker keeps at least one thread")
        self._resize(self.limit - n)

    def _resize(self, limit: int) -> None:
        self.limit = limit
        # The executor starts threads up to this number as work comes. It has no public way to change the number.
        self.executor._max_workers = limit
