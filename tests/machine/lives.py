"""Lives of jobs over the adversary's index: what a world needs for them, and how one is brought to its end."""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st
from job_table import INDEX, JobTable, plan_of, planned

from migrations.plan import Plan
from orchestrator.cli import session, whole_indexes
from orchestrator.core.freshness import Waits
from orchestrator.core.model import Job, Wakeup
from orchestrator.core.states import JOB_ENDED, BatchKind, BatchState, JobState
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import batches, route_table
from orchestrator.ledger.database import Database
from orchestrator.services.erase import JobTableBooks
from orchestrator.services.lost_commits import Remembered
from tests.machine import older
from tests.machine.acting import Stop, Worker
from tests.machine.jobs import World, judge_failure
from tests.machine.lagging import LaggingIndex
from tests.machine.laws import AT_REST, Laws, Loss
from tests.machine.people import Application, Newest, Strangers, Writers, ask, enriched, record
from tests.machine.story import Chance
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.stores.base import Limits
from vecfleet.stores.parquet import ParquetStore
from vecfleet.tenancy import erasing
from vecfleet.tenancy.erasing import erase
from vecfleet.tenancy.routes import RouteTable

FRESHNESS_S, LAG_S, DEADLINE_S, LEASE_S, STALE_S = 60.0, 50.0, 20.0, 120.0, 30.0
# More than any life here needs, each a tick, all that is due, and a while.
MOST_ROUNDS = 400
A_WHILE_S, NOTHING_DUE_S = 1.0, 12.0
ALMA, BRUNO = "alma", "bruno"


class Drawn:
    """Hypothesis chooses, in whichever thread the call is made."""

    def __init__(self, data: st.DataObject) -> None:
        self._drawing = data.conjecture_data

    def number(self, most: int) -> int:
        return self._drawing.draw_integer(0, most)


def target_of(source: str, one: Record) -> str:
    creator, twin = one.metadata.get("creator_id", "ana"), one.metadata.get("twin_id", source)
    return f"creator_{creator}_twin_{twin}"


@dataclass(frozen=True)
class Backup:
    """The job table of a moment, and what people and applications went by then."""

    table: older.Older
    at: float
    is_led_to_the_new_side: bool
    taken_back: bool


class Life:
    """Jobs, one after another, over one index, with an application, strangers, and workers that stop where told."""

    def __init__(self, world: World, chance: Chance, writers: Writers = "freeze", *, unruly: bool = False) -> None:
        self.world = world
        world.clock.sql("TRUNCATE job, audit, erasure, index_act, continuity, chaos_seen CASCADE")
        self.index = LaggingIndex(INDEX, world.clock, chance, lag_s=LAG_S, deadline_s=DEADLINE_S, unruly=unruly)
        world.one.index = self.index
        world.process._indexes.clear()
        self.application = Application(self.index, writers, STALE_S, target_of=target_of)
        self.strangers = Strangers(self.index)
        self.laws = Laws(self.index, self.application, self.strangers, enriched, self._routes)
        self.table = JobTable(world.database)
        self.jobs: list[int] = []
        self.frozen: list[Worker] = []
        self.stops: dict[str, Stop] = {}  # where a worker of a kind of batch freezes, once
        self._state: JobState | None = None
        self.passes_began: dict[int, float] = {}
        self.backup: Backup | None = None
        self.dispatchers = [self._dispatcher() for _ in range(2)]
        self._looks(self.dispatchers[0])

    def _dispatcher(self) -> Dispatcher:
        """One that remembers its looks as all do: by itself, in Redis and in the state folder."""
        process, settings = self.world.process, self.world.process.settings
        remembered = Remembered(settings.redis_url.get_secret_value(), settings.vecfleet_home)
        return Dispatcher(self.world.database, process.fleet.celery, process.counters, remembered, lease_s=LEASE_S)

    small_batches = Limits(upsert_records=1)

    # What was there before, and the job

    def holds(self, namespace: str, *names: str, **metadata: str) -> None:
        """Records that are older than any lag."""
        for name in names:
            one = record(name, **metadata)
            self.index.upsert(namespace, [one])
            self.application.newest[namespace, name] = Newest(one, self.world.clock.monotonic())

    def settles(self) -> None:
        """Long enough that no look is old any more."""
        self.world.clock.passes(LAG_S + 1)

    def applies(self, *sources: str, **policies: Any) -> None:
        """A job of these sources, each into the namespace of its twin."""
        moves = [planned(one, f"creator_ana_twin_{one}", self._planned(one)) for one in sources]
        self.apply(plan_of(*moves, **{"writers": self.application.writers, "cut_over": "none", **policies}))

    def _planned(self, source: str) -> int:
        return len(self.index.list_ids(source).ids)

    def apply(self, plan: Plan) -> None:
        """Raises Refused where another job holds what the plan needs, and then nothing happened."""
        before = self.table.job_id
        try:
            self.table.apply(plan, waits=Waits(FRESHNESS_S, FRESHNESS_S, STALE_S))
        except Refused:
            self.table.job_id = before
            raise
        self.jobs.append(self.table.job_id)
        self.laws.applied_at[self.table.job_id] = self.world.clock.monotonic()
        self.application.started = True
        self._state, self.passes_began = None, {}
        self.index.story.tell(f"job {self.number} is applied")

    @property
    def number(self) -> int:
        return self.jobs.index(self.table.job_id) + 1

    def erases(self, creator: str) -> bool:
        """Say whether its certificate is written. What the creator had is nobody's to keep from the beginning on."""
        newest = self.application.newest
        for key in [
            key for key, held in newest.items() if held.record and f"_{creator}_" in target_of(key[0], held.record)
        ]:
            del newest[key]
        self.index.story.tell(f"{creator} is to be erased")
        erased = erase(
            [self.index],
            Tenant(creator),
            books=JobTableBooks(self.world.database, self.world.process.settings),
            who="ana",
            confirm_s=LAG_S + 1,
            lands_s=self.index.lands_s,
            clock=self.world.clock.monotonic,
            nap=self.passes,
        )
        self.index.story.tell("the certificate is written" if erased.certificate else f"left: {'; '.join(erased.left)}")
        if erased.certificate:
            self.laws.erased.add(creator)
        return bool(erased.certificate)

    def wipes(self) -> None:
        """The index is exported and emptied by the command. What it deleted is in the export, or it refused."""
        home = self.world.process.settings.vecfleet_root
        folders, folder = ParquetStore(home), f"export-{len(list(home.iterdir()))}"
        time = SimpleNamespace(monotonic=self.world.clock.monotonic, sleep=self.passes)
        self.index.story.tell("a person empties the index, with an export")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(whole_indexes, "fleet", lambda: nullcontext(self.world.process.fleet))
            for module in (session, erasing):
                patch.setattr(module, "time", time)
            try:
                whole_indexes.wipe(index=self.index.info.name, export=folder, no_backup=False, yes=True)
            except Refused as refusal:
                self.index.story.tell(f"refused: {refusal.message}")
                return
        self.index.story.tell("it is emptied")
        kept = folders.open(folders.describe(folder))
        for (source, name), newest in self.application.newest.items():
            exported = kept.fetch(source, [name]).records.get(name)
            assert newest.record in (exported, self.index.truth(source).get(name)), (
                f"{source}/{name} is neither in the index nor in its export"
            )

    # What goes on

    def asks(self, what: str) -> str | None:
        refused = ask(self.world.database, self.table.job_id, what)
        refused = refused and refused.replace(f"job {self.table.job_id}", f"job {self.number}")
        self.index.story.tell(f"a person asks: {what}" + (f" (refused: {refused})" if refused else ""))
        if what == "cut over" and refused is None:
            self.application.is_cut_over()
        if what == "reverse" and refused is None and self.application.is_led_to_the_new_side:
            self.application.is_taken_back()
        if what.startswith("clean up") and refused is None and self.application.cut_over_at is None:
            self.application.stopped = True  # without a cut-over, whoever cleans up has stopped its writers
        return refused

    def round(self, window: int = 8, *, decided: bool = False) -> int:
        """The dispatcher decides, workers do all that is due, and a while passes. How many wake-ups there were.

        `decided`: it has just decided, and would find nothing else.
        """
        if not decided:
            self.tick()
        wakeups = self.table.dispatch(window)
        for wakeup in wakeups:
            self.work(wakeup)
        if wakeups:
            self.laws.hold()
            self.passes(A_WHILE_S)
        else:
            self.passes(NOTHING_DUE_S)
            self.reap()
        return len(wakeups)

    def round_of_two(self, window: int) -> None:
        """Two dispatchers decide one after the other, and the second sends anew what the first has sent."""
        self.tick()
        first = self.table.dispatch(window)
        self.tick(self.dispatchers[1])
        with self.table.begin() as connection:
            batches.resend(connection, self.jobs, BatchKind, -1.0)
        second = self.table.dispatch(window)
        self.index.story.tell(f"two dispatchers send {len(first)} and {len(second)} wake-ups")
        for wakeup in [*second, *first]:
            self.work(wakeup)
        self.laws.hold()

    def tick(self, dispatcher: Dispatcher | None = None) -> JobState:
        """Each job takes its next step, once a dispatcher has looked for lost commits. Gives the state of the last."""
        self._looks(dispatcher or self.dispatchers[0])
        for job_id in self.jobs:
            self.table.job_id = job_id
            self.table.advance()
        job = self.table.job
        self.passes_began.setdefault(job.passes, self.world.clock.monotonic())
        if job.state is not self._state:
            self._state = job.state
            self.index.story.tell(f"job {self.number} is {job.state}" + (f": {job.reason}" if job.reason else ""))
            if job.state is JobState.CUT_OVER and not self.application.is_led_to_the_new_side:
                self.application.is_cut_over()
            if job.state is JobState.VERIFIED and (since := self._written_before(job)) is not None:
                self.laws.a_verdict_is_true(job.id, since)
        return job.state

    def _written_before(self, job: Job) -> float | None:
        """The time before which all was written that a verdict covers; None where it covers both sides as they are."""
        match job.plan.policies.writers:
            case "delta":
                return self.passes_began[job.passes - 1]
            case "freeze":
                return self.laws.applied_at[job.id]
            case _:
                return None

    def _routes(self) -> RouteTable:
        """As applications read them: at no worker's gate."""
        with Database.begin(self.world.database) as connection:
            return route_table.read(connection)

    def _looks(self, dispatcher: Dispatcher) -> None:
        """As at each tick of a dispatcher that leads."""
        with self.table.begin() as connection:
            look, sequence = dispatcher._look_for_losses(connection)
        dispatcher.remembered.note(look.lineage, sequence)

    def work(self, wakeup: Wakeup, stop: Stop | None = None) -> Worker:
        worker = Worker(self.world.process, wakeup, stop or self.stops.get(wakeup.kind))
        if worker.frozen:
            self.stops.pop(wakeup.kind, None)
            self.frozen.append(worker)
        else:
            judge_failure(worker)
        return worker

    def thaws(self) -> None:
        while self.frozen:
            worker = self.frozen.pop(0)
            worker.thaw()
            judge_failure(worker)
        self.laws.hold()

    def reap(self) -> None:
        for job_id in self.jobs:
            with self.table.begin() as connection:
                _, spent = batches.requeue_expired(connection, [job_id], 8)
                assert not spent, "a batch is beyond its attempts"
                batches.resend(connection, [job_id], BatchKind, 1.0)

    def backs_up(self) -> None:
        """Somebody keeps a copy of Postgres."""
        app = self.application
        kept = older.keep(self.world.clock.connection)
        self.backup = Backup(kept, self.world.clock.monotonic(), app.is_led_to_the_new_side, app.taken_back)
        self.index.story.tell("a copy of Postgres is kept")

    @property
    def may_be_restored(self) -> bool:
        """Say whether a dispatcher has looked since: less than a tick of commits leaves no trace (docs/adr/0082)."""
        return self.backup is not None and older.looks(self.world.clock.connection) > self.backup.table.looks

    def restores(self) -> None:
        """The copy takes the place of Postgres. Workers hear the wake-ups of then before any dispatcher has looked."""
        backup, self.backup = self.backup, None
        assert backup is not None
        older.put_back(self.world.clock.connection, backup.table)
        self.index.story.tell("Postgres is the older copy")
        there = {job_id for (job_id,) in self.world.clock.sql("SELECT id FROM job")}
        lost_jobs = [job_id for job_id in self.jobs if job_id not in there]
        self.jobs = [job_id for job_id in self.jobs if job_id in there]
        self.table.job_id = self.jobs[-1]
        self._state, self.passes_began = None, {}
        self.laws.losses.append(Loss(backup.at, self.world.clock.monotonic(), bool(lost_jobs)))
        # Routes are as old as the table, and of writers that were to stop nobody knows that they went on.
        app = self.application
        app.misleading = backup.is_led_to_the_new_side != (app.cut_over_at is not None)
        app.taken_back = backup.taken_back
        attempts = self._attempts()
        for row in self.table.rows():
            if row.state == BatchState.DISPATCHED:
                self.work(Wakeup(row.id, row.generation, row.kind, row.job_id, "", row.seq, 1))
        assert self._attempts() == attempts, "a batch of the older copy was begun, and no dispatcher has looked"
        self.laws.hold()

    def _attempts(self) -> int:
        return sum(row.attempts for row in self.table.rows())

    @property
    def is_all_at_its_source(self) -> bool:
        """Compare both sides as a person does, once nothing of what is lost is under way any more."""
        newest = self.application.newest.items()
        at_rest = not (self.frozen or self.index.landings)
        return at_rest and all(self.index.truth(source).get(name) == held.record for (source, name), held in newest)

    def passes(self, seconds: float) -> None:
        self.world.clock.passes(seconds)
        self.index.land()

    def until(self, *states: JobState, rounds: int = MOST_ROUNDS) -> JobState:
        """Go on until the job is in one of these states, or at rest in another."""
        stays = {*states, JobState.NEEDS_ATTENTION, JobState.PAUSED, *JOB_ENDED}
        for _ in range(rounds):
            before, state = self._state, self.tick()
            if state in stays:
                return state
            self.round(decided=state is before)
        raise AssertionError(f"job {self.number} stays {self.table.job.state}: {self.table.job.reason}")

    def ends(self) -> None:
        """The adversary rests: nobody stays frozen, leases run out, every late call lands, every lag passes."""
        self.thaws()
        self.until(*AT_REST)
        self.passes(max(self.index.lands_s, LEASE_S) + FRESHNESS_S)
        self.reap()
        self.until(*AT_REST)
        self.laws.hold()
        for job_id in self.jobs:
            self.laws.rest(job_id, is_last=job_id == self.jobs[-1])

    def close(self) -> None:
        for worker in self.frozen:
            worker.kill()
