"""An end for the requests of a thread.

A call's time begins when its caller looked whether it may leave (`ending_by`), not when it reaches the transport: a
process may be frozen, or wait for a processor, at any line between the two.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vecfleet import clock


class _Call(threading.local):
    """This thread's call. A call, the reading of its answer included, is one thread's."""

    latest = math.inf
    """The end that its caller set."""


_call = _Call()


@contextmanager
def ending_by(until: float) -> Iterator[None]:
    """Let no request of this thread leave after `until` (`clock.now()`), or last longer. An outer end holds too."""
    outer = _call.latest
    _call.latest = min(outer, until)
    try:
        yield
    finally:
        _call.latest = outer


def left_of(seconds: float) -> float:
    """Return how much of `seconds` a request that begins now may last. Not above 0: it must not leave."""
    return min(seconds, _call.latest - clock.now())
