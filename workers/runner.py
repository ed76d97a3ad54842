"""The life of a batch in a worker: lease → work → settle. The one place where an error becomes a decision.

The lease and every result go through the fence. A worker that finds the fence shut records nothing, with one exception:
it raises the write sequence of targets that it may have written to meanwhile, so that they are checked again.
"""

import random
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa
import structlog

from orchestrator.core import retrying
from orchestrator.core.model import Deletion, Finding, Job, Lease
from orchestrator.core.retrying import Again, Park, PauseJob, Split
from orchestrator.core.states import JOB_PAUSABLE, QUEUES, BatchKind
from orchestrator.ledger import batches, checks, cleanup, copies, jobs, leasing, moves, passes
from orchestrator.ledger.database import Database
from orchestrator.queue import TASKS, kinds_of
from orchestrator.services import acts, late_writes
from orchestrator.telemetry import tracing
from vecfleet.errors import BadInput, BadPlan, NotFound, Refused, StoreError, Unreachable, VecfleetError
from vecfleet.stores.base import IndexInfo, Usage
from workers import (
    checking,
    cleaning,
    copying,
    erasure_check,
    listing,
    outcomes,
    querying,
    surveying,
    unchanged,
    undoing,
)
from workers.embedding import embeddings_of
from workers.lane import Lane
from workers.leases import Held, Leaving
from workers.outcomes import Outcome
from workers.process import WorkerProcess
from workers.work import Later, LeaseLost, NotProven, NotWhole, Work

# A wake-up costs some milliseconds, as much as the batch of a small namespace. So a worker goes on with further batches
# until it has worked this many records, or for this time, because other jobs wait for its thread. The time is enough
# for some batches, even if sixteen threads share two cores and a batch takes a quarter of a second.
_WORTH_A_WAKE_UP = 1_000
_LONG_ENOUGH_S = 2.0

log = structlog.get_logger("vecfleet.worker")


class Watcher(Protocol):
    """An observer that shows people the batches of a wake-up, one after the other. Nothing depends on it."""

    def began(self, lease: Lease) -> None: ...

    def ended(self, lease: Lease, outcome: Outcome) -> None: ...


def run(
    process: WorkerProcess,
    batch_id: int,
    generation: int,
    queues: Collection[str] = QUEUES,
    watcher: Watcher | None = None,
) -> None:
    """Work one wake-up and, if its batch was done quickly or waits, further due batches of the same `queues`.

    A stale wake-up is a cheap no-op. Safe to call twice, and from two processes at once: each batch has its own lease,
    and nothing else is shared. If the process dies between two batches, the dispatcher sends wake-ups for due batches.
    """
    began, records, kinds = time.monotonic(), 0, kinds_of(queues)
    seconds = process.settings.lease_seconds
    taken = _taken(process, lambda connection: leasing.lease(connection, batch_id, generation, process.owner, seconds))
    if taken is not None and taken[0].kind is not BatchKind.COPY:
        kinds -= {BatchKind.COPY}  # copies follow only copies
    while taken is not None and _work_on(process, *taken, watcher):
        lease, job = taken
        records += _records(lease)
        if process.is_ending or records >= _WORTH_A_WAKE_UP or time.monotonic() - began >= _LONG_ENOUGH_S:
            return
        taken = _taken(
            process,
            lambda connection, job_id=job.id: leasing.lease_next(connection, job_id, kinds, process.owner, seconds),  # type: ignore[misc]
        )


def _taken(process: WorkerProcess, take: Callable[[sa.Connection], Lease | None]) -> tuple[Lease, Job] | None:
    """Return a lease and its job; None if no batch is due. Requeue the batch if this version cannot read the job."""
    lease = None
    try:
        with process.database.once() as connection:
            lease = take(connection)
            return (lease, process.job(connection, lease)) if lease is not None else None
    except BadPlan as error:
        assert lease is not None, "it is the job of a lease that cannot be read"
        _give_back(process, lease, error)
        return None


def _give_back(process: WorkerProcess, lease: Lease, error: BadPlan) -> None:
    """Requeue the batch. While a fleet is updated, a worker of another version may be able to read the plan."""
    name, text = retrying.describe(error)
    log.error("this worker cannot read the plan of a job", job=lease.job_id, batch=lease.id, why=text)
    decision = retrying.decide(error, attempts=lease.attempts, size=1, jitter=random.random())
    assert isinstance(decision, Again), "whoever cannot read a job decides nothing about its batches"
    with process.database.begin() as connection:
        batches.requeue(
            connection,
            lease,
            after_seconds=decision.after_seconds,
            error_class=name,
            error_text=text,
            usage=Usage(),
            busy_ms=0,
            spend_attempt=decision.spends_attempt,
        )


def _records(lease: Lease) -> int:
    """Return how many records a batch works on; 0 if that is unknown."""
    return lease.size or (lease.move.planned if lease.move is not None else 0)


def _work_on(process: WorkerProcess, lease: Lease, job: Job, watcher: Watcher | None) -> bool:
    """Work on the batch, put its outcome on record, and say whether its worker may take another one."""
    if watcher is not None:
        watcher.began(lease)
    with _told_of(lease), _traced(lease) as note, process.holder.holding(lease) as held:
        outcome = _outcome(process, held, job)
        note(outcome=str(outcome.state))
    if watcher is not None:
        watcher.ended(lease, outcome)
    return outcome.goes_on


def _outcome(process: WorkerProcess, held: Held, job: Job) -> Outcome:
    """Work on the batch, put its outcome on record, and return the outcome."""
    try:
        work = _work(process, held, job)
    except (BadInput, StoreError) as error:
        return _cannot_begin(process, held.lease, error)
    started = time.monotonic()
    try:
        counts = _STEPS[held.lease.kind](work, lambda: int((time.monotonic() - started) * 1_000))
    except LeaseLost:
        log.warning("the lease was lost; nothing was recorded")
        _note_late_writes(work)
        return outcomes.LEASE_LOST
    except Exception as error:  # noqa: BLE001 - the edge: every error becomes a decision in the job table
        return _settle_failure(work, error, int((time.monotonic() - started) * 1_000))
    return outcomes.done(held.lease, counts, time.monotonic() - started)


def _told_of(lease: Lease) -> AbstractContextManager[object]:
    """Add the job, namespace and batch to every log line while this batch is worked on."""
    namespace = lease.move.source if lease.move else lease.target.namespace if lease.target else None
    return structlog.contextvars.bound_contextvars(
        job=lease.job_id, namespace=namespace, batch=lease.id, kind=str(lease.kind), attempt=lease.attempts
    )


def _traced(lease: Lease) -> AbstractContextManager[tracing.Note]:
    name = TASKS[lease.kind][0]
    return tracing.span(name, job=lease.job_id, batch=lease.id, attempt=lease.attempts, records=lease.size)


def _work(process: WorkerProcess, held: Held, job: Job) -> Work:
    deadline = process.settings.request_deadline_seconds

    policies = job.plan.policies
    sends_texts = policies.embedding is not None and policies.embedding.integrated

    def lane(store: str, info: IndexInfo, *, for_texts: bool = False) -> Lane:
        index = process.index(store, info, encoded_ids=policies.encoded_ids, for_texts=for_texts)
        return Lane(index, process.pace, process.counters, job.pace_share, held, deadline)

    return Work(
        database=process.database,
        settings=process.settings,
        held=held,
        job=job,
        source=lane(job.plan.source.store, job.source),
        target=lane(job.plan.target.store, job.target, for_texts=sends_texts),
        router=process.router(job),
        counters=process.counters,
        embeddings=embeddings_of(process, held, job),
        texts=process.texts(policies.embedding),
    )


def _cannot_begin(process: WorkerProcess, lease: Lease, error: BadInput | StoreError) -> Outcome:
    """Requeue the batch and pause the job with the reason: this worker lacks a key or an index, the batch is sound."""
    name, text = process.describe(error)
    log.error("this worker cannot begin; the job pauses", error=name, why=_why(error, text))
    with process.database.begin() as connection:
        batches.requeue(
            connection,
            lease,
            after_seconds=0,
            error_class=name,
            error_text=text,
            usage=Usage(),
            busy_ms=0,
            spend_attempt=False,
        )
    _pause_job(process.database, lease, text)
    return outcomes.pausing(lease, outcomes.told_by(error, text))


Busy = Callable[[], int]
Counts = dict[str, object]


def _list(work: Work, busy_ms: Busy) -> Counts:
    if not unchanged.begin_reading(work):
        with work.database.begin() as connection:
            passes.leave_unread(connection, work.lease, work.usage, busy_ms())
        return {}
    rest = listing.list_namespace(work)
    if rest is not None:
        rest.end(work, busy_ms())
        return {"listed": rest.found}
    with work.database.once() as connection:
        cleanup.finish(connection, work.lease, {}, work.usage, busy_ms())
    return {}


def _copy(work: Work, busy_ms: Busy) -> Counts:
    outcome = copying.copy_batch(work)
    with work.database.once() if copies.ends_alone(work.lease, outcome) else work.database.begin() as connection:
        copies.finish_copy(connection, work.lease, outcome, work.usage, busy_ms())
    return outcomes.copied(outcome)


def _check(step: Callable[[Work], tuple[Counts, list[Finding]]]) -> Callable[[Work, Busy], Counts]:
    def run_check(work: Work, busy_ms: Busy) -> Counts:
        result, findings = step(work)
        with work.database.begin() if findings else work.database.once() as connection:
            checks.finish(connection, work.lease, result, findings, work.usage, busy_ms())
        return result

    return run_check


def _remove(step: Callable[[Work], Counts]) -> Callable[[Work, Busy], Counts]:
    def run_removal(work: Work, busy_ms: Busy) -> Counts:
        result = step(work)
        with work.database.once() as connection:
            cleanup.finish(connection, work.lease, result, work.usage, busy_ms())
        return result

    return run_removal


_STEPS: dict[BatchKind, Callable[[Work, Busy], Counts]] = {
    BatchKind.LIST: _list,
    BatchKind.COPY: _copy,
    BatchKind.VERIFY: _check(checking.verify_batch),
    BatchKind.SURVEY: _check(surveying.survey_target),
    BatchKind.QUERY: _check(querying.ask_both_sides),
    BatchKind.RECHECK: _remove(cleaning.recheck_batch),
    BatchKind.CLEAR: _remove(cleaning.clear_namespace),
    BatchKind.REMOVE: _remove(cleaning.remove_batch),
    BatchKind.COMPARE: _remove(undoing.compare_batch),
    BatchKind.UNDO: _remove(undoing.undo_batch),
    BatchKind.DROP: _remove(undoing.drop_namespace),
}


def _note_late_writes(work: Work) -> None:
    """Put late writes and deletions on record, and delete late records of erased tenants.

    A restored job table may lack the job. The records of erased tenants are deleted even then.
    """
    if work.source.deletion is not Deletion.UNSENT:
        try:
            late_writes.note_late_deletion(work.database, work.lease)
        except (NotFound, Unreachable) as error:
            log.error("a late deletion is not on record", why=error.message)
    if not work.wrote:
        return
    try:
        late_writes.note_late_write(work.database, work.lease, sorted(work.wrote))
    except (NotFound, Refused, Unreachable) as error:
        log.error("a late write stays", why=error.message)
    try:
        erasure_check.take_away(work)
    except (StoreError, Unreachable) as error:
        log.error(
            "a late write of an erased tenant may stay: run `vecfleet forget` again", why=_why(error, error.message)
        )


def _settle_failure(work: Work, error: Exception, busy_ms: int) -> Outcome:
    """Decide and put the decision on record. If even that fails, the lease expires and the batch is leased again."""
    try:
        return _act_on(work, error, busy_ms)
    except LeaseLost:
        _note_late_writes(work)
        return outcomes.LEASE_LOST
    except Unreachable as unreachable:
        log.warning(
            "the failure is not on record; the batch is retried once its lease expires", why=unreachable.message
        )
        return outcomes.UNRECORDED


def _act_on(work: Work, error: Exception, busy_ms: int) -> Outcome:
    lease, usage = work.lease, work.usage

    def requeue(seconds: float, error_class: str, text: str, *, spend_attempt: bool) -> None:
        with work.database.begin() if work.target.unanswered else work.database.once() as connection:
            batches.requeue(
                connection,
                lease,
                after_seconds=seconds,
                error_class=error_class,
                error_text=text,
                usage=usage,
                busy_ms=busy_ms,
                spend_attempt=spend_attempt,
                deletion=work.deletion,
                lands_within_s=_lands_within_s(work),
            )
            _note_unanswered(connection, work)

    if isinstance(error, Leaving):
        requeue(0, "Released", "its worker was told to stop", spend_attempt=False)
        return outcomes.again("its worker was told to stop", 0)
    if isinstance(error, Later):
        requeue(error.seconds, "Waiting", error.why, spend_attempt=False)
        return outcomes.later(error.why, error.seconds)
    if isinstance(error, NotWhole):
        log.warning("a source is not deleted whole", why=error.why)
        with work.database.begin() as connection:
            cleanup.prove_otherwise(connection, lease, error.why, by_ids=error.by_ids, usage=usage, busy_ms=busy_ms)
        return outcomes.again(f"not deleted whole: {error.why}", 0)
    name, text = (type(error).__name__, str(error)) if isinstance(error, NotProven) else retrying.describe(error)
    decision = retrying.decide(error, attempts=lease.attempts, size=_splittable(lease), jitter=random.random())
    why = outcomes.told_by(error, text)
    match decision:
        case Again(seconds, spends_attempt):
            log.warning(
                "batch failed; it is tried again", error=name, why=_why(error, text), again_in_s=round(seconds, 1)
            )
            requeue(seconds, name, text, spend_attempt=spends_attempt)
            return outcomes.again(why, seconds)
        case Split():
            with work.database.begin() as connection:
                copies.split(connection, lease, work.ids, usage, busy_ms)
                _note_unanswered(connection, work)
            return outcomes.SPLIT
        case PauseJob(reason):
            log.error("the job pauses", error=name, why=_why(error, text))
            requeue(0, name, text, spend_attempt=False)
            _pause_job(work.database, lease, reason)
            return outcomes.pausing(lease, why)
        case Park():
            # Our own errors are logged without a traceback, which could quote a service's words about a record.
            unexpected = None if isinstance(error, VecfleetError | NotProven) else error
            log.error("batch parked", error=name, why=_why(error, text), exc_info=unexpected)
            with work.database.begin() as connection:
                copies.park(connection, lease, name, text, usage, busy_ms)
                _note_unanswered(connection, work)
            return outcomes.parked(lease, why)


def _note_unanswered(connection: sa.Connection, work: Work) -> None:
    """Put this attempt's unanswered upserts on record, in the transaction that lets the batch go.

    Call this after the batch's row is written: rows of batches are locked before those of targets.
    """
    if work.target.unanswered:
        for target_id in sorted(work.wrote):
            moves.note_landing(connection, target_id, _lands_within_s(work))


def _lands_within_s(work: Work) -> float:
    return work.lands_within_s(max(work.job.source_lag_s, work.job.target_lag_s))


def _why(error: Exception, text: str) -> str:
    """Return the sentence for the log. A service may quote a record, so its words go to the job table alone."""
    return "`vecfleet status` shows it" if isinstance(error, StoreError) else text


def _pause_job(database: Database, lease: Lease, reason: str) -> None:
    with database.begin() as connection:
        job = jobs.get(connection, lease.job_id, lock=True)
        if job.state in JOB_PAUSABLE:  # else somebody ended the job meanwhile
            acts.pause_in(connection, job, "fleet", reason)


def _splittable(lease: Lease) -> int:
    """Return how many ids can be split; 1 for a batch copied again in part: two batches would not know their part."""
    return lease.size if lease.kind is BatchKind.COPY and lease.rewrite is None else 1
