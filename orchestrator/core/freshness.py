"""How long a look must wait before a deletion may rest on it. Pure, by the plan's policy and the lag of the stores.

A read may show a namespace as it was up to one freshness wait ago. So what a deletion rests on is read at least one
wait after the last moment at which the plan's policy let an application write to the source:

plan                            the last permitted write to the source
with a cut-over                 the cut-over of all readers, and as long as an application may use a route that it read
                                before: also where writers were stopped, for they begin again with the cut-over
without, writers `freeze`       the start of the job
without, `delta` or `dual`      the moment at which the clean-up was asked for

So a plan with a cut-over keeps its sources for at least `routes_stale_s` + `source_lag_s`, whatever its soak time says.
Clean-up may be asked for before; it deletes nothing until then.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from migrations.plan import Policies


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds, fixed when a job is made: the longest lag of reads at its source and at its target, and the longest
    time for which an application may use a route that it read."""

    source_lag_s: float = 0.0
    target_lag_s: float = 0.0
    routes_stale_s: float = 0.0


class Dated(Protocol):
    """What a job's row says of its course."""

    @property
    def waits(self) -> Waits: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def cut_over_at(self) -> datetime | None: ...
    @property
    def cleaning_at(self) -> datetime | None: ...
    @property
    def pass_ended_at(self) -> datetime | None: ...


def last_permitted_write(job: Dated, policies: Policies) -> datetime | None:
    """When an application may have written to the source last; None while it still may."""
    if policies.cut_over != "none":
        return None if job.cut_over_at is None else job.cut_over_at + timedelta(seconds=job.waits.routes_stale_s)
    return job.cleaning_at if policies.quiet_passes else job.started_at or job.created_at


def fresh_from(job: Dated, policies: Policies) -> datetime | None:
    """From when on the source reads as it was left by its writers; None while they may still write."""
    last = last_permitted_write(job, policies)
    return None if last is None else last + timedelta(seconds=job.waits.source_lag_s)


def new_side_fresh_from(taken_back_at: datetime, waits: Waits) -> datetime:
    """From when on the new side reads as it was left by applications whose readers were taken back."""
    return taken_back_at + timedelta(seconds=waits.routes_stale_s + waits.target_lag_s)


def next_pass_at(job: Dated) -> datetime | None:
    """When the pass after a quiet one may begin: two quiet passes within one lag would see one moment twice."""
    return None if job.pass_ended_at is None else job.pass_ended_at + timedelta(seconds=job.waits.source_lag_s)
