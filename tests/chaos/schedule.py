"""A schedule of faults: drawn from the seed alone, so that a seed that fails can be tried again."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.case import Case

FRESHNESS = "CHAOS_FRESHNESS_SECONDS"
# How long the fleet waits for reads to become consistent, a call for its answer, and a client with an old route.
# The first may be longer: where a stage takes seconds, a lag must outlast it to do harm.
FRESHNESS_S, DEADLINE_S, ROUTES_STALE_S = float(os.environ.get(FRESHNESS, 1.6)), 1.0, 0.6
COPYING, DESTROYING, RETURNING = "copying", "destroying", "returning"
# From the beginning of a stage. An undisturbed stage takes one to two seconds.
WITHIN_S = 2.0
# Not longer than the fleet waits for reads to become consistent, or a lag would count as a difference.
LAG_MS = round(850 * FRESHNESS_S)

# How long after it was sent a call without an answer may still be carried out.
LATE_MS = round(1000 * DEADLINE_S) + LAG_MS


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
    """All that happens to a seed's job. `ending`: the end that the person wants for it."""

    ending: str
    by_ids: bool
    events: tuple[Event, ...]
    cancel_at_s: float = 0.0
    weather: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # of the whole life
    and_back: bool = False  # after a clean-up, by the reverse plan
    and_forth: bool = False  # and by the reverse plan of that
    late: bool = False  # clients with old routes write on
    waits: bool = False  # after the cut-over, until no client uses an old route; else the clean-up is asked for at once

    @property
    def cannot_be_repaired(self) -> bool:
        """Say whether others, or the service, may do what no command of ours undoes: then a person gives the job up."""
        return self.late or any(event.what in (*VANISHING, *STRANGERS, WRITTEN_BEHIND) for event in self.events)


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
READS = ("fetch", "list", "reads", "query", "describe_index_stats", "describe_namespace", "list_namespaces")


def _rule(chance: random.Random, operation: str, **rule: Any) -> dict[str, Any]:
    return {"operation": operation, "count": chance.randint(1, 3), **rule}


def _write(chance: random.Random, stage: str) -> str:
    return chance.choice(
        ("delete", "delete_namespace", "writes")
        if stage == DESTROYING
        else ("upsert", "create_namespace", "upsert", "writes")
    )


def _any(chance: random.Random, stage: str) -> str:
    return chance.choice((_write(chance, stage), "fetch", "list", "*"))


def _late(chance: random.Random, **rule: Any) -> dict[str, Any]:
    """A deletion that lands when its caller has given up, upon what is there then."""
    operation = chance.choice(("delete", "delete_namespace"))
    return {"operation": operation, "count": 1, "late_ms": chance.randint(100, LATE_MS), **rule}


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
    "done late, without an answer": lambda c, s: _late(c, hang=True),
    "done late, then reset": lambda c, s: _late(c),
    "done late, then 503": lambda c, s: _late(c, status=503),
    "done twice": lambda c, s: _rule(c, _write(c, s), again_ms=c.randint(100, LATE_MS)) | {"count": 1},
    "sequence numbers lost": lambda c, s: {"operation": "*", "lose_lsn": True, "count": c.randint(1, 30)},
    "reads lag": lambda c, s: {
        "operation": c.choice(READS),
        "lag_ms": c.randint(50, LAG_MS),
        "varies": c.random() < 0.5,
    },
    "partial upsert": lambda c, s: _rule(c, "upsert", partial=c.random(), status=c.choice((500, 503))),
    "partial upsert, then silence": lambda c, s: _rule(c, "upsert", partial=c.random(), hang=True),
    "token refused": lambda c, s: _rule(c, "list", refuse_token=True),
    "token lost": lambda c, s: _rule(c, "list", lose_token=True) | {"count": 1},
    "read-only": lambda c, s: _rule(c, "writes", status=403, message="read-only"),
    "key refused": lambda c, s: _rule(c, "*", status=401, message="Invalid API key"),
    "quota used up": lambda c, s: _rule(c, c.choice(("reads", "writes")), quota=c.choice(("read", "write", "egress"))),
}
"""Faults that the emulator does to requests, by the names of the table that is printed."""

AMBUSHES: Mapping[str, tuple[float, float]] = {
    "worker killed between its call and the record of it": (0, 0),
    "worker frozen between its call and the record of it": (2.6, 3.8),
    "worker frozen before its call is carried out": (2.6, 3.8),
}
"""Fates of the worker whose call was just hit. A sleep a second longer than a lease has outlived it."""

WRITTEN_BEHIND = "written to where a deletion was not answered"
"""Somebody does so right after the deletion: its repetition would take what is new."""

STRANGERS: Mapping[str, tuple[str, ...]] = {
    "a target deleted by somebody": (DESTROYING,),
    "records of a target deleted by somebody": (DESTROYING,),
    "a record written to a target by somebody": (COPYING, DESTROYING),
}
"""The acts of people who know nothing of the job."""

VANISHING = ("source namespace vanished", "target namespace vanished")
"""Namespaces that the service itself loses, while the job copies; afterwards nobody could bring it back."""

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
"""Fates of processes, and how long each lasts."""

PEOPLE: Mapping[str, tuple[str, ...]] = {
    "a second apply": (COPYING, DESTROYING),
    "a pause": (COPYING, DESTROYING),
    "another verification": (COPYING,),
    "a roll back amid the clean-up": (DESTROYING,),
    "a clean-up out of turn": (COPYING, DESTROYING),
    "a changed window": (COPYING, DESTROYING),
}
"""Requests of people at the wrong time."""

ERASURE = "a tenant erased"
SET_BACK = "Postgres replaced by an older copy of itself"
"""The copy is made at its time, and put in place when the fault is over."""


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
    weather = _weather(case)
    slow = {"operation": "*", "delay_ms": chance.choice((10, 40, 120)), "probability": chance.choice((0.2, 0.6))}
    by_ids, cancel_at_s, is_slow = chance.random() < 0.5, chance.uniform(0.2, 2.0), chance.random() < 0.7
    if case.erased is not None:
        stage = COPYING if ending == "verified" or chance.random() < 0.6 else DESTROYING
        events.append(Event(stage, chance.uniform(0, WITHIN_S), ERASURE))
    if case.late:
        ending = "cleaned"  # else there is no cut-over
    strangers = [] if any(event.what in VANISHING for event in events) else _strangers(case, ending, by_ids)
    events += strangers
    events += _set_back(case, ending)
    again = random.Random(f"there and back {case.seed}")
    # A prefix is not taken off again, and what strangers did is not undone.
    returns = case.policies["collisions"] != "prefix" and not case.embeds
    and_back = returns and not strangers and again.random() < 0.6
    events += [_event(again, RETURNING) for _ in range(again.randint(0, 3)) if and_back]
    return Schedule(
        ending=ending,
        by_ids=by_ids,
        events=tuple(sorted(events, key=lambda event: (event.stage, event.at_s))),
        cancel_at_s=cancel_at_s,
        weather=(*((("slow", slow),) if is_slow else ()), *weather),
        and_back=and_back,
        and_forth=and_back and again.random() < 0.5,
        late=bool(case.late),
        waits=random.Random(f"patience {case.seed}").random() < 0.7,
    )


def _weather(case: Case) -> list[tuple[str, Mapping[str, Any]]]:
    """Lag from before the first write to the end: of one namespace or of all, of one kind of read or of all, always the
    same or of each read anew."""
    chance = random.Random(f"weather {case.seed}")
    names = [*sorted(case.sources), *sorted({owner.namespace for owner in case.tenants})]
    rules: list[tuple[str, Mapping[str, Any]]] = []
    for _ in range(chance.choice((0, 1, 1, 2))):
        rule: dict[str, Any] = {"operation": chance.choice(("reads", *READS)), "varies": chance.random() < 0.5}
        rule |= {"lag_ms": chance.randint(LAG_MS // 2, LAG_MS), "seed": chance.randrange(10**6)}
        where = "all namespaces"
        if chance.random() < 0.7:
            rule["namespace"] = chance.choice(names)
            where = "a source" if rule["namespace"] in case.sources else "a target"
        rules.append((f"{rule['operation']} of {where} lag all the time", rule))
    return rules


def _set_back(case: Case, ending: str) -> list[Event]:
    chance = random.Random(f"older copy {case.seed}")
    if chance.random() < 0.85:
        return []
    stage = COPYING if ending == "verified" or chance.random() < 0.5 else DESTROYING
    return [Event(stage, chance.uniform(0.1, WITHIN_S), SET_BACK, lasts_s=chance.uniform(0.2, 3.0))]


def _strangers(case: Case, ending: str, by_ids: bool) -> list[Event]:
    """Not where the service itself loses records, nor on the way back: who did what could not be told apart."""
    chance = random.Random(f"strangers {case.seed}")
    if chance.random() < 0.5:
        return []
    what = chance.choice([*STRANGERS, WRITTEN_BEHIND])
    if what == WRITTEN_BEHIND and case.writes:
        return []
    if what == WRITTEN_BEHIND:
        rule = {
            "operation": "delete" if by_ids else "delete_namespace",
            "count": 1,
            "apply_first": True,
            **chance.choice(({}, {"hang": True}, {"status": 503})),
        }
        return [Event(DESTROYING, 0.0, what, rule=rule)]
    stage = COPYING if ending == "verified" else chance.choice(STRANGERS[what])
    if stage not in STRANGERS[what]:
        return []
    return [Event(stage, 0.0 if chance.random() < 0.5 else chance.uniform(0, WITHIN_S), what)]


def _vanishing(chance: random.Random, case: Case) -> Event:
    what = chance.choice(VANISHING)
    name = chance.choice(sorted(case.owners))
    namespace = name if what.startswith("source") else case.owners[name].namespace
    operation = chance.choice(("fetch", "list") if what.startswith("source") else ("upsert", "fetch"))
    rule = {"operation": operation, "namespace": namespace, "vanish": True, "count": 1}
    return Event(COPYING, 0.0 if chance.random() < 0.5 else chance.uniform(0, WITHIN_S), what, rule=rule)


def _ambush(chance: random.Random, stage: str, at: float) -> Event:
    what = chance.choice(sorted(AMBUSHES))
    operation = chance.choice(("delete", "delete_namespace", "writes") if stage == DESTROYING else ("upsert",))
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
    what = chance.choice([name for name, stages in PEOPLE.items() if stage in stages] or ["a pause"])
    return Event(stage, at, what)
