"""One batch: what the job table says of it, of the work on its ids since, and what the logs here say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import BatchState
from orchestrator.ledger import dashboards, jobs, parked
from orchestrator.ledger.parked import Parked
from orchestrator.web.acting import against
from orchestrator.web.views import SHOWN
from vecfleet.errors import NotFound

_READ_BYTES = 4_000_000  # of the end of each log
_LINES = 200


@dataclass(frozen=True, slots=True)
class BatchHistory:
    """`rows`: the batch, then the batches that worked on its ids since. `lines`: the newest of the logs' lines.

    `parked`: records that it parked. `against_retry`: the guard's objections.
    """

    rows: tuple[Any, ...]
    lines: tuple[str, ...]
    parked: tuple[Parked, ...]
    against_retry: tuple[str, ...]

    @property
    def batch(self) -> Any:
        return self.rows[0]

    @property
    def retries(self) -> str | None:
        """Return what to retry of it: the batch (`failed`), or the job's parked records (`parked`) if it has some."""
        if self.batch.state == BatchState.PARKED:
            return "failed"
        return "parked" if any(record.accepted_by is None for record in self.parked) else None


def look(parts: Fleet, job_id: int, batch_id: int) -> BatchHistory:
    """Return the history of a batch. Raises NotFound."""
    with parts.database.begin() as connection:
        job = jobs.get(connection, job_id)
        rows = dashboards.history_of_batch(connection, job_id, batch_id)
        records = parked.of_batch(connection, batch_id)[:SHOWN]
        objections = against(connection, job, "retry")
    if not rows:
        raise NotFound(f"job {job_id} has no batch {batch_id}", next_step=f"see /jobs/{job_id}")
    lines = sorted(_lines(parts.settings.vecfleet_home / "logs", job_id, {row.id for row in rows}))
    return BatchHistory(tuple(rows), tuple(lines[-_LINES:]), tuple(records), objections)


def _lines(folder: Path, job_id: int, batch_ids: set[int]) -> Iterator[str]:
    """Yield the lines about these batches, in either form of a log, from the logs of the processes of this machine."""
    numbers = "|".join(str(number) for number in sorted(batch_ids))
    about = re.compile(rf'\bbatch"?[=:] ?({numbers})\b')
    of_job = re.compile(rf'\bjob"?[=:] ?{job_id}\b')
    for path in folder.glob("*.log"):
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - _READ_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            continue  # it was moved away while it was read
        yield from (line for line in text.splitlines() if about.search(line) and of_job.search(line))
