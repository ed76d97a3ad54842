"""A Postgres in the place of another: a cluster made from a dump, a server that was promoted, an older copy."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from in_one_process import COUNT
from test_lost_commits import Rig, ready_to_clear, released, rig, server, unused

from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import batches, leasing
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.services import acts

__all__ = ["rig", "server", "unused"]


def replace(rig: Rig) -> None:
    """Replace the server by another cluster, which was filled from a dump of this one."""
    dump = ("--format=custom", f"--dbname={libpq(rig)}")
    dumped = subprocess.run([binary(rig, "pg_dump"), *dump], capture_output=True, check=True).stdout
    with rig.stopped():
        shutil.rmtree(rig.data)
    restore = ("--no-owner", f"--dbname={libpq(rig)}")
    subprocess.run([binary(rig, "pg_restore"), *restore], input=dumped, capture_output=True, check=True)


def promote(rig: Rig) -> None:
    """Let the server end a recovery, as a standby does that takes over: its log goes on in a new timeline."""
    with psycopg.connect(libpq(rig), autocommit=True) as connection:
        for setting in (b"restore_command = 'false'", b"hot_standby = off"):  # it answers once it is promoted
            connection.execute(b"ALTER SYSTEM SET " + setting)
    with rig.stopped():
        signal = rig.data / "recovery.signal"
        signal.touch()
        owner = rig.data.stat()
        os.chown(signal, owner.st_uid, owner.st_gid)


def libpq(rig: Rig) -> str:
    return rig.postgres.url.replace("+psycopg", "")


def binary(rig: Rig, name: str) -> Path:
    return rig.postgres._binaries / name


def says_that_commits_may_be_lost(rig: Rig, how: str) -> None:
    """The job is paused with this sentence, and stays in doubt; its source is as it was."""
    rig.until_state(JobState.PAUSED)
    job = rig.one.table.job
    assert job.resume_to is JobState.CLEANING and job.doubted_at is not None
    assert job.reason is not None and "may have lost commits" in job.reason and how in job.reason
    assert len(rig.one.ids("s")) == COUNT


def test_another_postgres_in_the_place_of_the_one_before_stops_every_job(rig: Rig) -> None:
    # Given a job that is about to delete its source
    ready_to_clear(rig)

    # When another cluster answers, which was filled from a dump that has every commit
    replace(rig)
    rig.work()
    assert [row.attempts for row in rig.one.table.rows(BatchKind.CLEAR)] == [0]

    # Then the job pauses all the same: nobody can tell what the other cluster has
    rig.dispatcher.tick()
    says_that_commits_may_be_lost(rig, "its system identifier differs")


def test_a_promoted_server_for_which_commits_did_not_wait_stops_every_job(rig: Rig) -> None:
    # Given a job that is about to delete its source
    ready_to_clear(rig)

    # When its server is promoted, as a standby is
    promote(rig)
    rig.work()
    assert [row.attempts for row in rig.one.table.rows(BatchKind.CLEAR)] == [0]

    # Then the job pauses: what was committed right before may be missing, and no number tells
    rig.dispatcher.tick()
    says_that_commits_may_be_lost(rig, "its timeline differs")


def test_a_promoted_server_for_which_commits_waited_stops_nothing_and_is_noted(rig: Rig) -> None:
    # Given a job table whose commits waited for a standby
    ready_to_clear(rig)
    with rig.one.table.begin() as connection:
        connection.execute(sa.update(t.continuity).values(synchronous=True))

    # When the standby is promoted, then the job goes on to its end
    promote(rig)
    rig.until(lambda: rig.one.table.job.state is JobState.CLEANED or released(rig))
    assert rig.one.table.job.doubted_at is None and rig.one.ids("s") == []

    # And the fail-over is on record, with the new timeline
    with rig.one.table.begin() as connection:
        noted = connection.execute(sa.select(t.audit.c.payload).where(t.audit.c.action == "fail-over")).scalars().all()
    assert [payload["timeline"] for payload in noted] == ["00000002"]


def test_a_lease_that_is_in_what_was_lost_passes_for_no_lease_of_the_same_batch(rig: Rig) -> None:
    # Given a copy of Postgres with a batch that is due, and a worker that leased it afterwards and lives on
    while not rig.one.table.rows(BatchKind.COPY):
        rig.dispatcher.tick()
        rig.work()
    (row, *_) = rig.one.table.rows(BatchKind.COPY)
    assert (row.state, row.attempts) == (BatchState.READY, 0)
    rig.remember()
    rig.dispatcher.tick()
    lost = leased_by(rig, "a worker of before")
    assert lost.id == row.id

    # When Postgres is replaced by the copy, a person resumes the job, and another worker leases that batch
    rig.put_back()
    rig.dispatcher.tick()
    rig.until_state(JobState.PAUSED)
    acts.resume(rig.one.table.database, rig.one.table.job_id, "ana")
    rig.one.table.put(lands_by=sa.func.clock_timestamp())
    rig.dispatcher.tick()
    now = leased_by(rig, "a worker of now")
    assert now.id == lost.id

    # Then the first one's is over: it records nothing and begins no write
    with pytest.raises(LeaseLost), rig.one.table.begin() as connection:
        batches.require(connection, lost)
    with rig.one.table.begin() as connection:
        batches.require(connection, now)


def leased_by(rig: Rig, owner: str) -> Lease:
    row = next(row for row in rig.one.table.rows(BatchKind.COPY) if row.state == BatchState.DISPATCHED)
    with rig.one.table.begin() as connection:
        found = leasing.lease(connection, row.id, row.generation, owner, 60.0)
    assert found is not None
    return found
