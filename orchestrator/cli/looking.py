"""Commands that only look: `doctor`, `show`, `report`. They are typed less often than those of `jobs`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from migrations.estimating import Prices
from migrations.plan import read_plan
from orchestrator import doctor as doctoring
from orchestrator.cli import rendering
from orchestrator.cli.output import JobId, Json, say, say_json, say_next
from orchestrator.cli.session import fleet
from orchestrator.core.wording import being, counted
from orchestrator.ledger import deletions, jobs
from orchestrator.services import report as reports
from vecfleet.errors import NotFound
from vecfleet.settings import Settings


def doctor(as_json: Json = False) -> None:
    """Check settings, Postgres, Redis, Pinecone, the dispatcher and the workers; say what to do about each fault."""
    checks = doctoring.examine(Settings.load())
    failed = [check for check in checks if not check.ok]
    steps = [check.remedy for check in failed if check.remedy]
    if as_json:
        rows = [
            {"name": check.name, "ok": check.ok, "detail": check.detail, "remedy": check.remedy} for check in checks
        ]
        say_json({"ok": not failed, "checks": rows, "next_steps": steps})
    else:
        for check in checks:
            say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}", style=None if check.ok else "red")
            if check.remedy and not check.ok:
                say(f"      → {check.remedy}")
        say_next(["vecfleet audit"] if not failed else [steps[0]] if steps else [])
    if failed:
        raise typer.Exit(1)


PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.")]


def show(plan: PlanFile, as_json: Json = False) -> None:
    """Show a plan: every move, the policies, the warnings, the estimate. Read-only."""
    content = read_plan(plan)
    steps = [f"vecfleet apply {plan} --dry-run", f"vecfleet apply {plan} --no-backup --watch"]
    if as_json:
        say_json(content.model_dump(mode="json") | {"next_steps": steps})
        return
    rendering.plan(content)
    say_next(steps)


def show_evidence(
    job: JobId,
    namespace: Annotated[str | None, typer.Argument(metavar="NAMESPACE", help="One source; else all of them.")] = None,
    as_json: Json = False,
) -> None:
    """Show on which looks the deletion of each source rests: when it was read and listed, against which wait."""
    with fleet() as parts, parts.database.begin() as connection:
        state = jobs.get(connection, job).state
        sources = deletions.of_job(connection, job, namespace)
    if namespace is not None and not sources:
        raise NotFound(
            f"job {job} has asked for no deletion of {namespace!r}", next_step=f"`vecfleet show-evidence {job}`"
        )
    steps = [f"vecfleet report {job}"]
    if as_json:
        say_json({"job": job, "sources": [source.to_json() for source in sources], "next_steps": steps})
        return
    say(f"job {job} {being(state)}; the deletion of {counted(len(sources), 'source', 'sources')} was asked for")
    if sources:
        rendering.deletions(sources)
    say_next(steps)


class ReportFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def report(
    job: JobId,
    format: Annotated[ReportFormat, typer.Option(help="yaml is the log template of seed 001.")] = ReportFormat.TEXT,
    as_json: Json = False,
) -> None:
    """Sum a job up: moved and verified, before and after, cost against estimate, issues, the way back. Read-only."""
    with fleet() as parts:
        summary = reports.build(parts.database, parts.store_named, Prices.of(parts.settings), job)
    if format is ReportFormat.YAML:
        typer.echo(yaml.safe_dump(reports.migration_log(summary), sort_keys=False, allow_unicode=True), nl=False)
    elif as_json or format is ReportFormat.JSON:
        say_json(reports.to_json(summary))
    else:
        rendering.report(summary)
        say_next(reports.steps_after(summary))
