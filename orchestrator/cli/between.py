"""`plan export`, `plan import`, `plan stores`, `plan tables`: an index becomes files or another store's, and back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from migrations.between import StoresOptions, TablesOptions, plan_stores, plan_tables
from migrations.estimating import Prices
from migrations.idsources import find_ids
from migrations.plan import Policies
from migrations.recipes import Common, ExportOptions, ImportOptions, plan_export, plan_import
from migrations.renaming import Naming, Pair
from orchestrator.bootstrap import Fleet
from orchestrator.cli.mapping import MapOptions, with_map_options, with_shared
from orchestrator.cli.options import NamespaceOption, NewIndexOptions, SkipOption
from orchestrator.cli.output import Json
from orchestrator.cli.planning import write
from orchestrator.cli.session import fleet
from orchestrator.services.apply import folders_that_are_tenants
from vecfleet.errors import BadInput, Refused
from vecfleet.stores.base import BulkFiles
from vecfleet.stores.encoded_ids import seen

ExclusiveOption = Annotated[
    bool, typer.Option("--exclusive", help="Nobody else uses this index: use all of its limits.")
]
CollisionsOption = Annotated[
    Literal["fail", "skip", "identical"], typer.Option(help="Ids that are in their target already.")
]
NumbersOption = Annotated[Literal["park", "float64"], typer.Option(help="Integers in metadata beyond 2**53.")]
EncodeIdsOption = Annotated[
    bool,
    typer.Option(
        "--encode-ids", help="Ids at Pinecone are ASCII forms of the other side's: café is caf~0000e9; both ways."
    ),
]
WritersOption = Annotated[
    Literal["freeze", "delta"],
    typer.Option(help="Writers stop, or go on writing to the source, which is read again until nothing changes."),
]
PassesOption = Annotated[int, typer.Option(min=1, help="At most so many readings of the sources, if writers go on.")]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The plan file (default: plans/ under VECFLEET_ROOT).")
]


@with_map_options
def export(
    mapping: MapOptions,
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index to export.")],
    folder: Annotated[
        str | None,
        typer.Argument(metavar="FOLDER", help="A folder under VECFLEET_ROOT (default: exports/INDEX-DATE-TIME)."),
    ] = None,
    namespace: NamespaceOption = None,
    skip: SkipOption = None,
    ids: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Ids of a pod index: CSV namespace,id, or NAMESPACE=FILE.")
    ] = None,
    writers: WritersOption = "freeze",
    max_passes: PassesOption = 5,
    numbers: NumbersOption = "park",
    collisions: CollisionsOption = "fail",
    encode_ids: EncodeIdsOption = False,
    exclusive: ExclusiveOption = False,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan to export namespaces to files; only a clean-up of its job deletes any. Writes the plan file only."""
    policies = Policies(
        numbers=numbers,
        collisions=collisions,
        encoded_ids=encode_ids,
        writers=writers,
        max_passes=max_passes,
        exclusive=exclusive,
    )
    now = datetime.now(UTC)
    with fleet() as parts:
        root = parts.settings.vecfleet_root
        store, name = parts.accounts.located(index)
        for objection in folders_that_are_tenants(parts, folder) if folder is not None else ():
            raise Refused(objection, code="tenant-folder", next_step="name another folder")
        options = ExportOptions(
            index=name,
            folder=folder or f"exports/{name}-{now:%Y%m%d-%H%M%S}",
            ids=find_ids(root, ids) if ids else None,
            common=_common(parts, policies, mapping, namespace, skip),
        )
        plan = plan_export(seen(store, encode_ids), parts.folders, options, now=now)
        write(parts, plan, out, as_json=as_json)


@with_map_options
@with_shared("new", NewIndexOptions)
def import_(
    mapping: MapOptions,
    new: NewIndexOptions,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder that an export made.")],
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index to fill; created if it does not exist.")],
    via: Annotated[
        Literal["copy", "bulk"],
        typer.Option(help="Copy each record; or have the service import --uri, and copy what it leaves out."),
    ] = "copy",
    uri: Annotated[
        str | None, typer.Option(metavar="URI", help="For --via bulk, a copy of FOLDER: s3://BUCKET/DIR, gs://…")
    ] = None,
    storage_integration: Annotated[
        str | None, typer.Option(metavar="ID", help="The service's storage integration that may read --uri.")
    ] = None,
    namespace: NamespaceOption = None,
    skip: SkipOption = None,
    writers: WritersOption = "freeze",
    max_passes: PassesOption = 5,
    collisions: CollisionsOption = "fail",
    encode_ids: EncodeIdsOption = False,
    exclusive: ExclusiveOption = False,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan to import exported namespaces into an index, byte for byte. Writes the plan file only."""
    policies = Policies(
        collisions=collisions, encoded_ids=encode_ids, writers=writers, max_passes=max_passes, exclusive=exclusive
    )
    with fleet() as parts:
        store, name = parts.accounts.located(index)
        options = ImportOptions(
            folder=folder,
            index=name,
            new=new.new_index(),
            bulk=_bulk(via, uri, storage_integration),
            common=_common(parts, policies, mapping, namespace, skip),
        )
        plan = plan_import(parts.folders, seen(store, encode_ids), options, now=datetime.now(UTC))
        write(parts, plan, out, as_json=as_json)


_A_DAY_S = 86_400
DEFAULT_SCHEMA = "public"

CutOver = Annotated[
    Literal["operator", "auto", "none"], typer.Option(help="Who moves readers to the target once all is verified.")
]
Soak = Annotated[int, typer.Option(min=0, help="How long readers use the new side before the old may be deleted.")]
Renamed = Annotated[
    list[str] | None,
    typer.Option(
        "--rename", metavar="OLD=NEW", help="Another name at the target, as 'tenant-*=t/{1}'; may be repeated."
    ),
]


@with_map_options
@with_shared("new", NewIndexOptions)
def stores(
    mapping: MapOptions,
    new: NewIndexOptions,
    source: Annotated[
        str, typer.Argument(metavar="STORE:INDEX", help="pinecone:brain, pinecone@eu:brain, pgvector:public, …")
    ],
    target: Annotated[str, typer.Argument(metavar="STORE:INDEX", help="The same; created if it does not exist.")],
    namespace: NamespaceOption = None,
    skip: SkipOption = None,
    rename: Renamed = None,
    writers: WritersOption = "freeze",
    max_passes: PassesOption = 5,
    numbers: NumbersOption = "park",
    halves: Annotated[
        Literal["refuse", "accept"], typer.Option(help="Tables of over 2,000 dimensions keep 16 bits of each value.")
    ] = "refuse",
    collisions: CollisionsOption = "fail",
    cut_over: CutOver = "operator",
    soak_seconds: Soak = _A_DAY_S,
    encode_ids: EncodeIdsOption = False,
    exclusive: ExclusiveOption = False,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan to copy namespaces from one store to another, as they are. Writes the plan file only."""
    policies = Policies(
        writers=writers,
        max_passes=max_passes,
        numbers=numbers,
        halves=halves,
        collisions=collisions,
        cut_over=cut_over,
        soak_seconds=soak_seconds,
        encoded_ids=encode_ids,
        exclusive=exclusive,
    )
    (from_store, from_index), (to_store, to_index) = _place(source), _place(target)
    if encode_ids and from_store.startswith("pinecone") == to_store.startswith("pinecone"):
        raise BadInput(
            "`--encode-ids` works only between Pinecone and another store",
            next_step="leave it out: between these two ids stay as they are",
        )
    with fleet() as parts:
        options = StoresOptions(
            source=from_index,
            target=to_index,
            new=new.new_index(),
            common=_common(parts, policies, mapping, namespace, skip, tuple(map(Pair.read, rename or ()))),
        )
        sides = seen(parts.store_named(from_store), encode_ids), seen(parts.store_named(to_store), encode_ids)
        plan = plan_stores(*sides, options, now=datetime.now(UTC))
        write(parts, plan, out, as_json=as_json)


@with_map_options
def tables(
    mapping: MapOptions,
    pairs: Annotated[list[str], typer.Argument(metavar="SOURCE=TARGET…", help="Namespaces, each with its new name.")],
    schema: Annotated[str, typer.Option(help="The schema that holds them.")] = DEFAULT_SCHEMA,
    namespace: NamespaceOption = None,
    skip: SkipOption = None,
    writers: WritersOption = "freeze",
    max_passes: PassesOption = 5,
    cut_over: CutOver = "operator",
    soak_seconds: Soak = _A_DAY_S,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan to copy large namespaces within a database, in batches by key. Writes the plan file only."""
    policies = Policies(writers=writers, max_passes=max_passes, cut_over=cut_over, soak_seconds=soak_seconds)
    with fleet() as parts:
        common = _common(parts, policies, mapping, namespace, skip)
        options = TablesOptions(index=schema, pairs=tuple(map(Pair.read, pairs)), common=common)
        write(parts, plan_tables(parts.tables, options, now=datetime.now(UTC)), out, as_json=as_json)


def _common(
    parts: Fleet,
    policies: Policies,
    mapping: MapOptions,
    namespace: list[str] | None,
    skip: list[str] | None,
    pairs: tuple[Pair, ...] = (),
) -> Common:
    return Common(
        policies=policies.model_copy(update=mapping.policies(parts.settings)),
        prices=Prices.of(parts.settings),
        only=tuple(namespace or ()),
        skip=tuple(skip or ()),
        naming=Naming(pairs=pairs),
    )


def _bulk(via: str, uri: str | None, integration: str | None) -> BulkFiles | None:
    if via == "bulk" and uri is not None:
        return BulkFiles(uri, integration)
    if via == "bulk":
        raise BadInput(
            "`--via bulk` needs a place where the service can read the folder's files",
            next_step="copy the folder into a bucket, and name that: `--uri s3://BUCKET/DIR`",
        )
    if uri is not None or integration is not None:
        raise BadInput(
            "`--uri` and `--storage-integration` work only with `--via bulk`",
            next_step="add `--via bulk`, or leave them out",
        )
    return None


def _place(text: str) -> tuple[str, str]:
    store, separator, index = text.partition(":")
    if not separator or not index:
        raise BadInput(f"{text!r} names no store and index", next_step="write STORE:INDEX: pinecone:brain")
    return store, index
