"""Recipes in which namespaces keep their names or get new ones: `namespaces`, `index`, `export`, `stores` … Pure.

If a recipe also regroups namespaces by tenant, the rules of recipe `creators` hold instead.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from math import ceil

from migrations.creators import Assignment
from migrations.plan import NewIndex, PlannedMove
from migrations.renaming import Naming, Template
from migrations.routing import owner_named
from migrations.survey import HeldNamespace, Survey
from vecfleet.errors import BadInput
from vecfleet.stores.base import IndexInfo, ReadNodes

# The storage of a shard of dedicated read capacity.
SHARD_BYTES = 250e9
MAX_TAGS = 20
_TAG_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TAG_VALUE = re.compile(r"[ -~]{1,120}")
_INDEX_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")


def rename(
    namespaces: Mapping[str, HeldNamespace], naming: Naming, occupied: Collection[str] = frozenset()
) -> Assignment:
    """Move every namespace (each holds at least one record) to one of its new name, or of the same name.

    Records stay as they are, unless `naming.marks` is set and names alone would not show each record's origin or owner:
    sources are merged or split, a target is `occupied`, or a new name is a tenant's. Then records are enriched as by
    recipe `creators`.
    """
    templates = naming.templates(namespaces)
    moves = [
        PlannedMove(source=source, records=namespaces[source].records, to=template.name, template=_split(template))
        for source, template in sorted(templates.items())
    ]
    times = Counter(move.to for move in moves)
    enrich = naming.marks and any(
        move.to is None
        or times[move.to] > 1
        or move.to in occupied
        or owner_named(move.to) not in (None, owner_named(move.source))
        for move in moves
    )
    return Assignment(
        moves=[owned(move) for move in moves] if enrich else moves,
        left_alone=sorted(set(namespaces) - set(templates)),
        enrich=enrich,
    )


def _split(template: Template) -> str | None:
    return template.text if template.name is None else None


def owned(move: PlannedMove) -> PlannedMove:
    """Return the move with the owner of its target, if the target has a tenant's name: its readers follow a route."""
    owner = owner_named(move.to) if move.to is not None else None
    return move.model_copy(update={"creator": owner.creator, "twin": owner.twin}) if owner is not None else move


def new_index(survey: Survey, name: str, asked: NewIndex) -> NewIndex | None:
    """Return how to create the target, by default beside the source and tagged like it; None if it exists.

    `asked.tags` are added to the source's; an empty one leaves the source's out. Raises BadInput.
    """
    if survey.target is not None:
        _require_as_it_is(survey.target, asked)
        return None
    if not _INDEX_NAME.fullmatch(name):
        fitting = re.sub(r"[^a-z0-9]+", "-", name.lower())[:45].strip("-") or "vectors"
        raise BadInput(
            f"there is no index {name!r}, and none can be created: an index's name has 1 to 45 lower-case letters, "
            "digits and hyphens, and neither begins nor ends with a hyphen",
            next_step=f"name it {fitting!r}, for example",
        )
    cloud, region = asked.cloud or survey.source.cloud, asked.region or survey.source.region
    if not cloud or not region:
        raise BadInput(
            f"the target index does not exist, and cloud and region of the source {survey.source.name!r} are unknown",
            next_step="name the cloud and the region to create it in, for example aws and us-east-1",
        )
    if (cloud, region) != (survey.source.cloud, survey.source.region):
        _require_known(cloud, region)
    tags = {key: value for key, value in {**survey.source.tags, **(asked.tags or {})}.items() if value}
    _require_tags(tags)
    return asked.model_copy(update={"cloud": cloud, "region": region, "tags": tags if asked.tags is not None else None})


def require_nothing_asked(asked: NewIndex, what: str) -> None:
    """Raise BadInput if something is asked of a new index where the target is not an index of Pinecone."""
    if asked != NewIndex():
        raise BadInput(
            f"{what} has no cloud, tags, deletion protection or read capacity",
            next_step="leave those options out: they are for an index of Pinecone that the plan creates",
        )


def require_room(nodes: ReadNodes, target_bytes: float) -> None:
    """Raise BadInput if the shards cannot hold so much: the service would refuse writes once they are full."""
    needed = ceil(target_bytes / SHARD_BYTES)
    if nodes.shards < needed:
        raise BadInput(
            f"{nodes.shards} of its shards hold {nodes.shards * SHARD_BYTES / 1e9:,.0f} GB, and "
            f"{target_bytes / 1e9:,.0f} GB are to go there: writes are refused once they are full",
            next_step=f"ask for {needed} shards at least: `--read-capacity {nodes.type}:{needed}x{nodes.replicas}`",
        )


def _require_as_it_is(there: IndexInfo, asked: NewIndex) -> None:
    """Raise BadInput if an index that exists is asked to be otherwise: nothing would become of it."""
    unmet = {
        "--cloud": asked.cloud not in (None, there.cloud),
        "--region": asked.region not in (None, there.region),
        "--tag": asked.tags is not None,
        "--deletion-protection": asked.deletion_protection,
        "--read-capacity": asked.read_capacity is not None,
    }
    options = [option for option, is_unmet in unmet.items() if is_unmet]
    if options:
        raise BadInput(
            f"the index {there.name!r} exists already and is used as it is: {', '.join(options)} would change nothing",
            next_step="leave that out, or name a target that is to be created; Pinecone's console changes an index",
        )


def _require_known(cloud: str, region: str) -> None:
    from vecfleet.stores.pinecone.regions import REGIONS  # loads the SDK

    if cloud not in REGIONS:
        raise BadInput(
            f"Pinecone has no cloud {cloud!r}; there are: {', '.join(sorted(REGIONS))}",
            next_step="name one of them with --cloud",
        )
    if region not in REGIONS[cloud]:
        raise BadInput(
            f"Pinecone has no region {region!r} on {cloud}; there are: {', '.join(REGIONS[cloud])}",
            next_step="name one of them with --region, and --cloud if it is another's; "
            "for a newer region bring the package `pinecone` up to date",
        )


def _require_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > MAX_TAGS:
        raise BadInput(
            f"the new index would have {len(tags)} tags, and an index has at most {MAX_TAGS}",
            next_step="leave some out: `--tag KEY=` leaves out one of the source",
        )
    for key, value in tags.items():
        if not _TAG_KEY.fullmatch(key):
            raise BadInput(
                f"{key!r} cannot be a tag: a tag has 1 to 80 letters, digits, '_' and '-'",
                next_step="write it as --tag env=prod",
            )
        if not _TAG_VALUE.fullmatch(value):
            raise BadInput(
                f"the tag {key!r} cannot be {value!r}: a tag's value has up to 120 printable ASCII characters",
                next_step="write it as --tag env=prod",
            )
