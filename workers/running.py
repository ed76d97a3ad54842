"""The life of a batch in a worker: lease → work → settle. The one place where an error becomes a decision.

The lease and every record of the work go through the fence; a worker that finds it shut records nothing, except that
it raises the write sequence of the targets it may have written to meanwhile, so that they are checked again.
"""

import random
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

import sqlalchemy as sa
import structlog

from orchestrator import late_writes, retrying, services
from orchestrator.ledger import batches, checks, copies, jobs, leasing, moves, removals
from orchestrator.ledger.database import Database
from orchestrator.model import Deletion, Finding, Job, Lease
from orchestrator.queue import kinds_of
from orchestrator.retrying import Again, Park, PauseJob, Split
from orchestrator.states import JOB_PAUSABLE, QUEUES, BatchKind
from vecfleet.errors import BadInput, BadPlan, NotFound, Refused, StoreError, Unreachable, VecfleetError
from vecfleet.stores.base import IndexInfo, Usage
from workers import asking, checking, cleaning, copying, fencing, listing, surveying, undoing
from workers.holding import Held, Leaving
from workers.lane import Lane
from workers.process import Process
from workers.work import Fenced, Later, NotProven, NotWhole, Work

# A wake-up costs a worker some milliseconds, which is as much as the batch of a small namespace: it is worth so many
# records. Not more, for what a task does after its first batch, Flower does not show; nor longer, for other jobs wait
# for its thread: long enough for some batches where sixteen threads share two cores, each a quarter of a second.
_WORTH_A_WAKE_UP = 1_000
_LONG_ENOUGH_S = 2.0

log = structlog.get_logger("vecfleet.worker")


def run(process: Process, batch_id: int, generation: int, queues: Collection[str] = QUEUES) -> None:
    """Work one wake-up, and where that was soon done, further batches that the `queues` it serves would have brought.

    A stale one is a cheap no-op. Safe to call twice, and from two processes at once: each batch has its own lease, and
    nothing else is shared. Dies between two batches: the dispatcher sends what is due.
    """
    began, records, kinds = time.monotonic(), 0, kinds_of(queues)
    seconds = process.settings.lease_seconds
    taken = _taken(process, lambda one: leasing.lease(one, batch_id, generation, process.owner, seconds))
    if taken is not None and taken[0].kind is not BatchKind.COPY:
        kinds -= {BatchKind.COPY}  # those follow each other, and who was woken for one: else Flower would show none
    while taken is not None and _work_on(process, *taken):
        lease, job = taken
        records += _records(lease)
        if process.is_ending or records >= _WORTH_A_WAKE_UP or time.monotonic() - began >= _LONG_ENOUGH_S:
            return
        taken = _taken(process, lambda one, of=job.id: leasing.lease_next(one, of, kinds, process.owner, seconds))  # type: ignore[misc]


def _taken(process: Process, take: Callable[[sa.Connection], Lease | None]) -> tuple[Lease, Job] | None:
    """A lease and its job; None where there is none. Where another version made the job the batch goes back."""
    lease = None
    try:
        with process.database.once() as connection:
            lease = take(connection)
            return (lease, process.job(connection, lease)) if lease is not None else None
    except BadPlan as error:
        assert lease is not None, "it is the job of a lease that cannot be read"
        _give_back(process, lease, error)
        return None


def _give_back(process: Process, lease: Lease, error: BadPlan) -> None:
    """While a fleet is brought to a new version, another worker may read what this one cannot."""
    name, text = retrying.explain(error)
    log.error("this worker cannot read the plan of a job", job=lease.job_id, batch=lease.id, why=text)
    decision = retrying.decide(error, attempts=lease.attempts, size=1, jitter=random.random())
    assert isinstance(decision, Again), "whoever cannot read a job decides nothing about its batches"
    with process.database.begin() as connection:
        batches.again(
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
    """How many records a batch is about, as far as it says."""
    return lease.size or (lease.move.planned if lease.move is not None else 0)


def _work_on(process: Process, lease: Lease, job: Job) -> bool:
    """Whether it is done; whatever else became of it is on record."""
    with _told_of(lease), process.holder.holding(lease) as held:
        try:
            work = _work(process, held, job)
        except (BadInput, StoreError) as error:
            _cannot_begin(process, lease, error)
            return False
        started = time.monotonic()
        try:
            _STEPS[lease.kind](work, lambda: int((time.monotonic() - started) * 1_000))
        except Fenced:
            log.warning("the lease was lost; nothing was recorded")
            _note_late_writes(work)
        except Exception as error:  # noqa: BLE001 - the edge: every error becomes a decision in the job table
            _settle_failure(work, error, int((time.monotonic() - started) * 1_000))
        else:
            return True
    return False


def _told_of(lease: Lease) -> AbstractContextManager[object]:
    """What every line of the log says while this batch is worked on."""
    namespace = lease.move.source if lease.move else lease.target.namespace if lease.target else None
    return structlog.contextvars.bound_contextvars(
        job=lease.job_id, namespace=namespace, batch=lease.id, kind=str(lease.kind), attempt=lease.attempts
    )


def _work(process: Process, held: Held, job: Job) -> Work:
    deadline = process.settings.request_deadline_seconds

    def lane(store: str, info: IndexInfo) -> Lane:
        return Lane(process.index(store, info), process.pace, process.counters, job.pace_share, held, deadline)

    return Work(
        database=process.database,
        settings=process.settings,
        held=held,
        job=job,
        source=lane(job.plan.source.store, job.source),
        target=lane(job.plan.target.store, job.target),
        router=process.router(job),
        counters=process.counters,
    )


def _cannot_begin(process: Process, lease: Lease, error: BadInput | StoreError) -> None:
    """This worker lacks a key or an index: no fault of the batch, which goes back. The job pauses and says why."""
    name, text = retrying.explain(error)
    log.error("this worker cannot begin; the job pauses", error=name, why=_why(error, text))
    with process.database.begin() as connection:
        batches.again(
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


Busy = Callable[[], int]


def _list(work: Work, busy_ms: Busy) -> None:
    rest = listing.list_namespace(work)
    with work.database.begin() as connection:
        if rest is not None:
            rest.record(connection, work)
        removals.finish(connection, work.lease, {}, work.usage, busy_ms())


def _copy(work: Work, busy_ms: Busy) -> None:
    outcome = copying.copy_batch(work)
    with work.database.begin() as connection:
        copies.finish_copy(connection, work.lease, outcome, work.usage, busy_ms())


def _check(step: Callable[[Work], tuple[dict[str, object], list[Finding]]]) -> Callable[[Work, Busy], None]:
    def run_check(work: Work, busy_ms: Busy) -> None:
        found, findings = step(work)
        with work.database.begin() if findings else work.database.once() as connection:
            checks.finish(connection, work.lease, found, findings, work.usage, busy_ms())

    return run_check


def _remove(step: Callable[[Work], dict[str, object]]) -> Callable[[Work, Busy], None]:
    def run_removal(work: Work, busy_ms: Busy) -> None:
        found = step(work)
        with work.database.begin() as connection:
            removals.finish(connection, work.lease, found, work.usage, busy_ms())

    return run_removal


_STEPS: dict[BatchKind, Callable[[Work, Busy], None]] = {
    BatchKind.LIST: _list,
    BatchKind.COPY: _copy,
    BatchKind.VERIFY: _check(checking.verify_batch),
    BatchKind.SURVEY: _check(surveying.survey_target),
    BatchKind.QUERY: _check(asking.ask_both_sides),
    BatchKind.RECHECK: _remove(cleaning.recheck_batch),
    BatchKind.CLEAR: _remove(cleaning.clear_namespace),
    BatchKind.REMOVE: _remove(cleaning.remove_batch),
    BatchKind.COMPARE: _remove(undoing.compare_batch),
    BatchKind.UNDO: _remove(undoing.undo_batch),
    BatchKind.DROP: _remove(undoing.drop_namespace),
}


def _note_late_writes(work: Work) -> None:
    """Also where an older copy of the job table lacks the job: what came too late is taken away all the same."""
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
        fencing.take_away(work)
    except (StoreError, Unreachable) as error:
        log.error(
            "a late write of an erased tenant may stay: run `vecfleet forget` again", why=_why(error, error.message)
        )


def _settle_failure(work: Work, error: Exception, busy_ms: int) -> None:
    """Put the decision on record. If even that fails, the lease runs out and the batch comes back by itself."""
    try:
        _decide(work, error, busy_ms)
    except Fenced:
        _note_late_writes(work)
    except Unreachable as unreachable:
        log.warning("the failure is not on record; the lease will run out", why=unreachable.message)


def _decide(work: Work, error: Exception, busy_ms: int) -> None:
    lease, usage = work.lease, work.usage

    def again(seconds: float, error_class: str, text: str, *, spend_attempt: bool) -> None:
        with work.database.begin() as connection:
            batches.again(
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
            _note_landings(connection, work)

    if isinstance(error, Leaving):
        again(0, "Released", "its worker was told to stop", spend_attempt=False)
        return
    if isinstance(error, Later):
        again(error.seconds, "Waiting", error.why, spend_attempt=False)
        return
    if isinstance(error, NotWhole):
        log.warning("a source is not deleted whole", why=error.why)
        with work.database.begin() as connection:
            removals.prove_otherwise(connection, lease, error.why, by_ids=error.by_ids, usage=usage, busy_ms=busy_ms)
        return
    name, text = (type(error).__name__, str(error)) if isinstance(error, NotProven) else retrying.explain(error)
    decision = retrying.decide(error, attempts=lease.attempts, size=_splittable(lease), jitter=random.random())
    match decision:
        case Again(seconds, spends_attempt):
            log.warning(
                "batch failed; it is tried again", error=name, why=_why(error, text), again_in_s=round(seconds, 1)
            )
            again(seconds, name, text, spend_attempt=spends_attempt)
        case Split():
            with work.database.begin() as connection:
                copies.split(connection, lease, work.ids, usage, busy_ms)
                _note_landings(connection, work)
        case PauseJob(reason):
            log.error("the job pauses", error=name, why=_why(error, text))
            again(0, name, text, spend_attempt=False)
            _pause_job(work.database, lease, reason)
        case Park():
            # What we know by name needs no traceback, which could quote what a service said of a record.
            unexpected = None if isinstance(error, VecfleetError | NotProven) else error
            log.error("batch parked", error=name, why=_why(error, text), exc_info=unexpected)
            with work.database.begin() as connection:
                copies.park(connection, lease, name, text, usage, busy_ms)
                _note_landings(connection, work)


def _note_landings(connection: sa.Connection, work: Work) -> None:
    """Put an upsert of this attempt without an answer on record, in the transaction that lets the batch go.

    After the batch: rows of batches are locked before those of targets.
    """
    if work.target.unanswered:
        for target_id in sorted(work.wrote):
            moves.note_landing(connection, target_id, _lands_within_s(work))


def _lands_within_s(work: Work) -> float:
    return work.lands_within_s(max(work.job.source_lag_s, work.job.target_lag_s))


def _why(error: Exception, text: str) -> str:
    """The sentence for the log. What a service says may quote a record: that is for the job table alone."""
    return "`vecfleet status` tells it" if isinstance(error, StoreError) else text


def _pause_job(database: Database, lease: Lease, reason: str) -> None:
    with database.begin() as connection:
        job = jobs.get(connection, lease.job_id, lock=True)
        if job.state in JOB_PAUSABLE:  # one that is being ended meanwhile is not paused
            services.pause_in(connection, job, "fleet", reason)


def _splittable(lease: Lease) -> int:
    """How many ids can be halved; of one that is copied again only some are written, which halves would not know."""
    return lease.size if lease.kind is BatchKind.COPY and lease.rewrite is None else 1
