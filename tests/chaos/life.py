"""One seed's life: an index, a plan, faults, a person who does what the job says, and the laws at the end."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx

from migrations.estimating import Prices
from migrations.reversing import plan_reverse
from orchestrator.ledger import jobs, moves
from orchestrator.services import acts, apply
from tests.chaos import books, laws
from tests.chaos.billing import broken_bill
from tests.chaos.case import Case
from tests.chaos.fleet import LEASE_S, ChaosFleet
from tests.chaos.indexes import make_indexes
from tests.chaos.others import APPLICATION, Application, Erasure, is_application
from tests.chaos.outcome import Outcome
from tests.chaos.person import WHO, Broken, GivenUp, Person, SetBack, give_up
from tests.chaos.planning import make_plan
from tests.chaos.schedule import COPYING, DESTROYING, RETURNING, ROUTES_STALE_S, make_schedule
from tests.chaos.small_index import make_case
from tests.chaos.strangers import Strangers
from tests.chaos.strikes import Strikes
from tests.chaos.witness import PLAIN, Contents, Witness
from vecfleet.errors import BadPlan, VecfleetError

POLL_S = 0.03
# All of a life: it takes some seconds; where workers were killed over and over on a loaded machine, many more.
PATIENCE_S = 360.0
# As long as it takes a late worker to show: longer than a dispatcher's tick and a worker's answer.
QUIET_S = 1.5
# Where a job is once a person has asked for its end.
LATER = ("cleaning", "cleaned", "cancelling", "cancelled", "rolling_back", "rolled_back")
WRITES = frozenset({"upsert", "update", "delete", "delete_namespace", "create_namespace"})


def live(fleet: ChaosFleet, seed: int) -> Outcome:
    """Run one seed to its end. Whatever goes wrong is in the outcome, with what happened when."""
    try:
        life = Life(fleet, make_case(seed))
    except Exception:  # noqa: BLE001 - what ends this life is told, and does not end those after it
        return Outcome(seed, wrong=[traceback.format_exc()])
    try:
        life.run()
    except (Broken, VecfleetError, httpx.HTTPError) as error:
        life.wrong.append(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - as above
        life.wrong.append(traceback.format_exc())
    with suppress(VecfleetError, httpx.HTTPError):
        life.strikes.clear()
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
        self.ended_as = ""
        self.person: Person | None = None  # who comes with the job
        fleet.revive()
        books.forget(fleet.sql)
        self._http = httpx.Client(timeout=30, verify=PLAIN, headers=APPLICATION)
        indexes = make_indexes(self._http, fleet.emulator.address, case)
        self.witness = Witness(fleet.emulator.address, case.indexes, case.key_of)
        self.application = Application(case, indexes, self.note, case.writes)
        # The first of these have a moment, those with old routes until they may not be used any more.
        self.before_the_job = Application(case, indexes, self.note, case.early, unit_s=0.1, dual=False)
        self.latecomer = Application(
            case, indexes, self.note, case.late, unit_s=0.8 * ROUTES_STALE_S, ends_s=ROUTES_STALE_S
        )
        self.strangers = Strangers(case, indexes, self.note)
        self.strikes = Strikes(
            fleet, self.schedule, self.witness, case, self.strangers, self.note, self._apply, self._erase
        )
        self.erasure = Erasure(case, fleet.parts, self.note, self.strikes.hit)
        self._passes_when_at_rest: int | None = None
        self._times_set_back = 0
        self.note(
            f"{case.kind} {case.dimension}, {case.form}, by {case.grouping}, {case.policies}, {self.schedule.ending}, "
            f"{ {name: len(rows) for name, rows in case.sources.items()} }, {len(case.early)} + {len(case.writes)} + "
            f"{len(case.late)} writes, map {case.map}, embeds {case.embeds}, "
            f"{[what for what, _ in self.schedule.weather]}"
        )

    def note(self, what: str) -> None:
        self.timeline.append(f"{time.monotonic() - self.began:6.2f} s  {what}")

    # The index and its plan

    def _begin(self) -> int:
        """Plan and apply. What showed itself only in between is a reason to plan anew."""
        self.plan = make_plan(self.case, self.schedule, self.fleet)
        return self._apply()

    def _apply(self) -> int:
        return apply.apply(self.fleet.parts, self.plan, who=WHO, no_backup=True)

    def _erase(self) -> None:
        self.erasure.begin()

    # Its life

    def run(self) -> None:
        self.strikes.let_reads_lag()
        self.before_the_job.act_now()
        self.before: Contents = self.witness.contents()
        self._take_charge(self._ask(self._begin))
        try:
            self._despite_set_backs(lambda: self._to_its_end(self.schedule.ending))
        except Broken:
            assert self.person is not None
            self.person.note_what_is_wrong()
            raise
        except GivenUp:
            self.note("given up")
            self._despite_set_backs(self._give_up)
        self._settle()
        self._judge()
        if self.last_state != "cancelled":
            self._run_again()
        if self.schedule.and_back and self.last_state == "cleaned" and not (self.wrong or self.strikes.times_set_back):
            self._go_back()

    def _despite_set_backs(self, act: Callable[[], None]) -> None:
        """A person whose job table is older than it was looks where the job is, and goes on from there."""
        while True:
            try:
                act()
                while self.strikes.pending:
                    self._tick("somebody else is still at work")
                return
            except SetBack:
                self.note("the person begins anew")
                self.erasure.begin_again()

    def _to_its_end(self, ending: str) -> None:
        self.strikes.begin(COPYING)
        while self.state() in ("pausing", "paused"):
            self._tick("not resumed")
        if self.case.writes and not self.application.begun:
            self.application.begin()
        if ending == "cancelled and rolled back":
            at = self.began + self.schedule.cancel_at_s
            while time.monotonic() < at:
                self._tick()
            self._cancel_and_roll_back()
            return
        if ending != "cleaned by policy":
            self._reach("verified", "cut_over", *LATER)
            if self.last_state not in LATER:
                self._read_what_was_written_last()
        if ending == "cleaned by policy":
            self._reach("verified", "cut_over", "cleaning", "cleaned")
            self.strikes.begin(DESTROYING)
            self._reach("cleaned")
        elif ending == "cleaned":
            self.strikes.begin(DESTROYING)
            self._clean_up()
        elif ending != "verified":
            self._roll_back()

    def _read_what_was_written_last(self) -> None:
        """The writers stopped; one more pass, unless one has begun since."""
        while self.application.busy:
            self._tick("the application is still writing")
        if not self.application.begun:
            return
        self._reach("verified", "cut_over")
        passes = self._passes()
        if self._passes_when_at_rest is None or passes is None or passes <= self._passes_when_at_rest:
            self._ask(lambda: acts.another_pass(self.fleet.parts.database, self.job_id, WHO))
            self.note("one more pass")
            self._reach("verified", "cut_over")

    def _read_what_came_by_old_routes(self) -> None:
        """A person who waits until no client may write to the old side any more, and asks for one more pass."""
        while self.latecomer.busy:
            self._tick("clients still use old routes")
        self._ask(lambda: acts.another_pass(self.fleet.parts.database, self.job_id, WHO))
        self.note("one more pass, for what came by old routes")
        self._reach("verified", "cut_over")

    def _passes(self) -> int | None:
        with suppress(Exception):  # Postgres may be away
            [(passes,)] = self.fleet.sql("SELECT passes FROM job WHERE id = %s", self.job_id)
            return int(passes)
        return None

    def _cancel_and_roll_back(self) -> None:
        self._cancel()
        self._roll_back()

    def _cancel(self) -> None:
        if self.state() not in LATER:
            self._ask(lambda: give_up(self.fleet.parts.database, self.job_id))
        self.note("cancelled by a person")
        self._reach("cancelled", "rolling_back", "rolled_back")

    def _give_up(self) -> None:
        """Leave a job cancelled that has deleted some sources: its only way back is the reverse plan."""
        self._cancel()
        self.strikes.begin(DESTROYING)
        if self.state() not in ("rolling_back", "rolled_back"):
            try:
                acts.roll_back(self.fleet.parts.database, self.job_id, WHO, None)
            except VecfleetError as error:
                self.note(f"told: {error}")
                return
        self._reach("rolled_back")

    def _roll_back(self) -> None:
        self.strikes.begin(DESTROYING)
        if self.state() in ("rolling_back", "rolled_back"):
            self._reach("rolled_back")
            return
        self._ask(lambda: acts.roll_back(self.fleet.parts.database, self.job_id, WHO, None))
        self.note("roll back asked for")
        self._reach("rolled_back")

    def _clean_up(self) -> None:
        database = self.fleet.parts.database
        while self.state() in ("pausing", "paused"):
            self._tick("not resumed")
        if self.state() in ("cleaning", "cleaned"):
            self._reach("cleaned")
            return
        if self.case.late and not self.latecomer.begun:
            self.latecomer.begin()
        if self.plan.policies.cut_over == "operator" and self.state() != "cut_over":
            self._ask(lambda: acts.cut_over(database, self.job_id, WHO, 100))
        if self.case.late and self.schedule.waits:
            self._read_what_came_by_old_routes()
        self._ask(lambda: acts.clean_up(database, self.job_id, WHO, by_ids=self.schedule.by_ids))
        self.note(f"clean-up asked for{', by ids' if self.schedule.by_ids else ''}")
        self._reach("cleaned")

    def _ask(self, act: Callable[[], Any]) -> Any:
        """Do it as a person does who is told that something does not answer, or not yet: again, after a moment."""
        while True:
            try:
                return act()
            except VecfleetError as error:
                if self._is_too_long:
                    raise
                if str(error) not in self.timeline[-1]:
                    self.note(f"told: {error}")
            for _ in range(5):
                self._tick()

    @property
    def _is_too_long(self) -> bool:
        return time.monotonic() > self.began + PATIENCE_S

    def _tick(self, why: str = "") -> None:
        """A moment goes by, in which others do what they do. `why` it is waited for, if it may be in vain."""
        if why and self._is_too_long:
            raise Broken(f"{why} after {PATIENCE_S:g} s: the job is {self.last_state}")
        time.sleep(POLL_S)
        self.strikes.tick()
        self.fleet.revive()
        if self.strikes.times_set_back != self._times_set_back:
            self._times_set_back = self.strikes.times_set_back
            raise SetBack
        if self.application.begun and not self.application.busy and self._passes_when_at_rest is None:
            self._passes_when_at_rest = self._passes()
        if self.person is not None:
            self.person.attend()

    def _take_charge(self, job_id: int) -> None:
        """From now on it is this job."""
        self.strikes.job_id = job_id
        self.person = Person(self.fleet, self.schedule, self.strikes, self.note, job_id)
        self.note(f"job {job_id} is applied")

    @property
    def job_id(self) -> int:
        return self.person.job_id if self.person is not None else 0

    @property
    def last_state(self) -> str:
        return self.person.last_state if self.person is not None else ""

    def state(self) -> str:
        return self.person.state() if self.person is not None else ""

    def _reach(self, *states: str) -> None:
        while self.state() not in states:
            self._tick(f"not {' or '.join(states)}")
        self.note(f"reached {self.last_state}")

    def _settle(self) -> None:
        """All faults are over, all processes run, and nothing happens any more."""
        ended = ("cleaned", "rolled_back", "cancelled")
        ends = (self.last_state,) if self.last_state in ended else ("verified", "cut_over")
        while self.strikes.pending or any(other.busy for other in self._others):
            self._tick("somebody else is still at work")
        self.strikes.clear()
        self.note("faults are over")
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S or self.state() not in ends or self._in_flight():
            self._tick("still at work")
            heard = self.witness.listen()
            if self.last_state not in ends or (
                heard and any(call["operation"] in WRITES for call in self.witness.calls[-heard:])
            ):
                quiet_since = time.monotonic()
        self.ended_as = self.last_state
        self.note("quiet")

    def _in_flight(self) -> bool:
        with suppress(Exception):
            return bool(self.fleet.sql("SELECT FROM batch WHERE job_id = %s AND state = 'leased'", self.job_id))
        return True

    def _judge(self) -> None:
        self.after = self.witness.contents()
        self.witness.listen()
        self.strikes.hit["a record written meanwhile"] += len(self.application.done)
        self.strikes.hit["a record written just before the job"] += len(self.before_the_job.done)
        self.strikes.hit["a record written by an old route"] += len(self.latecomer.done)
        self.wrong += [other.wrong for other in self._others if other.wrong is not None]
        if not self.erasure.begun:
            self.case.erased = None
        evidence = laws.Evidence(
            case=self.case,
            before=self.before,
            truth=self._truth(),
            versions=[*self.application.versions(), *self.latecomer.versions()],
            after=self.after,
            calls=self.witness.calls,
            state=self.last_state,
            excused=self.strikes.lost_by_the_service(self.before),
            late=frozenset((one.namespace, one.id) for one in self.case.late),
            doubtful=frozenset((one.namespace, one.id) for one in self.latecomer.doubtful),
            strangers=self.strangers.written,
            taken=self.strangers.taken(self._truth(), self.witness.calls),
            set_back=self.strikes.times_set_back > 0,
        )
        self.wrong += laws.broken(evidence) + books.broken_books(self.fleet.sql, self.job_id) + self.fleet.crashed()
        self.wrong += broken_bill(self.fleet, self.case, self.job_id, set_back=evidence.set_back)
        if self.last_state in laws.PROVEN and not evidence.excused and not evidence.left_out:
            counts = {name: len(evidence.truth.get(name, {})) for name in self.case.sources}
            self.wrong += books.miscounted(self.fleet.sql, self.job_id, counts)

    @property
    def _others(self) -> tuple[Application | Erasure, ...]:
        return self.application, self.latecomer, self.erasure

    def _truth(self) -> Contents:
        """Return what the index would hold without the job: what was written last, and nothing of whom was erased."""
        return {
            namespace: {id: stored for id, stored in rows.items() if not self.case.is_erased(namespace, id)}
            for namespace, rows in self.latecomer.upon(self.application.upon(self.before)).items()
        }

    def _run_again(self) -> None:
        """A second run changes nothing: the same plan, the same clean-up or roll back, the same verification."""
        calls = len(self.witness.calls)
        database, job = self.fleet.parts.database, self.job_id
        if self.last_state != "rolled_back":  # that may be done again
            self._refused("a second apply", self._apply)
        if self.last_state == "cleaned":
            self._refused("a roll back", lambda: acts.roll_back(database, job, WHO, None))
        if self.last_state in ("cleaned", "rolled_back"):
            self._refused("a clean-up", lambda: acts.clean_up(database, job, WHO, by_ids=True))
        if self.last_state == "rolled_back":
            self._refused("a second roll back", lambda: acts.roll_back(database, job, WHO, None))
        if self.last_state in ("verified", "cut_over"):
            acts.verify(database, job, WHO)
            self._reach("verified", "cut_over")
        self.witness.listen()
        since = [call for call in self.witness.calls[calls:] if not is_application(call)]
        written = [call for call in since if call["operation"] in WRITES]
        if written:
            self.wrong.append(f"a second run asked for {Counter(call['operation'] for call in written)}")
        if self.witness.contents() != self.after:
            self.wrong.append("a second run changed the index")

    def _go_back(self) -> None:
        """The reverse plan brings back what the clean-up took away, as it was; the reverse of that takes it there."""
        if not self._reverse("a way back after the clean-up"):
            return
        lost = self.strikes.lost_by_the_service(self.before)
        self.wrong += laws.not_as_it_was(self._truth(), self.witness.contents(), self.latecomer.places(), lost)
        self.wrong += books.broken_books(self.fleet.sql, self.job_id)
        if self.schedule.and_forth and not self.wrong and self._reverse("a way back of the way back"):
            self.wrong += laws.not_there_again(self.after, self.witness.contents())
            self.wrong += books.broken_books(self.fleet.sql, self.job_id)

    def _reverse(self, what: str) -> bool:
        """Say whether the job that is done could be reversed, and was."""
        parts = self.fleet.parts
        with parts.database.begin() as connection:
            original = jobs.get(connection, self.job_id).plan
            targets = [target.namespace for target in moves.targets_of_job(connection, self.job_id)]
        self.strikes.let_reads_lag()
        try:
            plan = plan_reverse(parts.store, original, targets, prices=Prices(), now=datetime.now(UTC))
        except BadPlan as error:
            self.strikes.hit[f"{what}, refused"] += 1
            self.note(f"told: {error}")
            return False
        self._take_charge(self._ask(lambda: apply.apply(parts, plan, who=WHO, no_backup=True)))
        self.strikes.begin(RETURNING)
        self._reach("verified")
        self._ask(lambda: acts.clean_up(parts.database, self.job_id, WHO, by_ids=self.schedule.by_ids))
        self._reach("cleaned")
        self._settle()
        self.strikes.hit[what] += 1
        return True

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
        for other in self._others:
            other.stop()
        if self.job_id and self.state() not in ("cleaned", "rolled_back", "cancelled"):
            with suppress(VecfleetError):
                give_up(self.fleet.parts.database, self.job_id)
            deadline = time.monotonic() + 2 * LEASE_S + 60
            while self.state() not in ("cleaned", "rolled_back", "cancelled") and time.monotonic() < deadline:
                time.sleep(POLL_S)
        for index in self.case.indexes:
            self._http.delete(f"{self.fleet.emulator.address}/indexes/{index}")
        self._http.close()
