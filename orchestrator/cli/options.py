"""Options that several commands share, and what they mean to the recipes."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from migrations.creators import DefaultRule, Grouping, UnownedRule, read_list
from migrations.estimating import Prices
from migrations.ownership import OwnershipSnapshot, look_up
from migrations.plan import NewIndex, Policies, TwinKey
from migrations.recipes import MONTHLY_QUERIES, Common
from orchestrator.cli.mapping import Conflicts, MapOptions
from vecfleet.errors import BadInput
from vecfleet.settings import Settings
from vecfleet.stores.base import ReadNodes

Ownership = Annotated[
    str | None,
    typer.Option(metavar="supabase|postgres|FILE", help="Where to look up who owns what; FILE is CSV or YAML."),
]
TwinKeyOption = Annotated[
    TwinKey, typer.Option("--twin-key", help="Call twins by id (or old name), by name, or number them: 001, 002, …")
]
LookupKey = Annotated[str, typer.Option(help="The metadata key by which a record names its source.")]
ReviewNamespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="Send records without an owner here, instead of parking them.")
]
NamespaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace", metavar="GLOB", help="Only namespaces of this name; * and ? are wildcards; may be repeated."
    ),
]
SkipOption = Annotated[
    list[str] | None, typer.Option("--skip", metavar="GLOB", help="Leave these alone; may be repeated.")
]

_A_DAY_S = 86_400


_NODES = re.compile(r"(b1|t1):([1-9]\d{0,3})x([1-9]\d{0,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIndexOptions:
    """Options of a target that is created where it is absent."""

    cloud: Annotated[str | None, typer.Option(help="Where to create the target (default: where the source is).")] = None
    region: Annotated[str | None, typer.Option(help="Likewise.")] = None
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A tag for the created index, in addition to the source's; may be repeated."
        ),
    ] = None
    deletion_protection: Annotated[
        bool, typer.Option("--deletion-protection", help="Protect the created index from deletion.")
    ] = False
    read_capacity: Annotated[
        str | None,
        typer.Option(metavar="NODE:SHARDSxREPLICAS", help="b1:1x2: its own read nodes (default: read on demand)."),
    ] = None

    def new_index(self) -> NewIndex:
        """Return what is asked of it. Raises BadInput."""
        return NewIndex(
            cloud=self.cloud,
            region=self.region,
            tags=_tags(self.tag) if self.tag else None,
            deletion_protection=self.deletion_protection,
            read_capacity=_nodes(self.read_capacity) if self.read_capacity else None,
        )


def _tags(typed: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for text in typed:
        key, separator, value = text.partition("=")
        if not separator or not key or key in tags:
            why = "is given twice" if key in tags else "is not KEY=VALUE"
            raise BadInput(f"--tag {text!r} {why}", next_step="write each tag once, as --tag env=prod")
        tags[key] = value
    return tags


def _nodes(typed: str) -> ReadNodes:
    match = _NODES.fullmatch(typed)
    if match is None:
        raise BadInput(
            f"{typed!r} is not a read capacity",
            next_step="name b1 or t1, shards and replicas, as in --read-capacity b1:1x2; left out: on demand",
        )
    return ReadNodes(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions(MapOptions):
    """Options of the recipes whose jobs may cut over and clean up. A policy is named as its field of `Policies`."""

    namespace: NamespaceOption = None
    skip: SkipOption = None
    writers: Annotated[
        Literal["freeze", "dual", "delta"],
        typer.Option(help="Writers stop until the cut-over, write to both sides, or go on writing to the source only."),
    ] = "freeze"
    max_passes: Annotated[
        int, typer.Option(min=1, help="At most so many readings of the sources, if writers go on.")
    ] = 5
    collisions: Annotated[
        Literal["fail", "skip", "prefix", "identical"],
        typer.Option(help="Ids that are in their target already, or come from two sources."),
    ] = "fail"
    numbers: Annotated[
        Literal["park", "float64"], typer.Option(help="Numbers in metadata that a target cannot keep exactly.")
    ] = "park"
    verify: Annotated[
        Literal["ids", "content", "content+query"],
        typer.Option(
            help="How targets are compared: ids only, every record read back, and queries against their sources."
        ),
    ] = "content"
    query_sample: Annotated[
        int, typer.Option(min=1, max=1_000, help="content+query: how many vectors of each target to query with.")
    ] = 10
    query_top_k: Annotated[int, typer.Option(min=1, max=100, help="content+query: how many neighbours to ask for.")] = (
        10
    )
    query_overlap: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="content+query: the share of neighbours that each answer must contain."),
    ] = 0.9
    cut_over: Annotated[
        Literal["operator", "auto", "none"],
        typer.Option(help="Who moves readers to the new namespaces once all is verified."),
    ] = "operator"
    dwell_seconds: Annotated[
        int, typer.Option(min=0, help="How long readers are watched at 25 % and at 50 % before the next step.")
    ] = _A_DAY_S
    shadow_share: Annotated[
        float, typer.Option(min=0, max=1, help="The share of queries asked of both sides, as evidence for a step.")
    ] = 0.0
    bad_step: Annotated[
        Literal["refuse", "reverse"],
        typer.Option(help="What the cut-over does above 1 % errors or a p95 of 100 ms on the new side."),
    ] = "refuse"
    soak_seconds: Annotated[
        int, typer.Option(min=0, help="How long readers use the new side before the old may be deleted.")
    ] = _A_DAY_S
    clean_up: Annotated[
        Literal["operator", "auto"], typer.Option(help="Who deletes the sources after the soak time.")
    ] = "operator"
    leave_alias: Annotated[
        bool, typer.Option("--leave-alias", help="Make each deleted namespace's name an alias of its target.")
    ] = False
    check_every_write: Annotated[
        bool,
        typer.Option(
            "--check-every-write", help="Read each target before an id is first written: others may write there."
        ),
    ] = False
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="Nobody else uses this index: use all of its limits.")
    ] = False
    schema_from: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="Targets get the filterable fields of this source namespace."),
    ] = None
    monthly_queries: Annotated[
        int, typer.Option(min=1, help="Queries a month, to estimate the monthly cost before and after.")
    ] = MONTHLY_QUERIES
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The plan file (default: plans/ under VECFLEET_ROOT).")
    ] = None

    def common(self, settings: Settings, **more: str) -> Common:
        """Build the options that every recipe takes. A policy that has an option takes it; `more` says others."""
        typed = {name: value for name in Policies.model_fields if (value := getattr(self, name, None)) is not None}
        return Common(
            policies=Policies.model_validate(typed | more | self.policies(settings)),
            prices=Prices.of(settings),
            skip=tuple(self.skip or ()),
            only=tuple(self.namespace or ()),
            schema_from=self.schema_from,
            monthly_queries=self.monthly_queries,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RenamingOptions(PolicyOptions):
    """Options of the recipe `namespaces`: names decide, so a key that a record has already stays as it is."""

    conflicts: Conflicts = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(PolicyOptions):
    """Options of the recipes that may make tenants' namespaces."""

    creator: Annotated[str | None, typer.Option(help="One creator owns every namespace.")] = None
    ownership: Ownership = None
    list_file: Annotated[
        str | None,
        typer.Option("--list", metavar="FILE", help="CSV or YAML of namespace, creator, twin; overrides all else."),
    ] = None
    twin_key: TwinKeyOption = "id"
    default: Annotated[
        DefaultRule | None,
        typer.Option(help="__default__: make it one twin, leave it alone, split it by owner, or delete it."),
    ] = None
    unowned: Annotated[UnownedRule, typer.Option(help="Namespaces without a known owner.")] = "fail"
    review_namespace: ReviewNamespace = None
    lookup_key: LookupKey = "source_id"

    @property
    def regroups(self) -> bool:
        """Say whether the options name owners for the namespaces."""
        return self.creator is not None or self.ownership is not None or self.list_file is not None

    def grouping(self, settings: Settings) -> Grouping:
        """Build the grouping; asks the look-up. Raises BadInput, BadName, NotFound, Unreachable."""
        return Grouping(
            creator=self.creator,
            snapshot=snapshot_of(self.ownership, self.twin_key, settings),
            rows=read_list(settings.vecfleet_root, self.list_file) if self.list_file else (),
            default=self.default,
            unowned=self.unowned,
            twin_key=self.twin_key,
        )

    def common(self, settings: Settings, **more: str) -> Common:
        if self.review_namespace:
            more |= {"orphans": "review", "review_namespace": self.review_namespace}
        return replace(PolicyOptions.common(self, settings, **more), lookup_key=self.lookup_key)


def snapshot_of(ownership: str | None, twin_key: TwinKey, settings: Settings) -> OwnershipSnapshot | None:
    """Ask the look-up that `--ownership` names. Raises BadInput, NotFound, Unreachable."""
    match ownership:
        case None:
            return None
        case "supabase" | "postgres":
            return look_up(ownership, settings, twin_key=twin_key)
        case file:
            return look_up("file", settings, file=file, twin_key=twin_key)
