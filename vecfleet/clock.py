"""The clock for leases and deadlines. It goes on while the machine is suspended."""

import time

# Linux stops CLOCK_MONOTONIC, which time.monotonic reads, during a suspend; elsewhere it goes on.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return seconds since some moment, the same in all processes of a machine."""
    return time.clock_gettime(_CLOCK)
