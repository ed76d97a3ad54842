"""Commands that only look: `doctor`, `audit`, `analyze`, `show`, `jobs`, `status`, `report`."""

from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from migrations.analysis import Breakdown, analyze
from migrations.auditing import IndexAudit, audit_index, audit_indexes
from migrations.estimating import Prices
from migrations.exporting import export_sample
from migrations.plan import read_plan
from migrations.routing import Router
from migrations.survey import Surveyor
from orchestrator import doctor as doctoring
from orchestrator import reports
from orchestrator.cli import rendering
from orchestrator.cli.options import LookupKey, Ownership, ReviewNamespace, TwinKeyOption, snapshot_of
from orchestrator.cli.output import JobId, Json, say, say_json, say_next
from orchestrator.cli.session import fleet
from orchestrator.cli.watching import PROVEN, look, watch
from orchestrator.ledger import reads
from orchestrator.states import JobState
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo


def doctor(as_json: Json = False) -> None:
    """Check settings, Postgres, Redis, Pinecone, the dispatcher and the workers; say what to do about each fault."""
    checks = doctoring.examine(Settings.load())
    failed = [check for check in checks if not check.ok]
    steps = [check.remedy for check in failed if check.remedy]
    if as_json:
        found = [
            {"name": check.name, "ok": check.ok, "detail": check.detail, "remedy": check.remedy} for check in checks
        ]
        say_json({"ok": not failed, "checks": found, "next_steps": steps})
    else:
        for check in checks:
            say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}", style=None if check.ok else "red")
            if check.remedy and not check.ok:
                say(f"      → {check.remedy}")
        say_next(["vecfleet audit"] if not failed else [steps[0]] if steps else [])
    if failed:
        raise typer.Exit(1)


ExportSample = Annotated[
    tuple[int, Path] | None,
    typer.Option(metavar="N FILE", help="Write N records, taken from all namespaces, to this Parquet file."),
]


def audit(
    index: Annotated[
        str | None, typer.Argument(metavar="INDEX", help="Look into this one (default: PINECONE_INDEX_NAME).")
    ] = None,
    export_sample: ExportSample = None,
    as_json: Json = False,
) -> None:
    """List all indexes, and of one its namespaces with counts, shares, metadata, names and quota room. Read-only."""
    with fleet() as parts:
        found = audit_indexes(parts.store)
        chosen = index or parts.settings.pinecone_index_name
        detail = audit_index(parts.store, chosen) if chosen else None
        exported = _export(parts.store, chosen, *export_sample) if export_sample else None
    steps = (
        [f"vecfleet plan creators {chosen} --creator CREATOR"]
        if chosen
        else [f"vecfleet audit {found[0].name}"]
        if found
        else ["vecfleet doctor"]
    )
    if as_json:
        say_json(
            {
                "indexes": [_index_json(info) for info in found],
                "index": _audit_json(detail) if detail else None,
                "exported": exported,
                "next_steps": steps,
            }
        )
        return
    rendering.indexes(found)
    if detail:
        rendering.index_audit(detail)
    if exported:
        say(f"wrote {exported['records']:,} records to {exported['file']}")
    say_next(steps)


def _export(store: Any, index: str | None, number: int, path: Path) -> dict[str, Any]:
    if index is None:
        raise BadInput("a sample is taken of one index, and none is named", next_step="vecfleet audit INDEX …")
    if number < 1:
        raise BadInput(f"a sample of {number} records is none", next_step="give a number above 0")
    surveyor = Surveyor(store)
    written = export_sample(surveyor.reader(surveyor.describe(index)), number, path)
    return {"file": str(path), "records": written}


def _index_json(info: IndexInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": info.kind,
        "dimension": info.dimension,
        "metric": info.metric,
        "host": info.host,
        "cloud": info.cloud,
        "region": info.region,
    }


def _audit_json(found: IndexAudit) -> dict[str, Any]:
    return {
        "name": found.info.name,
        "records": found.records,
        "namespaces": [
            {
                "name": held.name,
                "records": held.records,
                "exact": held.exact,
                "share": round(held.share, 6),
                "creator": held.tenant.creator if held.tenant else None,
                "twin": held.tenant.twin if held.tenant else None,
                "metadata": {key: dict(types) for key, types in held.keys.types.items()},
            }
            for held in found.namespaces
        ],
        "unparsed": list(found.unparsed),
        "quota": found.quota,
        "room": found.room,
        "read_units": found.usage.read_units,
    }


def analyze_namespace(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index that holds it.")],
    namespace: Annotated[str, typer.Option(help="The namespace that several owners share.")] = names.DEFAULT,
    ownership: Ownership = None,
    twin_key: TwinKeyOption = "id",
    lookup_key: LookupKey = "source_id",
    review_namespace: ReviewNamespace = None,
    as_json: Json = False,
) -> None:
    """Read every record of a shared namespace and show whose it is, by which rule, and what has no owner. Read-only."""
    with fleet() as parts:
        snapshot = snapshot_of(ownership, twin_key, parts.settings)
        surveyor = Surveyor(parts.store)
        reader = surveyor.reader(surveyor.describe(index))
        router = Router(lookup_key=lookup_key, review_namespace=review_namespace)
        if snapshot is not None:
            router = Router(snapshot.ownership, lookup_key, review_namespace)
        found = analyze(reader, namespace, router)
    steps = [f"vecfleet plan creators {index} --ownership {ownership or 'FILE'} --default split"]
    if as_json:
        say_json(_breakdown_json(found) | {"next_steps": steps})
        return
    rendering.breakdown(found)
    say_next(steps)


def _breakdown_json(found: Breakdown) -> dict[str, Any]:
    return {
        "namespace": found.namespace,
        "records": found.records,
        "targets": dict(found.targets),
        "rules": dict(found.rules),
        "orphans": dict(found.orphans),
        "orphan_ids": found.orphan_ids,
        "conflicts": dict(found.conflicts),
        "conflict_ids": found.conflict_ids,
        "read_units": found.usage.read_units,
    }


PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.")]


def show(plan: PlanFile, as_json: Json = False) -> None:
    """Show a plan: every move, the policies, the warnings, the estimate. Read-only."""
    found = read_plan(plan)
    steps = [f"vecfleet apply {plan} --dry-run", f"vecfleet apply {plan} --no-backup --watch"]
    if as_json:
        say_json(found.model_dump(mode="json") | {"next_steps": steps})
        return
    rendering.plan(found)
    say_next(steps)


def jobs(as_json: Json = False) -> None:
    """List all jobs, the newest first."""
    with fleet() as parts, parts.database.begin() as connection:
        found = reads.every(connection)
    steps = [f"vecfleet status {found[0][0].id}"] if found else ["vecfleet audit"]
    if as_json:
        listed = [
            {
                "job": row.id,
                "state": row.state,
                "reason": row.reason,
                "source_index": row.source,
                "target_index": row.target,
                "records": totals.expected,
                "settled": totals.settled,
                "created_by": row.created_by,
                "created_at": row.created_at.astimezone(UTC).isoformat(),
            }
            for row, totals in found
        ]
        say_json({"jobs": listed, "next_steps": steps})
        return
    if found:
        rendering.jobs(found)
    else:
        say("there are no jobs yet")
    say_next(steps)


def status(
    job: JobId,
    watching: Annotated[bool, typer.Option("--watch", help="Stay until the job rests.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many namespaces.")] = 50,
    as_json: Json = False,
) -> None:
    """Show how far a job is, why it waits, and what to do next. With --watch, 0 only if it ends verified or beyond."""
    with fleet() as parts:
        if watching:
            state = look(parts, job, namespaces=0).reading.job.state
            watch(parts, job, _hoped_for(state), as_json=as_json)
            return
        seen = look(parts, job, namespaces=limit)
    if as_json:
        say_json(seen.to_json())
        return
    rendering.status(seen)
    say_next(seen.next_steps)


def _hoped_for(state: JobState) -> frozenset[JobState]:
    if state in (JobState.ROLLING_BACK, JobState.ROLLED_BACK):
        return frozenset({JobState.ROLLED_BACK})
    if state in (JobState.CANCELLING, JobState.CANCELLED):
        return frozenset({JobState.CANCELLED})
    if state is JobState.CLEANING:
        return frozenset({JobState.CLEANED})
    return PROVEN


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
        found = reports.build(parts.database, parts.store_named, Prices.of(parts.settings), job)
    if format is ReportFormat.YAML:
        typer.echo(yaml.safe_dump(reports.migration_log(found), sort_keys=False, allow_unicode=True), nl=False)
    elif as_json or format is ReportFormat.JSON:
        say_json(reports.to_json(found))
    else:
        rendering.report(found)
        say_next(reports.steps_after(found))
