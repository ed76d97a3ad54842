"""The path of every request, whichever transport brought it: faults, limits, execution, commit, the call log."""

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from emulator.calls import Call, CallLog
from emulator.errors import Hang, Refusal, Reset, invalid
from emulator.faults import QUOTA_TEXTS, Fault, Faults
from emulator.keeper import Keeper
from emulator.limits import Limits
from emulator.records import Record


@dataclass(frozen=True, slots=True)
class Weather:
    """The circumstances in which a request is carried out."""

    lag_s: float = 0.0
    lag_in: Callable[[str], float] = lambda _: 0.0  # by namespace, for a read of many
    lose_token: bool = False
    partial: float | None = None

    def share(self, records: list[Record]) -> list[Record]:
        """Return the part of an upsert that gets through."""
        return records if self.partial is None else records[: int(len(records) * self.partial)]


@dataclass(slots=True)
class Outcome:
    body: bytes = b"{}"
    status: int = 200
    written_lsn: int | None = None
    indexed_lsn: int | None = None


@dataclass(slots=True)
class Job:
    """A request that was understood but not carried out. A `Refusal` in `run` leaves nothing half done."""

    run: Callable[[Weather], Outcome]
    vanish: Callable[[], None] = lambda: None
    has_token: bool = False
    by_metadata: bool = False  # an update or delete that chooses its records by a filter


class Gate:
    def __init__(self, calls: CallLog, faults: Faults, limits: Limits, keeper: Keeper) -> None:
        self.calls = calls
        self.faults = faults
        self.limits = limits
        self._keeper = keeper

    async def serve(self, call: Call, prepare: Callable[[Call], Job]) -> Outcome:
        """Carry a request out; `prepare` reads it, and fills in the call's namespace and ids."""
        try:
            job = prepare(call)
            self.limits.admit(call, job.by_metadata)
            fault = self.faults.strike(call, job.has_token)
            if fault.delay_ms:
                await asyncio.sleep(fault.delay_ms / 1000)
            if fault.operation:
                call.fault = fault.name()
                return self._struck(call, job, fault, prepare)
            return self._run(call, job, fault)
        except Refusal as refusal:
            call.status = refusal.status
            raise
        except (Hang, Reset):
            raise
        except Exception:
            call.status = 500
            raise
        finally:
            self.calls.add(call)

    def _struck(self, call: Call, job: Job, fault: Fault, prepare: Callable[[Call], Job]) -> Outcome:
        if fault.vanish:
            job.vanish()
            self._keeper.commit()
        if fault.refuse_token:
            raise invalid(fault.message or "Invalid pagination token")
        for late_ms in filter(None, (fault.late_ms, fault.again_ms)):
            asyncio.get_running_loop().call_later(late_ms / 1000, self._land, call, prepare)
        applies = fault.apply_first or fault.partial is not None or fault.again_ms
        outcome = self._run(call, job, fault) if applies else None
        call.status = 0
        if fault.hang:
            raise Hang
        if fault.quota:
            raise Refusal(429, fault.message or QUOTA_TEXTS[fault.quota])
        if fault.status is not None:
            raise Refusal(fault.status, fault.message or _text(fault.status), retry_after=fault.retry_after)
        if fault.drop or fault.apply_first or fault.late_ms:
            raise Reset
        outcome = outcome or self._run(call, job, fault)
        call.status = outcome.status
        return outcome

    def _land(self, call: Call, prepare: Callable[[Call], Job]) -> None:
        """Carry out a request whose client was answered before, or never. Log it again, without an answer."""
        landed = replace(call, time=time.time(), status=0, applied=False, fault="landed late")
        try:
            prepare(landed).run(Weather())
            landed.applied = True
        except Refusal:  # its object is gone
            pass
        finally:
            self._keeper.commit()
            self.calls.add(landed)

    def _run(self, call: Call, job: Job, fault: Fault) -> Outcome:
        lag_s = functools.partial(self.faults.lag_s, call)
        outcome = job.run(Weather(lag_s(call.namespace), lag_s, fault.lose_token, fault.partial))
        self._keeper.commit()
        if fault.lose_lsn:
            outcome.written_lsn = outcome.indexed_lsn = None
        call.applied = True
        call.status = outcome.status
        call.bytes_out = len(outcome.body)
        return outcome


def _text(status: int) -> str:
    return {
        403: "Forbidden",
        429: "Request failed. You've reached the max requests per second. Pace your requests.",
        500: "Internal server error",
        503: "Service unavailable",
    }.get(status, f"Fault injected: status {status}")
