"""Celery's pool of threads, which can be resized while it runs: by `celery control pool_grow` and `--autoscale`."""

from celery.concurrency import thread


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """A worker takes as many wake-ups as it has threads, so that idle threads cost nothing and none has to end."""

    def grow(self, n: int = 1) -> None:
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Take fewer wake-ups at once. Raises ValueError if none were left."""
        if self.limit <= n:
            raise ValueError("a worker keeps at least one thread")
        self._resize(self.limit - n)

    def _resize(self, limit: int) -> None:
        self.limit = limit
        # It starts threads up to this number as work comes; it has no public way to change it.
        self.executor._max_workers = limit
