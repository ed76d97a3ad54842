"""The cost of an empty batch on its way: dispatcher → Celery and Redis → lease → done.

    python -m benchmarks.queueing [--quick] [--batches 3000]

A real fleet works copy batches that name no ids: nothing is asked of the service, all that is left is the way there and
back. Once so that each batch needs a wake-up of its own, as large batches do; and once so that a worker, soon done,
takes the next batch without one, as those of small namespaces do. Rates are by the database's clock, from the first
batch sent to the last one done; CPU is that of the processes, kind by kind, over the same time.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from benchmarks.data import fill_one
from benchmarks.figures import Figure
from benchmarks.fleet import Running, applied, end, reached, running
from benchmarks.runner import parser, report
from orchestrator.core import manifests
from orchestrator.core.states import JobState

ROLES = ("worker", "dispatcher", "postgres", "redis")
# A worker goes on with the next batch until it had a thousand records; a batch without ids counts for its namespace.
EACH_ITS_OWN, GOES_ON = 1_000, 0
BATCHES, QUICK_BATCHES = 3_000, 1_000
_POLL_S = 0.2
_PATIENCE_S = 120.0


def measure(quick: bool) -> Iterator[Figure]:
    return measured(QUICK_BATCHES if quick else BATCHES)


def measured(batches: int) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        fill_one(fleet, "queue", 1, 8)
        job = applied(fleet, "queue")
        list(emptied(fleet, job, "warm-up", EACH_ITS_OWN, 200))
        yield from emptied(fleet, job, "a wake-up each", EACH_ITS_OWN, batches)
        yield from emptied(fleet, job, "a worker that goes on", GOES_ON, batches)
        end(fleet.fleet, job)


def emptied(fleet: Running, job: int, how: str, planned: int, batches: int) -> Iterator[Figure]:
    """So many empty batches of a job that was verified and is put back to running, until the last of them is done."""
    reached(fleet.fleet, job, JobState.VERIFIED)
    before = {role: fleet.cpu_seconds(role) for role in ROLES}
    add(fleet, job, planned, batches)
    seconds = gone_after(fleet, job, batches)
    used = {role: fleet.cpu_seconds(role) - before[role] for role in ROLES}
    yield Figure(f"{how}: batches", batches / seconds, "a second")
    for role in ROLES:
        yield Figure(f"{how}: CPU of {role}", used[role] / batches * 1e3, "ms a batch")
    yield Figure(f"{how}: CPU of all", sum(used.values()) / batches * 1e3, "ms a batch")


def add(fleet: Running, job: int, planned: int, batches: int) -> None:
    """Batches are made by listings only, so these are put into the job table by hand, in place of earlier ones."""
    values = {"job": job, "planned": planned, "batches": batches, "manifest": manifests.pack([])}
    with fleet.fleet.database.begin() as connection:
        for statement in (
            "DELETE FROM batch WHERE job_id = :job AND kind = 'copy' AND size = 0",
            "INSERT INTO batch (job_id, move_id, kind, seq, first_id, size, manifest)"
            " SELECT :job, move.id, 'copy', 1 + n, '', 0, :manifest FROM move, generate_series(1, :batches) n"
            " WHERE move.job_id = :job",
            "UPDATE move SET planned = :planned, open_batches = open_batches + :batches, state = 'copying'"
            " WHERE job_id = :job",
            "UPDATE job SET state = 'copied' WHERE id = :job",  # no edge leads from verified to running
            "UPDATE job SET state = 'running' WHERE id = :job",
        ):
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(sa.text(statement), used)


def gone_after(fleet: Running, job: int, batches: int) -> float:
    """Seconds from the first empty batch that was sent to the last that was done."""
    until = time.monotonic() + _PATIENCE_S
    query = sa.text(
        "SELECT count(*) AS done, extract(epoch FROM max(done_at) - min(dispatched_at)) AS seconds FROM batch"
        " WHERE job_id = :job AND kind = 'copy' AND size = 0 AND state = 'done'"
    )
    while time.monotonic() < until:
        with fleet.fleet.database.begin() as connection:
            row = connection.execute(query, {"job": job}).one()
        if row.done == batches:
            return float(row.seconds)
        time.sleep(_POLL_S)
    raise RuntimeError(f"{row.done:,} of {batches:,} empty batches were done within {_PATIENCE_S:g} s")


def main() -> int:
    arguments = parser("python -m benchmarks.queueing", __doc__)
    arguments.add_argument("--batches", type=int, help="instead of the usual number")
    given = arguments.parse_args()
    batches = given.batches or (QUICK_BATCHES if given.quick else BATCHES)
    return report({"queueing": lambda quick: measured(batches)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
