"""The dispatcher: the small process that keeps the fleet busy. Also the reaper and the timer.

Each tick takes or keeps the lead, lets each live job decide its next step, fills its window, and sends the wake-ups
after the commit. Once a second it also requeues batches whose lease expired or whose wake-up was lost. Two dispatchers
may run and think that they lead: every change is a compare-and-set under the job's row lock. A crash at any line loses
at most wake-ups, which are sent again.
"""

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa
import structlog
from celery import Celery
from sqlalchemy.exc import OperationalError

from orchestrator.core import deciding as d
from orchestrator.core.budget import over_budget
from orchestrator.core.clean_up_guards import proving
from orchestrator.core.deciding import JobSnapshot
from orchestrator.core.hooks import POLICY
from orchestrator.core.model import Job, Wakeup
from orchestrator.core.retrying import MAX_ATTEMPTS
from orchestrator.core.states import JOB_WORKING, CheckState, JobState
from orchestrator.core.verdicts import judge
from orchestrator.core.wording import POLICY_WAITS
from orchestrator.ledger import (
    audit,
    batches,
    check_results,
    checks,
    cleanup,
    clients,
    continuity,
    copies,
    differences,
    doubts,
    jobs,
    leadership,
    moves,
    parked,
    passes,
    rollback,
    routes,
    status,
)
from orchestrator.ledger.audit import Seals
from orchestrator.ledger.continuity import Look
from orchestrator.ledger.database import Database
from orchestrator.queue import kinds_of, send, waiting_by_queue
from orchestrator.services import acts
from orchestrator.services.lost_commits import Remembered, lost
from orchestrator.telemetry.counters import LEASES_EXPIRED, Counters
from vecfleet.errors import Refused, Unreachable
from vecfleet.stores.base import Usage

TICK_S = 0.1
IDLE_TICK_S = 0.3  # between ticks that sent nothing urgent: cheap, and soon enough to see a person's act
# A dead leader is replaced after this long: twice the longest tick seen with 12,000 moves.
LEAD_S = 5.0
# A wake-up that nobody took by then is sent again. A busy fleet drains a window sooner; a duplicate costs one UPDATE.
RESEND_AFTER_S = 15.0
_RESEND_AT_LATEST_S = 300.0  # even while other wake-ups wait: a worker that died may have taken exactly this one
_LONGEST_OUTAGE_WAIT_S = 5.0
_REAP_EVERY_S = 1.0  # leases and lost wake-ups take many seconds
_BUDGET_LOOK_EVERY_S = 5.0  # adding up the cost of every batch reads the whole job
# Deciding a job's next step counts its moves, targets and batches: milliseconds for a small job, most of a second for
# 12,000 namespaces. Resting nine times as long keeps it at a tenth of the time. Every tick still fills the window.
_REST_PER_LOOK = 9.0
_LONGEST_REST_S = 3.0  # a look that waited for a lock took long for another reason
# Added to the rest while the window is full and less than half of it left since the last tick: enough work is there.
_BUSY_REST_S = 1.0

# States that decide whether to cut over or to repair.
_READERS_MATTER = frozenset({JobState.COPIED, JobState.VERIFIED, JobState.CUT_OVER, JobState.NEEDS_ATTENTION})

# Start of the reason of a job that cannot be advanced, and the words before its earlier reason.
_STUCK, _BEFORE = "the dispatcher cannot advance it and keeps trying:", ". Before: "

log = structlog.get_logger("vecfleet.dispatcher")


class Dispatcher:
    """Run the fleet's jobs: `run` ticks until `stop`; `tick` does one round, and tests call it."""

    def __init__(
        self,
        database: Database,
        celery: Celery,
        counted: Counters,
        remembered: Remembered | None = None,
        seals: Seals | None = None,
        lease_s: float = 60.0,
        declare: Callable[[sa.Connection], None] = lambda connection: None,
    ) -> None:
        self.database = database
        self.remembered = remembered or Remembered()
        self.celery = celery
        self.counted = counted
        self.lease_s = lease_s
        self._declare = declare
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{random.randrange(2**32):08x}"
        self.stopping = threading.Event()
        self._hurries = False
        self._reaped = float("-inf")
        self._rests: dict[int, tuple[JobState, float]] = {}  # by job: rest until then, while it stays in this state
        self._busy: set[int] = set()  # jobs with work for a while
        self._in_flight: dict[int, int] = {}  # by job
        self._budget_seen: dict[int, float] = {}
        self._seals = seals or Seals()
        self._not_sealed: str | None = None  # the reason, as logged last

    def run(self) -> None:
        """Tick until stopped. Wait for an unreachable job table; never give up."""
        wait = TICK_S
        while not self.stopping.wait(wait):
            try:
                wait = TICK_S if self.tick() and self._hurries else min(wait * 1.5, IDLE_TICK_S)
            except Unreachable as error:
                wait = min(wait * 2, _LONGEST_OUTAGE_WAIT_S)
                log.warning("job table unreachable", why=error.message, again_in_s=wait)
            except Exception:
                # Another dispatcher may do better; without one, `status` says that no dispatcher leads.
                wait = _LONGEST_OUTAGE_WAIT_S
                log.exception("a tick failed", again_in_s=wait)
                self._resign()
        self._resign()

    def _resign(self) -> None:
        try:
            with self.database.begin() as connection:
                leadership.resign(connection, self.owner)
        except Exception as error:  # noqa: BLE001 - without a resignation the lead ends after LEAD_S
            log.warning("could not resign; the lead runs out by itself", why=type(error).__name__)

    def stop(self) -> None:
        self.stopping.set()

    def tick(self) -> int:
        """Do one round. Return the number of wake-ups sent."""
        with self.database.begin() as connection:
            if not leadership.lead(connection, self.owner, LEAD_S):
                return 0
            look, sequence = self._look_for_losses(connection)
            live = jobs.live(connection)
            acts_wait = audit.waits(connection)
        self.remembered.note(look.lineage, sequence)
        if acts_wait:
            self._seal()
        if not live:
            return 0
        if time.monotonic() >= self._reaped + _REAP_EVERY_S:
            self._reap(live)
            self._reaped = time.monotonic()
        wakeups: list[Wakeup] = []
        self._hurries = False
        try:
            for job_id in live:
                wakeups += self._tended(job_id)
        finally:  # wake-ups of earlier jobs are on record as sent, so send them even if the next job fails
            sent = self._send(wakeups)
        return sent

    def _look_for_losses(self, connection: sa.Connection) -> tuple[Look, int]:
        """Check whether the job table has lost commits; if it has, every live job pauses and says so.

        Declares what an older copy may lack, and approves the server, in one transaction: else the next look does.
        """
        look = continuity.look(connection)
        if self.remembered.knows(look):
            return look, look.sequence
        self._declare(connection)
        highest = self.remembered.highest(look.lineage)
        if (why := lost(look, highest)) is not None:
            log.error("the job table may have lost commits", jobs=doubts.doubt(connection, why, self.lease_s), why=why)
        elif look.server.is_other_timeline_than(look.server_before):
            audit.note(connection, "fleet", "fail-over", None, timeline=look.server.timeline)
        return look, continuity.approve(connection, highest)

    def _seal(self) -> None:
        """Chain what people did since the last seal. Log the head: a writer of the job table cannot change it there."""
        try:
            with self.database.begin() as connection:
                rows, head = audit.seal(connection, self._seals), audit.head(connection)
        except Refused as error:
            if error.message != self._not_sealed:
                log.error("the audit trail is not added to", why=error.message)
            self._not_sealed = error.message
            return
        self._not_sealed = None
        log.info("the audit trail grew", rows=rows, head=head)

    def _tended(self, job_id: int) -> list[Wakeup]:
        """Tend one job. A job that fails does not stop the others; it says so, and the next tick tries it again."""
        try:
            return self._tend(job_id)
        except Unreachable:
            raise
        except Exception as error:
            log.exception("a job cannot be advanced", job=job_id)
            self._say_stuck(job_id, type(error).__name__)
            return []

    def _say_stuck(self, job_id: int, error: str) -> None:
        """Say in the job's reason that it cannot be advanced, and keep its earlier reason. Safe to repeat."""
        with self.database.begin() as connection:
            reason = jobs.reason_of(connection, job_id)
            if not (reason or "").startswith(_STUCK):
                why = f"{_STUCK} {error}; its log has the whole of it{_BEFORE}{reason or ''}"
                jobs.set_reason(connection, job_id, why)

    def _tend(self, job_id: int) -> list[Wakeup]:
        """Let one job take its next step, then fill its window. Once all in flight has landed, do both again."""
        with self.database.begin() as connection:
            job = jobs.get(connection, job_id)
            rests_in, until = self._rests.get(job_id, (None, 0.0))
            until += _BUSY_REST_S if job_id in self._busy else 0.0
            if job.state is not rests_in or time.monotonic() >= until:  # a person's act changes the state
                self._look(connection, job_id)
                job = jobs.get(connection, job_id)
            if (job.reason or "").startswith(_STUCK):  # some dispatcher could advance it again
                jobs.set_reason(connection, job_id, (job.reason or "").partition(_BEFORE)[2] or None)
            if not acts.may_begin(connection, job):
                return []
            wakeups, on_their_way = batches.dispatch(connection, job_id)
        if on_their_way >= job.batch_window and len(wakeups) * 2 < job.batch_window:
            self._busy.add(job_id)
        else:
            self._busy.discard(job_id)
            self._hurries |= bool(wakeups)
        before, self._in_flight[job_id] = self._in_flight.get(job_id, 0), on_their_way
        if before and not on_their_way:  # the next step waits for nothing more, so the job does not rest
            self._rests.pop(job_id, None)
            return self._tend(job_id)
        return wakeups

    def _look(self, connection: sa.Connection, job_id: int) -> None:
        began = time.monotonic()
        look_at_budget = began >= self._budget_seen.setdefault(job_id, began) + _BUDGET_LOOK_EVERY_S
        moved = advance(connection, job_id, look_at_budget=look_at_budget)
        took = time.monotonic() - began
        if look_at_budget:
            self._budget_seen[job_id] = began
        if not moved:  # else the next step may follow at once
            rest = min(took * _REST_PER_LOOK, _LONGEST_REST_S)
            self._rests[job_id] = jobs.get(connection, job_id).state, began + took + rest

    def _reap(self, live: list[int]) -> None:
        """Requeue batches whose lease expired, park those without attempts left, and send overdue wake-ups again."""
        with self.database.begin() as connection:
            expired, exhausted = batches.requeue_expired(connection, live, MAX_ATTEMPTS)
            for batch_id in exhausted:
                _park(connection, batch_id)
            overdue = batches.overdue(connection, live, RESEND_AFTER_S)
        if expired:
            self.counted.note(LEASES_EXPIRED, expired)
        for queue, held in waiting_by_queue(self.celery).items() if overdue else ():
            kinds = kinds_of([queue])
            with self.database.begin() as connection:
                # A queue with a wake-up for each batch lacks none: it would grow faster than a slow worker takes them.
                if held < batches.sent(connection, live, kinds):
                    batches.resend(connection, live, kinds, _RESEND_AT_LATEST_S if held else RESEND_AFTER_S)

    def _send(self, wakeups: list[Wakeup]) -> int:
        try:
            unsent = send(self.celery, wakeups)
        except Exception:
            log.exception("wake-ups cannot be sent")
            unsent = wakeups  # some may be sent: a worker that is woken twice finds the batch taken
        if unsent:
            with self.database.begin() as connection:
                batches.undispatch(connection, unsent)
        return len(wakeups) - len(unsent)


def _park(connection: sa.Connection, batch_id: int) -> None:
    """Park a batch that used up its attempts. A failure is logged and tried again; it does not end the dispatcher."""
    try:
        with connection.begin_nested():
            copies.park_exhausted(connection, batch_id)
    except OperationalError:
        raise
    except Exception:
        log.exception("a batch cannot be parked", batch=batch_id)


def advance(connection: sa.Connection, job_id: int, *, look_at_budget: bool = True) -> bool:
    """Gather, decide, apply: one job, one transaction, under its row lock. Say whether the state changes."""
    job = jobs.get(connection, job_id, lock=True)
    if job.state in (JobState.RUNNING, JobState.COPIED):
        pronounce(connection, job)
    elif job.state is JobState.CLEANING:
        cleanup.settle_cleaned(connection, job_id)
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    commands = d.decide(snapshot(connection, job, look_at_budget=look_at_budget), now)
    for command in commands:
        apply(connection, job, command)
    return any(isinstance(command, d.To) for command in commands)


def pronounce(connection: sa.Connection, job: Job) -> None:
    """Record a verdict for every target whose last check landed; then settle the moves that depend on them."""
    judged = [
        (evidence.target.id, judge(evidence)) for evidence in check_results.judgeable(connection, job.id, proving(job))
    ]
    checks.pronounce(connection, [(id, verdict.state, verdict.evidence) for id, verdict in judged])
    checks.settle_moves(connection, job.id)


def snapshot(connection: sa.Connection, job: Job, *, look_at_budget: bool = True) -> JobSnapshot:
    """Gather the facts that `decide` needs."""
    used = status.used(connection, job.id) if look_at_budget and job.state in JOB_WORKING else Usage()
    return JobSnapshot(
        job=job,
        policies=job.plan.policies,
        moves=moves.counts_by_state(connection, job.id),
        batches=batches.open_by_kind(connection, job.id),
        undecided=parked.undecided(connection, job.id),
        targets=checks.counts_by_state(connection, job.id),
        void=tuple(checks.void_targets(connection, job.id)),
        differing=len(differences.copies_to_repair(connection, job.id)) if job.state is JobState.COPIED else 0,
        changed=passes.changed(connection, job.id) if job.state is JobState.COPIED else 0,
        over_budget=over_budget(job.plan.estimate, job.budget_factor, used),
        landing=job.state is JobState.CANCELLING and batches.any_landing(connection, job.id),
        readers_moved=routes.any_moved(connection, job.id) if job.state in _READERS_MATTER else False,
        roll_back=rollback.roll_back_progress(connection, job.id) if job.state is JobState.ROLLING_BACK else None,
        may_write=_may_write(connection, job),
    )


def _may_write(connection: sa.Connection, job: Job) -> bool:
    freezes = job.state is JobState.PLANNED and job.plan.policies.writers == "freeze"
    return freezes and clients.any_may_write(connection, job.created_at, job.routes_stale_s)


def apply(connection: sa.Connection, job: Job, command: d.Command) -> None:
    match command:
        case d.To(state, reason, resume_to):
            jobs.advance(connection, job.id, job.state, state, reason=reason, resume_to=resume_to)
            if state is JobState.ROLLED_BACK:
                rollback.mark_rolled_back(connection, job.id)
        case d.Freeze():
            jobs.change(connection, job.id, frozen_at=sa.func.clock_timestamp())
        case d.Start():
            moves.start_listing(connection, job.id)
            jobs.change(connection, job.id, pass_began_at=sa.func.clock_timestamp())
        case d.EndPass(quiet):
            quiet_passes = job.quiet_passes + 1 if quiet else 0
            ended = {"pass_ended_at": sa.func.clock_timestamp(), "as_of": job.pass_began_at}
            jobs.change(connection, job.id, passes_ended=job.passes, quiet_passes=quiet_passes, **ended)
        case d.NextPass():
            jobs.change(connection, job.id, passes=job.passes + 1, pass_began_at=sa.func.clock_timestamp())
            passes.begin(connection, job.id)
        case d.CheckTargets():
            checks.begin(connection, job.id, proving(job))
        case d.CheckAgain(target_ids):
            checks.restart(connection, target_ids)
        case d.Repair():
            jobs.change(connection, job.id, repairs=job.repairs + 1)
            mismatched = _mismatched(connection, job)
            copies.reopen(connection, job.id, differences.copies_to_repair(connection, job.id), rewrite="differing")
            checks.restart(connection, mismatched)
        case d.CutOver():
            _by_policy(connection, job, lambda: acts.cut_over_in(connection, job, 100, POLICY))
        case d.CleanUp():
            _by_policy(connection, job, lambda: acts.clean_up_in(connection, job, by_ids=False, who=POLICY))
        case d.AddClears():
            cleanup.add_clears(connection, job.id)
        case d.AddUndos():
            rollback.add_undos(connection, job.id)
        case d.AddDrops():
            rollback.add_drops(connection, job.id)


def _mismatched(connection: sa.Connection, job: Job) -> list[int]:
    """Return the targets that differ and may be repaired."""
    return [
        target.id
        for target in moves.targets_of_job(connection, job.id)
        if target.check_state == CheckState.MISMATCHED and not target.is_authoritative
    ]


def _by_policy(connection: sa.Connection, job: Job, act: Callable[[], object]) -> None:
    """Act for a policy through the guards that a person passes; a refusal becomes the job's reason.

    What the reason said before stays behind it.
    """
    try:
        act()
    except Refused as error:
        reason = job.reason or ""
        before = reason.partition(_BEFORE)[2] if reason.startswith(POLICY_WAITS) else reason
        jobs.set_reason(connection, job.id, f"{POLICY_WAITS}{error.message}" + (f"{_BEFORE}{before}" if before else ""))
