"""Faults on demand: rules that say which requests go wrong, and in which way."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from emulator.calls import Call
from emulator.errors import invalid
from emulator.records import canonical_namespace

READS = frozenset(
    [
        "fetch",
        "fetch_by_metadata",
        "list",
        "query",
        "search",
        "describe_index_stats",
        "list_namespaces",
        "describe_namespace",
        "list_aliases",
        "describe_alias",
        "list_imports",
        "describe_import",
    ]
)
WRITES = frozenset(
    [
        "upsert",
        "upsert_records",
        "update",
        "delete",
        "create_namespace",
        "delete_namespace",
        "create_alias",
        "update_alias",
        "delete_alias",
        "start_import",
        "cancel_import",
    ]
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "operation": (str,),
    "index": (str,),
    "namespace": (str,),
    "count": (int,),
    "probability": (int, float),
    "seed": (int,),
    "status": (int,),
    "message": (str,),
    "retry_after": (int, float),
    "delay_ms": (int, float),
    "apply_first": (bool,),
    "late_ms": (int, float),
    "again_ms": (int, float),
    "hang": (bool,),
    "drop": (bool,),
    "partial": (int, float),
    "lag_ms": (int, float),
    "varies": (bool,),
    "lose_lsn": (bool,),
    "lose_token": (bool,),
    "refuse_token": (bool,),
    "vanish": (bool,),
    "quota": (str,),
}
# Refusals that waiting does not cure: the month's allowance is used up.
QUOTA_TEXTS: Mapping[str, str] = {
    "read": "Request failed. You've reached your read unit limit for the current month. "
    "To continue reading data, upgrade your plan.",
    "write": "Request failed. You've reached your write unit limit for the current month. "
    "To continue writing data, upgrade your plan.",
    "egress": "Request failed. You've reached your egress limit for the current month. "
    "To continue reading data, upgrade your plan.",
}


@dataclass
class Fault:
    """One rule. `operation` is a name from the call log, or `*`, `reads` or `writes`."""

    operation: str = "*"
    index: str | None = None
    namespace: str | None = None
    count: int | None = None  # number of strikes; None: no end
    probability: float = 1.0
    seed: int = 0
    status: int | None = None  # answer with this HTTP status (over gRPC: its code)
    message: str | None = None
    retry_after: float | None = None  # seconds, with the answer
    delay_ms: float = 0  # before anything is done
    apply_first: bool = False  # carry the request out, then fail (alone: drop the connection)
    late_ms: float = 0  # fail at once, and carry the request out so much later (alone: drop the connection)
    again_ms: float = 0  # carry the request out, and again so much later
    hang: bool = False  # never answer
    drop: bool = False  # break the connection
    partial: float | None = None  # upsert only this share of the records, beginning with the first
    lag_ms: float = 0  # reads see the state of so long ago
    varies: bool = False  # each read of each namespace lags differently, from 0 to `lag_ms`
    lose_lsn: bool = False  # the answer lacks its sequence number
    lose_token: bool = False  # the answer lacks its pagination token
    refuse_token: bool = False  # a request that carries a token is refused
    vanish: bool = False  # the namespace is dropped first
    quota: str | None = None  # read | write | egress: 429, the month's allowance is used up
    struck: int = 0
    chance: random.Random = field(default_factory=random.Random, repr=False)

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> "Fault":
        for key, value in body.items():
            if key not in _TYPES:
                raise invalid(f"A fault has no field '{key}'; it may have {', '.join(_TYPES)}")
            if value is not None and (
                not isinstance(value, _TYPES[key]) or isinstance(value, bool) != (bool in _TYPES[key])
            ):
                raise invalid(f"The fault's '{key}' must be of type {_TYPES[key][-1].__name__}, got {value!r}")
        fault = cls(**{key: value for key, value in body.items() if value is not None})  # type: ignore[arg-type]
        if fault.quota is not None and fault.quota not in QUOTA_TEXTS:
            raise invalid(f"The fault's 'quota' must be one of {', '.join(QUOTA_TEXTS)}, got '{fault.quota}'")
        if fault.varies and not fault.lag_ms:
            raise invalid("'varies' says of a lag that no two reads share it: give 'lag_ms' too")
        if fault.namespace is not None:
            fault.namespace = canonical_namespace(fault.namespace)
        fault.chance.seed(fault.seed)
        return fault

    def matches(self, call: Call, namespace: str | None) -> bool:
        return (
            self.index in (None, call.index)
            and self.namespace in (None, namespace)
            and (
                self.operation in ("*", call.operation)
                or (self.operation == "reads" and call.operation in READS)
                or (self.operation == "writes" and call.operation in WRITES)
            )
        )

    def strikes(self) -> bool:
        if self.count is not None and self.struck >= self.count:
            return False
        if self.probability < 1 and self.chance.random() >= self.probability:
            return False
        self.struck += 1
        return True

    def lag_s(self) -> float:
        return self.lag_ms / 1000 * (self.chance.random() if self.varies else 1)

    def name(self) -> str:
        """Name the fault for the call log."""
        names = [
            item.name
            for item in fields(self)
            if item.name in _TYPES
            and getattr(self, item.name)
            and item.name not in ("operation", "probability", "seed")
        ]
        return ",".join(name for name in names if name not in ("index", "namespace", "count")) or "none"

    def as_json(self) -> dict[str, object]:
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "chance"}


NO_FAULT = Fault(operation="")


class Faults:
    """Rules in force. `reads_lag_s`: the lag of every read, in seconds. A rule may make some reads lag longer."""

    def __init__(self, reads_lag_s: float = 0.0) -> None:
        self.reads_lag_s = reads_lag_s
        self.rules: list[Fault] = []

    def strike(self, call: Call, has_token: bool) -> Fault:
        """Return the first rule that strikes this call. Rules about lag never strike: they are part of the weather.

        A rule that refuses tokens waits for a token, so the first page of a listing does not use it up.
        """
        for rule in self.rules:
            if rule.lag_ms or (rule.refuse_token and not has_token):
                continue
            if rule.matches(call, call.namespace) and rule.strikes():
                return rule
        return NO_FAULT

    def lag_s(self, call: Call, namespace: str | None) -> float:
        """Return how far back, in seconds, the call sees the state of this namespace."""
        lags = (rule.lag_s() for rule in self.rules if rule.lag_ms and rule.matches(call, namespace))
        return max([self.reads_lag_s, *lags])

    def longest_lag_s(self) -> float:
        return max([self.reads_lag_s, *(rule.lag_ms / 1000 for rule in self.rules)])
