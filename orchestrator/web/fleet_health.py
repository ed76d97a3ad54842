"""The fleet's processes as the page shows them: the workers that answer, and what each holds. Read-only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import dashboards, leadership
from orchestrator.queue import AWAY, waiting

_ANSWER_WITHIN_S = 1.0  # an idle worker answers within milliseconds


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """One worker: `host` and `pid` of its process, its `name` if it answers, and the batches that it holds.

    `until` is the end of its oldest lease: a process that does not answer holds its batches until then.
    """

    host: str
    pid: int
    name: str | None
    threads: int | None
    batches: int
    until: datetime | None

    @property
    def state(self) -> str:
        if self.name is None:
            return "does not answer"
        return "at work" if self.batches else "idle"


@dataclass(frozen=True, slots=True)
class FleetHealth:
    """`led`: a dispatcher leads. `waiting`: wake-ups at the broker; None if it does not answer."""

    workers: tuple[WorkerHealth, ...]
    led: bool
    waiting: int | None


def look(parts: Fleet) -> FleetHealth:
    """Ask every worker, and the job table for what each holds. Takes as long as a silent worker is waited for."""
    with parts.database.begin() as connection:
        held = dashboards.held_by_process(connection)
        left = leadership.seconds_left(connection)
    try:
        answers: dict[str, Any] = parts.celery.control.inspect(timeout=_ANSWER_WITHIN_S).stats() or {}
        queued: int | None = waiting(parts.celery)
    except AWAY:
        answers, queued = {}, None
    workers = []
    for name, stats in sorted(answers.items()):
        host, pid = name.rpartition("@")[2], int(stats["pid"])
        holds = held.pop((host, pid), None)
        threads = stats.get("pool", {}).get("max-concurrency")
        workers.append(
            WorkerHealth(host, pid, name, threads, holds.batches if holds else 0, holds.until if holds else None)
        )
    workers += [
        WorkerHealth(host, pid, None, None, holds.batches, holds.until) for (host, pid), holds in sorted(held.items())
    ]
    return FleetHealth(tuple(workers), left is not None and left > 0, queued)
