"""Recipes in which namespaces keep their names or get given ones: `namespaces`, `index`, `export`, `stores` … Pure.

Namespaces that are regrouped on the way follow the rules of recipe `creators` instead.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping

from migrations.creators import Assignment
from migrations.plan import NewIndex, PlannedMove
from migrations.renaming import Naming, Template
from migrations.routing import owner_named
from migrations.survey import HeldNamespace, Survey
from vecfleet.errors import BadInput

_INDEX_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")


def rename(
    namespaces: Mapping[str, HeldNamespace], naming: Naming, occupied: Collection[str] = frozenset()
) -> Assignment:
    """Move every namespace (each holds at least one record) to one of its new name, or of the same.

    Records stay as they are. With `naming.marks` they are enriched as by recipe `creators` if names alone would not say
    where each came from or whose it is: sources are merged or split, a target is `occupied`, a tenant's name is given.
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
        moves=[_owned(move) for move in moves] if enrich else moves,
        left_alone=sorted(set(namespaces) - set(templates)),
        enrich=enrich,
    )


def _split(template: Template) -> str | None:
    return template.text if template.name is None else None


def _owned(move: PlannedMove) -> PlannedMove:
    """Say whose a target is that has a tenant's name."""
    owner = owner_named(move.to) if move.to is not None else None
    return move.model_copy(update={"creator": owner.creator, "twin": owner.twin}) if owner is not None else move


def new_index(survey: Survey, name: str, cloud: str | None, region: str | None) -> NewIndex | None:
    """Say where to create the target; None where it exists. By default beside the source. Raises BadInput."""
    if survey.target is not None:
        return None
    if not _INDEX_NAME.fullmatch(name):
        fitting = re.sub(r"[^a-z0-9]+", "-", name.lower())[:45].strip("-") or "vectors"
        raise BadInput(
            f"there is no index {name!r}, and none can be made: an index's name has 1 to 45 lower-case letters, digits "
            "and hyphens, and neither begins nor ends with a hyphen",
            next_step=f"name it {fitting!r}, for example",
        )
    cloud, region = cloud or survey.source.cloud, region or survey.source.region
    if not cloud or not region:
        raise BadInput(
            f"the target index does not exist, and the source {survey.source.name!r} does not say where it lives",
            next_step="name the cloud and the region to create it in, for example aws and us-east-1",
        )
    return NewIndex(cloud=cloud, region=region)
