"""What the orchestrator and the workers pass around: frozen values read from the job table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from migrations.plan import Plan
from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind, JobState, MoveState
from vecfleet.stores.base import IndexInfo, Kind

# The "pass" of ids that a first listing lacked, though they come before its bookmark: a second one found them. Batches
# of one pass are runs of ids in byte order, and these would stand among those of the first.
LISTED_LATE = 0


@dataclass(frozen=True)
class Job:
    """One run of a plan."""

    id: int
    state: JobState
    resume_to: JobState | None
    reason: str | None
    plan: Plan
    source: IndexInfo
    target: IndexInfo
    way_back: str
    salt: str
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
    repairs: int
    passes: int
    passes_ended: int
    passes_allowed: int
    quiet_passes: int
    changed_records: str | None
    missing_allowed: int | None
    source_lag_s: float
    target_lag_s: float
    routes_stale_s: float
    doubted_at: datetime | None = None
    lands_by: datetime | None = None

    @property
    def waits(self) -> Waits:
        return Waits(self.source_lag_s, self.target_lag_s, self.routes_stale_s)

    @property
    def listings(self) -> range:
        """What a copy batch may have been `listed_in`: each pass; and before all of them `LISTED_LATE`."""
        return range(LISTED_LATE, self.passes + 1)


@dataclass(frozen=True, slots=True)
class Move:
    """One source namespace within a job."""

    id: int
    job_id: int
    seq: int
    source: str
    to: str | None
    creator: str | None
    twin: str | None
    prefix: str
    state: MoveState
    reason: str | None
    planned: int
    last_id: str | None
    page_token: str | None
    listed_all: bool
    batches: int
    open_batches: int
    listed: int
    written: int
    identical: int
    gone: int
    parked: int
    left_behind: int
    erased: int
    deleted: int
    clean_mode: str | None
    proof_lsn: int | None

    @property
    def settled(self) -> int:
        """How many of its listed ids are accounted for."""
        return self.written + self.identical + self.gone + self.parked + self.left_behind + self.erased

    @property
    def keeps_some(self) -> bool:
        """Whether records of it stay in its source: left behind, or equal to another source's at their target."""
        return bool(self.left_behind or self.identical)


@dataclass(frozen=True, slots=True)
class Target:
    """One namespace written to, by one or more moves."""

    id: int
    job_id: int
    namespace: str
    creator: str | None
    twin: str | None
    authority: str
    prepared: bool
    created_by_us: bool
    checks_ids: bool
    held_before: int
    held_before_digest: int
    sequence: int
    check_state: str
    open_checks: int
    check_sequence: int | None
    check_level: str | None
    lsn: int | None
    verdict: Mapping[str, Any] | None
    verdict_at: datetime | None
    last_write_at: datetime | None
    lands_by: datetime | None
    missing_allowed: int | None

    @property
    def is_authoritative(self) -> bool:
        """Whether readers were ever moved to it: what it holds is then neither replaced nor removed any more."""
        return self.authority == "target"


@dataclass(frozen=True, slots=True)
class TargetTally:
    """What one batch left in one target: how many records, and the digests of the records and of their ids.

    `lsn` numbers its last write to it, where the service tells.
    """

    target_id: int
    count: int
    digest: int
    ids_digest: int
    members: bytes | None
    record_digests: bytes | None = None
    lsn: int | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work a batch. `generation` is the fence: a batch is leased at most once per generation.

    What its work needs is read with it: the move, the manifest of the copy batch it works on, and its target (of a
    copy batch: the one target of its move, where it is on record already).
    """

    id: int
    job_id: int
    move_id: int | None
    target_id: int | None
    copy_id: int | None
    kind: BatchKind
    seq: int
    generation: int
    attempts: int
    size: int
    manifest: bytes | None
    targets: tuple[int, ...]
    intended: bool
    answered_at: datetime | None  # when a deletion of an earlier attempt was answered, and none was asked for since
    age_seconds: float
    until_monotonic: float
    leased_at: datetime  # by the database's clock: no look of this attempt is older
    copies: tuple[int, ...] = ()  # of a check: the copy batches it reads back
    rewrite: str | None = None  # what of it is written when it is copied again; None: all
    found: Mapping[str, Any] | None = None  # what an earlier attempt left on record
    listed_in: int = 1  # the pass that listed a copy batch's ids
    job_version: str = ""  # differs once the job's row changed
    move: Move | None = None
    target: Target | None = None


class Deletion(StrEnum):
    """What became of the deletions that an attempt asked a store for."""

    UNSENT = "unsent"  # none was sent, or the store refused it: nothing was deleted
    ANSWERED = "answered"
    UNANSWERED = "unanswered"  # it may have taken effect, or may yet


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A message for the queue: ids, and what a person reading Flower wants to see."""

    batch_id: int
    generation: int
    kind: BatchKind
    job_id: int
    namespace: str
    seq: int
    of: int


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    record_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What became of each id of a copy batch: the five counts, and the erased ones, add up to its size.

    `keeps`: the source lacks records that this batch wrote before, so what is on record of them stays.
    """

    tallies: tuple[TargetTally, ...] = ()
    parked: tuple[ParkedRecord, ...] = ()
    written: int = 0
    identical: int = 0
    gone: int = 0
    left_behind: int = 0
    keeps: bool = False
    changed: int = 0  # records written or removed by this run: none where a pass found everything as it was
    removed: int = 0  # of them, those that the source gave up
    erased: frozenset[str] = frozenset()  # ids of erased tenants, which leave the manifest

    def counts(self) -> dict[str, int]:
        return {
            "written": self.written,
            "identical": self.identical,
            "gone": self.gone,
            "parked": len(self.parked),
            "left_behind": self.left_behind,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A record that is not as it should be: missing, extra, different (in which `parts`), or changed since we wrote it.

    `copy_id` is the copy batch that wrote it, where one did; `digest` that of a different one, as it was seen.
    """

    kind: str
    record_id: str
    copy_id: int | None = None
    parts: str | None = None
    digest: int | None = None


def index_to_json(info: IndexInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": str(info.kind),
        "dimension": info.dimension,
        "metric": info.metric,
        "host": info.host,
        "cloud": info.cloud,
        "region": info.region,
        "tags": dict(info.tags),
        "schema": dict(info.schema),
    }


def index_from_json(body: Mapping[str, Any]) -> IndexInfo:
    return IndexInfo(**{**body, "kind": Kind(body["kind"])})
