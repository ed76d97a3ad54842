"""Carrying out a schedule: each fault at its time, and how often each of them hit."""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import redis

from orchestrator.services import acts
from tests.chaos.case import Case
from tests.chaos.fleet import ChaosFleet
from tests.chaos.others import is_done
from tests.chaos.schedule import AMBUSHES, ERASURE, PEOPLE, SET_BACK, STRANGERS, WRITTEN_BEHIND, Event, Schedule
from tests.chaos.strangers import Strangers
from tests.chaos.witness import PLAIN, Contents, Witness
from vecfleet.errors import Unreachable, VecfleetError

WHO = "somebody else"
PAUSE_S = 0.4


class Strikes:
    """One seed's faults. `tick` carries out what is due; `clear` ends everything that lasts."""

    def __init__(
        self,
        fleet: ChaosFleet,
        schedule: Schedule,
        witness: Witness,
        case: Case,
        strangers: Strangers,
        note: Callable[[str], None],
        apply: Callable[[], object],
        erase: Callable[[], object],
    ) -> None:
        self.hit: Counter[str] = Counter()
        self.job_id = 0
        self._fleet, self._schedule, self._witness, self._note = fleet, schedule, witness, note
        self._strangers = strangers
        self._case, self._apply, self._erase = case, apply, erase
        self._chance = random.Random(f"strikes {case.seed}")
        self._due: list[tuple[float, Event]] = []
        self._thaws: list[tuple[float, str]] = []
        self._rules: list[tuple[str, dict[str, Any]]] = []
        self._resume_at: float | None = None
        self._set_back_at: float | None = None
        self.times_set_back = 0
        self._ambushes: list[Event] = []
        self._begun: set[str] = set()
        self._acts: dict[str, Callable[[Event], object]] = {
            "worker killed": lambda event: self._kill(self._any("worker")),
            "worker at work killed": lambda event: self._kill(fleet.holder(self._chance) or self._any("worker")),
            "all workers killed": lambda event: self._kill(*self._all("worker")),
            "worker frozen": lambda event: self._freeze(self._any("worker"), event.lasts_s),
            "worker at work frozen": lambda event: self._freeze(
                fleet.holder(self._chance) or self._any("worker"), event.lasts_s
            ),
            "dispatcher killed": lambda event: self._kill(self._any("dispatcher")),
            "dispatcher frozen": lambda event: self._freeze(self._any("dispatcher"), event.lasts_s),
            "store frozen": lambda event: self._freeze("emulator", event.lasts_s),
            "store killed": lambda event: self._kill_store(),
            "Redis flushed": lambda event: self._flush(),
            "Redis killed": lambda event: fleet.kill_redis(),
            "Redis frozen": lambda event: self._freeze("redis", event.lasts_s),
            "Postgres restarted": lambda event: fleet.restart_postgres(),
            "Postgres killed": lambda event: fleet.kill_postgres(),
            "connections to Postgres cut": lambda event: self._cut(),
            SET_BACK: lambda event: self._copy_postgres(event.lasts_s),
        }

    @property
    def pending(self) -> bool:
        """Say whether something is still to strike, or to thaw."""
        return bool(self._due or self._thaws or self._resume_at or self._set_back_at)

    @property
    def keeps_paused(self) -> bool:
        """Say whether the pause is somebody's, who will end it."""
        return self._resume_at is not None

    def let_reads_lag(self) -> None:
        """From now on there is the weather of this life."""
        self._set_rules([])
        self.hit.update(what for what, rule in self._schedule.weather if "lag_ms" in rule)

    def begin(self, stage: str) -> None:
        """The stage begins now; what was to strike in an earlier one and did not, does not any more: a person does.
        A stage that had begun before does not begin again."""
        if stage in self._begun:
            return
        self._begun.add(stage)
        now = time.monotonic()
        asked = [(at, event) for at, event in self._due if event.what == ERASURE]
        self._due = asked + [(now + event.at_s, event) for event in self._schedule.events if event.stage == stage]
        self._ambushes = []
        self._set_rules([])
        self.tick()

    def tick(self) -> None:
        now = time.monotonic()
        for at, name in [thaw for thaw in self._thaws if thaw[0] <= now]:
            self._thaws.remove((at, name))
            self._fleet.thaw(name)
            self._note(f"{name} thawed")
        if self._resume_at is not None and self._resume_at <= now:
            self._resume()
        if self._set_back_at is not None and self._set_back_at <= now:
            self._set_back_at = None
            self._fleet.set_postgres_back()
            self.times_set_back += 1
            self._note("Postgres is the older copy")
        self._spring()
        due = [event for at, event in self._due if at <= now]
        self._due = [(at, event) for at, event in self._due if at > now]
        for event in due:
            self._strike(event)

    def _strike(self, event: Event) -> None:
        self._note(str(event))
        if event.rule is not None:
            if "lag_ms" in event.rule:
                self.hit[event.what] += 1  # lag is no strike but the weather
            self._set_rules([*self._rules, (event.what, dict(event.rule))])
            if event.what in (*AMBUSHES, WRITTEN_BEHIND):
                self._ambushes.append(event)
        elif event.what in PEOPLE:
            self._as_a_person(event.what)
        elif event.what in STRANGERS:
            if self._strangers.act(event.what):
                self.hit[event.what] += 1
        elif event.what == ERASURE:
            self._erase()
        else:
            self.hit[event.what] += 1
            self._acts[event.what](event)

    def _spring(self) -> None:
        """The worker whose call was hit since the last tick is killed or frozen, or another that holds a lease."""
        for event in self._ambushes:
            if any(what == event.what and times for (what, _), times in zip(self._rules, self._struck(), strict=False)):
                self._ambushes.remove(event)
                if event.what == WRITTEN_BEHIND:
                    self._write_behind()
                    return
                name = self._fleet.holder(self._chance) or self._any("worker")
                self._note(f"{name} is caught at its call")
                if event.lasts_s:
                    self._freeze(name, event.lasts_s)
                else:
                    self._kill(name)
                return

    def _write_behind(self) -> None:
        """Somebody writes to where a deletion was just carried out without an answer."""
        self._witness.listen()
        hit = [call for call in self._witness.calls if call["fault"] and call["applied"] and not is_done(call)]
        for call in reversed(hit):
            if call["operation"] in ("delete", "delete_namespace") and call["namespace"] in self._case.sources:
                self._strangers.write_behind(call["namespace"], call["ids"])
                return

    def _struck(self) -> list[int]:
        """Return how often each rule in force struck."""
        if "emulator" in self._fleet.frozen:
            return []
        url = f"{self._fleet.emulator.address}/_emulator/faults"
        return [rule["struck"] for rule in httpx.get(url, timeout=20, verify=PLAIN).raise_for_status().json()["faults"]]

    def clear(self) -> None:
        """Everything that lasts is over, and everybody runs."""
        self._due, self._thaws, self._ambushes, self._set_back_at = [], [], [], None
        self._fleet.thaw_all()
        self.clear_store()
        self._fleet.revive()

    def clear_store(self) -> None:
        """The vendor's troubles are over."""
        self._set_rules([], weather=False)

    def lost_by_the_service(self, before: Contents) -> frozenset[tuple[str, str]]:
        """Records that vanished: of sources, those whose twin was not written by then, whole and acknowledged."""
        lost: set[tuple[str, str]] = set()
        written: set[tuple[str, str]] = set()
        for call in self._witness.calls:
            namespace = call["namespace"]
            if call["operation"] == "upsert" and is_done(call):
                written |= {(namespace, id) for id in call["ids"]}
            if "vanish" not in (call["fault"] or ""):
                continue
            written = {(there, id) for there, id in written if there != namespace}
            lost |= {(namespace, one.id) for one in self._case.foreign.get(namespace, ())}
            for id, stored in before.get(namespace, {}).items() if namespace in self._case.sources else ():
                fate = self._case.fate(namespace, stored)
                if fate is None or (fate[0], fate[1].id) not in written:
                    lost.add((namespace, id))
        return frozenset(lost)

    # The store

    def _set_rules(self, rules: list[tuple[str, dict[str, Any]]], *, weather: bool = True) -> None:
        """Put these rules in force, in this order; what those before them hit is counted."""
        self._fleet.thaw("emulator")
        url = f"{self._fleet.emulator.address}/_emulator/faults"
        with httpx.Client(timeout=20, verify=PLAIN) as http:
            for (what, rule), times in zip(self._rules, self._struck(), strict=False):
                self.hit[what] += times
                if "count" in rule:
                    rule["count"] -= times
            self._rules = [(what, rule) for what, rule in rules if rule.get("count", 1) > 0]
            http.delete(url).raise_for_status()
            always = self._schedule.weather if weather else ()
            # A rule is of one index or of all: where targets are in another, it may strike either.
            where = {"index": self._case.index} if len(self._case.indexes) == 1 else {}
            wanted = [{**rule, **where} for _, rule in [*self._rules, *always]]
            if wanted:
                http.post(url, json={"faults": wanted}).raise_for_status()

    def _kill_store(self) -> None:
        self._fleet.thaw("emulator")
        rules = list(self._rules)
        self._set_rules([])
        self._fleet.kill_emulator(self._witness.listen)
        self._witness.starts_over()
        self._rules = []
        self._set_rules(rules)

    # Processes

    def _all(self, kind: str) -> list[str]:
        return sorted(
            name for name, process in self._fleet.processes.items() if name.startswith(kind) and process.alive()
        )

    def _any(self, kind: str) -> str:
        return self._chance.choice(self._all(kind) or [f"{kind}1"])

    def _kill(self, *names: str) -> None:
        for name in names:
            self._fleet.kill(name)
            self._fleet.frozen.discard(name)

    def _freeze(self, name: str, seconds: float) -> None:
        self._fleet.freeze(name)
        self._thaws.append((time.monotonic() + seconds, name))

    def _copy_postgres(self, seconds: float) -> None:
        self._fleet.copy_postgres()
        self._set_back_at = time.monotonic() + seconds

    def _flush(self) -> None:
        with redis.Redis.from_url(self._fleet.redis.url, socket_timeout=5) as client:
            self._fleet.thaw("redis")
            client.flushall()

    def _cut(self) -> None:
        self._fleet.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    # People

    def _state(self) -> str:
        [(state,)] = self._fleet.sql("SELECT state FROM job WHERE id = %s", self.job_id)
        return str(state)

    def _resume(self) -> None:
        try:
            acts.resume(self._fleet.parts.database, self.job_id, WHO)
        except Unreachable:
            return
        except VecfleetError as error:
            self._note(f"told: {error}")
        self._resume_at = None

    def _as_a_person(self, what: str) -> None:
        """Asked once, at the wrong time. A refusal is an answer."""
        if what == "a roll back amid the clean-up" and self._state() != "cleaning":
            return  # any earlier it is no mistake
        if what == "a second apply" and self._state() in ("cancelled", "rolled_back"):
            return  # that is a job of its own, which has the names then
        database, job = self._fleet.parts.database, self.job_id
        asked: dict[str, Callable[[], object]] = {
            "a second apply": self._apply,
            "a pause": lambda: acts.pause(database, job, WHO),
            "another verification": lambda: acts.verify(database, job, WHO),
            "a roll back amid the clean-up": lambda: acts.roll_back(database, job, WHO, None),
            "a clean-up out of turn": lambda: acts.clean_up(database, job, WHO, by_ids=False),
            "a changed window": lambda: acts.set_lever(database, job, WHO, "window", self._chance.randint(1, 6)),
        }
        try:
            asked[what]()
        except VecfleetError as error:
            self.hit[f"{what}, refused"] += 1
            self._note(f"told: {error}")
            return
        self.hit[what] += 1
        if what == "a pause":
            self._resume_at = time.monotonic() + PAUSE_S
