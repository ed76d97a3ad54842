"""Connections to one index, as many as its calls keep busy: few calls share one, many open more.

All calls of a gRPC channel go over one connection, and so through its one window. The kernel lets some 4 MB be on their
way unacknowledged, each way, and no more follows within a round trip of tens of milliseconds. An upsert of 2 MB fills
half of that, a fetch's answer of 250 records of 3,072 dimensions most of it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

# Two large bodies fill a connection, and about half of its calls wait for the service meanwhile.
CALLS = 4
# Beyond this a process has no processor time for more: gRPC in Python takes turns.
CONNECTIONS = 4


@dataclass(slots=True)
class _Opened:
    channel: grpc.Channel
    calls: int = 0


class Channels:
    """One process's channels to one index, each with a connection of its own. Safe between threads, not over a fork."""

    def __init__(self, dial: Callable[[], grpc.Channel]) -> None:
        self._dial = dial
        self._opened: list[_Opened] = []
        self._lock = threading.Lock()

    @contextmanager
    def least_busy(self) -> Iterator[grpc.Channel]:
        """Give one call the channel with the fewest in flight. Open another if each has `CALLS` already."""
        with self._lock:
            chosen = min(self._opened, key=lambda opened: opened.calls, default=None)
            if chosen is None or (chosen.calls >= CALLS and len(self._opened) < CONNECTIONS):
                chosen = _Opened(self._dial())
                self._opened.append(chosen)
            chosen.calls += 1
        try:
            yield chosen.channel
        finally:
            with self._lock:
                chosen.calls -= 1
