"""`--watch`: what it shows, when it ends, and with which exit code."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from job_table import JobTable, plan_of, planned
from rich.console import Console
from terminal import Vecfleet, contents

from orchestrator.cli.watching import draw
from orchestrator.core.progress import progress
from orchestrator.core.states import JobState
from orchestrator.core.wording import duration
from orchestrator.embedded.process import Process
from orchestrator.ledger import status
from orchestrator.ledger.database import Database

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0


def test_watching_a_verified_job_ends_well(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 2)))
    table.verified()
    answer = vecfleet("status", "1", "--watch")
    assert answer.code == 0
    assert "job 1 verified" in answer.out
    assert "next: vecfleet cutover 1 --percent 100" in answer.out


def test_watching_as_json_is_one_document_when_it_rests(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 2)))
    table.verified()
    answer = vecfleet("status", "1", "--watch", "--json")
    assert (answer.code, answer.json["state"]) == (0, "verified")
    # And where it rests elsewhere too, with its exit code
    table.put(state=JobState.PAUSED, resume_to=JobState.COPIED)
    answer = vecfleet("status", "1", "--watch", "--json")
    assert (answer.code, answer.json["state"]) == (1, "paused")


@pytest.mark.parametrize(
    ("state", "resume_to", "says"),
    [
        (JobState.NEEDS_ATTENTION, JobState.COPIED, "job 1 is not verified: it needs attention: because"),
        (JobState.PAUSED, JobState.RUNNING, "job 1 is not verified: it is paused: because"),
        (JobState.ROLLED_BACK, None, None),
    ],
)
def test_watching_a_job_that_rests_elsewhere_is_not_a_success(
    vecfleet: Vecfleet, table: JobTable, state: JobState, resume_to: JobState | None, says: str | None
) -> None:
    table.apply(plan_of(planned("s", "t", 2)))
    table.put(state=state, resume_to=resume_to, reason="because")
    answer = vecfleet("status", "1", "--watch")
    if says is None:
        assert answer.code == 0
    else:
        assert answer.code == 1
        assert says in answer.err
        assert "next: vecfleet" in answer.err


@contextmanager
def somebody_types(environment: dict[str, str], log: Path, *words: str) -> Iterator[Process]:
    """A `vecfleet` of its own, which writes into this log, until the test has seen enough of it."""
    command = [sys.executable, "-P", "-m", "orchestrator", *words]
    process = Process.launch("watch", command, log=log, cwd=REPOSITORY, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.stop(PATIENCE_S)


def exit_code(process: Process) -> int:
    assert process.child is not None
    return process.child.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("words", "resume_to", "rests", "says"),
    [
        ("resume 1", JobState.RUNNING, JobState.VERIFIED, None),
        ("resume 1", JobState.ROLLING_BACK, JobState.ROLLED_BACK, None),
        ("resume 1", JobState.CLEANING, JobState.NEEDS_ATTENTION, "job 1 is not cleaned: it needs attention"),
        ("retry 1 failed", None, JobState.VERIFIED, None),
        ("retry 1 failed", None, JobState.NEEDS_ATTENTION, "job 1 is not verified: it needs attention"),
    ],
)
def test_a_job_that_goes_on_is_watched_to_where_it_was_on_its_way(
    environment: dict[str, str],
    table: JobTable,
    tmp_path: Path,
    words: str,
    resume_to: JobState | None,
    rests: JobState,
    says: str | None,
) -> None:
    # Given a job with a batch that failed, or one that was paused
    table.apply(plan_of(planned("s", "t", 2)))
    table.listed({"s": [["a"], ["b"]]})
    good, bad = table.take()
    table.copy(good)
    table.park(bad)
    table.advance()
    if resume_to is not None:
        table.put(state="paused", resume_to=resume_to)
    # When it goes on while somebody watches, and comes to rest
    log = tmp_path / "watch.log"
    with somebody_types(environment, log, *words.split(), "--watch") as process:
        process.wait_until(lambda: "waits: no dispatcher" in log.read_text(), PATIENCE_S)
        table.put(state=rests, resume_to=JobState.RUNNING if rests is JobState.NEEDS_ATTENTION else None)
        code = exit_code(process)
    # Then it succeeds only where the job is where it was on its way to
    assert code == (0 if says is None else 1)
    assert (says or "next: vecfleet ") in log.read_text()


def test_a_parked_batch_is_named_once(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given a job that stopped for a parked batch
    table.apply(plan_of(planned("s", "t", 2)))
    table.listed({"s": [["a"], ["b"]]})
    good, bad = table.take()
    table.copy(good)
    table.park(bad)
    table.advance()
    # Then its line says so once
    told = vecfleet("status", "1").out
    assert "1 batch is parked" in told and "batch failed" not in told


def test_ctrl_c_ends_the_watching_and_not_the_job(
    environment: dict[str, str], table: JobTable, database: Database, tmp_path: Path
) -> None:
    # Given a job that somebody watches
    table.apply(plan_of(planned("s", "t", 2)))
    before = contents(database)
    log = tmp_path / "watch.log"
    with somebody_types(environment, log, "status", "1", "--watch") as process:
        process.wait_until(lambda: "job 1 planned" in log.read_text(), PATIENCE_S)
        # When they press Ctrl-C
        os.kill(process.pid, signal.SIGINT)
        code = exit_code(process)
    # Then the message says that the job goes on, and how to come back; and so it does
    assert code == 130
    assert "The job goes on without this terminal." in log.read_text()
    assert "next: vecfleet status 1 --watch" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert contents(database) == before


def test_a_terminal_shows_a_bar_for_each_namespace_and_why_anything_waits(table: JobTable, database: Database) -> None:
    # Given a job with one namespace half copied
    table.apply(plan_of(planned("first", "t", 4), planned("second", "v", 2), planned("third", "w", 2)))
    table.listed({"first": [["a", "b"], ["c", "d"]], "second": [["e", "f"]], "third": [["g", "h"]]})
    table.copy(table.take()[0])
    # When it is drawn where two namespaces have room
    with database.begin() as connection:
        seen = progress(status.reading(connection, 1, namespaces=2))
    screen = Console(width=120, record=True, file=io.StringIO())
    screen.print(draw(seen, "the job table does not answer"))
    said = screen.export_text().splitlines()
    # Then
    assert said[0].split()[0] == "first" and "2/4" in said[0] and "━" in said[0]
    assert said[1].split()[0] == "second" and "0/2" in said[1]
    assert said[2] == "… and 1 more"
    assert "copying 2 of 8 records (25 %)" in said[3]
    assert "waits: no dispatcher is running: nothing new starts" in said
    assert said[-2:] == ["waits: the job table does not answer", "next: vecfleet dispatcher"]


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")])
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said
