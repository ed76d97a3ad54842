"""Sentences that say why a job waits, and whether it rests until a person acts. Pure."""

from datetime import datetime, timedelta

from orchestrator.core.following import freezes
from orchestrator.core.freshness import fresh_from, frozen_from, next_pass_at, readable_from
from orchestrator.core.guards import watching
from orchestrator.core.hooks import holding
from orchestrator.core.next_steps import (
    MOVING,
    is_copy,
    moves_readers,
    nobody_works,
    of_a_copy,
    soaks_until,
    taking_back,
)
from orchestrator.core.reading import Reading, Undoing, Waiting
from orchestrator.core.states import JOB_ENDED, JOB_WORKING, JobState
from orchestrator.core.windows import waits_until
from orchestrator.core.wording import POLICY_WAITS, another_plan, counted, duration, not_found_by_readers

_S = JobState


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


def waits_of(reading: Reading, silent_broker: str | None, freshness_wait_s: float | None) -> tuple[str, ...]:
    """Return why the job does not go on at once, a sentence each."""
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
        waits.append(another_plan(reading.conflicting, job.recipe, job.command, taking_back(job)))
    elif job.state is _S.VERIFIED and job.cut_over_percent == 100:
        waits.append("its readers are on the new namespaces already: it is cut over again in a moment")
    elif job.state is _S.VERIFIED and moves_readers(reading) == "operator":
        waits.append(_before_cut_over(reading))
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
    again = f", again in {duration(max((waiting.next_at - now).total_seconds(), 0))}" if waiting.next_at else ""
    return f"{batches}{since}{again}: {kind}{waiting.error_text}"


def _lingering(undoing: Undoing, freshness_wait_s: float | None) -> str:
    which = counted(undoing.lingering, "namespace looks empty and is dropped", "namespaces look empty and are dropped")
    until = ""
    if freshness_wait_s is not None and undoing.since is not None:
        until = f", at {undoing.since + timedelta(seconds=freshness_wait_s):%H:%M:%S %Z}"
    return f"{which} after one more look, once reads cannot lag any more{until}"


def _before_cut_over(reading: Reading) -> str:
    if reading.watched_until:
        return (
            f"the {reading.job.cut_over_percent} % of the readers that moved are watched until "
            f"{reading.watched_until:%Y-%m-%d %H:%M:%S %Z}; then a person decides when the others follow"
        )
    said = f"a person decides when readers move to the new namespaces ({reading.job.cut_over_percent} % so far)"
    if is_copy(reading):
        said = "a person decides whether both sides stay, or readers move to the new namespaces"
    watch = watching(reading.job.policies)
    return f"{said}; {watch}" if watch else said


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
        until = readable_from(job, job.policies)
        what = "reads may not show yet what was written before the freeze; the job starts then"
        if (frozen := frozen_from(job)) is not None and now < frozen:
            until, what = frozen, "clients may still write by routes from before the freeze"
    elif job.state is _S.CLEANING:
        until = fresh_from(job, job.policies)
        what = "nothing is deleted before reads show the last write that the sources may have had"
    elif job.state is _S.COPIED and 0 < job.quiet_passes < job.policies.quiet_passes:
        until = next_pass_at(job)
        what = "the next pass begins when reads show the writes that the last pass may have missed"
    elif job.state is _S.ROLLING_BACK and reading.undoing is not None:
        until = reading.undoing.not_before
        what = "nothing is taken back before reads show what was written last"
    else:
        return []
    return [f"{what}: at {until:%H:%M:%S %Z}"] if until is not None and now < until else []
