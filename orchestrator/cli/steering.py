"""Commands that change a job. Each calls one function of `services`; those that destroy show what, and ask first."""

from enum import StrEnum
from math import isfinite, nan
from typing import Annotated, cast

import typer

from migrations.plan import Level
from orchestrator.bootstrap import Fleet
from orchestrator.cli.output import JobId, Yes, confirm, say, say_next, say_table
from orchestrator.cli.session import fleet, who
from orchestrator.cli.watching import PROVEN, hoped_for, look, watch
from orchestrator.core.following import of_readers
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.core.wording import (
    after_clean_up,
    counted,
    given_up,
    leading,
    not_found_by_readers,
    to_be_dropped,
)
from orchestrator.ledger import jobs, moves
from orchestrator.ledger.routes import JobRoute
from orchestrator.services import acts, counts, refusals
from orchestrator.services import cut_over as cutting_over
from vecfleet.errors import BadInput

Whole = Annotated[bool, typer.Option("--whole", help="Also read sources without a write since the last pass.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay until it is done; 0 only if it is.")]


def _show_next(parts: Fleet, job: int) -> None:
    say_next(look(parts, job, namespaces=0).next_steps)


def _go_on(parts: Fleet, job: int, *, watching: bool) -> None:
    """Show what is next, or watch the job until it is where it was on its way to."""
    if watching:
        watch(parts, job, hoped_for(look(parts, job, namespaces=0).reading.job.state))
    else:
        _show_next(parts, job)


class What(StrEnum):
    FAILED = "failed"
    PARKED = "parked"
    ALL = "all"


def retry(
    job: JobId,
    what: Annotated[What, typer.Argument(help="Parked batches, parked records, or both.")],
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", help="Only this parked batch, by its number in `park list`; may be repeated."),
    ] = None,
    watching: Watch = False,
) -> None:
    """Run parked batches again, and only those; or copy parked records again."""
    if batch and what is not What.FAILED:
        raise BadInput("--batch names parked batches", next_step=f"`vecfleet retry {job} failed --batch {batch[0]}`")
    with fleet() as parts:
        count = acts.retry(parts.database, job, who(), what, batch or None)
        say(f"job {job}: {counted(count, 'batch was', 'batches were')} released to run again")
        _go_on(parts, job, watching=watching)


class VerifyLevel(StrEnum):
    COUNT = "count"
    IDS = "ids"
    CONTENT = "content"
    QUERY = "content+query"


def verify(
    job: JobId,
    level: Annotated[
        VerifyLevel | None, typer.Option(help="How thoroughly (default: as the plan says). A count is only a hint.")
    ] = None,
    watching: Watch = False,
) -> None:
    """Check every target again: list it, read its records back and, if asked, compare queries with its sources."""
    with fleet() as parts:
        if level is VerifyLevel.COUNT:
            _count(parts, job)
            return
        count = acts.verify(parts.database, job, who(), cast(Level | None, level.value if level else None))
        say(f"job {job}: {counted(count, 'target is', 'targets are')} checked again")
        if watching:
            watch(parts, job, PROVEN)
        else:
            _show_next(parts, job)


def _count(parts: Fleet, job: int) -> None:
    """Show how many records the service counts at the targets. Changes neither a verdict nor the job."""
    targets = counts.counts(parts, job)
    say_table(
        (("namespace"), ">expected", ">counted"),
        ((target.namespace, target.expected, target.counted) for target in targets),
    )
    differing = sum(target.expected != target.counted for target in targets)
    say(
        f"{differing:,} of {len(targets):,} targets count differently from what was written; "
        "counts lag, and prove nothing"
    )
    say_next([f"vecfleet verify {job} --level ids" if differing else f"vecfleet status {job}"])
    if differing or not targets:
        raise typer.Exit(1)


def another_pass(job: JobId, whole: Whole = False, watching: Watch = False) -> None:
    """Read the sources once more, if the plan lets writers go on; skip sources without a new write."""
    with fleet() as parts:
        number = acts.another_pass(parts.database, job, who(), whole=whole)
        say(f"job {job}: pass {number} begins")
        if watching:
            watch(parts, job, PROVEN)
        else:
            _show_next(parts, job)


def per_cent(word: str) -> int:
    """Read a share of twins as it was typed. Raises BadInput for what is no whole number."""
    try:
        return int(word)
    except ValueError as error:
        raise BadInput(
            f"{word!r} is not a share of twins: it is a whole number of per cent",
            next_step="give one from 1 to 100, such as --percent 25",
        ) from error


def cut_over(
    job: JobId,
    percent: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=per_cent,
            help="Per cent of the twins whose readers move: a whole number from 1 to 100, such as 25.",
        ),
    ],
) -> None:
    """Move the readers of some per cent of the twins, and their aliases, to the new namespaces. `reverse` undoes it.

    From 25 per cent on they are watched for the plan's --dwell-seconds before others follow.
    """
    with fleet() as parts:
        reading = look(parts, job, namespaces=0).reading
        left_behind = reading.totals.left_behind
        say(f"job {job}: {_sides(cutting_over.cut_over(parts, job, who(), percent))}")
        if left_behind:
            say(not_found_by_readers(left_behind), style="yellow")
        say(of_readers(reading.clients, reading.now))
        _show_next(parts, job)


def reverse(job: JobId) -> None:
    """Move all readers back to the old namespaces."""
    with fleet() as parts:
        say(f"job {job}: {_sides(cutting_over.reverse(parts, job, who()))}")
        seen = look(parts, job, namespaces=0)
        if seen.writers:
            say(f"the old namespaces stay frozen until `vecfleet rollback {job}` or `vecfleet finish {job}`")
        _show_next(parts, job)


def _sides(routes: list[JobRoute]) -> str:
    return leading([route.side for route in routes], sum(len(route.aliases) for route in routes))


def clean_up(
    job: JobId,
    by_ids: Annotated[
        bool, typer.Option("--by-ids", help="Delete record by record, even if a whole namespace could go.")
    ] = False,
    yes: Yes = False,
    watching: Watch = False,
) -> None:
    """Delete the old namespaces; read every record on both sides once more right before."""
    with fleet() as parts:
        with parts.database.begin() as connection:
            row = jobs.get(connection, job)
            refusals.clean_up(connection, row)
            sources = moves.of_job(connection, job)
        say(f"This deletes from the index {row.plan.source.typed} what job {job} copied and verified:")
        say_table(
            ("namespace", ">records", "how"),
            ((move.source, f"{move.written:,}", _how(by_ids or move.keeps_some)) for move in sources),
        )
        say(f"way back: {after_clean_up(row.way_back, row.id)}")
        confirm("Delete them?", yes=yes)
        acts.clean_up(parts.database, job, who(), by_ids=by_ids)
        say(f"job {job}: clean-up has begun")
        if watching:
            watch(parts, job, frozenset({JobState.CLEANED}))
        else:
            _show_next(parts, job)


def _how(by_ids: bool) -> str:
    return "record by record" if by_ids else "the whole namespace, if nothing else is in it"


class Changed(StrEnum):
    KEEP = "keep"


def roll_back(
    job: JobId,
    changed: Annotated[
        Changed | None, typer.Option(help="Continue if records changed since they were written, and keep those.")
    ] = None,
    yes: Yes = False,
    watching: Watch = False,
) -> None:
    """Remove what the job wrote, before clean-up, and never what changed since: if anything did, stop first."""
    with fleet() as parts:
        totals = look(parts, job, namespaces=0).reading.totals
        with parts.database.begin() as connection:
            row = jobs.get(connection, job)
            refusals.roll_back(connection, row)
            targets = moves.targets_of_job(connection, job)
        written = counted(totals.written, "record", "records")
        say(
            f"This deletes from the index {row.plan.target.typed} up to {written} that job {job} wrote, "
            f"each only if nobody changed it since, and {to_be_dropped(targets)}"
        )
        if row.state in JOB_ENDED:
            say("stop all writers to either side before you confirm: since the job ended, both are free")
        confirm("Delete them?", yes=yes)
        cutting_over.roll_back(parts, job, who(), changed)
        say(f"job {job}: the rollback has begun")
        if watching:
            watch(parts, job, frozenset({JobState.ROLLED_BACK}))
        else:
            _show_next(parts, job)


def pause(job: JobId) -> None:
    """Start no new batch; those under way finish, then the job is paused."""
    with fleet() as parts:
        acts.pause(parts.database, job, who())
        say(f"job {job} pauses")
        _show_next(parts, job)


def resume(job: JobId, watching: Watch = False) -> None:
    """Continue a paused job where it stopped."""
    with fleet() as parts:
        acts.resume(parts.database, job, who())
        say(f"job {job} goes on")
        _go_on(parts, job, watching=watching)


def cancel(job: JobId, yes: Yes = False) -> None:
    """Give a job up. Its copies stay until `rollback`; it no longer touches any source."""
    with fleet() as parts:
        totals = look(parts, job, namespaces=0).reading.totals
        with parts.database.begin() as connection:
            row = jobs.get(connection, job)
            refusals.cancel(connection, row)
            deleting = refusals.cleaned_any(connection, row)
        say(given_up(job, totals.written, deleting=deleting))
        confirm("Cancel it?", yes=yes)
        acts.cancel(parts.database, job, who())
        say(f"job {job} is being cancelled")
        _show_next(parts, job)


def comment(
    job: JobId, text: Annotated[str, typer.Argument(metavar="TEXT", help="What others should know about this job.")]
) -> None:
    """Comment on a job. The comment appears on its page and in the audit trail, with your name."""
    with fleet() as parts:
        acts.comment(parts.database, job, who(), text)
        say(f"job {job}: your comment is in the audit trail")
        _show_next(parts, job)


def finish(job: JobId) -> None:
    """End a verified job and keep both sides. Nothing is deleted, and other jobs may use its namespaces."""
    with fleet() as parts:
        acts.finish(parts.database, job, who())
        say(f"job {job} is finished: both sides stay, and its namespaces are free for other jobs")
        _show_next(parts, job)


class Lever(StrEnum):
    WINDOW = "window"
    HOURS = "hours"
    PACE = "pace"
    BUDGET = "budget"
    PASSES = "passes"
    MISSING = "missing"
    DOUBT = "doubt"
    WORKERS = "workers"


_TYPICAL = {
    Lever.WINDOW: 24,
    Lever.HOURS: 2,
    Lever.PACE: 0.5,
    Lever.BUDGET: 2,
    Lever.PASSES: 10,
    Lever.MISSING: 20,
    Lever.DOUBT: 0,
    Lever.WORKERS: 4,
}


def _lever_value(job: int, lever: Lever, word: str) -> float:
    """Read the value of a lever as it was typed. Raises BadInput for what is not a number."""
    try:
        number = float(word)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise BadInput(
            f"{word!r} is not a number",
            next_step=f"give one, as in `vecfleet set {job} {lever} {_TYPICAL[lever]}`",
        )
    return number


def set_lever(
    job: JobId,
    lever: Annotated[Lever, typer.Argument(help="What to change.")],
    word: Annotated[str, typer.Argument(metavar="N", help="How many, or how much.")],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE",
            help="With `missing`: confirm the loss for this target only, even if it lost everything.",
        ),
    ] = None,
) -> None:
    """Change how hard a job works while it runs. `workers` is for the stack of `vecfleet up`, for all its jobs."""
    value = _lever_value(job, lever, word)
    with fleet() as parts:
        if lever is Lever.WORKERS and target is None:
            with parts.database.begin() as connection:
                jobs.get(connection, job)
            if value != int(value):
                raise BadInput(f"{value:g} worker processes are not possible", next_step="give a whole number")
            from orchestrator.embedded.scaling import scale  # loads the servers of one machine

            scale(parts.settings.vecfleet_home, int(value))
            say(f"the stack has {counted(int(value), 'worker process', 'worker processes')} now, for all its jobs")
            if not value:
                say_next([f"vecfleet set {job} workers 2"])
                return
        else:
            acts.set_lever(parts.database, job, who(), lever, value, target)
            say(f"job {job}: {lever}{f' at {target}' if target else ''} is now {value:g}")
        _show_next(parts, job)
