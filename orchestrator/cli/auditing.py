"""Commands that look into an index: `audit`, `analyze`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from migrations.analysis import Breakdown, analyze
from migrations.auditing import IndexAudit, audit_index, audit_indexes
from migrations.exporting import export_sample
from migrations.routing import Router
from migrations.survey import Surveyor
from orchestrator.cli import rendering
from orchestrator.cli.options import LookupKey, Ownership, ReviewNamespace, TwinKeyOption, snapshot_of
from orchestrator.cli.output import Json, say, say_json, say_next
from orchestrator.cli.session import fleet
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.stores.base import IndexInfo

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
        infos = audit_indexes(parts.store)
        chosen = index or parts.settings.pinecone_index_name
        detail = audit_index(parts.store, chosen) if chosen else None
        exported = _export(parts.store, chosen, *export_sample) if export_sample else None
    steps = (
        [f"vecfleet plan creators {chosen} --creator CREATOR"]
        if chosen
        else [f"vecfleet audit {infos[0].name}"]
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
    """Read every record of a shared namespace and show whose it is, by which rule, and what has no owner. Read-only."""
    with fleet() as parts:
        snapshot = snapshot_of(ownership, twin_key, parts.settings)
        surveyor = Surveyor(parts.store)
        reader = surveyor.reader(surveyor.describe(index))
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
