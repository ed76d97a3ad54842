"""Sentences about the applications that follow the routes of a job: by clients that asked for them, and when. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from migrations.plan import Plan
from orchestrator.core.reading import ClientGroup, JobRow, Reading
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.core.wording import counted, duration

# Clients ask every few seconds. Whoever has not asked for as long has stopped, or has lost the routes.
_ASKS_WITHIN = timedelta(minutes=5)
# Stores that our clients do not write to: a name there says nothing of an index of the same name.
WITHOUT_CLIENTS = ("parquet", "pgvector", "pgvector-other")
_S = JobState
# A deletion of a job that is being cancelled may still land.
_GIVEN_UP = JOB_ENDED | {_S.ROLLING_BACK}


def freezes(job: JobRow) -> bool:
    """Say whether a job keeps its sources frozen now, as its plan says, inside its maintenance window and outside."""
    going_back = job.resume_to is _S.ROLLING_BACK and job.state in (_S.PAUSING, _S.PAUSED, _S.NEEDS_ATTENTION)
    return job.policies.writers == "freeze" and job.state not in _GIVEN_UP and not going_back


def of_plan(plan: Plan) -> str | None:
    """Say what will keep writers off the sources of a plan, and what a person does. None: they go on."""
    if plan.policies.writers != "freeze":
        return None
    if plan.source.store in WITHOUT_CLIENTS:
        return "nothing here keeps them off such a source: stop them yourself, before `vecfleet apply`"
    return (
        "from `vecfleet apply` on, clients that ask for the routes refuse writes to the sources; stop all other "
        "writers yourself, before it"
    )


def of_writers(reading: Reading) -> str | None:
    """Say who obeys the freeze of a job's sources, and who is for a person to stop. None: they are not frozen."""
    if not freezes(reading.job):
        return None
    if reading.job.source_store in WITHOUT_CLIENTS:
        return "no client writes to such a source by the routes: nobody is kept from it but by you"
    asking = _asking(reading.clients, reading.now)
    obeying, older = (sum(group.processes for group in asking if group.freezes is new) for new in (True, False))
    if not obeying and not older:
        return f"in name alone: no application follows the routes{_last(reading)}, so stop the writers yourself"
    said = f"{counted(obeying, 'client refuses', 'clients refuse')} writes to the sources (last asked {_ago(reading)})"
    if older:
        versions = counted(older, "client of an earlier version does", "clients of an earlier version do")
        said += f"; {versions} not: stop what they write, or bring them up to date"
    return f"{said}; an application that does not ask for the routes is for you to stop"


def in_step_as_of(reading: Reading) -> datetime | None:
    """Return the moment as of which the targets hold what the sources held; None where writers do not go on.

    That is when the last pass that ended began, less the time by which its reads may have lagged.
    """
    job = reading.job
    if job.policies.writers != "delta" or job.as_of is None or job.state in _GIVEN_UP or job.cut_over_percent:
        return None
    return job.as_of - timedelta(seconds=job.source_lag_s)


def of_lag(reading: Reading) -> str | None:
    """Say how far the targets are behind their sources; None where writers do not go on, or readers have moved."""
    as_of = in_step_as_of(reading)
    if as_of is None:
        return None
    but = ", but for what is parked or was left behind" if reading.totals.parked + reading.totals.left_behind else ""
    ago = duration((reading.now - as_of).total_seconds())
    return f"the targets hold what the sources held at {as_of:%H:%M:%S %Z}, {ago} ago{but}"


def of_readers(clients: Sequence[ClientGroup], now: datetime) -> str:
    """Say who follows a move of readers."""
    following = sum(group.processes for group in _asking(clients, now))
    if not following:
        return "no client asks for the routes: point your applications to where their records are now"
    follows = counted(following, "client that asks for the routes follows", "clients that ask for the routes follow")
    return f"{follows} within ROUTES_CACHE_SECONDS; an application that does not ask for them follows nothing"


def anybody_follows(reading: Reading) -> bool:
    """Say whether any application asks for the routes, so that a cut-over moves its readers."""
    return bool(_asking(reading.clients, reading.now))


def _asking(clients: Sequence[ClientGroup], now: datetime) -> list[ClientGroup]:
    return [group for group in clients if now - group.seen_at < _ASKS_WITHIN]


def _last(reading: Reading) -> str:
    return f" (the last one did {_ago(reading)})" if reading.clients else ""


def _ago(reading: Reading) -> str:
    newest = max(group.seen_at for group in reading.clients)
    return f"{duration(max((reading.now - newest).total_seconds(), 0))} ago"
