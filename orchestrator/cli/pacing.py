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
        limits = PaceReader(parts.settings.redis_url.get_secret_value()).every()
        if limits is None:
            raise Unreachable(
                "Redis does not answer: workers keep a small pace of their own", next_step="vecfleet doctor"
            )
        with parts.database.begin() as connection:
            working = dashboards.paced(connection, namespaces=0)
            if any(is_hidden(seen.scope) for seen in limits):
                limits = with_names(limits, dashboards.places(connection))
    shown = sorted((seen for seen in limits if idle or seen.busy), key=_urgency)
    steps = _steps(working, shown)
    if as_json:
        jobs = [{"job": job.job_id, "share": job.share} for job in working]
        say_json(
            {"jobs": jobs, "limits": [_json(seen) for seen in shown[:limit]], "of": len(shown), "next_steps": steps}
        )
        return
    for job in working:
        say(f"job {job.job_id} keeps to {job.share:.0%} of the documented limits")
    if shown:
        say_table(_COLUMNS, [_row(seen) for seen in shown[:limit]])
        if len(shown) > limit:
            say(f"{limit} of {len(shown):,} are shown")
    else:
        say("no limit was used in the last seconds")
    say_next(steps)


def _urgency(seen: Seen) -> tuple[float, float, float, str, str]:
    """Sort first what holds the fleet up: a hold, a cut, a queue for slots."""
    return -seen.held_s, seen.factor, -seen.ahead_s, seen.name, seen.scope


def _row(seen: Seen) -> tuple[str, ...]:
    allowed = "" if seen.allowed is None else f"{seen.allowed:,.1f}"
    held = f"{seen.held_s:.1f} s" if seen.held_s else ""
    refused = str(seen.refused) if seen.refused else ""
    return (
        seen.name,
        seen.scope,
        allowed,
        f"{seen.used:,.1f}",
        f"{seen.factor:.0%}",
        f"{seen.ahead_s:.1f} s",
        held,
        refused,
    )


def _json(seen: Seen) -> Mapping[str, Any]:
    return {
        "limit": seen.name,
        "scope": seen.scope,
        "allowed_per_second": seen.allowed,
        "used_per_second": seen.used,
        "factor": seen.factor,
        "booked_ahead_seconds": seen.ahead_s,
        "held_seconds": seen.held_s,
        "refused_last_minute": seen.refused,
    }


def _steps(working: list[Paced], shown: list[Seen]) -> list[str]:
    if not working:
        return ["vecfleet jobs"]
    job = working[0]
    if any(seen.refused for seen in shown):
        return [f"vecfleet set {job.job_id} pace {max(job.share / 2, 0.05):g}", f"vecfleet status {job.job_id}"]
    return [f"vecfleet status {job.job_id}", f"vecfleet set {job.job_id} pace SHARE"]
