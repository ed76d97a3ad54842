"""A clock that goes on while the machine sleeps: what may be believed for a minute is not young again when it wakes."""

import time

_ASLEEP_TOO: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere the usual clock counts sleep, too


def awake_or_not() -> float:
    """Seconds since some moment in the past, those among them in which the machine was suspended."""
    return time.monotonic() if _ASLEEP_TOO is None else time.clock_gettime(_ASLEEP_TOO)
