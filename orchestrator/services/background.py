"""Steps that a process repeats in threads of their own beside its work."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from vecfleet.errors import Unreachable

_LOOKS_EVERY_S = 0.5
_AFTER_AN_OUTAGE_S = 5.0
_ENDS_WITHIN_S = 10.0

log = structlog.get_logger("vecfleet.background")

Step = Callable[[], bool]
"""One piece of work that may die at any line and be done again. Says whether there was any."""


@contextmanager
def repeating(steps: Mapping[str, Step]) -> Iterator[None]:
    """Repeat each step in a thread of its own until the block ends; a step that fails is tried again."""
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_repeat, args=(name, step, stopping), name=name, daemon=True)
        for name, step in steps.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(_ENDS_WITHIN_S)


def _repeat(name: str, step: Step, stopping: threading.Event) -> None:
    wait = 0.0
    while not stopping.wait(wait):
        try:
            wait = 0.0 if step() else _LOOKS_EVERY_S
        except Unreachable as error:
            wait = _AFTER_AN_OUTAGE_S
            log.warning("job table unreachable", step=name, why=error.message, again_in_s=wait)
        except Exception:
            wait = _AFTER_AN_OUTAGE_S
            log.exception("a step failed", step=name, again_in_s=wait)
