"""`--watch`: show a job until it rests, drawn on a terminal, or as lines elsewhere."""

import time
from collections import deque
from contextlib import ExitStack

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.bootstrap import Fleet
from orchestrator.cli.output import err, out, say, say_json, say_next
from orchestrator.core.next_steps import missing_processes
from orchestrator.core.progress import Progress, headline, progress
from orchestrator.core.reading import Reading
from orchestrator.core.states import PROBE, JobState
from orchestrator.core.waiting import rests
from orchestrator.core.wording import spoken
from orchestrator.ledger import status
from vecfleet.errors import Unreachable, VecfleetError

_LOOK_EVERY_S = 0.25
_RATE_OVER_S = 5.0
# Seconds. Without a terminal: a line at each change, and at least one in this time.
_LINE_EVERY_S = 5.0
_BAR_COLUMNS = 24
_NAME_COLUMNS = 44
_LINES_AROUND_BARS = 8
_BROKER_PATIENCE_S = 0.5
INTERRUPTED = 130

PROVEN = frozenset({JobState.VERIFIED, JobState.CUT_OVER, JobState.CLEANED, JobState.FINISHED})


def hoped_for(state: JobState) -> frozenset[JobState]:
    """Return the states to which a job in this one goes if all is well."""
    if state in (JobState.ROLLING_BACK, JobState.ROLLED_BACK):
        return frozenset({JobState.ROLLED_BACK})
    if state in (JobState.CANCELLING, JobState.CANCELLED):
        return frozenset({JobState.CANCELLED})
    if state is JobState.CLEANING:
        return frozenset({JobState.CLEANED})
    return PROVEN


class NotReached(VecfleetError):
    """The job came to rest elsewhere than was asked for."""


def look(fleet: Fleet, job_id: int, *, namespaces: int, earlier: Reading | None = None) -> Progress:
    """Return the view of a job right now. Raises NotFound, Unreachable."""
    with fleet.database.begin() as connection:
        reading = status.reading(connection, job_id, namespaces=namespaces)
    lag = fleet.settings.freshness_wait_seconds
    answers = rests(reading) or _broker_takes(fleet)
    broker = "Redis" if fleet.settings.broker_url is None else "the broker of BROKER_URL, or Redis,"
    return progress(reading, earlier, broker_answers=answers, broker=broker, freshness_wait_s=lag)


def _broker_takes(fleet: Fleet) -> bool:
    """Say whether Redis takes a write, and RabbitMQ a message: a full one still answers reads."""
    if fleet.settings.redis_url is None:
        return True  # nothing to check: this command does not know the broker
    if fleet.settings.broker_url is not None and not _takes_messages(fleet):
        return False
    import redis  # a fifth of what `status` loads, and of no use for a job that rests

    url = fleet.settings.redis_url.get_secret_value()
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=_BROKER_PATIENCE_S, socket_timeout=_BROKER_PATIENCE_S
        ) as client:
            client.set(PROBE, 1, px=1_000)
    except redis.RedisError:
        return False
    return True


def _takes_messages(fleet: Fleet) -> bool:
    from orchestrator.queue import require_broker

    try:
        require_broker(fleet.celery)
    except Unreachable:
        return False
    return True


def watch(fleet: Fleet, job_id: int, wanted: frozenset[JobState], *, as_json: bool = False) -> None:
    """Show the job until it rests. Raises NotReached where it rests in none of the `wanted` states.

    Ctrl-C ends only the watching; the job goes on. With `as_json` it is silent until the end, then prints one document.
    """
    try:
        last = _until_it_rests(fleet, job_id, silent=as_json)
    except KeyboardInterrupt:
        err.print(f"\nThe job goes on without this terminal.\nnext: vecfleet status {job_id} --watch", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    job = last.reading.job
    if as_json:
        say_json(last.to_json())
    if job.state not in wanted:
        hoped = next(state for state in JobState if state in wanted)
        outcome = "it needs attention" if job.state is JobState.NEEDS_ATTENTION else f"it is {spoken(job.state)}"
        raise NotReached(
            f"job {job.id} is not {spoken(hoped)}: {outcome}" + (f": {job.reason}" if job.reason else ""),
            next_step="\n  or: ".join(last.next_steps),
        )
    if not as_json:
        say_next(last.next_steps)


def _until_it_rests(fleet: Fleet, job_id: int, *, silent: bool) -> Progress:
    seen = look(fleet, job_id, namespaces=_room())
    history = deque([seen.reading])
    with ExitStack() as stack:
        show = _say_nothing if silent else _drawn(stack).show if out.is_terminal else _Lines().show
        show(seen, None)
        while not rests(seen.reading):
            time.sleep(_LOOK_EVERY_S)
            try:
                seen = look(fleet, job_id, namespaces=_room(), earlier=history[0])
            except Unreachable as error:
                show(seen, error.message)
                continue
            history.append(seen.reading)
            while (seen.reading.now - history[0].now).total_seconds() > _RATE_OVER_S:
                history.popleft()
            show(seen, None)
    return seen


def _room() -> int:
    return max(out.size.height - _LINES_AROUND_BARS, 3)


def _say_nothing(seen: Progress, trouble: str | None) -> None:
    pass


class _Drawn:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, seen: Progress, trouble: str | None) -> None:
        self._live.update(draw(seen, trouble), refresh=True)


def _drawn(stack: ExitStack) -> _Drawn:
    return _Drawn(stack.enter_context(Live(console=out, auto_refresh=False)))


class _Lines:
    """Print a line when something changed, or after a long silence."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()
        self._said_at = float("-inf")

    def show(self, seen: Progress, trouble: str | None) -> None:
        job = seen.reading.job
        now = time.monotonic()
        missing = missing_processes(seen.reading)
        view = (job.state, job.reason, bool(seen.waits), missing, trouble)
        if view == self._last and now - self._said_at < _LINE_EVERY_S:
            return
        self._last, self._said_at = view, now
        say(headline(seen))
        for wait in (*seen.waits, *([trouble] if trouble else [])):
            say(f"  waits: {wait}")
        say_next(missing)


def draw(seen: Progress, trouble: str | None = None) -> Group:
    """Draw the whole view: a bar for each of the most telling namespaces, totals, and why anything waits."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for view in seen.namespaces:
        done = view.deleted if seen.step == "cleaning up" else view.done
        grid.add_row(
            Text(_shortened(view.source)),
            ProgressBar(total=max(view.expected, 1), completed=done, width=_BAR_COLUMNS),
            Text(f"{done:,}/{view.expected:,}", justify="right"),
            Text(str(view.state), style="red" if view.reason else ""),
        )
    whole = Table.grid()
    whole.add_row(ProgressBar(total=max(seen.total, 1), completed=seen.done, width=_BAR_COLUMNS + _NAME_COLUMNS))
    more = sum(seen.reading.totals.namespaces.values()) - len(seen.namespaces)
    return Group(
        grid,
        *([Text(f"… and {more:,} more", style="dim")] if more > 0 else []),
        Text(headline(seen), style="bold"),
        whole,
        *(Text(f"waits: {wait}", style="yellow") for wait in (*seen.waits, *([trouble] if trouble else []))),
        *(Text(f"next: {step}", style="bold") for step in missing_processes(seen.reading)),
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_COLUMNS else f"{name[: _NAME_COLUMNS - 1]}…"
