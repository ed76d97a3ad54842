"""Recipes `index`, `export`, `import`, `stores` and `tables`: every namespace under its own name or a given one. Pure.

Namespaces that are regrouped on the way follow the rules of recipe `creators` instead.
"""

from collections.abc import Mapping

from migrations.creators import Assignment
from migrations.plan import NewIndex, PlannedMove
from migrations.survey import HeldNamespace, Survey
from vecfleet.errors import BadInput


def keep_names(namespaces: Mapping[str, HeldNamespace], renamed: Mapping[str, str]) -> Assignment:
    """Move every namespace (each holds at least one record) to one of the same name, or of its new name."""
    moves = [
        PlannedMove(source=name, records=held.records, to=renamed.get(name, name))
        for name, held in sorted(namespaces.items())
    ]
    return Assignment(moves=moves)


def new_index(survey: Survey, cloud: str | None, region: str | None) -> NewIndex | None:
    """Say where to create the target; None where it exists. By default beside the source. Raises BadInput."""
    if survey.target is not None:
        return None
    cloud, region = cloud or survey.source.cloud, region or survey.source.region
    if not cloud or not region:
        raise BadInput(
            f"the target index does not exist, and the source {survey.source.name!r} does not say where it lives",
            next_step="name the cloud and the region to create it in, for example aws and us-east-1",
        )
    return NewIndex(cloud=cloud, region=region)
