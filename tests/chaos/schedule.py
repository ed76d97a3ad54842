"""Which faults strike when: drawn from the seed alone, so that a seed that fails can be tried again."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.small_index import Case

COPYING, DESTROYING = "copying", "destroying"
# From the beginning of a stage. An undisturbed stage takes one to two seconds.
WITHIN_S = 2.0
# Not longer than the fleet waits for reads to become consistent, or a lag would count as a difference.
LAG_MS = 400


@dataclass(frozen=True)
class Event:
    """One fault. `what` is its name in the table of what was hit; `lasts_s` until what ends by itself, ends."""

    stage: str
    at_s: float
    what: str
    lasts_s: float = 0.0
    rule: Mapping[str, Any] | None = None  # for the emulator

    def __str__(self) -> str:
        rule = f" {dict(self.rule)}" if self.rule else ""
        return (
            f"{self.stage} +{self.at_s:.2f} s: {self.what}{f' for {self.lasts_s:.1f} s' if self.lasts_s else ''}{rule}"
        )


@dataclass(frozen=True)
class Schedule:
    """What happens to a seed's job: `ending` is what the person wants of it."""

    ending: str
    by_ids: bool
    events: tuple[Event, ...]
    cancel_at_s: float = 0.0
    slow: Mapping[str, Any] | None = field(default=None)  # weather of the whole seed
    and_back: bool = False  # after a clean-up, by the reverse plan


ENDINGS = (
    "cleaned",
    "cleaned",
    "cleaned",
    "cleaned by policy",
    "rolled back",
    "rolled back",
    "cancelled and rolled back",
    "verified",
)
READS = ("fetch", "list", "reads")


def _rule(chance: random.Random, operation: str, **rule: Any) -> dict[str, Any]:
    return {"operation": operation, "count": chance.randint(1, 3), **rule}


def _write(chance: random.Random, stage: str) -> str:
    return chance.choice(
        ("upsert", "create_namespace", "upsert", "writes")
        if stage == COPYING
        else ("delete", "delete_namespace", "writes")
    )


def _any(chance: random.Random, stage: str) -> str:
    return chance.choice((_write(chance, stage), "fetch", "list", "*"))


Rule = Callable[[random.Random, str], dict[str, Any]]

STORE_FAULTS: Mapping[str, Rule] = {
    "429": lambda c, s: _rule(c, _any(c, s), status=429) | {"count": c.randint(2, 12)},
    "429 with Retry-After": lambda c, s: _rule(c, _any(c, s), status=429, retry_after=c.choice((0.3, 1))),
    "500": lambda c, s: _rule(c, _any(c, s), status=500) | {"count": c.randint(1, 6)},
    "503": lambda c, s: {
        "operation": _any(c, s),
        "status": 503,
        "probability": 0.3,
        "seed": c.randrange(10**6),
        "count": 8,
    },
    "connection reset": lambda c, s: _rule(c, _any(c, s), drop=True),
    "done, then reset": lambda c, s: _rule(c, _write(c, s), apply_first=True),
    "done, then silence": lambda c, s: _rule(c, _write(c, s), apply_first=True, hang=True),
    "done, then 503": lambda c, s: _rule(c, _write(c, s), apply_first=True, status=503),
    "no answer": lambda c, s: _rule(c, _any(c, s), hang=True),
    "slow answers": lambda c, s: _rule(c, _any(c, s), delay_ms=c.choice((200, 600, 1_300))),
    "reads lag": lambda c, s: {"operation": c.choice(READS), "lag_ms": c.randint(50, LAG_MS)},
    "partial upsert": lambda c, s: _rule(c, "upsert", partial=c.random(), status=c.choice((500, 503))),
    "partial upsert, then silence": lambda c, s: _rule(c, "upsert", partial=c.random(), hang=True),
    "token refused": lambda c, s: _rule(c, "list", refuse_token=True),
    "token lost": lambda c, s: _rule(c, "list", lose_token=True) | {"count": 1},
    "read-only": lambda c, s: _rule(c, "writes", status=403, message="read-only"),
    "key refused": lambda c, s: _rule(c, "*", status=401, message="Invalid API key"),
    "quota used up": lambda c, s: _rule(c, c.choice(("reads", "writes")), quota=c.choice(("read", "write", "egress"))),
}
"""What the emulator does to requests, by the names of the table that is printed."""

AMBUSHES: Mapping[str, tuple[float, float]] = {
    "worker killed between its call and the record of it": (0, 0),
    "worker frozen between its call and the record of it": (2.6, 3.8),
    "worker frozen before its call is carried out": (2.6, 3.8),
}
"""What happens to the worker whose call was just hit. A sleep a second longer than a lease has outlived it."""

VANISHING = ("source namespace vanished", "target namespace vanished")
"""What the service itself loses, while the job copies; afterwards nobody could bring it back."""

PROCESS_FAULTS: Mapping[str, tuple[float, float]] = {
    "worker killed": (0, 0),
    "worker at work killed": (0, 0),
    "all workers killed": (0, 0),
    "worker frozen": (0.3, 3.4),
    "worker at work frozen": (0.5, 3.6),
    "dispatcher killed": (0, 0),
    "dispatcher frozen": (0.5, 2.0),
    "store frozen": (0.2, 0.8),
    "store killed": (0, 0),
    "Redis flushed": (0, 0),
    "Redis killed": (0, 0),
    "Redis frozen": (0.2, 1.0),
    "Postgres restarted": (0, 0),
    "Postgres killed": (0, 0),
    "connections to Postgres cut": (0, 0),
}
"""What happens to processes, and how long it lasts."""

PEOPLE: Mapping[str, tuple[str, ...]] = {
    "a second apply": (COPYING, DESTROYING),
    "a pause": (COPYING, DESTROYING),
    "another verification": (COPYING,),
    "a roll back amid the clean-up": (DESTROYING,),
    "a clean-up out of turn": (COPYING, DESTROYING),
    "a changed window": (COPYING, DESTROYING),
}
"""What people ask at the wrong time."""

ERASURE = "a tenant erased"


def make_schedule(case: Case) -> Schedule:
    """The same faults at the same times for the same seed."""
    chance = random.Random(f"faults {case.seed}")
    ending = chance.choice(ENDINGS)
    events = []
    for _ in range(chance.randint(3, 7)):
        stage = COPYING if ending == "verified" or chance.random() < 0.4 else DESTROYING
        events.append(_event(chance, stage))
    if chance.random() < 0.15:
        vanishing = _vanishing(chance, case)
        if not case.writes and case.erased is None:  # who lost what could not be told apart
            events.append(vanishing)
    if case.writes and ending == "cleaned by policy":
        ending = "cleaned"  # before the clean-up the writers stop, and somebody has to say when
    slow = {"operation": "*", "delay_ms": chance.choice((10, 40, 120)), "probability": chance.choice((0.2, 0.6))}
    by_ids, cancel_at_s, is_slow = chance.random() < 0.5, chance.uniform(0.2, 2.0), chance.random() < 0.7
    if case.erased is not None:
        stage = COPYING if ending == "verified" or chance.random() < 0.6 else DESTROYING
        events.append(Event(stage, chance.uniform(0, WITHIN_S), ERASURE))
    return Schedule(
        ending=ending,
        by_ids=by_ids,
        events=tuple(sorted(events, key=lambda event: (event.stage, event.at_s))),
        cancel_at_s=cancel_at_s,
        slow=slow if is_slow else None,
        # A prefix is not taken off again.
        and_back=case.policies["collisions"] != "prefix" and chance.random() < 0.4,
    )


def _vanishing(chance: random.Random, case: Case) -> Event:
    what = chance.choice(VANISHING)
    name = chance.choice(sorted(case.owners))
    namespace = name if what.startswith("source") else case.owners[name].namespace
    operation = chance.choice(("fetch", "list") if what.startswith("source") else ("upsert", "fetch"))
    rule = {"operation": operation, "namespace": namespace, "vanish": True, "count": 1}
    return Event(COPYING, 0.0 if chance.random() < 0.5 else chance.uniform(0, WITHIN_S), what, rule=rule)


def _ambush(chance: random.Random, stage: str, at: float) -> Event:
    what = chance.choice(sorted(AMBUSHES))
    operation = chance.choice(("upsert",) if stage == COPYING else ("delete", "delete_namespace", "writes"))
    rule: dict[str, Any] = {"operation": operation, "count": 1}
    rule |= {"delay_ms": 700} if "before" in what else {"apply_first": True, "hang": True}
    return Event(stage, at, what, lasts_s=chance.uniform(*AMBUSHES[what]), rule=rule)


def _event(chance: random.Random, stage: str) -> Event:
    at = 0.0 if chance.random() < 0.4 else chance.uniform(0, WITHIN_S)
    draw = chance.random()
    if draw < 0.12:
        return _ambush(chance, stage, at)
    if draw < 0.5:
        what = chance.choice(sorted(STORE_FAULTS))
        return Event(stage, at, what, rule=STORE_FAULTS[what](chance, stage))
    if draw < 0.88:
        what = chance.choice(sorted(PROCESS_FAULTS))
        least, most = PROCESS_FAULTS[what]
        return Event(stage, max(at, 0.1), what, lasts_s=chance.uniform(least, most))
    what = chance.choice([name for name, stages in PEOPLE.items() if stage in stages])
    return Event(stage, at, what)
