"""Commands about existing jobs: `jobs`, `status`. They are typed often, so they load little."""

from collections.abc import Iterable
from typing import Annotated

import typer

from orchestrator.cli.output import JobId, Json, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet
from orchestrator.cli.watching import hoped_for, look, watch
from orchestrator.core.progress import Progress, headline, state_counts
from orchestrator.core.reading import JobRow, Totals, given_up_said, summary
from orchestrator.core.wording import counted, moves_between, with_left_behind
from orchestrator.ledger import index_acts
from orchestrator.ledger import status as job_status


def jobs(as_json: Json = False) -> None:
    """List all jobs, newest first, and the conversions and imports that a later job waits for."""
    with fleet() as parts, parts.database.begin() as connection:
        rows = job_status.every(connection)
        fillings = index_acts.shown(connection)
    steps = [f"vecfleet status {rows[0][0].id}"] if rows else ["vecfleet audit"]
    if as_json:
        begun = [filling.to_json() for filling in fillings]
        say_json({"jobs": [summary(row, totals) for row, totals in rows], "fillings": begun, "next_steps": steps})
        return
    for filling in fillings:
        say(str(filling))
    if rows:
        _say_jobs(rows)
    else:
        say("there are no jobs yet")
    say_next(steps)


def status(
    job: JobId,
    watching: Annotated[bool, typer.Option("--watch", help="Stay until the job rests.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many namespaces.")] = 50,
    as_json: Json = False,
) -> None:
    """Show how far a job is, why it waits, and what to do next. With --watch, 0 only if it reaches its goal."""
    with fleet() as parts:
        if watching:
            state = look(parts, job, namespaces=0).reading.job.state
            watch(parts, job, hoped_for(state), as_json=as_json)
            return
        seen = look(parts, job, namespaces=limit)
    if as_json:
        say_json(seen.to_json())
        return
    _say_status(seen)
    say_next(seen.next_steps)


def _say_jobs(rows: Iterable[tuple[JobRow, Totals]]) -> None:
    say_table(
        (">job", "state", "moves", ">records", ">done", ">parked", "by", "started", "reason"),
        (
            (
                row.id,
                with_left_behind(row.state, totals.left_behind),
                moves_between(row.recipe, *row.sides),
                f"{totals.expected:,}",
                given_up_said(row, totals) or f"{totals.done:,}",
                f"{totals.parked:,}",
                row.created_by,
                f"{row.created_at:%Y-%m-%d %H:%M}",
                row.reason,
            )
            for row, totals in rows
        ),
    )


def _say_status(seen: Progress) -> None:
    say(headline(seen), style="bold")
    totals = seen.reading.totals
    if seen.proof:
        say(f"proven: {seen.proof}")
    if len(totals.namespaces) > 1 or seen.unit != "namespaces":  # otherwise the line above says it
        say(f"namespaces: {state_counts(totals.namespaces)}")
    if seen.reading.since.total:
        say(f"at the targets since: {seen.reading.since}; `vecfleet report {seen.reading.job.id}` names them")
    if totals.erased:
        erased = counted(totals.erased, "record is", "records are")
        say(f"{erased} an erased tenant's: not copied, or gone from the targets again")
    if seen.lag:
        say(f"lag: {seen.lag}")
    if seen.writers:
        say(f"frozen: {seen.writers}")
    for group in seen.reading.reasons:
        say(f"parked: {group}", style="yellow")
    if seen.reading.more_reasons:
        say(f"parked: {seen.reading.more_reasons:,} more reasons: `vecfleet park list {seen.reading.job.id}`")
    for wait in seen.waits:
        say(f"waits: {wait}", style="yellow")
    if seen.namespaces:
        _say_namespaces(seen)


def _say_namespaces(seen: Progress) -> None:
    say_table(
        ("from", "to", "state", ">done", ">parked", ">of", "reason"),
        (
            (
                view.source,
                view.target,
                view.standing,
                f"{view.done:,}",
                f"{view.parked:,}",
                f"{view.expected:,}",
                view.reason,
            )
            for view in seen.namespaces
        ),
    )
    more = sum(seen.reading.totals.namespaces.values()) - len(seen.namespaces)
    if more > 0:
        say(f"… and {more:,} more")
