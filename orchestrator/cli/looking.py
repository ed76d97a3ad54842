"""Commands that look at the fleet, at an index, at a plan and at the evidence, and change nothing."""

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from migrations.analysis import Breakdown, analyze
from migrations.auditing import IndexAudit, audit_index, audit_indexes
from migrations.estimating import Prices
from migrations.plan import read_plan
from migrations.routing import Router
from migrations.survey import Surveyor
from orchestrator.cli import rendering
from orchestrator.cli.options import LookupKey, Ownership, ReviewNamespace, TwinKeyOption, snapshot_of
from orchestrator.cli.output import JobId, Json, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet
from orchestrator.core.wording import being, counted, elapsed
from orchestrator.ledger import dashboards, deletions, jobs
from orchestrator.ledger.dashboards import Paced
from orchestrator.pace_view import PaceReader, Seen, is_hidden, with_names
from orchestrator.services import report as reports
from vecfleet import names
from vecfleet.connections import full_name
from vecfleet.errors import BadInput, NotFound, Unreachable
from vecfleet.settings import JOIN, Settings
from vecfleet.stores.base import IndexInfo


def doctor(as_json: Json = False) -> None:
    """Check settings, Postgres, Redis, Pinecone, the dispatcher and the workers; say what to do about each fault."""
    from orchestrator.doctor import examine  # loads what it examines

    checks = examine(Settings.load())
    failed = [check for check in checks if not check.ok]
    steps = list(dict.fromkeys(check.remedy for check in failed if check.remedy))
    if as_json:
        say_json({"ok": not failed, "checks": [asdict(check) for check in checks], "next_steps": steps})
    else:
        told = set[str]()  # one cause fails several checks: its remedy stands once
        for check in checks:
            say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}", style=None if check.ok else "red")
            if check.remedy and not check.ok:
                say(f"      → {'as above' if check.remedy in told else check.remedy}")
                told.add(check.remedy)
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
    namespace: Annotated[str | None, typer.Argument(metavar="NAMESPACE", help="One source (default: all).")] = None,
    as_json: Json = False,
) -> None:
    """Show the evidence for deleting each source: when it was read and listed, and how long reads may lag."""
    with fleet() as parts, parts.database.begin() as connection:
        state = jobs.get(connection, job).state
        sources = deletions.of_job(connection, job, namespace)
    if namespace is not None and not sources:
        raise NotFound(
            f"job {job} has not asked for the deletion of {namespace!r}", next_step=f"`vecfleet show-evidence {job}`"
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


ExportSample = Annotated[
    tuple[int, Path] | None,
    typer.Option(metavar="N FILE", help="Write N records, taken from all namespaces, to this Parquet file."),
]


def audit(
    index: Annotated[
        str | None,
        typer.Argument(
            metavar="INDEX",
            help="Look into this one (default: PINECONE_INDEX_NAME); pinecone@NAME: list another account.",
        ),
    ] = None,
    export_sample: ExportSample = None,
    as_json: Json = False,
) -> None:
    """List all indexes, and the namespaces of one with counts, shares, metadata, names and free quota. Read-only."""
    with fleet() as parts:
        store, chosen = parts.accounts.account(index or parts.settings.pinecone_index_name)
        infos = audit_indexes(store)
        detail = audit_index(store, chosen) if chosen else None
        exported = _export(store, chosen, *export_sample) if export_sample else None
    steps = (
        _steps_from(full_name(store.name, chosen), detail)
        if chosen and detail
        else [f"vecfleet audit {full_name(store.name, infos[0].name)}"]
        if infos
        else ["vecfleet doctor"]
    )
    if as_json:
        say_json(
            {
                "indexes": [_index_json(info) for info in infos],
                "index": _audit_json(detail) if detail else None,
                "exported": exported,
                "next_steps": steps,
            }
        )
        return
    rendering.indexes(infos)
    if detail:
        rendering.index_audit(detail)
    if exported:
        say(f"wrote {counted(exported['records'], 'record', 'records')} to {exported['file']}")
    say_next(steps)


def _steps_from(name: str, detail: IndexAudit) -> list[str]:
    other = [f"vecfleet plan namespaces {name} OLD=NEW"] if detail.unparsed else []
    return [f"vecfleet plan creators {name} --creator CREATOR", *other]


def _export(store: Any, index: str | None, number: int, path: Path) -> dict[str, Any]:
    if index is None:
        raise BadInput("a sample needs an index, and none is named", next_step="name one that `vecfleet audit` lists")
    if number < 1:
        raise BadInput(f"a sample of {number} records is impossible", next_step="give a number above 0")
    surveyor = Surveyor(store)
    from migrations.exporting import export_sample  # loads Arrow

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


def _audit_json(detail: IndexAudit) -> dict[str, Any]:
    return {
        "name": detail.info.name,
        "records": detail.records,
        "namespaces": [
            {
                "name": namespace.name,
                "records": namespace.records,
                "exact": namespace.exact,
                "share": round(namespace.share, 6),
                "creator": namespace.tenant.creator if namespace.tenant else None,
                "twin": namespace.tenant.twin if namespace.tenant else None,
                "metadata": {key: dict(types) for key, types in namespace.keys.types.items()},
            }
            for namespace in detail.namespaces
        ],
        "unparsed": list(detail.unparsed),
        "quota": detail.quota,
        "room": detail.room,
        "read_units": detail.usage.read_units,
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
    """Read every record of a shared namespace; show whose it is, by which rule, and which have no owner. Read-only."""
    with fleet() as parts:
        snapshot = snapshot_of(ownership, twin_key, parts.settings)
        store, name = parts.accounts.located(index)
        surveyor = Surveyor(store)
        reader = surveyor.reader(surveyor.describe(name))
        router = Router(lookup_key=lookup_key, review_namespace=review_namespace)
        if snapshot is not None:
            router = Router(snapshot.ownership, lookup_key, review_namespace)
        result = analyze(reader, namespace, router)
    steps = [f"vecfleet plan creators {index} --ownership {ownership or 'FILE'} --default split"]
    if as_json:
        say_json(_breakdown_json(result) | {"next_steps": steps})
        return
    rendering.breakdown(result)
    say_next(steps)


def _breakdown_json(result: Breakdown) -> dict[str, Any]:
    return {
        "namespace": result.namespace,
        "records": result.records,
        "targets": dict(result.targets),
        "rules": dict(result.rules),
        "orphans": dict(result.orphans),
        "orphan_ids": result.orphan_ids,
        "brought": result.brought,
        "conflicts": dict(result.conflicts),
        "conflict_ids": result.conflict_ids,
        "read_units": result.usage.read_units,
    }


_COLUMNS = ("limit", "of", ">allowed/s", ">in use/s", ">% of its share", ">booked ahead", ">held for", ">429s in 1 min")


def pace(
    idle: Annotated[bool, typer.Option("--all", help="Include limits that nobody used in the last seconds.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, the most delayed first.")] = 30,
    as_json: Json = False,
) -> None:
    """Show what each limit allows the fleet now, how much of it is used, and how many calls were refused. Read-only.

    For a namespace that no job knows any more, it shows the digest of its name, as Redis keeps it.
    """
    with fleet() as parts:
        if parts.settings.redis_url is None:
            raise BadInput("REDIS_URL is not set", next_step=JOIN)
        limits = PaceReader(parts.settings.redis_url.get_secret_value()).every()
        if limits is None:
            raise Unreachable("Redis does not answer: each worker keeps to a small pace", next_step="vecfleet doctor")
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
    held = elapsed(seen.held_s) if seen.held_s else ""
    refused = str(seen.refused) if seen.refused else ""
    return (
        seen.name,
        seen.scope,
        allowed,
        f"{seen.used:,.1f}",
        f"{seen.factor:.0%}",
        elapsed(seen.ahead_s),
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
