"""Leases in the process that holds them: a heartbeat renews each lease; a lease that cannot be renewed is given up.

The fence protects the job table, not the service: a call is made only while the lease outlives the call's deadline.
This machine's clock measures a lease from before the job table was asked. The clock also runs while the machine is
suspended.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from orchestrator.core.model import Lease
from orchestrator.ledger import batches
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from vecfleet import clock
from vecfleet.errors import Unreachable

log = structlog.get_logger("vecfleet.leases")


class Leaving(Exception):
    """This process was told to stop and its grace is over: the batch is requeued for another worker."""


class Later(Exception):
    """Nothing is wrong yet: look again after `seconds`. Spends no attempt."""

    def __init__(self, seconds: float, why: str) -> None:
        self.seconds = seconds
        self.why = why
        super().__init__(why)


class Held:
    """One lease in this process. `leaving` is set once the process may begin no request."""

    def __init__(self, lease: Lease, leaving: threading.Event) -> None:
        self.lease = lease
        self._until = lease.until_monotonic
        self._leaving = leaving

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`. Raises `Leaving` as soon as no request may begin."""
        if self._leaving.wait(seconds):
            raise Leaving

    def require(self, seconds: float) -> None:
        """Raise LeaseLost unless the lease lasts at least `seconds` longer; raise Leaving if no request may begin."""
        if self._leaving.is_set():
            raise Leaving
        if clock.now() + seconds > self._until:
            raise LeaseLost

    def extend(self, until_monotonic: float) -> None:
        self._until = until_monotonic

    def lose(self) -> None:
        self._until = float("-inf")


class Holder:
    """All leases of this process and the one thread that renews them."""

    def __init__(self, database: Database, owner: str, lease_s: float, beat_s: float, leaving: threading.Event) -> None:
        self.owner = owner
        self._leaving = leaving
        self.lease_s = lease_s
        self._beat_s = beat_s
        self._database = database
        self._held: dict[tuple[int, int], Held] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[Held]:
        held, key = Held(lease, self._leaving), _key(lease)
        with self._lock:
            self._held[key] = held
        try:
            yield held
        finally:
            with self._lock:
                self._held.pop(key, None)

    def _beat(self) -> None:
        while True:
            time.sleep(self._beat_s)
            with self._lock:
                held_leases = list(self._held.values())
            if held_leases:
                self._renew(held_leases)

    def _renew(self, held_leases: list[Held]) -> None:
        asked_at = clock.now()
        try:
            with self._database.begin() as connection:
                kept = batches.renew(connection, [_key(held.lease) for held in held_leases], self.owner, self.lease_s)
        except Unreachable as error:
            log.warning("leases not renewed", leases=len(held_leases), why=error.message)
            return
        except Exception:  # only this thread renews: after any error the next beat tries again
            log.exception("leases not renewed", leases=len(held_leases))
            return
        for held in held_leases:
            if _key(held.lease) in kept:
                held.extend(asked_at + self.lease_s)
            else:
                held.lose()


def _key(lease: Lease) -> tuple[int, int]:
    """Return the batch and its generation.

    Two threads may hold a batch: one that lost its lease, and one that works on the batch's next generation.
    """
    return lease.id, lease.generation
