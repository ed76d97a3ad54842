"""The progress of a job for people: its share done, its speed, and why it waits. Pure.

The terminal, `--json` and the web page show this one view.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.core.following import freezes, in_step_as_of, of_lag, of_writers
from orchestrator.core.freshness import fresh_from, frozen_from, next_pass_at
from orchestrator.core.hooks import holding
from orchestrator.core.model import Move
from orchestrator.core.next_steps import MOVING, moves_readers, next_steps, nobody_works, of_a_copy, soaks_until
from orchestrator.core.reading import Reading, Undoing, Waiting
from orchestrator.core.states import JOB_ENDED, JOB_WORKING, JobState, MoveState
from orchestrator.core.windows import waits_until
from orchestrator.core.wording import (
    POLICY_WAITS,
    another_plan,
    counted,
    duration,
    not_found_by_readers,
    spoken,
    with_left_behind,
)

_S = JobState


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
        return with_left_behind(self.state, self.left_behind)

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
        waits=_waits(reading, None if broker_answers else broker, freshness_wait_s),
        next_steps=next_steps(reading),
        namespaces=tuple(_namespace(move) for move in reading.page),
    )


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


def rests(reading: Reading) -> bool:
    """Say whether the job does nothing more until a person acts."""
    job = reading.job
    if job.state in JOB_ENDED | {_S.NEEDS_ATTENTION, _S.PAUSED} or _policy_held(reading):
        return True
    if job.state is _S.VERIFIED:
        by_whom = moves_readers(reading)
        by_whom = job.policies.clean_up if by_whom == "none" else by_whom
        return by_whom == "operator" and job.cut_over_percent < 100
    return job.state is _S.CUT_OVER and job.policies.clean_up == "operator"


def _policy_held(reading: Reading) -> bool:
    """Say whether a hook, or the lack of a second person, holds what the plan would do next. It asks no more."""
    job = reading.job
    waits = (job.reason or "").startswith(POLICY_WAITS) and job.state in (_S.VERIFIED, _S.CUT_OVER)
    return waits and holding(job.reason) is not None


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


def _waits(reading: Reading, silent_broker: str | None, freshness_wait_s: float | None) -> tuple[str, ...]:
    job = reading.job
    waits: list[str] = []
    if job.state in MOVING:
        if not reading.led:
            waits.append("no dispatcher is running: nothing new starts")
        if silent_broker is not None:
            waits.append(f"{silent_broker} does not answer, or takes nothing: workers cannot be woken")
        elif nobody_works(reading):
            waits.append(_untaken(reading.unanswered))
        waits += _closed(reading)
        waits += _freshness(reading)
        waits += [_said(waiting, reading.now) for waiting in reading.waiting]
        if reading.undoing is not None and reading.undoing.lingering:
            waits.append(_lingering(reading.undoing, freshness_wait_s))
    elif job.state is _S.NEEDS_ATTENTION and reading.conflicting:
        waits.append(another_plan(reading.conflicting, job.id))
    elif job.state is _S.VERIFIED and moves_readers(reading) == "operator":
        waits.append(f"a person decides when readers move to the new namespaces ({job.cut_over_percent} % so far)")
        if reading.totals.left_behind:
            waits.append(not_found_by_readers(reading.totals.left_behind))
    elif not _policy_held(reading) and (
        job.state is _S.CUT_OVER or (job.state is _S.VERIFIED and moves_readers(reading) == "none")
    ):
        waits.append(_before_clean_up(reading))
    return tuple(waits)


def _untaken(batches: int) -> str:
    due = "batch that is due" if batches == 1 else f"{batches:,} batches that are due"
    return (
        f"no worker takes the {due}: none runs, or `vecfleet doctor` names a queue or a rate limit that is in the way"
    )


def _closed(reading: Reading) -> list[str]:
    """Say until when no batch begins, because the maintenance window is closed."""
    job = reading.job
    opens = waits_until(job.policies.window, job.begins_until, reading.now) if job.policies.window else None
    if opens is None:
        return []
    return [
        f"{'new batches wait' if reading.leased else 'it waits'} for its window ({job.policies.window}), opens at "
        f"{opens:%Y-%m-%d %H:%M %Z}; `vecfleet set {job.id} hours 2` lets batches begin at once, for two hours",
        *(["until then, too, its plan keeps writers out of its sources"] if freezes(job) else []),
    ]


def _said(waiting: Waiting, now: datetime) -> str:
    batches = "1 batch waits" if waiting.batches == 1 else f"{waiting.batches} batches wait"
    kind = "" if waiting.error_class == "Waiting" else f"{waiting.error_class}: "
    since = f", tried since {waiting.since:%H:%M:%S %Z}" if waiting.since else ""
    again = f", again in {max((waiting.next_at - now).total_seconds(), 0):.0f} s" if waiting.next_at else ""
    return f"{batches}{since}{again}: {kind}{waiting.error_text}"


def _lingering(undoing: Undoing, freshness_wait_s: float | None) -> str:
    which = counted(undoing.lingering, "namespace looks empty and is dropped", "namespaces look empty and are dropped")
    until = ""
    if freshness_wait_s is not None and undoing.since is not None:
        until = f", at {undoing.since + timedelta(seconds=freshness_wait_s):%H:%M:%S %Z}"
    return f"{which} after one more look, once reads cannot lag any more{until}"


def _before_clean_up(reading: Reading) -> str:
    job = reading.job
    if copy := of_a_copy(job):
        return copy
    by_whom = "a person decides when the old is deleted" if job.policies.clean_up == "operator" else "clean-up follows"
    soaked = soaks_until(job, reading.now)
    return f"the soak time lasts until {soaked:%Y-%m-%d %H:%M:%S %Z}; then {by_whom}" if soaked else by_whom


def _freshness(reading: Reading) -> list[str]:
    """Say which work waits until reads show the last write, and until when."""
    job, now = reading.job, reading.now
    until: datetime | None
    if job.state in JOB_WORKING and job.lands_by is not None and now < job.lands_by:
        until, what = job.lands_by, "calls sent before commits were lost may still take effect; work goes on after that"
    elif job.state in (_S.COPIED, _S.CANCELLING) and reading.landing is not None and now < reading.landing:
        until, what = reading.landing, "an upsert that was not answered may still take effect; targets are checked then"
    elif job.state is _S.PLANNED:
        until, what = frozen_from(job), "clients may still write by routes from before the freeze; the job starts then"
    elif job.state is _S.CLEANING:
        until = fresh_from(job, job.policies)
        what = "nothing is deleted before reads show the last write that the sources may have had"
    elif job.state is _S.COPIED and 0 < job.quiet_passes < job.policies.quiet_passes:
        until = next_pass_at(job)
        what = "the next pass begins when reads show the writes that the last pass may have missed"
    else:
        return []
    return [f"{what}: at {until:%H:%M:%S %Z}"] if until is not None and now < until else []


def _namespace(move: Move) -> NamespaceView:
    return NamespaceView(
        source=move.source,
        target=move.to or "several namespaces",
        state=move.state,
        reason=move.reason,
        expected=move.listed if move.listed_all else max(move.listed, move.planned),
        done=move.done,
        settled=move.settled,
        parked=move.parked,
        left_behind=move.left_behind,
        deleted=move.deleted,
    )


def state_counts(namespaces: Mapping[MoveState, int]) -> str:
    """Return the counts as text, for example `12 copying, 3 copied`."""
    return ", ".join(f"{namespaces[state]} {state.replace('_', ' ')}" for state in MoveState if namespaces.get(state))
