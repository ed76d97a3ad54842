"""Jobs, moves and targets as the job table may describe them, for decisions that are tested as tables."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from job_table import INDEX, plan_of, planned

from migrations.plan import Policies
from orchestrator.core.deciding import JobSnapshot
from orchestrator.core.model import Job, Move, Target
from orchestrator.core.reading import RollBackProgress
from orchestrator.core.states import BatchKind, BatchState, JobState, MoveState

J = JobState
NOW = datetime(2026, 2, 11, 12, tzinfo=UTC)
JOB = Job(
    id=1,
    state=J.RUNNING,
    resume_to=None,
    reason=None,
    plan=plan_of(planned("s", "t")),
    source=INDEX,
    target=INDEX,
    way_back="roll back",
    salt="salt",
    created_by="ana",
    created_at=NOW,
    started_at=NOW,
    verified_at=None,
    cut_over_at=None,
    cleaning_at=None,
    pass_ended_at=None,
    ended_at=None,
    cut_over_percent=0,
    batch_window=48,
    pace_share=0.5,
    budget_factor=1.5,
    repairs=0,
    passes=1,
    passes_ended=1,
    passes_allowed=5,
    quiet_passes=0,
    changed_records=None,
    missing_allowed=None,
    source_lag_s=0.0,
    target_lag_s=0.0,
    routes_stale_s=0.0,
)
HOUR = timedelta(hours=1)
MOVE = Move(
    id=1,
    job_id=1,
    seq=1,
    source="s",
    to="t",
    creator="ana",
    twin="s",
    prefix="",
    state=MoveState.VERIFIED,
    reason=None,
    planned=10,
    last_id="r9",
    page_token=None,
    listed_all=True,
    batches=1,
    open_batches=0,
    listed=10,
    written=6,
    identical=1,
    gone=1,
    parked=0,
    left_behind=2,
    erased=0,
    deleted=0,
    clean_mode=None,
    proof_lsn=None,
)
TARGET = Target(
    id=1,
    job_id=1,
    namespace="t",
    creator="ana",
    twin="s",
    authority="source",
    prepared=True,
    created_by_us=True,
    checks_ids=False,
    held_before=0,
    held_before_digest=0,
    sequence=3,
    check_state="verified",
    open_checks=0,
    check_sequence=3,
    check_level=None,
    lsn=None,
    verdict={},
    verdict_at=NOW - HOUR,
    last_write_at=NOW - 2 * HOUR,
    lands_by=None,
    missing_allowed=None,
)
NOTHING_TO_UNDO = RollBackProgress(compares=0, not_undone=0, drops=0, droppable=0, changed=0)
Batches = Mapping[tuple[BatchKind, BatchState], int]


def snapshot(
    state: JobState,
    *,
    batches: Batches | None = None,
    moves: Mapping[MoveState, int] | None = None,
    targets: Mapping[str, int] | None = None,
    policies: Policies | None = None,
    roll_back: RollBackProgress | None = NOTHING_TO_UNDO,
    undecided: int = 0,
    void: tuple[int, ...] = (),
    differing: int = 0,
    over_budget: str | None = None,
    readers_moved: bool = False,
    may_write: bool = False,
    **job: Any,
) -> JobSnapshot:
    return JobSnapshot(
        job=replace(JOB, state=state, **job),
        policies=policies or Policies(),
        moves=moves or {},
        batches=batches or {},
        undecided=undecided,
        targets=targets or {},
        void=void,
        differing=differing,
        over_budget=over_budget,
        readers_moved=readers_moved,
        roll_back=roll_back,
        may_write=may_write,
    )
