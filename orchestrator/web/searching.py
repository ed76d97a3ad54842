"""The list of jobs as a viewer wants it: searched, filtered by state, sorted. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from orchestrator.core.reading import JobRow, Totals
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.core.wording import spoken

Row = tuple[JobRow, Totals]
_LONGEST_WORDS = 200


def took(job: JobRow) -> timedelta | None:
    """Return how long an ended job took, from its start; None while it lives."""
    return None if job.ended_at is None else job.ended_at - (job.started_at or job.created_at)


def _seconds(row: Row) -> float:
    lasted = took(row[0])
    return lasted.total_seconds() if lasted is not None else float("inf")


SORTS: Mapping[str, tuple[str, Callable[[Row], Any]]] = {
    "newest": ("newest first", lambda row: -row[0].id),
    "oldest": ("oldest first", lambda row: row[0].id),
    "records": ("most records first", lambda row: -row[1].expected),
    "parked": ("most parked first", lambda row: (-row[1].parked, -row[0].id)),
    "time": ("longest first", lambda row: -_seconds(row)),
}
STATES: Mapping[str, str] = {"": "all", "live": "not ended", "ended": "ended"} | {
    str(state): spoken(state) for state in JobState
}


@dataclass(frozen=True, slots=True)
class Wish:
    """A viewer's request to the list: words that each job must hold, a state, an order."""

    words: str = ""
    state: str = ""
    sort: str = "newest"

    @staticmethod
    def of(query: Mapping[str, str]) -> "Wish":
        """Read an address's query. What is no state or no order asks for nothing."""
        state, sort = query.get("state", ""), query.get("sort", "newest")
        return Wish(
            query.get("q", "")[:_LONGEST_WORDS],
            state if state in STATES else "",
            sort if sort in SORTS else "newest",
        )

    @property
    def query(self) -> str:
        return urlencode({"q": self.words, "state": self.state, "sort": self.sort})

    def grant(self, rows: Sequence[Row]) -> list[Row]:
        """Return the jobs asked for, in the order asked for."""
        words = self.words.lower().split()
        return sorted((row for row in rows if self._holds(row[0], words)), key=SORTS[self.sort][1])

    def _holds(self, job: JobRow, words: Sequence[str]) -> bool:
        if self.state in ("live", "ended"):
            if (job.state in JOB_ENDED) != (self.state == "ended"):
                return False
        elif self.state and job.state != self.state:
            return False
        text = f"job {job.id} {job.source} {job.target} {job.created_by} {job.recipe} {job.reason or ''}".lower()
        return all(word in text for word in words)
