"""The clock for leases and deadlines, which also runs while the machine is suspended."""

import time

# Linux stops CLOCK_MONOTONIC, which time.monotonic reads, during a suspend. Other systems do not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return seconds since some moment, the same in all processes of a machine."""
    return time.clock_gettime(_CLOCK)
