"""The progress of a job for people: its share done, its speed, what it waits for. Pure.

The terminal, `--json` and the web page show this one view.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.following import in_step_as_of, of_lag, of_writers
from orchestrator.core.model import Move
from orchestrator.core.next_steps import next_steps
from orchestrator.core.reading import JobRow, Reading, Totals, Undoing
from orchestrator.core.states import JOB_WORKING, CheckState, JobState, MoveState
from orchestrator.core.waiting import waits_of
from orchestrator.core.windows import waits_until
from orchestrator.core.wording import (
    after_clean_up,
    counted,
    duration,
    numbered,
    spoken,
    with_left_behind,
)

_S = JobState
_PROVEN = frozenset({_S.VERIFIED, _S.CUT_OVER, _S.CLEANING, _S.CLEANED, _S.FINISHED})


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """One move: `done` of `expected` records need nothing more; `deleted` are those deleted from the source."""

    source: str
    target: str
    state: MoveState
    reason: str | None
    expected: int
    done: int
    settled: int
    parked: int
    left_behind: int
    deleted: int

    @property
    def standing(self) -> str:
        """Return the state, and how many records the state does not cover."""
        return with_left_behind(self.state, self.left_behind, self.parked)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "target": self.target,
            "state": self.state,
            "reason": self.reason,
            "listed": self.expected,
            "done": self.done,
            "settled": self.settled,
            "parked": self.parked,
            "left_behind": self.left_behind,
            "deleted": self.deleted,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """A job as people see it. `done` and `total` count `unit`s of the present `step`.

    `rate` is in units a second since an earlier reading, or else since the start. `eta_seconds` covers this step only;
    None if the step does not advance. `waits` are sentences.
    """

    reading: Reading
    step: str
    unit: str
    done: int
    total: int
    rate: float | None
    eta_seconds: float | None
    waits: tuple[str, ...]
    next_steps: tuple[str, ...]
    namespaces: tuple[NamespaceView, ...]

    @property
    def percent(self) -> float:
        return 100.0 * self.done / self.total if self.total else 0.0

    @property
    def writers(self) -> str | None:
        """Say who obeys the freeze of the sources; None if they are not frozen."""
        return of_writers(self.reading)

    @property
    def lag(self) -> str | None:
        """Say how far the targets are behind sources whose writers go on."""
        return of_lag(self.reading)

    @property
    def proof(self) -> str | None:
        """Say what verdicts that hold have proven; None while there are none, or once the job was taken back."""
        return proof(self.reading)

    @property
    def way_back(self) -> str | None:
        """Return how the job is taken back from its present state; None if it was."""
        return way_back(self.reading.job, self.reading.totals)

    @property
    def whole_percent(self) -> int:
        """Return the share in whole per cent: 100 only once every unit is done."""
        return round(self.percent) if self.done >= self.total else min(round(self.percent), 99)

    def to_json(self) -> dict[str, Any]:
        job, totals, as_of = self.reading.job, self.reading.totals, in_step_as_of(self.reading)
        return {
            "job": job.id,
            "state": job.state,
            "reason": job.reason,
            "waits": list(self.waits),
            "next_steps": list(self.next_steps),
            "source_index": job.source,
            "target_index": job.target,
            "step": self.step,
            "unit": self.unit,
            "done": self.done,
            "total": self.total,
            "percent": round(self.percent, 1),
            "rate_per_second": None if self.rate is None else round(self.rate, 1),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
            "records": {
                "planned": totals.planned,
                "listed": totals.listed,
                "done": totals.done,
                "settled": totals.settled,
                "written": totals.written,
                "identical": totals.identical,
                "gone": totals.gone,
                "parked": totals.parked,
                "left_behind": totals.left_behind,
                "erased": totals.erased,
                "deleted": totals.deleted,
            },
            "namespaces_by_state": dict(sorted(totals.namespaces.items())),
            "targets_by_check": dict(sorted(self.reading.targets.items())),
            "parked": {
                "undecided_records": self.reading.undecided,
                "batches": self.reading.parked_batches,
                "reasons": [group.to_json() for group in self.reading.reasons],
                "more_reasons": self.reading.more_reasons,
            },
            "changed_since": {
                "removed": self.reading.since.removed,
                "changed": self.reading.since.changed,
                "added": self.reading.since.added,
            },
            "cut_over_percent": job.cut_over_percent,
            "in_step": {
                "as_of": None if as_of is None else as_of.isoformat(),
                "lag_seconds": None if as_of is None else round((self.reading.now - as_of).total_seconds(), 1),
            },
            "writers": {
                "policy": job.policies.writers,
                "said": self.writers,
                "clients": [group.to_json() for group in self.reading.clients],
            },
            "levers": {"window": job.batch_window, "pace": job.pace_share},
            "way_back": job.way_back,
            "namespaces": [view.to_json() for view in self.namespaces],
        }


def progress(
    reading: Reading,
    earlier: Reading | None = None,
    *,
    broker_answers: bool = True,
    broker: str = "Redis",
    freshness_wait_s: float | None = None,
) -> Progress:
    """Return the view of a reading. With an `earlier` reading, the rate covers the time between the two.

    `freshness_wait_s`: how long a read may lag, by the settings of this process. None: unknown, so the view shows no
    end time.
    """
    step, unit, done, total = _step(reading)
    rate, eta = _speed(reading, earlier, done, total)
    return Progress(
        reading=reading,
        step=step,
        unit=unit,
        done=done,
        total=total,
        rate=rate,
        eta_seconds=eta,
        waits=waits_of(reading, None if broker_answers else broker, freshness_wait_s),
        next_steps=next_steps(reading),
        namespaces=tuple(_namespace(move) for move in reading.page),
    )


def proof(reading: Reading) -> str | None:
    """Say what verdicts that hold have proven; None where nothing is. Terminal, page and report say this."""
    job, totals, targets = reading.job, reading.totals, reading.targets.get(CheckState.VERIFIED, 0)
    if not targets or job.state not in _PROVEN:
        return None
    records = counted(totals.written + totals.identical, "record was", "records were")
    how = "listed at" if job.policies.verify == "ids" else "read back from"
    found = "all were there" if job.policies.verify == "ids" else "found equal"
    return f"{records} {how} {counted(targets, 'target namespace', 'target namespaces')} and {found}"


def way_back(job: JobRow, totals: Totals) -> str | None:
    """Return how the job is taken back from its present state; None if it was. The page and the report show this."""
    match job.state:
        case _S.ROLLED_BACK:
            return None
        case _S.FINISHED:
            return f"`vecfleet {'plan reverse' if job.cut_over_percent else 'rollback'} {job.id}`"
        case _S.CLEANED if totals.erased and not totals.written + totals.identical:
            return "none: nothing that it moved is left, and erased records do not come back"
        case _S.CLEANED:
            after = after_clean_up(job.way_back, job.id)
            return after + ("; erased records do not come back" if totals.erased else "")
        case _ if job.cut_over_percent:
            undo = f"`vecfleet rollback {job.id}`"
            return numbered(job.way_back, job.id).replace(undo, f"`vecfleet reverse {job.id}`, then {undo}")
        case _:
            return numbered(job.way_back, job.id)


def headline(seen: Progress) -> str:
    """Return the job in one line."""
    job, reading = seen.reading.job, seen.reading
    # Repeat neither the state nor 100 %: `job 1 verified: 30 of 30 namespaces`.
    step = "" if seen.step.startswith(spoken(job.state)) else f"{seen.step} "
    percent = f" ({seen.whole_percent} %)" if seen.done < seen.total else ""
    state = with_left_behind(job.state, reading.totals.left_behind)
    parts = [f"job {job.id} {state}: {step}{seen.done:,} of {seen.total:,} {seen.unit}{percent}"]
    if seen.rate is not None and (job.state is JobState.RUNNING or round(seen.rate)):
        parts.append(f"{seen.rate:,.0f}/s")
    if seen.eta_seconds is not None:
        parts.append(f"ETA {duration(seen.eta_seconds)}")
    if reading.totals.parked:
        parts.append(f"parked: {counted(reading.totals.parked, 'record', 'records')}")
    if reading.parked_batches and not (job.reason or "").endswith("parked"):  # else the reason says so already
        parts.append(counted(reading.parked_batches, "batch failed", "batches failed"))
    if job.reason:
        parts.append(job.reason)
    return " · ".join(parts)


def _step(reading: Reading) -> tuple[str, str, int, int]:
    job, totals, targets = reading.job, reading.totals, reading.targets
    doing = job.resume_to if job.state in (_S.PAUSING, _S.PAUSED, _S.NEEDS_ATTENTION) else job.state
    namespaces = sum(totals.namespaces.values())
    match doing:
        case _S.COPIED | _S.VERIFIED | _S.CUT_OVER | _S.FINISHED:
            judged = sum(n for state, n in targets.items() if state not in ("waiting", "checking"))
            judged -= reading.empty_targets
            return "verifying" if doing is _S.COPIED else "verified", "namespaces", judged, sum(targets.values())
        case _S.CLEANING | _S.CLEANED:
            step = "cleaning up" if doing is _S.CLEANING else "cleaned up"
            return step, "namespaces", totals.namespaces.get(MoveState.CLEANED, 0), namespaces
        case _S.ROLLING_BACK if reading.undoing is not None:
            return _undoing(reading.undoing)
        case _S.ROLLING_BACK | _S.ROLLED_BACK:
            return "rolled back", "namespaces", totals.namespaces.get(MoveState.ROLLED_BACK, 0), namespaces
        case _:
            step = "copied" if doing in (_S.CANCELLING, _S.CANCELLED) else "copying"
            return step, "records", totals.done, totals.expected


def _undoing(undoing: Undoing) -> tuple[str, str, int, int]:
    """Return the three steps of a rollback as one count, which only grows, and the name of the present step."""
    steps = (undoing.compared, undoing.undone, undoing.dropped)
    names = ("comparing what was written", "removing it", "dropping empty namespaces")
    step = next((name for name, (done, total) in zip(names, steps, strict=True) if done < total), names[-1])
    return step, "steps", sum(done for done, _ in steps), sum(total for _, total in steps)


def _speed(reading: Reading, earlier: Reading | None, done: int, total: int) -> tuple[float | None, float | None]:
    job = reading.job
    if job.state not in JOB_WORKING:
        return None, None
    if earlier is not None and earlier.job.state is job.state and earlier.now < reading.now:
        seconds = (reading.now - earlier.now).total_seconds()
        rate = max(0.0, (done - _step(earlier)[2]) / seconds)
        if job.state is not _S.RUNNING and reading.left:
            by_batches = (earlier.left - reading.left) / seconds
            return rate, reading.left / by_batches if by_batches > 0 else None
    elif job.state is _S.RUNNING and job.started_at is not None:
        rate = done / max((reading.now - job.started_at).total_seconds(), 0.001)
    else:
        return None, None
    if waits_until(job.policies.window, job.begins_until, reading.now) is not None:
        return rate, None
    to_do = total - done
    if job.state is _S.RUNNING:
        to_do -= reading.totals.parked + reading.totals.left_behind
    return rate, to_do / rate if rate > 0 and to_do > 0 else None


def _namespace(move: Move) -> NamespaceView:
    return NamespaceView(
        source=move.source,
        target=move.to or "several namespaces",
        state=move.state,
        reason=move.reason,
        expected=move.listed if move.listed_all else max(move.listed, move.planned),
        done=0 if move.state is MoveState.ROLLED_BACK else move.done,
        settled=move.settled,
        parked=move.parked,
        left_behind=move.left_behind,
        deleted=move.deleted,
    )


def state_counts(namespaces: Mapping[MoveState, int]) -> str:
    """Return the counts as text, for example `12 copying, 3 copied`."""
    return ", ".join(f"{namespaces[state]} {state.replace('_', ' ')}" for state in MoveState if namespaces.get(state))
