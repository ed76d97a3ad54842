"""The maintenance window of a job: the hours of a day in which alone its batches begin. Pure; the caller has the clock.

A window is read on the clock of its zone. Where clocks are put back, an hour that comes twice belongs to the window
both times; where they are put forward, an hour that is skipped counts as the one after it.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from migrations.window import Window

# Days to look ahead: the only window that a day can lack is one inside an hour that clocks skip.
_DAYS_AHEAD = 3
_A_DAY = timedelta(days=1)


def closes_at(window: Window, now: datetime) -> datetime | None:
    """Return when the window closes that is open now; None where none is."""
    return next((closes for opens, closes in _openings(window, now) if opens <= now < closes), None)


def opens_at(window: Window, now: datetime) -> datetime:
    """Return when the next window opens, after now, by the clock of its zone."""
    opening = next(opens for opens, _ in _openings(window, now) if opens > now)
    return opening.astimezone(ZoneInfo(window.zone))


def waits_until(window: Window | None, begins_until: datetime | None, now: datetime) -> datetime | None:
    """Return when the batches of a job may begin again; None where they may begin now.

    `begins_until`: the moment on record until which they may, at the end of a window or of hours that a person gave.
    """
    if window is None or closes_at(window, now) is not None or (begins_until is not None and now < begins_until):
        return None
    return opens_at(window, now)


def _openings(window: Window, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Return the windows around now, each from when until when, in order."""
    today = now.astimezone(ZoneInfo(window.zone)).date()
    for days in range(-1, _DAYS_AHEAD):
        opens, closes = _opening(window, today + days * _A_DAY)
        if opens < closes:
            yield opens, closes


def _opening(window: Window, day: date) -> tuple[datetime, datetime]:
    """Return the ends of a day's window, in UTC: times of one zone compare as its clock reads, which may go back."""
    zone = ZoneInfo(window.zone)
    opens, closes = time.fromisoformat(window.opens), time.fromisoformat(window.closes)
    last = day if closes > opens else day + _A_DAY
    ends = [datetime.combine(last, closes.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1)]
    return datetime.combine(day, opens, zone).astimezone(UTC), max(ends)
