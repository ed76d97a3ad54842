"""`park`: what is set aside, and whether it may stay behind."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from orchestrator.cli.output import JobId, Json, Yes, confirm_by_typing, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet, who
from orchestrator.cli.watching import look
from orchestrator.core.next_steps import deciding, taking_back
from orchestrator.core.reading import ParkedGroup
from orchestrator.core.states import BatchKind
from orchestrator.core.wording import another_plan, counted
from orchestrator.ledger import jobs
from orchestrator.ledger import parked as parking
from orchestrator.ledger.parked import Parked, ParkedBatch
from orchestrator.services import left_behind, refusals
from orchestrator.services.left_behind import MuchLeftBehind
from vecfleet.errors import BadInput


def park_list(
    job: JobId,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many records.")] = 100,
    as_json: Json = False,
) -> None:
    """List what is parked: first by reason, then record by record and batch by batch."""
    with fleet() as parts, parts.database.begin() as connection:
        of_it = jobs.get(connection, job)
        open_yet = of_it.state in refusals.RETRIED
        groups, total = parking.groups(connection, job), parking.count(connection, job)
        records, batches = parking.records(connection, job, limit), parking.batches(connection, job)
        conflicting = parking.conflicting(connection, job) if open_yet else 0
        undecided = parking.undecided(connection, job)
        confirmations = parking.confirmations(connection, job, None) if batches else ()
    decisions = deciding(of_it, undecided, conflicting)
    if batches:
        decisions += [*confirmations, f"vecfleet retry {job} failed"]
    if any(parked.kind is BatchKind.COPY for parked in batches):
        decisions.append(f"vecfleet park accept {job} --all-batches")
    steps = (decisions if open_yet else []) or [f"vecfleet status {job}"]
    if as_json:
        say_json({**_listed(groups, total, records, batches), "next_steps": steps})
        return
    _say_listed(groups, total, records, batches)
    if not total and not batches:
        say(f"job {job} has nothing parked")
    if conflicting:
        say(another_plan(conflicting, of_it.plan.recipe, of_it.plan.command, taking_back(of_it)), style="yellow")
    say_next(steps)


def _listed(groups: list[ParkedGroup], total: int, records: list[Parked], batches: list[ParkedBatch]) -> dict[str, Any]:
    return {
        "reasons": [group.to_json() for group in groups],
        "records_in_all": total,
        "records": [record.to_json() for record in records],
        "batches": [batch.to_json() for batch in batches],
    }


def _say_listed(groups: list[ParkedGroup], total: int, records: list[Parked], batches: list[ParkedBatch]) -> None:
    if total + len(batches) > len(groups):  # else the rows below say the same
        for group in groups:
            say(str(group))
    if records:
        say_table(
            ("record", "in", "why", "decided"),
            ((record.record_id, record.source, record.reason, _decided(record.accepted_by)) for record in records),
        )
    if len(records) < total:
        shown = f"… the first {len(records):,} of " if records else ""
        say(f"{shown}{counted(total, 'record', 'records')}; `--limit {total}` lists all")
    if batches:
        say_table(
            (">N", "batch", "in", ">records", ">attempts", "why"),
            (
                (batch.id, f"{batch.kind} {batch.seq}", batch.source, batch.size, batch.attempts, batch.error_text)
                for batch in batches
            ),
        )


def _decided(accepted_by: str | None) -> str:
    return f"stays behind, says {accepted_by}" if accepted_by else "not yet"


def park_accept(
    job: JobId,
    records: Annotated[list[str] | None, typer.Argument(metavar="[RECORD]...", help="Ids of parked records.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All parked records that are undecided.")] = False,
    batch: Annotated[
        list[int] | None, typer.Option(metavar="N", help="All records of this parked batch; may be repeated.")
    ] = None,
    all_batches: Annotated[bool, typer.Option("--all-batches", help="All records of every parked copy batch.")] = False,
    yes: Yes = False,
) -> None:
    """Leave parked records, or whole parked batches, behind in their source; for many, type the index's name."""
    chosen = [bool(records), every, bool(batch), all_batches]
    if sum(chosen) != 1:
        raise BadInput(
            "it is unclear which records are meant",
            next_step=f"name them, or --all, or --batch N, or --all-batches: `vecfleet park list {job}`",
        )
    with fleet() as parts:

        def accept(confirmed: int) -> int:
            if batch or all_batches:
                return left_behind.accept_batches(parts.database, job, who(), batch or None, confirmed)
            return left_behind.accept_records(parts.database, job, who(), records or None, confirmed)

        say(f"job {job}: {counted(_accepted(accept, yes=yes), 'record stays', 'records stay')} behind")
        say_next([*look(parts, job, namespaces=0).next_steps, f"vecfleet park undo {job} --all"])


def _accepted(accept: Callable[[int], int], *, yes: bool) -> int:
    try:
        return accept(0)
    except MuchLeftBehind as many:
        for objection in many.objections:
            say(objection, style="yellow")
        confirm_by_typing(many.index, yes=yes)
        return accept(many.count)


def park_undo(
    job: JobId,
    records: Annotated[
        list[str] | None, typer.Argument(metavar="[RECORD]...", help="Ids of records that were left behind.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All records that people left behind.")] = False,
) -> None:
    """Undo `park accept`, until clean-up: the records wait for a decision again, and `retry` copies them."""
    if bool(records) == every:
        raise BadInput(
            "it is unclear which records are meant", next_step=f"name them, or `vecfleet park undo {job} --all`"
        )
    with fleet() as parts:
        count = left_behind.undo(parts.database, job, who(), records or None)
        say(f"job {job}: {counted(count, 'record waits', 'records wait')} for a decision again")
        with parts.database.begin() as connection:
            undecided, conflicting = parking.undecided(connection, job), parking.conflicting(connection, job)
        again = [f"vecfleet retry {job} parked"] if undecided > conflicting else []
        say_next([*again, *look(parts, job, namespaces=0).next_steps])
