"""Values of a job at one moment: `ledger.status` reads them, `progress` and `next_steps` show them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from migrations.plan import Estimate, Policies
from orchestrator.core.guards import Proof
from orchestrator.core.model import JobColumns, Move, RecordCounts
from orchestrator.core.states import JobState, MoveState
from orchestrator.core.wording import counted, told_apart
from vecfleet.stores.base import Usage

_GIVEN_UP = frozenset({JobState.ROLLING_BACK, JobState.ROLLED_BACK, JobState.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class JobRow(JobColumns):
    """A job without its plan's moves: a plan may hold 12,000 of them."""

    source: str
    target: str
    source_store: str = "pinecone"
    target_store: str
    recipe: str
    policies: Policies
    estimate: Estimate
    command: tuple[str, ...] = ()

    @property
    def same_index(self) -> bool:
        return (self.source_store, self.source) == (self.target_store, self.target)

    @property
    def sides(self) -> tuple[str, str]:
        """Return the names of source and target, as a person tells them apart."""
        return told_apart(self.source_store, self.source, self.target_store, self.target)


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals(RecordCounts):
    """Sums over a job's moves. `expected`: listed records, or planned ones until the listing is complete."""

    namespaces: Mapping[MoveState, int]
    expected: int


def done_of(job: JobRow, totals: Totals) -> int:
    """Return how many records a job has done: none once it was given up, or what it did is taken back."""
    return 0 if job.state in _GIVEN_UP or job.resume_to is JobState.ROLLING_BACK else totals.done


def given_up_said(job: JobRow, totals: Totals) -> str | None:
    """Return, for a list of jobs, what becomes of the records of one that was given up; None for any other."""
    match job.state:
        case JobState.ROLLED_BACK:
            return "taken back"
        case JobState.CANCELLED:
            return f"given up, {totals.done:,} stay" if totals.done else "given up"
        case _ if JobState.ROLLING_BACK in (job.state, job.resume_to):
            return "being taken back"
        case _:
            return None


def summary(job: JobRow, totals: Totals) -> dict[str, Any]:
    """Return a row of the list of jobs as JSON values."""
    return {
        "job": job.id,
        "state": job.state,
        "reason": job.reason,
        "source_index": job.source,
        "target_index": job.target,
        "records": totals.expected,
        "done": done_of(job, totals),
        "parked": totals.parked,
        "left_behind": totals.left_behind,
        "settled": totals.settled,
        "created_by": job.created_by,
        "created_at": job.created_at.astimezone(UTC).isoformat(),
    }


@dataclass(frozen=True, slots=True)
class Waiting:
    """Batches at the head of the queue with the same failure: first tried at `since`, next tried at `next_at`."""

    error_class: str
    error_text: str
    batches: int
    since: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class ParkedGroup:
    """Parked records (`kind` is "record") or batches of one kind, set aside for the same reason.

    The group's reason has `…` where the single reasons differ. `undecided` of `count` wait for a person; the others
    were left behind. `source` is one of the group's `namespaces`. `records`: number of records in the group.
    `at_least`: there are so many that only the first ones were looked at, so there may be more of this reason.
    """

    kind: str
    reason: str
    count: int
    undecided: int
    records: int
    namespaces: int
    source: str | None
    at_least: bool = False

    @property
    def of_records(self) -> bool:
        return self.kind == "record"

    def counted(self) -> str:
        """Return the count with its noun: `3,000 records`, `at least 3 copy batches`."""
        nouns = ("record", "records") if self.of_records else (f"{self.kind} batch", f"{self.kind} batches")
        return f"{'at least ' if self.at_least else ''}{counted(self.count, *nouns)}"

    def __str__(self) -> str:
        where = self.source or "a target" if self.namespaces <= 1 else f"{self.namespaces:,} namespaces"
        left = f", {self.count - self.undecided:,} left behind" if self.undecided < self.count else ""
        return f"{self.counted()} in {where}{left}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Since:
    """Counts of target records that changed since they were proven or written, and the first few such records.

    `shown` holds (namespace, id, what); `what` is removed, changed or added.
    """

    removed: int = 0
    changed: int = 0
    added: int = 0
    shown: tuple[tuple[str, str, str], ...] = ()

    @property
    def total(self) -> int:
        return self.removed + self.changed + self.added

    def __str__(self) -> str:
        counts = (self.removed, "removed"), (self.changed, "changed"), (self.added, "added")
        return ", ".join(f"{count:,} {what}" for count, what in counts if count)


_NOTHING_SINCE = Since()


@dataclass(frozen=True, slots=True)
class ClientGroup:
    """Processes of one machine with one token that ask for the routes, and when the last of them did.

    `freezes`: they refuse writes to frozen namespaces; versions from before that know nothing of it.
    """

    token: str
    machine: str
    processes: int
    freezes: bool
    seen_at: datetime

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"seen_at": self.seen_at.isoformat()}


@dataclass(frozen=True, slots=True)
class RollBackProgress:
    compares: int
    not_undone: int  # compared copy batches without an `undo`
    drops: int
    droppable: int
    changed: int


@dataclass(frozen=True, slots=True)
class Undoing:
    """Progress of a rollback: (done, total) batches of its three steps; a later step counts the batches to come.

    `lingering` of the namespaces to drop looked empty, the last one since `since`, and get one more look. Nothing that
    no worker has tried yet is compared or removed before `not_before`.
    """

    compared: tuple[int, int]
    undone: tuple[int, int]
    dropped: tuple[int, int]
    lingering: int
    since: datetime | None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Contents of the job table about one job at one moment, `now` by the database clock.

    `left`: unsettled batches of the present step, except while copying. `unanswered`: sent wake-ups that no worker
    took, the oldest at `unanswered_since`. `proof`: proof of the targets to which readers may be moved next, if that
    is the next step. `conflicting`: the `undecided` records that only another plan can move.
    `spent`: usage so far of a job that its budget paused. `landing`: until when an unanswered upsert may take effect.
    `watched_until`: until when the moved readers are watched before the others may follow.
    `empty_targets`: targets that hold nothing because the records meant for them were left behind. `reasons`: groups of
    parked records and batches, by reason; `more_reasons`: number of groups that are not shown. `confirmations`: the
    commands by which a person confirms what went missing and stopped the job.
    """

    now: datetime
    job: JobRow
    totals: Totals
    targets: Mapping[str, int]
    undecided: int
    parked_batches: int
    left: int
    leased: int
    unanswered: int
    unanswered_since: datetime | None
    waiting: Sequence[Waiting]
    led: bool
    page: Sequence[Move]
    since: Since = _NOTHING_SINCE
    proof: Proof | None = None
    undoing: Undoing | None = None
    conflicting: int = 0
    spent: Usage | None = None
    landing: datetime | None = None
    empty_targets: int = 0
    reasons: Sequence[ParkedGroup] = ()
    clients: Sequence[ClientGroup] = ()
    more_reasons: int = 0
    confirmations: Sequence[str] = ()
    watched_until: datetime | None = None
