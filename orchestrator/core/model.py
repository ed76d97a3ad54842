"""Frozen values of the job table that the orchestrator and the workers pass around."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from migrations.plan import Plan
from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind, JobState, MoveState
from vecfleet.stores.base import IndexInfo, Kind

# The "pass" of ids before the bookmark that the first listing lacked and a second listing found. Batches of one pass
# are runs of ids in byte order, and these ids would stand among those of the first pass.
LISTED_LATE = 0


@dataclass(frozen=True, kw_only=True)
class JobColumns:
    """Columns of a job's row that both decisions and people need."""

    id: int
    state: JobState
    resume_to: JobState | None
    reason: str | None
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
    frozen_at: datetime | None = None
    pass_began_at: datetime | None = None
    as_of: datetime | None = None
    begins_until: datetime | None = None

    @property
    def waits(self) -> Waits:
        return Waits(self.source_lag_s, self.target_lag_s, self.routes_stale_s)


@dataclass(frozen=True, kw_only=True)
class Job(JobColumns):
    """One run of a plan."""

    plan: Plan
    source: IndexInfo
    target: IndexInfo
    salt: str
    repairs: int
    passes_ended: int
    changed_records: str | None
    missing_allowed: int | None
    doubted_at: datetime | None = None

    @property
    def listings(self) -> range:
        """Return the values that a copy batch's `listed_in` may have: `LISTED_LATE`, then each pass."""
        return range(LISTED_LATE, self.passes + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordCounts:
    """Records of one move, or summed over a job's moves, by their outcome."""

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
    def done(self) -> int:
        """Return how many listed ids need nothing more. Parked ids and those left behind do not count as done."""
        return self.written + self.identical + self.gone + self.erased

    @property
    def settled(self) -> int:
        """Return how many listed ids are accounted for."""
        return self.done + self.parked + self.left_behind


@dataclass(frozen=True, kw_only=True, slots=True)
class Move(RecordCounts):
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
    last_id: str | None
    page_token: str | None
    listed_all: bool
    batches: int
    open_batches: int
    clean_mode: str | None
    proof_lsn: int | None
    source_version: str | None = None
    source_version_at: datetime | None = None
    source_read_at: datetime | None = None

    @property
    def keeps_some(self) -> bool:
        """Say whether records stay in the source: left behind, or equal at the target to another source's record."""
        return bool(self.left_behind or self.identical)


@dataclass(frozen=True, slots=True)
class Target:
    """One namespace that one or more moves write to."""

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
        """Say whether readers were ever moved here; its records are then neither replaced nor removed."""
        return self.authority == "target"


@dataclass(frozen=True, slots=True)
class TargetTally:
    """Records that one batch left in one target: their count, their digest and the digest of their ids.

    `lsn` is the number of the batch's last write there, if the service gives one.
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
    """The right to work on a batch. `generation` is the fence: a batch is leased at most once per generation.

    A lease carries all that the work needs: the move, the manifest of the copy batch, and the target. A copy batch's
    target is the only target of its move, if the target is on record already.
    """

    id: int
    job_id: int
    move_id: int | None
    target_id: int | None
    copy_id: int | None
    kind: BatchKind
    seq: int  # ordinal of the copy batch that this batch reads again, or its own
    generation: int
    attempts: int
    size: int
    manifest: bytes | None
    targets: tuple[int, ...]
    intended: bool
    answered_at: datetime | None  # time of the answer to an earlier attempt's deletion, if none was sent since
    age_seconds: float
    until_monotonic: float
    leased_at: datetime  # by the database's clock: no read of this attempt is older
    copies: tuple[int, ...] = ()  # for a check: the copy batches that it reads back
    rewrite: str | None = None  # the part that is written when the batch is copied again; None: all
    found: Mapping[str, Any] | None = None  # the results that an earlier attempt left on record
    listed_in: int = 1  # the pass that listed a copy batch's ids
    job_version: str = ""  # differs once the job's row changed
    move: Move | None = None
    target: Target | None = None


class Deletion(StrEnum):
    """Outcome of the deletions that an attempt sent to a store."""

    UNSENT = "unsent"  # none was sent, or the store refused: nothing was deleted
    ANSWERED = "answered"
    UNANSWERED = "unanswered"  # one was sent and may have taken effect, or may yet


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A message for the queue: ids, and what a person wants to see in Flower.

    `seq` is the batch's number among the `of` batches of its source, which grow until it is `listed_all`. `of` is 0 for
    checks of a target, which nobody counts; `seq` is 0 for work on a whole namespace. `traceparent` is the job's trace.
    """

    batch_id: int
    generation: int
    kind: BatchKind
    job_id: int
    namespace: str
    seq: int
    of: int
    listed_all: bool = True
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    record_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """Outcome of a copy batch: the five counts and the erased ids add up to its size.

    `keeps`: the source lacks records that this batch wrote before, so its counts and tallies on record stay.
    `unchanged`: the source's rows are as this batch read them before, so its counts and tallies on record stay.
    """

    tallies: tuple[TargetTally, ...] = ()
    parked: tuple[ParkedRecord, ...] = ()
    written: int = 0
    identical: int = 0
    gone: int = 0
    left_behind: int = 0
    keeps: bool = False
    changed: int = 0  # records that this run wrote or removed; 0 if a pass found everything unchanged
    removed: int = 0  # the part of `changed` that the source no longer has
    erased: frozenset[str] = frozenset()  # ids of erased tenants, which leave the manifest
    unchanged: bool = False
    versions: str | None = None  # of the source's rows, from before they were read
    cut: int = 0  # texts that were longer than the model takes

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
    """A record that is missing, extra, different (in `parts`), or changed since we wrote it.

    `copy_id` is the copy batch that wrote the record, if any. `digest` is the seen digest of a different record.
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
        "names": dict(info.names),
    }


def index_from_json(body: Mapping[str, Any]) -> IndexInfo:
    return IndexInfo(**{**body, "kind": Kind(body["kind"])})
