"""`vecfleet up`: a stack that runs for as long as its terminal, or its service manager, wants it to."""

import shlex
import signal
from collections.abc import Callable, Mapping
from types import FrameType

from orchestrator.embedded.stack import Stack

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""From `vecfleet down` or a service manager; from a terminal that is closed."""


def run(stack: Stack, ready: Callable[[Mapping[str, str]], object]) -> None:
    """Start the stack, tell `ready` how to reach it, watch it until Ctrl-C, SIGTERM or a hang-up, then stop it all."""
    before = {number: signal.signal(number, _interrupt) for number in ENDINGS}
    try:
        with stack:
            ready(stack.environment)
            stack.watch()
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exports(environment: Mapping[str, str]) -> str:
    """Lines by which any other shell joins: `eval "$(...)"`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
