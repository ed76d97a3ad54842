"""`plan export` and `plan import`: an index as a folder of Parquet files, and back. Applied like any other plan."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from migrations.estimating import Prices
from migrations.idsources import find_ids
from migrations.plan import Policies
from migrations.recipes import Common, ExportOptions, ImportOptions, plan_export, plan_import
from orchestrator.cli.output import Json
from orchestrator.cli.planning import write
from orchestrator.cli.session import fleet
from orchestrator.services.apply import folders_that_are_tenants
from vecfleet.errors import Refused

NamespaceOption = Annotated[
    list[str] | None,
    typer.Option("--namespace", metavar="NAMESPACE", help="Only this one; may be repeated (default: all)."),
]
ExclusiveOption = Annotated[
    bool, typer.Option("--exclusive", help="Nobody else uses this index: take its whole allowance.")
]
CollisionsOption = Annotated[
    Literal["fail", "skip", "identical"], typer.Option(help="Ids that are in their target already.")
]
NumbersOption = Annotated[Literal["park", "float64"], typer.Option(help="Integers in metadata beyond 2**53.")]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The plan file (default: plans/ under VECFLEET_ROOT).")
]


def export(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index to export.")],
    folder: Annotated[
        str | None,
        typer.Argument(metavar="FOLDER", help="A folder under VECFLEET_ROOT (default: exports/INDEX-DATE-TIME)."),
    ] = None,
    namespace: NamespaceOption = None,
    ids: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Ids of a pod index: CSV namespace,id, or NAMESPACE=FILE.")
    ] = None,
    numbers: NumbersOption = "park",
    collisions: CollisionsOption = "fail",
    exclusive: ExclusiveOption = False,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan that namespaces become Parquet files; only cleaning up its job deletes any. Writes the plan file only."""
    now = datetime.now(UTC)
    with fleet() as parts:
        root = parts.settings.vecfleet_root
        for objection in folders_that_are_tenants(parts, folder) if folder is not None else ():
            raise Refused(objection, next_step="name another folder")
        options = ExportOptions(
            index=index,
            folder=folder or f"exports/{index}-{now:%Y%m%d-%H%M%S}",
            ids=find_ids(root, ids) if ids else None,
            common=Common(
                policies=Policies(numbers=numbers, collisions=collisions, exclusive=exclusive),
                prices=Prices.of(parts.settings),
                only=tuple(namespace or ()),
            ),
        )
        write(parts, plan_export(parts.store, parts.folders, options, now=now), out, as_json=as_json)


def import_(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder that an export made.")],
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index to fill; created where it is absent.")],
    namespace: NamespaceOption = None,
    cloud: Annotated[str | None, typer.Option(help="Where to create it (default: where the exported one was).")] = None,
    region: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    collisions: CollisionsOption = "fail",
    exclusive: ExclusiveOption = False,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan that exported namespaces become records of an index again, byte for byte. Writes the plan file only."""
    with fleet() as parts:
        options = ImportOptions(
            folder=folder,
            index=index,
            cloud=cloud,
            region=region,
            common=Common(
                policies=Policies(collisions=collisions, exclusive=exclusive),
                prices=Prices.of(parts.settings),
                only=tuple(namespace or ()),
            ),
        )
        write(parts, plan_import(parts.folders, parts.store, options, now=datetime.now(UTC)), out, as_json=as_json)
