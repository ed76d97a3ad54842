"""A Postgres that lost commits: every job stops before anything is deleted, and proves anew what it deletes."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, LONGEST_POLL_S, PATIENCE_S, POLL_S, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator import schema
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.dispatcher import Dispatcher
from orchestrator.embedded.postgres import FLEET, Postgres
from orchestrator.ledger import cleanup, continuity, leasing
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.queue import TASKS, make_app
from orchestrator.services import acts
from orchestrator.services.lost_commits import Remembered
from orchestrator.telemetry.counters import Counters
from vecfleet.errors import Busy
from vecfleet.records import Record
from workers import runner

LEASE_S = 0.2


@dataclass
class Rig:
    """A job s → t over 23 records, and a Postgres of its own that can be put back to what it was."""

    one: One
    postgres: Postgres
    copy: Path
    redis_url: str
    folder: Path
    dispatcher: Dispatcher

    @property
    def data(self) -> Path:
        return self.postgres.home / "data"

    def another_dispatcher(self) -> None:
        """The one there was ended, and another one begins: it knows what others left in Redis and in the folder."""
        self.dispatcher.stop()
        self.dispatcher = dispatcher_of(self.one.table.database, self.redis_url, self.folder)

    def remember(self) -> None:
        """Copy the data folder of the stopped server: later it is put back."""
        with self.stopped():
            copy_folder(self.data, self.copy)

    def put_back(self) -> None:
        """The server is replaced by an older copy of itself, as by a restored backup or a standby that lagged."""
        with self.stopped():
            shutil.rmtree(self.data)
            shutil.move(self.copy, self.data)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        port = self.postgres.port
        self.postgres.stop()
        for database in (self.one.table.database, self.one.process.database):
            database.dispose()
        yield
        self.postgres.start()
        assert self.postgres.port == port

    def work(self) -> int:
        """Let workers take whatever wake-ups are out. Return how many there were."""
        dispatched = [row for row in self.one.table.rows() if row.state == BatchState.DISPATCHED]
        for row in dispatched:
            runner.run(self.one.process, row.id, row.generation, [TASKS[BatchKind(row.kind)][1]])
        return len(dispatched)

    def until(self, holds: Callable[[], object]) -> None:
        deadline, pause_s = time.monotonic() + PATIENCE_S, POLL_S
        while True:
            self.dispatcher.tick()
            if holds():
                return
            pause_s = POLL_S if self.work() else min(2 * pause_s, LONGEST_POLL_S)
            time.sleep(pause_s)
            assert time.monotonic() < deadline, f"the job stays {self.one.table.job}"

    def until_state(self, state: JobState) -> None:
        self.until(lambda: self.one.table.job.state is state)


def dispatcher_of(database: Database, redis_url: str, folder: Path | None) -> Dispatcher:
    remembered = Remembered(redis_url, folder)
    return Dispatcher(database, make_app(redis_url), Counters(redis_url), remembered, lease_s=LEASE_S)


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Path]]:
    """A Postgres that does not run, and a copy of its data folder: a job table in which nothing has happened yet."""
    folder = tmp_path_factory.mktemp("lost")
    server = Postgres(folder / "postgres", durable=False).start()
    schema.upgrade(server.owner_url, server.client_url)
    with sa.create_engine(server.url, poolclass=sa.NullPool).begin() as connection:  # for `JobTable.by_hand`
        connection.execute(sa.text(f"GRANT SET ON PARAMETER session_replication_role TO {FLEET}"))
    server.stop()
    copy_folder(server.home / "data", folder / "data")
    yield server, folder / "data"
    server.erase()


@pytest.fixture
def server(unused: tuple[Postgres, Path]) -> Iterator[Postgres]:
    """That Postgres, running, whatever an earlier test put in its place."""
    server, data = unused
    shutil.rmtree(server.home / "data")
    copy_folder(data, server.home / "data")
    yield server.start()
    server.stop()


def copy_folder(from_: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", from_, to], check=True)  # with its owner, who is not always ours


@pytest.fixture
def rig(server: Postgres, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr("orchestrator.services.lost_commits._NOTED_EVERY_S", 0.0)
    monkeypatch.setattr("orchestrator.dispatcher.LEAD_S", 0.0)
    folder = tmp_path / "state"
    sources, move = {"s": twenty_three()}, planned("s", TARGET, COUNT)
    with open_one(server.client_url, redis_url, sources, move, cut_over="operator", soak_seconds=0) as one:
        dispatcher = dispatcher_of(one.table.database, redis_url, folder)
        yield Rig(one, server, tmp_path / "copy", redis_url, folder, dispatcher)


def cut_over_and_clean_up(rig: Rig) -> None:
    table = rig.one.table
    acts.cut_over(table.database, table.job_id, "ana", 100)
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)


def ready_to_clear(rig: Rig) -> None:
    """Every record of the source was read again, and the wake-up for its deletion is out."""
    rig.until_state(JobState.VERIFIED)
    cut_over_and_clean_up(rig)
    rig.until(lambda: [row.state for row in rig.one.table.rows(BatchKind.CLEAR)] == [BatchState.DISPATCHED])


def test_an_older_copy_of_postgres_stops_every_job_before_anything_is_deleted(rig: Rig) -> None:
    # Given a job that is about to delete its source, and a copy of Postgres from that moment
    ready_to_clear(rig)
    rig.remember()
    # And afterwards a person took the readers back, and an application wrote a record that is nowhere else
    rig.dispatcher.tick()
    rig.one.table.put(state=JobState.CUT_OVER)
    rig.dispatcher.tick()
    (record,) = rig.one.index.fetch("s", ["r00"]).records.values()
    rig.one.index.upsert("s", [Record("new", record.values)])

    # When Postgres is replaced by that copy, and a worker hears the wake-up of then before any dispatcher looks
    rig.put_back()
    rig.work()

    # Then nothing was begun
    assert [row.attempts for row in rig.one.table.rows(BatchKind.CLEAR)] == [0]
    assert len(rig.one.ids("s")) == COUNT + 1

    # And when a dispatcher looks, the job pauses with a sentence, and nothing is on its way
    rig.dispatcher.tick()
    job = rig.one.table.job
    assert job.state in (JobState.PAUSING, JobState.PAUSED) and job.resume_to is JobState.CLEANING
    assert job.reason is not None and "may have lost commits" in job.reason and "looks of dispatchers" in job.reason
    rig.work()
    assert len(rig.one.ids("s")) == COUNT + 1

    # And when a person resumes it, everything is read again: the record that came is seen, and the source stays
    rig.until_state(JobState.PAUSED)
    acts.resume(rig.one.table.database, rig.one.table.job_id, "ana")
    rig.until_state(JobState.NEEDS_ATTENTION)
    assert len(rig.one.ids("s")) == COUNT + 1
    assert "lists 24 ids" in (rig.one.table.move.reason or "")


def test_a_dispatcher_that_comes_later_knows_from_redis_or_from_the_folder_what_there_was(rig: Rig) -> None:
    ready_to_clear(rig)
    rig.remember()
    for _ in range(3):
        rig.dispatcher.tick()
    # When Postgres and the dispatcher are replaced, then the other one finds what was lost
    rig.put_back()
    rig.another_dispatcher()
    rig.dispatcher.tick()
    assert "may have lost commits" in (rig.one.table.job.reason or "")


@pytest.mark.parametrize("place", ["redis", "folder"])
def test_each_place_alone_is_enough(rig: Rig, place: str) -> None:
    for _ in range(3):
        rig.dispatcher.tick()
    with rig.one.table.begin() as connection:
        (lineage, sequence) = connection.execute(sa.select(t.continuity.c.lineage, t.continuity.c.sequence)).one()
    later = Remembered(rig.redis_url) if place == "redis" else Remembered(folder=rig.folder)
    assert later.highest(lineage) == sequence == 3


def test_a_restart_pauses_nothing_and_work_goes_on_once_a_dispatcher_has_looked(rig: Rig) -> None:
    ready_to_clear(rig)
    with rig.stopped():
        pass
    # Given a Postgres that was restarted: a worker that comes before the dispatcher begins nothing
    rig.work()
    assert rig.one.ids("s")
    # When the dispatcher looked, then the job goes on to its end
    rig.until(lambda: rig.one.table.job.state is JobState.CLEANED or released(rig))
    assert rig.one.ids("s") == []
    assert rig.one.table.job.doubted_at is None


def released(rig: Rig) -> bool:
    """The wake-up that came too early is sent again after a while: here at once."""
    for row in rig.one.table.rows(BatchKind.CLEAR):
        if row.state == BatchState.DISPATCHED and row.attempts == 0:
            rig.work()
    return False


def test_no_deletion_is_intended_on_a_server_that_no_dispatcher_has_looked_at(rig: Rig) -> None:
    """A worker that took its lease before Postgres was replaced, and finds it unchanged in the copy."""
    ready_to_clear(rig)
    (row,) = rig.one.table.rows(BatchKind.CLEAR)
    with rig.one.table.begin() as connection:
        lease = leasing.lease(connection, row.id, row.generation, "worker", 60.0)
    assert lease is not None
    with rig.stopped():
        pass
    with pytest.raises(Busy, match="no dispatcher has looked"), rig.one.table.begin() as connection:
        cleanup.intend(connection, lease, 0)
    rig.dispatcher.tick()
    with rig.one.table.begin() as connection:
        cleanup.intend(connection, lease, 0)


def test_a_lost_deletion_can_be_gone_on_from(rig: Rig) -> None:
    """The source was deleted, and the intent to delete it is in what was lost."""
    ready_to_clear(rig)
    rig.remember()
    rig.work()  # the source is deleted
    rig.until_state(JobState.CLEANED)
    assert rig.one.ids("s") == []
    rig.put_back()
    rig.dispatcher.tick()
    rig.until_state(JobState.PAUSED)

    # When a person resumes, then each record is found at its target as it was copied, and the job ends
    acts.resume(rig.one.table.database, rig.one.table.job_id, "ana")
    rig.until_state(JobState.CLEANED)
    assert len(rig.one.ids(TARGET)) == COUNT
    assert rig.one.table.move.deleted == COUNT


def test_a_record_that_is_gone_from_both_sides_is_not_taken_for_a_lost_deletion(rig: Rig) -> None:
    ready_to_clear(rig)
    rig.remember()
    rig.dispatcher.tick()
    rig.one.index.delete("s", ["r03"])
    rig.one.index.delete(TARGET, ["r03"])
    rig.put_back()
    rig.dispatcher.tick()
    rig.until_state(JobState.PAUSED)
    acts.resume(rig.one.table.database, rig.one.table.job_id, "ana")
    rig.until_state(JobState.NEEDS_ATTENTION)
    assert "vanished since they were copied, and are not at their target" in (rig.one.table.move.reason or "")
    assert len(rig.one.ids("s")) == COUNT - 1


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.VERIFIED])
def test_what_applications_wrote_after_a_lost_cut_over_is_not_written_over(rig: Rig, state: JobState) -> None:
    # Given a copy of Postgres from before the cut-over: while the job was copied, or once it was verified
    rig.until_state(state)
    rig.remember()
    # And then the job was done and cut over, and an application wrote to the new side
    rig.until_state(JobState.VERIFIED)
    acts.cut_over(rig.one.table.database, rig.one.table.job_id, "ana", 100)
    rig.dispatcher.tick()
    (record,) = rig.one.index.fetch(TARGET, ["r05"]).records.values()
    newer = record.with_metadata({**record.metadata, "text": "written after the cut-over"})
    rig.one.index.upsert(TARGET, [newer])

    # When Postgres is replaced by the copy, and a person resumes the job that knows of no cut-over
    rig.put_back()
    rig.dispatcher.tick()
    rig.until_state(JobState.PAUSED)
    acts.resume(rig.one.table.database, rig.one.table.job_id, "ana")

    # Then it waits for a person, and the record is what the application wrote
    rig.until_state(JobState.NEEDS_ATTENTION)
    assert rig.one.index.fetch(TARGET, ["r05"]).records["r05"] == newer

    if state is JobState.VERIFIED:  # and only a person's word lets a repair write over it
        assert "doubt 0" in (rig.one.table.job.reason or "")
        acts.set_lever(rig.one.table.database, rig.one.table.job_id, "ana", "doubt", 0)
        acts.verify(rig.one.table.database, rig.one.table.job_id, "ana")
        rig.until_state(JobState.VERIFIED)
        assert rig.one.index.fetch(TARGET, ["r05"]).records["r05"] == record


def test_jobs_and_batches_made_after_a_loss_have_numbers_that_were_not_given_before(rig: Rig) -> None:
    rig.dispatcher.tick()
    rig.remember()
    for _ in range(3):
        rig.dispatcher.tick()
    rig.put_back()
    rig.dispatcher.tick()
    with rig.one.table.begin() as connection:
        assert connection.execute(sa.text("SELECT nextval(pg_get_serial_sequence('job', 'id'))")).scalar_one() > 100
        assert connection.execute(sa.text("SELECT nextval(pg_get_serial_sequence('batch', 'id'))")).scalar_one() > 10**6


def test_the_server_says_its_system_and_its_timeline(database_url: str) -> None:
    database = Database(database_url)
    with database.begin() as connection:
        look = continuity.look(connection)
    database.dispose()
    assert look.server == look.server_before and "?" not in (look.server.system, look.server.timeline)
    assert (look.sequence, look.server.timeline) == (1, "00000001")


def test_what_a_worker_of_a_lost_lease_may_still_write_is_waited_for(rig: Rig) -> None:
    # Given a copy of Postgres in which no batch is leased, and a worker that has taken one since and is writing
    rig.until(lambda: rig.one.table.rows(BatchKind.COPY))
    rig.remember()
    rig.until_state(JobState.VERIFIED)

    # When Postgres is replaced by that copy
    rig.put_back()
    rig.dispatcher.lease_s = 3_600.0
    rig.dispatcher.tick()
    rig.until_state(JobState.PAUSED)
    acts.resume(rig.one.table.database, rig.one.table.job_id, "ana")

    # Then nothing is sent to a worker before all that the other one has sent must show
    assert rig.dispatcher.tick() == 0 and rig.dispatcher.tick() == 0
    assert {row.state for row in rig.one.table.rows()} <= {BatchState.READY, BatchState.DONE}

    # And then it goes on, to the question what becomes of records that this job table never wrote
    rig.one.table.put(lands_by=sa.func.clock_timestamp())
    rig.until_state(JobState.NEEDS_ATTENTION)
    assert len(rig.one.table.parked_ids()) == COUNT
