"""Values of a job as people see it at one moment: read by `ledger.status`, shown by `progress` and `next_steps`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from migrations.plan import Estimate, Policies
from orchestrator.core.freshness import Waits
from orchestrator.core.guards import Proof
from orchestrator.core.model import Move
from orchestrator.core.states import JobState, MoveState
from vecfleet.stores.base import Usage


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job without its plan's moves: a plan may hold 12,000 of them."""

    id: int
    state: JobState
    resume_to: JobState | None
    reason: str | None
    source: str
    target: str
    target_store: str
    recipe: str
    policies: Policies
    estimate: Estimate
    way_back: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    verified_at: datetime | None
    cut_over_at: datetime | None
    cleaning_at: datetime | None
    pass_ended_at: datetime | None
    ended_at: datetime | None
    cut_over_percent: int
    batch_window: int
    pace_share: float
    budget_factor: float
    passes: int
    passes_allowed: int
    quiet_passes: int
    source_lag_s: float
    target_lag_s: float
    routes_stale_s: float
    lands_by: datetime | None = None

    @property
    def waits(self) -> Waits:
        return Waits(self.source_lag_s, self.target_lag_s, self.routes_stale_s)


@dataclass(frozen=True, slots=True)
class Totals:
    """A job's moves added up. `expected`: listed, or planned where the listing is not complete yet."""

    namespaces: Mapping[MoveState, int]
    expected: int
    planned: int
    listed: int
    written: int
    identical: int
    gone: int
    parked: int
    left_behind: int
    erased: int
    deleted: int

    @property
    def settled(self) -> int:
        return self.written + self.identical + self.gone + self.parked + self.left_behind + self.erased


@dataclass(frozen=True, slots=True)
class Waiting:
    """Batches at the head of the queue that failed alike: tried first at `since`, to be tried again at `next_at`."""

    error_class: str
    error_text: str
    batches: int
    since: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Since:
    """What became of records at their targets since they were proven there or written: how many, and the first of them.

    `shown` are (namespace, id, what): removed, changed or added.
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
class RollBackProgress:
    compares: int
    not_undone: int  # compared copy batches without an `undo`
    drops: int
    droppable: int
    changed: int


@dataclass(frozen=True, slots=True)
class Undoing:
    """How far a roll back is: batches done and in all of its three steps, those of a later step as many as will come.

    `lingering` of the namespaces to drop were seen empty, the last of them since `since`, and are looked at once more.
    """

    compared: tuple[int, int]
    undone: tuple[int, int]
    dropped: tuple[int, int]
    lingering: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the job table says of a job at one moment, `now` by the database clock.

    `left`: unsettled batches of the present step, except while copying. `unanswered`: wake-ups that were sent and no
    worker took, the oldest at `unanswered_since`. `proof`: of what readers may be moved to next, where that is next.
    `conflicting`: of the `undecided` those that only another plan can move, where a person is asked about them.
    `spent`: what a job that its budget paused has used up so far. `landing`: until when an upsert without an answer may
    take effect.
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
