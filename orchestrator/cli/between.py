"""`plan stores` and `plan tables`: between Pinecone, Postgres and other databases, and large tables in batches."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from migrations.between import StoresOptions, TablesOptions, plan_stores, plan_tables
from migrations.estimating import Prices
from migrations.plan import Policies
from migrations.recipes import Common
from orchestrator.bootstrap import STORES, Fleet
from orchestrator.cli.exports import CollisionsOption, ExclusiveOption, NamespaceOption, NumbersOption, OutOption
from orchestrator.cli.output import Json
from orchestrator.cli.planning import write
from orchestrator.cli.session import fleet
from vecfleet.errors import BadInput

_A_DAY_S = 86_400
DEFAULT_SCHEMA = "public"

CutOver = Annotated[
    Literal["operator", "auto", "none"], typer.Option(help="Who moves readers to the target once all is verified.")
]
Soak = Annotated[int, typer.Option(min=0, help="How long readers use the new before the old may be deleted.")]
Renamed = Annotated[
    list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="Another name at the target; may be repeated.")
]


def stores(
    source: Annotated[str, typer.Argument(metavar="STORE:INDEX", help="pinecone:brain, pgvector:public, …")],
    target: Annotated[str, typer.Argument(metavar="STORE:INDEX", help="Likewise; created where it is absent.")],
    namespace: NamespaceOption = None,
    rename: Renamed = None,
    numbers: NumbersOption = "park",
    halves: Annotated[
        Literal["refuse", "accept"], typer.Option(help="Tables of over 2,000 dimensions keep 16 bits of each value.")
    ] = "refuse",
    collisions: CollisionsOption = "fail",
    cut_over: CutOver = "operator",
    soak_seconds: Soak = _A_DAY_S,
    cloud: Annotated[str | None, typer.Option(help="Where Pinecone creates an index, such as aws.")] = None,
    region: Annotated[str | None, typer.Option(help="Likewise, such as us-east-1.")] = None,
    exclusive: ExclusiveOption = False,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan that namespaces of one store become those of another, as they are. Writes the plan file only."""
    policies = Policies(
        numbers=numbers,
        halves=halves,
        collisions=collisions,
        cut_over=cut_over,
        soak_seconds=soak_seconds,
        exclusive=exclusive,
    )
    (from_store, from_index), (to_store, to_index) = _place(source), _place(target)
    with fleet() as parts:
        options = StoresOptions(
            source=from_index,
            target=to_index,
            cloud=cloud,
            region=region,
            common=_common(parts, policies, tuple(namespace or ()), dict(map(_pair, rename or ()))),
        )
        plan = plan_stores(parts.store_named(from_store), parts.store_named(to_store), options, now=datetime.now(UTC))
        write(parts, plan, out, as_json=as_json)


def tables(
    pairs: Annotated[list[str], typer.Argument(metavar="SOURCE=TARGET…", help="Namespaces, and what each becomes.")],
    schema: Annotated[str, typer.Option(help="The schema that holds them.")] = DEFAULT_SCHEMA,
    cut_over: CutOver = "operator",
    soak_seconds: Soak = _A_DAY_S,
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Plan that large namespaces of one database become others, in batches by key. Writes the plan file only."""
    policies = Policies(cut_over=cut_over, soak_seconds=soak_seconds)
    with fleet() as parts:
        options = TablesOptions(index=schema, renamed=dict(map(_pair, pairs)), common=_common(parts, policies, (), {}))
        write(parts, plan_tables(parts.tables, options, now=datetime.now(UTC)), out, as_json=as_json)


def _common(parts: Fleet, policies: Policies, only: tuple[str, ...], renamed: dict[str, str]) -> Common:
    return Common(policies=policies, prices=Prices.of(parts.settings), only=only, renamed=renamed)


def _place(text: str) -> tuple[str, str]:
    store, separator, index = text.partition(":")
    if not separator or not index or store not in STORES:
        raise BadInput(
            f"{text!r} names no store and index", next_step=f"write STORE:INDEX, the store one of: {', '.join(STORES)}"
        )
    return store, index


def _pair(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not separator or not old or not new:
        raise BadInput(f"{text!r} is no pair", next_step="write OLD=NEW: production=staging")
    return old, new
