"""A whole job as a state machine: the real steps on a real job table, one clock, a service in memory, and the laws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from job_table import INDEX, JobTable, plan_of, planned
from pydantic import SecretStr

from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import batches
from orchestrator.ledger import tables as t
from orchestrator.services.erase import JobTableBooks
from tests.chaos import books
from tests.machine import people
from tests.machine.acting import Clock, GatedDatabase, OneIndex, Parts, Service, Stop, Unpaced, Worker
from vecfleet.errors import Unreachable
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Limits
from vecfleet.stores.memory import MemoryIndex
from vecfleet.tenancy.erasing import erase
from workers.process import WorkerProcess

RECORDS = {"s": ["a", "b", "c"], "u": ["d"]}
TARGETS = {"s": "creator_ana_twin_s", "u": "creator_ana_twin_u"}
LEASE_S, DEADLINE_S, FRESHNESS_S = 60.0, 20.0, 5.0
ENDS = (JobState.CLEANED, JobState.ROLLED_BACK, JobState.CANCELLED, JobState.VERIFIED)
# More than any job here needs: each round is a tick, all that is due, and a step of a person.
MOST_ROUNDS = 60

# By rounds in which everything goes well: the later ones begin with what destroys.
STAGES = ("planned", "listed", "copied", "checked", "verified", "clean up", "clean up by ids", "roll back")
WISHES = ("", "clean up", "clean up by ids", "roll back")

STOPS = st.one_of(
    st.none(),
    st.builds(Stop, st.integers(1, 22), st.sampled_from(("dies", "freezes", "freezes", "unavailable", "timed out"))),
)
PICK = st.one_of(st.just(-1), st.just(-2), st.integers(0, 50))


class World:
    """All that outlives a life: the database, the clock, and the process whose threads are the workers."""

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        deadline_s: float = DEADLINE_S,
        freshness_s: float = FRESHNESS_S,
        home: Path = Path(".vecfleet"),
    ) -> None:
        self.clock = clock
        self.database = GatedDatabase(database_url, pool_size=12)
        settings = Settings(
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
            lease_seconds=lease_s,
            request_deadline_seconds=deadline_s,
            freshness_wait_seconds=freshness_s,
            vecfleet_home=home,
            vecfleet_root=home,
            _env_file=None,  # type: ignore[call-arg]
        )
        self.one = OneIndex(Service(MemoryIndex(INDEX, Limits()), lambda *_: None))
        self.process = WorkerProcess(Parts(settings, self.database, self.one))
        self.process.pace = Unpaced(redis_url)
        books.watch(self.clock.sql)

    def close(self) -> None:
        self.database.dispose()
        self.clock.close()


class Jobs(RuleBasedStateMachine):
    """Two namespaces become a creator's twins, in batches of two records; anything may happen in any order."""

    world: World  # set by the test that runs the machine

    @initialize(
        stage=st.sampled_from(STAGES),
        wish=st.sampled_from(WISHES),
        differs=st.sampled_from((False, False, True)),
        erased=st.sampled_from(("", "", *RECORDS)),
    )
    def begin(self, stage: str, wish: str, differs: bool, erased: str) -> None:
        """A job that is as far as this, and what a person wants of it in the end.

        `differs`: a target, once copied. `erased`: the source whose twin is erased before anything else happens.
        """
        self.apply()
        self.wish = wish
        for number in range(STAGES.index(stage)):
            if differs and number == STAGES.index("copied"):
                self.somebody_writes_to_a_target("a", add=True)
            self._round()
        if stage in ("clean up", "clean up by ids", "roll back"):
            self.a_person_asks(stage)
        if erased:
            self.a_twin_is_erased(erased)

    def apply(self) -> None:
        world = self.world
        world.clock.sql("TRUNCATE job, audit, audit_head, erasure, chaos_seen CASCADE")
        index = MemoryIndex(INDEX, Limits(upsert_records=2))
        self.service = world.one.index = Service(index, self._a_call_leaves)
        world.process._indexes.clear()
        for source, ids in RECORDS.items():
            for start in range(0, len(ids), 2):
                index.upsert(source, [_record(id) for id in ids[start : start + 2]])
        self.table = JobTable(world.database)
        plan = plan_of(*(planned(source, to, len(RECORDS[source])) for source, to in TARGETS.items()), cut_over="none")
        self.table.apply(plan)
        self.wish = ""
        self.wakeups: list[Wakeup] = []
        self.frozen: list[Worker] = []
        self.proven: set[tuple[str, str]] = set()
        self.sequences: dict[str, int] = {}
        self.strangers: dict[tuple[str, str], Record] = {}  # records that somebody else wrote last
        self.erased: set[str] = set()  # sources whose twins were erased
        self.originals = {(source, id): _record(id) for source, ids in RECORDS.items() for id in ids}

    # What processes do

    @rule()
    def tick(self) -> None:
        """The dispatcher decides."""
        self.table.advance()

    @rule()
    def reap(self) -> None:
        """The dispatcher returns expired leases and lost wake-ups."""
        self.table.reap()
        with self.table.begin() as connection:
            batches.resend(connection, [self.table.job_id], BatchKind, 1.0)

    @rule(stop=STOPS, window=st.integers(1, 4))
    def dispatch_and_work(self, stop: Stop | None, window: int) -> None:
        for wakeup in self.dispatch(window):
            self._work(wakeup, stop)

    def dispatch(self, window: int = 8) -> list[Wakeup]:
        fresh = self.table.dispatch(window)
        self.wakeups += fresh
        return fresh

    @precondition(lambda self: self.wakeups)
    @rule(pick=PICK, stop=STOPS)
    def a_wake_up_comes_twice_or_late(self, pick: int, stop: Stop | None) -> None:
        self._work(_picked(self.wakeups, pick), stop)

    def _work(self, wakeup: Wakeup, stop: Stop | None) -> Worker:
        worker = Worker(self.world.process, wakeup, stop)
        if worker.frozen:
            self.frozen.append(worker)
        else:
            judge_failure(worker)
        return worker

    @precondition(lambda self: self.frozen)
    @rule(pick=PICK, stop=STOPS)
    def a_frozen_worker_wakes_up(self, pick: int, stop: Stop | None) -> None:
        worker = _picked(self.frozen, pick)
        worker.thaw(stop)
        if not worker.frozen:
            self.frozen.remove(worker)
            judge_failure(worker)

    @rule(seconds=st.sampled_from((1.0, FRESHNESS_S + 1, LEASE_S - DEADLINE_S + 1, LEASE_S + 1)))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.passes(seconds)

    @rule()
    def everything_goes_well_for_a_while(self) -> None:
        self._round()

    # What the service does

    @rule(id=st.sampled_from("abcd"))
    def a_fetch_will_omit(self, id: str) -> None:
        self.service.omits.add(id)

    @rule(id=st.sampled_from("abcd"))
    def an_upsert_will_lose(self, id: str) -> None:
        self.service.drops.add(id)

    # What people do

    @rule(
        what=st.sampled_from(
            ("pause", "resume", "cancel", "verify", "retry", "clean up", "clean up by ids", "roll back")
        )
    )
    def a_person_asks(self, what: str) -> None:
        people.ask(self.table.database, self.table.job_id, what)

    @precondition(lambda self: not self.erased)
    @rule(source=st.sampled_from(sorted(RECORDS)))
    def a_twin_is_erased(self, source: str) -> None:
        """A person types `vecfleet forget`, and waits for the certificate."""
        world = self.world
        certificate = erase(
            [self.service.index],
            Tenant("ana", source),
            books=JobTableBooks(world.database, world.process.settings),
            who="ana",
            lands_s=DEADLINE_S,
            clock=world.clock.monotonic,
            nap=world.clock.passes,
        ).certificate
        assert certificate, f"{source} could not be erased"
        self.erased.add(source)
        self.originals = {place: record for place, record in self.originals.items() if place[0] != source}

    @precondition(lambda self: self._nobody_deletes())
    @rule(id=st.sampled_from("abcd"), add=st.booleans())
    def somebody_writes_to_a_source(self, id: str, add: bool) -> None:
        """Though writers were to be stopped. Not between a last look and its deletion: that window is documented."""
        source = "u" if id == "d" else "s"
        if source in self.erased:
            return
        record = Record("new" if add else id, _record(id).values, metadata={"text": "by somebody else"})
        self.service.index.upsert(source, [record])
        self.strangers[source, record.id] = self.originals[source, record.id] = record

    def _nobody_deletes(self) -> bool:
        deleting = self.world.clock.sql(
            "SELECT FROM job WHERE 'cleaning' IN (state, resume_to) OR 'rolling_back' IN (state, resume_to) UNION ALL "
            "SELECT FROM batch WHERE state = 'leased' AND kind IN ('recheck', 'clear', 'remove', 'undo', 'drop')"
        )
        return not deleting and not any(worker.wakeup.kind not in ("list", "copy") for worker in self.frozen)

    @precondition(lambda self: self._nobody_deletes() and self.table.job.state in (JobState.VERIFIED, JobState.COPIED))
    @rule(id=st.sampled_from("abcd"), add=st.booleans())
    def somebody_writes_to_a_target(self, id: str, add: bool) -> None:
        target = TARGETS["u" if id == "d" else "s"]
        if id not in self.service.contents(target) or any(worker.wakeup.kind == "copy" for worker in self.frozen):
            return
        name = "stranger" if add else id
        record = Record(name, _record(id).values, metadata={"text": "by somebody else", "at": "the target"})
        self.service.index.upsert(target, [record])
        self.strangers[target, name] = record

    # The laws

    def _a_call_leaves(self, operation: str, namespace: str, ids: Sequence[str]) -> None:
        """Judged before the service sees it. In a worker's thread."""
        worker = Worker.current()
        assert worker is not None and worker.lease is not None
        row = self.table.row(worker.lease.id)
        if row.generation == worker.lease.generation and row.lease_until is not None:
            [(left,)] = self.world.clock.sql(
                "SELECT extract(epoch FROM %s::timestamptz - clock.clock_timestamp())::float", row.lease_until
            )
            assert left >= 0, f"{operation} was called when its lease was over"
        if operation == "fetch":
            self.proven |= {(namespace, id) for id in ids}
        elif namespace in {TARGETS[source] for source in self.erased} | self.erased:
            pass  # a late write to what is erased, which its worker takes away again
        elif operation == "upsert":
            self._an_upsert_leaves(namespace, ids)
        elif operation in ("delete", "delete_namespace"):
            assert row.intent_at is not None, f"{operation} of {namespace} without its intent on record"
            for id in ids:
                self._a_deletion_leaves(namespace, id)

    def _an_upsert_leaves(self, namespace: str, ids: Sequence[str]) -> None:
        assert namespace not in TARGETS, f"the source {namespace} was written to"
        sequence = self.table.targets[namespace].sequence
        assert sequence > self.sequences.get(namespace, 0), f"{namespace}: an upsert that voids no verdict"
        self.sequences[namespace] = sequence
        self.proven -= {(namespace, id) for id in ids}

    def _a_deletion_leaves(self, namespace: str, id: str) -> None:
        record = self.service.contents(namespace).get(id)
        if record is None:
            return
        if namespace in TARGETS:
            target = TARGETS[namespace]
            twin = self.service.contents(target).get(id)
            assert twin is not None, f"{namespace}/{id} is deleted, and {target} does not hold it"
            assert _enriched(namespace, record) == twin, f"{namespace}/{id} is deleted, and {target} holds another"
            assert (target, id) in self.proven, f"{namespace}/{id} is deleted unread at {target}"
        else:
            stranger = self.strangers.get((namespace, id))
            assert stranger is None or stranger != record, f"{namespace}/{id} is somebody else's, and is deleted"
            source = next(source for source, target in TARGETS.items() if target == namespace)
            assert id in self.service.contents(source), f"{namespace}/{id} is the last there is of it, and is deleted"

    @invariant()
    def the_books_agree(self) -> None:
        if hasattr(self, "table"):
            wrong = books.broken_books(self.world.clock.sql, self.table.job_id)
            assert not wrong, wrong

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "table"):
            return
        for (source, id), record in self.originals.items():
            here = self.service.contents(source).get(id) == record
            twin = self.service.contents(TARGETS[source]).get(id)
            changed = (TARGETS[source], id) in self.strangers
            assert here or changed or twin == _enriched(source, record), f"{source}/{id} is nowhere"

    # Its end

    def teardown(self) -> None:
        if hasattr(self, "table"):
            try:
                self.the_end()
            finally:
                for worker in self.frozen:
                    worker.kill()

    def the_end(self) -> None:
        """All faults are over: frozen workers wake up, leases run out, and the job comes to an end and stays there."""
        while self.frozen:
            self.frozen.pop().thaw()
        self.service.omits.clear()
        self.service.drops.clear()
        for _ in range(MOST_ROUNDS):
            self._round()
            job = self.table.job
            if job.state is JobState.VERIFIED and self.wish:
                self.a_person_asks(self.wish)
                self.wish = ""
                continue
            if job.state in ENDS:
                break
            if job.state is JobState.PAUSED:
                self.a_person_asks("resume")
            elif job.state is JobState.NEEDS_ATTENTION:
                self._attend()
        self._round()
        assert self.table.job.state in ENDS, f"{self.table.job.state}: {self.table.job.reason}"
        self.the_books_agree()
        self.nothing_is_lost()
        self._the_end_is_true()

    def _attend(self) -> None:
        """Do what the next steps of a job say, the mildest first; a job that a stranger has spoilt is given up."""
        for what in ("accept", "retry", "clean up", "verify"):
            before = self.table.job
            self.a_person_asks(what)
            for _ in range(4):
                self._round()
            if self.table.job.state is not before.state or self.table.job.reason != before.reason:
                return
        self.a_person_asks("roll back, keeping" if self.table.job.resume_to is JobState.ROLLING_BACK else "cancel")

    def _round(self) -> None:
        self.tick()
        for wakeup in self.dispatch():
            self._work(wakeup, None)
        self.world.clock.passes(LEASE_S / 4)
        self.reap()
        self.tick()

    def _the_end_is_true(self) -> None:
        state, targets = self.table.job.state, self.table.targets
        for source, to in TARGETS.items():
            if source in self.erased:
                continue
            here, there = self.service.contents(source), self.service.contents(to)
            strangers = {id for namespace, id in self.strangers if namespace in (source, to)}
            if state in (JobState.VERIFIED, JobState.CLEANED):
                target = targets.get(to)
                assert target is None or target.sequence == target.check_sequence, (
                    f"{to} was written to since its verdict"
                )
                missing = {id for id in RECORDS[source] if id not in there} - strangers - self._left_behind()
                assert not missing, f"{state}, and {missing} are not in {to}"
            if state is JobState.CLEANED:
                assert not set(here) - strangers - self._left_behind(), f"cleaned, and {source} holds {set(here)}"
            if state is JobState.ROLLED_BACK:
                assert not set(there) - strangers, f"rolled back, and {to} holds {set(there)}"

    def _left_behind(self) -> set[str]:
        query = sa.select(t.parked_record.c.record_id).where(t.parked_record.c.job_id == self.table.job_id)
        with self.table.begin() as connection:
            return set(connection.execute(query).scalars())


def _record(id: str) -> Record:
    return Record(id, bytes([ord(id[0])]) * 4 * 3_072, metadata={"text": f"text of {id}"})


def _enriched(source: str, record: Record) -> Record:
    """Return what the plan makes of it; written here a second time, apart from the product."""
    return record.with_metadata({**record.metadata, "migrated_from": source, "creator_id": "ana", "twin_id": source})


def _picked(those: list[Any], pick: int) -> Any:
    return those[max(pick, -len(those))] if pick < 0 else those[pick % len(those)]


def judge_failure(worker: Worker) -> None:
    """A worker may raise what its caller, the queue, would log: that Postgres is away. Nothing else."""
    if worker.failure is not None and not isinstance(worker.failure, Unreachable):
        raise worker.failure
