"""`purge`: let go of what ended jobs needed while they ran."""

import shlex
from typing import Annotated

import typer

from orchestrator.cli.output import Json, Yes, confirm, job_number, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet, who
from orchestrator.core.wording import counted, in_days
from orchestrator.ledger import jobs, retention
from orchestrator.ledger.retention import Ended
from orchestrator.services.purge import LEAST_DAYS
from orchestrator.services.purge import purge as let_go
from vecfleet.errors import Refused

_DAYS = 30.0


def purge(
    older_than: Annotated[
        float, typer.Option(min=LEAST_DAYS, metavar="DAYS", help="Jobs that ended at least so many days ago.")
    ] = _DAYS,
    job: Annotated[int | None, typer.Option(metavar="JOB", parser=job_number, help="Only this one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete ids, digests and batches of jobs that ended; reports, the audit and the way back stay."""
    with fleet() as parts:
        with parts.database.begin() as connection:
            if job is not None:
                jobs.get(connection, job)
            found = retention.ended(connection, older_than, job)
        going = [one for one in found if one.stays is None]
        if as_json:
            if not dry_run and not yes:
                raise Refused("this needs a yes, and --json asks nothing", next_step="add --yes, or --dry-run")
        else:
            _show(found, older_than)
        if dry_run or not going:
            _end(found, {}, _steps(older_than, job, going), as_json=as_json)
            return
        confirm("Delete them?", yes=yes)
        deleted = {one.job_id: let_go(parts.database, one.job_id, who()) for one in going}
    _end(found, deleted, [f"vecfleet report {going[0].job_id}"], as_json=as_json)


def _steps(days: float, job: int | None, going: list[Ended]) -> list[str]:
    """What lets go of just what was shown; where that is nothing, what shows more."""
    only = ["--job", str(job)] if job is not None else []
    if going:
        return [shlex.join(["vecfleet", "purge", "--older-than", f"{days:g}", *only, "--yes"])]
    if days > LEAST_DAYS:
        return [shlex.join(["vecfleet", "purge", "--older-than", f"{LEAST_DAYS:g}", *only, "--dry-run"])]
    return ["vecfleet jobs"]


def _show(found: list[Ended], days: float) -> None:
    if not found:
        say(f"no job that ended {in_days(days)} ago or earlier has anything to let go of")
        return
    rows = [
        (one.job_id, one.state, one.source, f"{one.ended_at:%Y-%m-%d}", f"{one.batches:,}", _size(one), one.stays)
        for one in found
    ]
    say_table((">job", "state", "source", "ended", ">batches", ">ids and digests", "stays, for"), rows)


def _size(one: Ended) -> str:
    return f"{one.bytes / 1e6:,.1f} MB"


def _end(found: list[Ended], deleted: dict[int, int], steps: list[str], *, as_json: bool) -> None:
    if as_json:
        jobs = [
            {
                "job": one.job_id,
                "state": one.state,
                "ended_at": one.ended_at,
                "batches": one.batches,
                "bytes": one.bytes,
                "stays": one.stays,
                "deleted": deleted.get(one.job_id, 0),
            }
            for one in found
        ]
        say_json({"jobs": jobs, "next_steps": steps})
        return
    for job_id, count in deleted.items():
        say(f"job {job_id}: {counted(count, 'batch', 'batches')} deleted; its report and its way back stay")
    say_next(steps)
