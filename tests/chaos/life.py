"""One seed's life: an index, a plan, faults, a person who does what the job says, and the laws at the end."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from migrations.creators import Grouping, Row
from migrations.ownership import look_up
from migrations.plan import Plan, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator import applying, services
from orchestrator.cli.watching import look
from tests.chaos import books, laws
from tests.chaos.fleet import LEASE_S, ChaosFleet
from tests.chaos.schedule import COPYING, DESTROYING, VANISHING, make_schedule
from tests.chaos.small_index import Case, Made, make_case
from tests.chaos.strikes import Strikes
from tests.chaos.witness import Contents, Witness
from vecfleet.errors import Unreachable, VecfleetError

WHO = "chaos"
POLL_S = 0.03
# A seed takes a few seconds; one whose workers were killed over and over on a loaded machine needs more.
PATIENCE_S = 240.0
# As long as it takes a late worker to show: longer than a dispatcher's tick and a worker's answer.
QUIET_S = 0.5
# How often a person does what the job says before it counts as stuck.
MOST_STEPS, ENOUGH = 25, 3
# A person gives the job a moment to do something about what was typed.
LOOKS_EVERY_S = 0.7
WRITES = frozenset({"upsert", "update", "delete", "delete_namespace", "create_namespace"})


class Broken(AssertionError):
    """A law is broken, or the job never ended."""


class GivenUp(Exception):
    """What the service lost cannot be moved: the person cancels the job and rolls it back."""


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    seconds: float
    hit: Counter[str]
    state: str = ""
    wrong: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)


def live(fleet: ChaosFleet, seed: int) -> Outcome:
    """Run one seed to its end. Whatever goes wrong is in the outcome, with what happened when."""
    life = Life(fleet, make_case(seed))
    try:
        life.run()
    except (Broken, VecfleetError, httpx.HTTPError) as error:
        life.wrong.append(f"{type(error).__name__}: {error}")
    finally:
        life.strikes.clear()
        with suppress(VecfleetError, httpx.HTTPError):
            life.leave()
    return Outcome(
        seed,
        time.monotonic() - life.began,
        life.strikes.hit,
        life.ended_as or life.last_state,
        life.wrong,
        life.timeline,
    )


class Life:
    def __init__(self, fleet: ChaosFleet, case: Case) -> None:
        self.fleet, self.case = fleet, case
        self.schedule = make_schedule(case)
        self.began = time.monotonic()
        self.timeline: list[str] = []
        self.wrong: list[str] = []
        self.last_state = self.ended_as = ""
        self.job_id = 0
        self._steps = 0
        self._looks_at = 0.0
        self._tried: Counter[str] = Counter()
        fleet.revive()
        self._make_index()
        self.witness = Witness(fleet.emulator.address, case.index)
        self.strikes = Strikes(fleet, self.schedule, self.witness, case, self.note, self._apply)
        self.note(
            f"{case.kind} {case.dimension}, by {case.grouping}, {case.policies}, {self.schedule.ending}, "
            f"{ {name: len(rows) for name, rows in case.sources.items()} }"
        )

    def note(self, what: str) -> None:
        self.timeline.append(f"{time.monotonic() - self.began:6.2f} s  {what}")

    # The index and its plan

    def _make_index(self) -> None:
        emulator, case = self.fleet.emulator, self.case
        dense = {"type": "dense_vector", "dimension": case.dimension, "metric": "dotproduct"}
        sparse = {"type": "sparse_vector", "metric": "dotproduct"}
        fields: dict[str, Any] = {} if case.kind == "sparse" else {"_values": dense}
        fields |= {} if case.kind == "dense" else {"_sparse_values": sparse}
        body = {
            "name": case.index,
            "schema": {"fields": fields},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        }
        self._http = httpx.Client(timeout=30, headers={"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"})
        address = emulator.address
        self._http.delete(f"{address}/indexes/{case.index}")
        host = self._http.post(f"{address}/indexes", json=body).raise_for_status().json()["host"]
        for namespace in case.empty:
            self._http.post(f"{host}/namespaces", json={"name": namespace}).raise_for_status()
        for namespace, rows in {**case.sources, **case.foreign}.items():
            for start in range(0, len(rows), 25):
                vectors = [_vector(one) for one in rows[start : start + 25]]
                self._http.post(
                    f"{host}/vectors/upsert", json={"namespace": namespace, "vectors": vectors}
                ).raise_for_status()

    def _plan(self) -> Plan:
        case, fleet = self.case, self.fleet
        policies = dict(case.policies)
        if self.schedule.ending == "cleaned by policy":
            policies |= {"cut_over": "auto" if case.seed % 2 else "none", "clean_up": "auto"}
        if case.grouping == "creator":
            grouping = Grouping(creator="sainath.no.1")
        elif case.grouping == "rows":
            grouping = Grouping(rows=tuple(Row(name, o.creator, o.twin) for name, o in case.owners.items()))
        else:
            file = f"owners-{case.seed}.yaml"
            (fleet.folder / file).write_text(case.ownership_file())
            grouping = Grouping(snapshot=look_up("file", fleet.parts.settings, file=file), default="split")
        options = CreatorsOptions(index=case.index, grouping=grouping, common=Common(policies=Policies(**policies)))
        return plan_creators(fleet.parts.store, options, now=datetime.now(UTC))

    def _apply(self) -> int:
        return applying.apply(self.fleet.parts, self.plan, who=WHO, no_backup=True)

    # Its life

    def run(self) -> None:
        self.before: Contents = self.witness.contents()
        self.plan = self._plan()
        self.job_id = self.strikes.job_id = self._ask(self._apply)
        self.note(f"job {self.job_id} is applied")
        try:
            self._to_its_end(self.schedule.ending)
        except GivenUp:
            self.note("given up")
            self._cancel_and_roll_back()
        self._settle()
        self._judge()
        self._run_again()

    def _to_its_end(self, ending: str) -> None:
        self.strikes.begin(COPYING)
        if ending == "cancelled and rolled back":
            at = time.monotonic() + self.schedule.cancel_at_s
            while time.monotonic() < at:
                self._tick()
            self._cancel_and_roll_back()
            return
        if ending != "cleaned by policy":
            self._reach("verified", "cut_over")
        if ending == "cleaned by policy":
            self._reach("verified", "cut_over", "cleaning", "cleaned")
            self.strikes.begin(DESTROYING)
            self._reach("cleaned")
        elif ending == "cleaned":
            self.strikes.begin(DESTROYING)
            self._clean_up()
        elif ending != "verified":
            self._roll_back()

    def _cancel_and_roll_back(self) -> None:
        self._ask(lambda: services.cancel(self.fleet.parts.database, self.job_id, WHO))
        self.note("cancelled by a person")
        self._reach("cancelled")
        self._roll_back()

    def _roll_back(self) -> None:
        self.strikes.begin(DESTROYING)
        self._ask(lambda: services.roll_back(self.fleet.parts.database, self.job_id, WHO, None))
        self.note("roll back asked for")
        self._reach("rolled_back")

    def _clean_up(self) -> None:
        database = self.fleet.parts.database
        if self.plan.policies.cut_over == "operator":
            self._ask(lambda: services.cut_over(database, self.job_id, WHO, 100))
        self._ask(lambda: services.clean_up(database, self.job_id, WHO, by_ids=self.schedule.by_ids))
        self.note(f"clean-up asked for{', by ids' if self.schedule.by_ids else ''}")
        self._reach("cleaned")

    def _ask(self, act: Callable[[], Any]) -> Any:
        """Do it as a person does who is told that something does not answer, or not yet: again, after a moment."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return act()
            except VecfleetError as error:
                if time.monotonic() > deadline:
                    raise
                if str(error) not in self.timeline[-1]:
                    self.note(f"told: {error}")
            for _ in range(5):
                self._tick()

    def _tick(self) -> None:
        time.sleep(POLL_S)
        self.strikes.tick()
        self.fleet.revive()
        if self.job_id:
            self._attend()

    def state(self) -> str:
        with suppress(Exception):  # Postgres may be away: then it is what it was
            [(self.last_state,)] = self.fleet.sql("SELECT state FROM job WHERE id = %s", self.job_id)
        return self.last_state

    def _attend(self) -> None:
        """A person looks at the job and types what it says next."""
        before = self.last_state
        if (state := self.state()) != before:
            self.note(f"the job is {state}")
        if state not in ("paused", "needs_attention") or self.strikes.keeps_paused or time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + LOOKS_EVERY_S
        with suppress(Unreachable):
            shown = look(self.fleet.parts, self.job_id, namespaces=0)
            if shown.reading.job.state not in ("paused", "needs_attention"):
                return  # it went on by itself meanwhile
            reason = shown.reading.job.reason or ""
            steps = [step for step in shown.next_steps if self._command(step) is not None]
            if not steps:
                raise Broken(f"{state} ({reason}), and none of its next steps goes on: {shown.next_steps}")
            step = steps[self._tried[reason] % len(steps)]
            self._tried[reason] += 1
            self._steps += 1
            if self._tried[reason] > ENOUGH and any(event.what in VANISHING for event in self.schedule.events):
                raise GivenUp
            if self._steps > MOST_STEPS:
                raise Broken(f"{state} ({reason}), and what it says to do does not end it: {shown.next_steps}")
            if self._steps > MOST_STEPS // 2:
                self.strikes.clear_store()  # the vendor's trouble does not last for ever
            self.note(f"{state}: {reason}; typed: {step}")
            command = self._command(step)
            assert command is not None
            try:
                command()
            except Unreachable:
                raise
            except VecfleetError as error:
                self.note(f"told: {error}")

    def _command(self, step: str) -> Callable[[], object] | None:
        """What a next step means. None: it only shows something, or gives the job up."""
        database, job = self.fleet.parts.database, self.job_id
        commands: dict[str, Callable[[], object]] = {
            f"vecfleet resume {job}": lambda: services.resume(database, job, WHO),
            f"vecfleet retry {job} failed": lambda: services.retry(database, job, WHO, "failed"),
            f"vecfleet retry {job} parked": lambda: services.retry(database, job, WHO, "parked"),
            f"vecfleet park accept {job} --all": lambda: services.accept_parked(database, job, WHO, None),
            f"vecfleet rollback {job} --changed keep": lambda: services.roll_back(database, job, WHO, "keep"),
            f"vecfleet cleanup {job}": lambda: services.clean_up(database, job, WHO, by_ids=self.schedule.by_ids),
            f"vecfleet verify {job}": lambda: services.verify(database, job, WHO),
        }
        return commands.get(step)

    def _reach(self, *states: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.state() not in states:
            if time.monotonic() > deadline:
                raise Broken(f"not {' or '.join(states)} after {PATIENCE_S:g} s")
            self._tick()
        self.note(f"reached {self.last_state}")

    def _settle(self) -> None:
        """All faults are over, all processes run, and nothing happens any more."""
        ends = {"cleaned": ("cleaned",), "rolled_back": ("rolled_back",)}.get(self.last_state, ("verified", "cut_over"))
        while self.strikes.pending:
            self._tick()
        self.strikes.clear()
        self.note("faults are over")
        deadline = time.monotonic() + PATIENCE_S
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S or self.state() not in ends or self._in_flight():
            if time.monotonic() > deadline:
                raise Broken(f"{self.last_state}, and still at work after {PATIENCE_S:g} s")
            self._tick()
            heard = self.witness.listen()
            if self.last_state not in ends or (
                heard and any(call["operation"] in WRITES for call in self.witness.calls[-heard:])
            ):
                quiet_since = time.monotonic()
        self.ended_as = self.last_state
        self.note("quiet")

    def _in_flight(self) -> bool:
        with suppress(Exception):
            return bool(
                self.fleet.sql("SELECT 1 FROM batch WHERE job_id = %s AND state = 'leased' LIMIT 1", self.job_id)
            )
        return True

    def _judge(self) -> None:
        self.after = self.witness.contents()
        self.witness.listen()
        evidence = laws.Evidence(
            case=self.case,
            before=self.before,
            after=self.after,
            calls=self.witness.calls,
            state=self.last_state,
            excused=self.strikes.lost_by_the_service(self.before),
        )
        self.wrong += laws.broken(evidence) + books.broken_books(self.fleet.sql, self.job_id) + self.fleet.crashed()

    def _run_again(self) -> None:
        """A second run changes nothing: the same plan, the same clean-up or roll back, the same verification."""
        calls = len(self.witness.calls)
        database, job = self.fleet.parts.database, self.job_id
        if self.last_state != "rolled_back":  # what was rolled back may be done again
            self._refused("a second apply", self._apply)
            self._refused(
                "a roll back", lambda: services.roll_back(database, job, WHO, None)
            ) if self.last_state == "cleaned" else None
        if self.last_state in ("cleaned", "rolled_back"):
            self._refused("a clean-up", lambda: services.clean_up(database, job, WHO, by_ids=True))
        if self.last_state == "rolled_back":
            self._refused("a second roll back", lambda: services.roll_back(database, job, WHO, None))
        if self.last_state in ("verified", "cut_over"):
            services.verify(database, job, WHO)
            self._reach("verified", "cut_over")
        self.witness.listen()
        written = [call for call in self.witness.calls[calls:] if call["operation"] in WRITES]
        if written:
            self.wrong.append(f"a second run asked for {Counter(call['operation'] for call in written)}")
        if self.witness.contents() != self.after:
            self.wrong.append("a second run changed the index")

    def _refused(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except VecfleetError:
            return
        self.wrong.append(f"{what} was not refused in {self.last_state}")

    def leave(self) -> None:
        """Let go of what the next seed needs."""
        self.fleet.thaw_all()
        self.fleet.revive()
        if self.job_id and self.state() not in ("cleaned", "rolled_back", "cancelled"):
            with suppress(VecfleetError):
                services.cancel(self.fleet.parts.database, self.job_id, WHO)
            deadline = time.monotonic() + 2 * LEASE_S + 5
            while self.state() not in ("cleaned", "rolled_back", "cancelled") and time.monotonic() < deadline:
                time.sleep(POLL_S)
        self._http.delete(f"{self.fleet.emulator.address}/indexes/{self.case.index}")
        self._http.close()


def _vector(made: Made) -> dict[str, Any]:
    vector: dict[str, Any] = {"id": made.id, "metadata": made.metadata}
    if made.values:
        vector["values"] = made.values
    if made.sparse is not None:
        vector["sparseValues"] = {"indices": made.sparse[0], "values": made.sparse[1]}
    return vector
