"""The earliest time of a read that a deletion may trust, from the plan's policy and the lag of the stores. Pure.

A read may show a namespace as it was up to one freshness wait ago. So a deletion trusts only reads at least one wait
after the last permitted write to the source. The plan's policy sets that moment:

plan                            the last permitted write to the source
with a cut-over                 the cut-over of all readers, plus the time for which an application may use an older
                                route; also if writers were stopped, because they start again with the cut-over
without, writers `freeze`       the making of the job, or the time from which no client may use a route from before
                                the freeze any more
without, `delta` or `dual`      the moment at which the clean-up was asked for, plus the same time: the routes of a
                                reverse plan, and of `dual`, change with the clean-up

A plan without a cut-over counts as one with it once a person cut its job over.
Where writers go on, or readers move, the sources therefore stay for at least `routes_stale_s` + `source_lag_s`,
whatever the soak time is. A clean-up may be asked for earlier; it deletes nothing until then.

A job that freezes its sources reads them once. So it starts one freshness wait after that moment (`readable_from`):
what it reads is what was written last, and its verdict covers that, too.

The routes say from the job's first commit on that its sources are frozen. Where a client may hold older ones the moment
is later: `frozen_from`, when the last has let go of them. A client writes by routes for `routes_stale_s` after it asked
for them, neither sends nor acknowledges anything by older ones, and stands in the job table before it is answered. So a
write in flight when the freeze begins is either acknowledged before that moment, and the job reads it, or refused. A
person stops applications that do not ask for the routes, before the job is applied.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from migrations.plan import Policies

_FIRST_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits in seconds, fixed when a job is made.

    They are the longest lag of reads at the source, the same at the target, and the longest time for which an
    application may use a route.
    """

    source_lag_s: float = 0.0
    target_lag_s: float = 0.0
    routes_stale_s: float = 0.0


class Dated(Protocol):
    """The times in a job's row."""

    @property
    def waits(self) -> Waits: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def frozen_at(self) -> datetime | None: ...
    @property
    def cut_over_at(self) -> datetime | None: ...
    @property
    def cleaning_at(self) -> datetime | None: ...
    @property
    def pass_ended_at(self) -> datetime | None: ...


def last_permitted_write(job: Dated, policies: Policies) -> datetime | None:
    """Return the last time at which an application may have written to the source; None while it still may."""
    without = policies.cut_over == "none" and job.cut_over_at is None
    if without and not policies.quiet_passes:
        return frozen_from(job) or job.created_at
    moved_at = job.cleaning_at if without else job.cut_over_at
    return None if moved_at is None else moved_at + timedelta(seconds=job.waits.routes_stale_s)


def frozen_from(job: Dated) -> datetime | None:
    """Return the time from which no client that follows the routes writes to the sources; None: none ever did."""
    return None if job.frozen_at is None else job.frozen_at + timedelta(seconds=job.waits.routes_stale_s)


def readable_from(job: Dated, policies: Policies) -> datetime | None:
    """Return the time from which a job may read its sources; None: at once, because later passes read them again."""
    if policies.quiet_passes:
        return frozen_from(job)
    return (frozen_from(job) or job.created_at) + timedelta(seconds=job.waits.source_lag_s)


def fresh_from(job: Dated, policies: Policies) -> datetime | None:
    """Return the time from which reads show the source's last write; None while writers may still write."""
    last = last_permitted_write(job, policies)
    return None if last is None else last + timedelta(seconds=job.waits.source_lag_s)


def next_look_s(since_s: float, lag_s: float, *, often: bool) -> float:
    """Return the seconds until the next look for a deletion that was answered `since_s` ago.

    `often`: look soon and then ever later, because most lag is short. Otherwise look once, when reads must show the
    deletion: a large job has other work meanwhile.
    """
    left = max(lag_s - since_s, _FIRST_LOOK_S)
    return min(left, max(_FIRST_LOOK_S, since_s)) if often else left


def new_side_fresh_from(taken_back_at: datetime, waits: Waits) -> datetime:
    """Return the time from which reads show the last write to the new side after readers were taken back."""
    return taken_back_at + timedelta(seconds=waits.routes_stale_s + waits.target_lag_s)


def both_sides_fresh_from(asked_at: datetime, waits: Waits) -> datetime:
    """Return the time from which reads show what was written to either side until a person asked for the rollback.

    From a job's end on both sides are free: applications write and delete there, and stop before it is taken back.
    """
    return asked_at + timedelta(seconds=max(waits.source_lag_s, waits.target_lag_s))


def reading_shows(seen_at: datetime | None, read_at: datetime | None, lag_s: float) -> bool:
    """Say whether a reading that began at `read_at` shows every write up to the newest one seen at `seen_at`.

    Each read may lag by itself: that one look showed a write does not mean that the next read does.
    """
    return seen_at is not None and read_at is not None and read_at >= seen_at + timedelta(seconds=lag_s)


def next_pass_at(job: Dated) -> datetime | None:
    """Return the earliest start of the pass after a quiet one. Two passes within one lag would see the same moment."""
    return None if job.pass_ended_at is None else job.pass_ended_at + timedelta(seconds=job.waits.source_lag_s)
