"""The requests and answers of the fleet's HTTP API. The service and the client read and write the same ones."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

PREFIX = "/api/v1"
KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"

State = Literal[
    "planned",
    "running",
    "copied",
    "verified",
    "cut_over",
    "cleaning",
    "cleaned",
    "needs_attention",
    "pausing",
    "paused",
    "cancelling",
    "cancelled",
    "rolling_back",
    "rolled_back",
    "finished",
]
_LARGEST = 2**63 - 1  # the job table counts in 8 bytes
_IDS = 10_000  # named in one request
_NAME = r"^[^\x00]{1,512}$"
Names = Annotated[list[Annotated[str, Field(pattern=_NAME)]], Field(min_length=1, max_length=_IDS)]
BatchIds = Annotated[list[Annotated[int, Field(ge=1, le=_LARGEST)]], Field(min_length=1, max_length=_IDS)]


class _Request(BaseModel):
    """A request: a field that is not of it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Answer(BaseModel):
    """An answer. A later service may say more than this client knows."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Start(_Request):
    """Start a job from a plan file of the fleet that somebody has read."""

    plan: str = Field(pattern=_NAME, description="its name in `plans/` of the fleet, as `GET /api/v1/plans` lists it")
    digest: str = Field(max_length=200, description="the digest of the plan that was read; another one is refused")
    no_backup: bool = Field(default=False, description="go on without a backup, as `apply --no-backup`")


class Retry(_Request):
    """Run parked batches again, copy parked records again, or both."""

    what: Literal["failed", "parked", "all"]
    batches: BatchIds | None = Field(default=None, description="with `failed`: of the parked batches only these")


class Verify(_Request):
    """Check every target again."""

    level: Literal["ids", "content", "content+query"] | None = Field(default=None, description="default: the plan's")


class Comment(_Request):
    """Say something about a job, in its audit trail."""

    text: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")


class SetLever(_Request):
    """Change how hard a job works, how much it may spend, and how many records it may find missing."""

    lever: Literal["window", "hours", "pace", "budget", "passes", "missing", "doubt"]
    value: FiniteFloat = Field(ge=0, le=1e9)
    target: str | None = Field(default=None, pattern=_NAME, description="with `missing`: of this target alone")


class CutOver(_Request):
    """Move the readers of so many per cent of the twins."""

    percent: int = Field(ge=1, le=100)


class CleanUp(_Request):
    """Delete the sources of a job."""

    index: str = Field(pattern=_NAME, description="the name of the index that loses them, for confirmation")
    by_ids: bool = Field(default=False, description="record by record, even if a whole namespace could go")


class RollBack(_Request):
    """Remove what a job wrote."""

    index: str = Field(pattern=_NAME, description="the name of the index that loses it, for confirmation")
    changed: Literal["keep"] | None = Field(default=None, description="keep records that changed since; else refused")


class LeaveBehind(_Request):
    """Let parked records stay behind: by id, those of batches, or all that are undecided."""

    records: Names | Literal["all"] | None = None
    batches: BatchIds | Literal["all"] | None = None
    confirmed: int = Field(default=0, ge=0, le=_LARGEST, description="so many, if a refusal said that they are many")
    index: str | None = Field(default=None, pattern=_NAME, description="with `confirmed`: the name of their index")


class TakeBack(_Request):
    """Make records undecided again that were to stay behind."""

    records: Names | Literal["all"]


class Erase(_Request):
    """Erase a creator with all twins, or one twin, everywhere."""

    creator: str = Field(pattern=_NAME)
    twin: str | None = Field(default=None, pattern=_NAME)
    indexes: Names | None = Field(default=None, description="look there; default: in those of all jobs")


class GiveUp(_Request):
    """Give up a filling of which nobody can know whether it is over."""

    index: str = Field(pattern=_NAME, description="the index that it fills, as `GET /api/v1/fillings` names it")


class Act(_Answer):
    """An act that was done, as the audit trail has it."""

    act: int | None = Field(description="its number in the audit trail; null: it was so already")
    job: int | None
    did: str | None
    who: str | None
    at: datetime
    facts: dict[str, Any] | None = Field(description="its details; null once an erasure emptied them")


class JobSummary(_Answer):
    """One row of the list of jobs."""

    job: int
    state: State
    reason: str | None
    source_index: str
    target_index: str
    records: int
    done: int
    parked: int
    left_behind: int
    settled: int
    created_by: str
    created_at: datetime


class Jobs(_Answer):
    """All jobs, the newest first."""

    jobs: list[JobSummary]


class Status(_Answer):
    """The progress of a job, why it waits, and what to do next, as `vecfleet status --json`."""

    job: int
    state: State
    rests: bool = Field(description="nothing more happens until somebody acts")
    reason: str | None
    waits: list[str]
    next_steps: list[str]
    step: str
    unit: str
    done: int
    total: int
    percent: float
    cut_over_percent: int
    way_back: str


class PlanSummary(_Answer):
    """A plan file. `trouble` says why it is not a usable plan; then the rest is null."""

    name: str
    digest: str | None
    recipe: str | None
    source_index: str | None
    target_index: str | None
    namespaces: int | None
    records: int | None
    made_at: datetime | None
    trouble: str | None


class Plans(_Answer):
    """The plan files, the newest first."""

    plans: list[PlanSummary]


class Erasure(_Answer):
    """An erasure. Without a `certificate` it is under way, left something, or was interrupted."""

    erasure: int
    certificate: dict[str, Any] | None
    left: list[str] = Field(default=[], description="what is still there, and why")
