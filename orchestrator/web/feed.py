"""Live updates: each viewer gets only the changes. A job is read once a second, however many people look at it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
import structlog
from fastapi.concurrency import run_in_threadpool

from vecfleet.errors import VecfleetError

T = TypeVar("T")

log = structlog.get_logger("vecfleet.web")

EVERY_S = 1.0
# Rest this many times as long as a look took: reading a job of 12,000 namespaces takes a fifth of the time at most.
_REST_PER_LOOK = 4.0
# Seconds without news. Then a line is sent all the same: proxies keep the connection, and its end is noticed.
_STILL_HERE_S = 15.0


@dataclass
class Seen:
    """One viewer's screen: the text of each part, and the class of each cell."""

    parts: dict[str, str] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)

    def news(self, parts: Mapping[str, str], cells: Sequence[str]) -> dict[str, Any]:
        """Return the changes and remember them. Cells are sent one by one, or all if their number changed."""
        changes: dict[str, Any] = {}
        changed = {name: text for name, text in parts.items() if self.parts.get(name) != text}
        if changed:
            changes["parts"] = changed
            self.parts |= changed
        if len(self.cells) != len(cells):
            changes["all"] = ",".join(cells)
            self.cells = list(cells)
        else:
            moved = {n: new for n, (old, new) in enumerate(zip(self.cells, cells, strict=True)) if old != new}
            if moved:
                changes["cells"] = moved
                self.cells = list(cells)
        return changes


@dataclass
class _Watch(Generic[T]):
    """One topic with viewers, and its last look. `changed` is set, and replaced, at each look."""

    viewers: int = 0
    number: int = 0
    last: T | None = None
    trouble: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class Feed(Generic[T]):
    """Looks at topics again and again while they have viewers. Lives in one event loop."""

    def __init__(self, look: Callable[[int], T]) -> None:
        self._look = look
        self._watches: dict[int, _Watch[T]] = {}

    async def follow(self, topic: int) -> AsyncGenerator[tuple[T | None, str | None]]:
        """Yield each new look at a topic, or why there is none; (None, None) where nothing came for a while.

        A slow viewer misses looks, and gets the newest one next.
        """
        watch = self._watches.setdefault(topic, _Watch())
        watch.viewers += 1
        if watch.task is None:
            watch.task = asyncio.create_task(self._look_again_and_again(topic, watch))
        sent = 0
        try:
            while True:
                if watch.number == sent:
                    try:
                        await asyncio.wait_for(watch.changed.wait(), _STILL_HERE_S)
                    except TimeoutError:
                        yield None, None
                        continue
                sent = watch.number
                yield (None, watch.trouble) if watch.trouble else (watch.last, None)
        finally:
            watch.viewers -= 1
            if not watch.viewers:
                watch.task.cancel()
                self._watches.pop(topic, None)

    async def _look_again_and_again(self, topic: int, watch: _Watch[T]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                watch.last, watch.trouble = await run_in_threadpool(self._look, topic), None
            except VecfleetError as error:
                watch.trouble = error.message
            except Exception:  # the viewers have no other source: report the error, and look again
                log.exception("a look failed", topic=topic)
                watch.trouble = "an unexpected error; the log of `vecfleet serve` has it"
            watch.number += 1
            watch.changed.set()
            watch.changed = asyncio.Event()
            await asyncio.sleep(max(EVERY_S, (loop.time() - began) * _REST_PER_LOOK))


def event(body: Mapping[str, Any]) -> bytes:
    """Write a server-sent event."""
    return b"data: " + orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"


STILL_HERE = b": still here\n\n"
