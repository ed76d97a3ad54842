"""Leases whose process is known to be dead: nobody renews them, and nothing new is sent for them."""

import socket
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.states import BatchState

_NOW = sa.func.clock_timestamp()
_B = t.batch.c


def owner_of(pid: int) -> str:
    """What the name of every lease owner in this process begins with: the machine and the process."""
    return f"{socket.gethostname()}:{pid}:{_where_pids_count()}"


@cache
def _where_pids_count() -> str:
    """This start of the kernel and the set of processes in it: two machines, and two containers, may have one name and
    one pid. Empty where that is not Linux.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}:"
    except OSError:
        return ""


def shorten(connection: sa.Connection, pid: int, deadline_seconds: float) -> int:
    """Let the leases of a process of this machine end as soon as they may. Returns how many end sooner for it.

    Not at once: what it had asked for last, the service may still be at until the request's deadline. Safe to repeat.
    """
    soon = _NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, deadline_seconds)
    its_own = _B.lease_owner.startswith(owner_of(pid), autoescape=True)
    return connection.execute(
        sa.update(t.batch).where(_B.state == BatchState.LEASED, its_own, _B.lease_until > soon).values(lease_until=soon)
    ).rowcount
