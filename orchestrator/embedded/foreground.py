"""`vecfleet up`: a stack that runs for as long as its terminal, or its service manager, wants it to."""

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from orchestrator.embedded.stack import Stack

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""From `vecfleet down` or a service manager; from a terminal that is closed."""


def run(stack: Stack, ready: Callable[[Mapping[str, str]], object]) -> None:
    """Start the stack, tell `ready` how to reach it, watch it until Ctrl-C, SIGTERM or a hang-up, then stop it all."""
    with suppress(KeyboardInterrupt), endings_interrupt(), stack:
        ready(stack.environment)
        stack.watch()


@contextmanager
def endings_interrupt() -> Iterator[None]:
    """Inside, SIGTERM and a hang-up are as Ctrl-C: what was started is stopped on the way out."""
    before = {number: signal.signal(number, _interrupt) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exports(environment: Mapping[str, str]) -> str:
    """Lines by which any other shell joins: `eval "$(...)"`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
