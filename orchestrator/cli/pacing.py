"""`pace`: how fast the fleet may go, limit by limit, and how fast it goes."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from orchestrator.cli.output import Json, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet
from orchestrator.ledger import dashboards
from orchestrator.ledger.dashboards import Paced
from orchestrator.pace_view import PaceReader, Seen, is_hidden, with_names
from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import JOIN

_COLUMNS = ("limit", "of", ">allowed/s", ">in use/s", ">% of its share", ">booked ahead", ">held for", ">429s in 1 min")


def pace(
    idle: Annotated[bool, typer.Option("--all", help="Also those that nobody used in the last seconds.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, the most held up first.")] = 30,
    as_json: Json = False,
) -> None:
    """Show what each limit allows the fleet now, how much of it is in use, and what was refused. Read-only.

    A limit of a namespace that no job knows (any more) is shown by a digest of its name, as Redis keeps it.
    """
    with fleet() as parts:
        if parts.settings.redis_url is None:
            raise BadInput("REDIS_URL is not set", next_step=JOIN)
        found = PaceReader(parts.settings.redis_url.get_secret_value()).every()
        if found is None:
            raise Unreachable(
                "Redis does not answer: workers keep a small pace of their own", next_step="vecfleet doctor"
            )
        with parts.database.begin() as connection:
            working = dashboards.paced(connection, namespaces=0)
            if any(is_hidden(one.scope) for one in found):
                found = with_names(found, dashboards.places(connection))
    shown = sorted((one for one in found if idle or one.busy), key=_urgency)
    steps = _steps(working, shown)
    if as_json:
        jobs = [{"job": job.job_id, "share": job.share} for job in working]
        say_json({"jobs": jobs, "limits": [_json(one) for one in shown[:limit]], "of": len(shown), "next_steps": steps})
        return
    for job in working:
        say(f"job {job.job_id} keeps to {job.share:.0%} of the documented limits")
    if shown:
        say_table(_COLUMNS, [_row(one) for one in shown[:limit]])
        if len(shown) > limit:
            say(f"{limit} of {len(shown):,} are shown")
    else:
        say("no limit was used in the last seconds")
    say_next(steps)


def _urgency(one: Seen) -> tuple[float, float, float, str, str]:
    """What holds the fleet up comes first: a hold, a cut, a queue for slots."""
    return -one.held_s, one.factor, -one.ahead_s, one.name, one.scope


def _row(one: Seen) -> tuple[str, ...]:
    allowed = "" if one.allowed is None else f"{one.allowed:,.1f}"
    held = f"{one.held_s:.1f} s" if one.held_s else ""
    refused = str(one.refused) if one.refused else ""
    return one.name, one.scope, allowed, f"{one.used:,.1f}", f"{one.factor:.0%}", f"{one.ahead_s:.1f} s", held, refused


def _json(one: Seen) -> Mapping[str, Any]:
    return {
        "limit": one.name,
        "scope": one.scope,
        "allowed_per_second": one.allowed,
        "used_per_second": one.used,
        "factor": one.factor,
        "booked_ahead_seconds": one.ahead_s,
        "held_seconds": one.held_s,
        "refused_last_minute": one.refused,
    }


def _steps(working: list[Paced], shown: list[Seen]) -> list[str]:
    if not working:
        return ["vecfleet jobs"]
    job = working[0]
    if any(one.refused for one in shown):
        return [f"vecfleet set {job.job_id} pace {max(job.share / 2, 0.05):g}", f"vecfleet status {job.job_id}"]
    return [f"vecfleet status {job.job_id}", f"vecfleet set {job.job_id} pace SHARE"]
