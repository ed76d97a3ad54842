"""The documented per-second limits: their numbers, scopes and words (docs.pinecone.io, rate limits)."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from emulator.calls import Call
from emulator.errors import Refusal, invalid

URL_BYTES = 16 * 1024  # the service's own limit is not documented; common proxies allow 8 to 16 KB
_PACE = "Pace your {operation} requests or contact Pinecone Support to request a higher limit."


@dataclass(frozen=True)
class Limit:
    operation: str
    per_s: float
    scope: str  # namespace | index
    message: str
    measure: str = "requests"  # requests | records | bytes
    by_metadata: bool | None = None  # None: either way

    def applies(self, call: Call, by_metadata: bool) -> bool:
        return self.operation == call.operation and self.by_metadata in (None, by_metadata)

    def amount(self, call: Call) -> float:
        """Return how much of the limit a call takes. A write's ids are known before it is carried out."""
        return {"requests": 1, "records": len(call.ids), "bytes": call.bytes_in}[self.measure]

    def text(self, call: Call, per_s: float) -> str:
        words = self.message.format(ns=call.namespace, index=call.index, n=f"{per_s:g}")
        return f"Request failed. You've reached the {words}. {_PACE.format(operation=self.operation.replace('_', ' '))}"


LIMITS = (
    Limit("upsert", 100, "namespace", "upsert QPS limit for namespace {ns} ({n} QPS)"),
    Limit("upsert", 50e6, "namespace", "max upsert size limit per second for index {index}", "bytes"),
    Limit("query", 100, "namespace", "query QPS limit for namespace {ns} ({n} QPS)"),
    Limit("query", 2000, "index", "max query read units per second for index {index}"),
    Limit("fetch", 100, "index", "max fetch requests per second for index {index}"),
    Limit("fetch_by_metadata", 5, "namespace", "max fetch by metadata requests per second for namespace {ns}"),
    Limit("list", 200, "index", "max list requests per second for index {index}"),
    Limit("describe_index_stats", 100, "index", "max describe_index_stats requests per second for index {index}"),
    Limit("describe_namespace", 100, "index", "max describe_namespace requests per second for index {index}"),
    Limit("update", 100, "namespace", "update QPS limit for namespace {ns} ({n} QPS)", by_metadata=False),
    Limit("update", 100, "namespace", "max update records per second for namespace {ns}", "records", False),
    Limit("update", 5, "namespace", "max update by metadata requests per second for namespace {ns}", by_metadata=True),
    Limit("update", 500, "index", "max update by metadata requests per second for index {index}", by_metadata=True),
    Limit("delete", 100, "namespace", "delete QPS limit for namespace {ns} ({n} QPS)", by_metadata=False),
    Limit("delete", 5000, "namespace", "max delete records per second for namespace {ns}", "records"),
    Limit("delete", 5000, "index", "max delete records per second for index {index}", "records"),
    Limit("delete", 5, "namespace", "max delete by metadata requests per second for namespace {ns}", by_metadata=True),
    Limit("delete", 500, "index", "max delete by metadata requests per second for index {index}", by_metadata=True),
)


class Meter(Protocol):
    """The use of one limit in one scope."""

    def full(self, amount: float, per_s: float, now: float) -> bool: ...
    def take(self, amount: float, per_s: float, now: float) -> None: ...


class Window:
    """Counts within each whole second; a single request larger than the limit passes alone."""

    def __init__(self) -> None:
        self._second, self._used = 0, 0.0

    def full(self, amount: float, per_s: float, now: float) -> bool:
        return int(now) == self._second and self._used > 0 and self._used + amount > per_s

    def take(self, amount: float, per_s: float, now: float) -> None:
        if int(now) != self._second:
            self._second, self._used = int(now), 0.0
        self._used += amount


class Bucket:
    """Lets nothing pass until earlier requests are paid off: no bursts at all."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def full(self, amount: float, per_s: float, now: float) -> bool:
        return now < self._free_at

    def take(self, amount: float, per_s: float, now: float) -> None:
        self._free_at = max(now, self._free_at) + amount / per_s


class Limits:
    """The limits in force: `off`, `documented`, or a share of the documented ones, such as `x0.1`."""

    def __init__(
        self, setting: str = "off", shape: str = "window", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.set(setting, shape)

    def set(self, setting: str, shape: str = "window") -> None:
        if shape not in ("window", "bucket"):
            raise invalid(f"limits take the shape of a 'window' or a 'bucket', not of '{shape}'")
        factor = re.fullmatch(r"x(\d+(?:\.\d+)?)", setting)
        if setting not in ("off", "documented") and not (factor and float(factor[1])):
            raise invalid(f"limits are 'off', 'documented' or a factor such as 'x0.1', not '{setting}'")
        self.factor = 0.0 if setting == "off" else float(factor[1]) if factor else 1.0
        self._new_meter: Callable[[], Meter] = Window if shape == "window" else Bucket
        self._meters: dict[tuple[Limit, str | None], Meter] = {}

    def admit(self, call: Call, by_metadata: bool) -> None:
        """Count the request; or refuse it uncounted when any limit that applies is reached."""
        if not self.factor:
            return
        now = self._clock()
        taken: list[tuple[Meter, float, float]] = []
        for limit in LIMITS:
            if limit.applies(call, by_metadata):
                per_s, amount = limit.per_s * self.factor, limit.amount(call)
                scope = f"{call.index}/{call.namespace}" if limit.scope == "namespace" else call.index
                meter = self._meters.setdefault((limit, scope), self._new_meter())
                if meter.full(amount, per_s, now):
                    raise Refusal(429, limit.text(call, per_s))
                taken.append((meter, amount, per_s))
        for meter, amount, per_s in taken:
            meter.take(amount, per_s, now)
