"""`vecfleet up`: a stack that runs until its terminal, or its service manager, ends it."""

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from orchestrator.embedded.stack import Stack

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Sent by `vecfleet down` or a service manager; sent by a terminal that closes."""


def run(stack: Stack, ready: Callable[[Mapping[str, str]], object]) -> None:
    """Start the stack, tell `ready` how to reach it, and watch it; stop it all on Ctrl-C, SIGTERM or a hang-up."""
    with suppress(KeyboardInterrupt), endings_interrupt(), stack:
        ready(stack.environment)
        stack.watch()


@contextmanager
def endings_interrupt() -> Iterator[None]:
    """Make SIGTERM and a hang-up act as Ctrl-C inside the block: started processes are stopped on the way out."""
    before = {number: signal.signal(number, _interrupt) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exports(environment: Mapping[str, str]) -> str:
    """Return the lines by which any other shell joins: `eval "$(...)"`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
