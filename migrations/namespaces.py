"""Recipe `namespaces`: copy, rename, merge or split namespaces, within an index or into another."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from migrations.files import read_table, within
from migrations.findings import few
from migrations.index import new_index
from migrations.plan import NewIndex, Plan
from migrations.recipes import Common, plan_surveyed
from migrations.renaming import Naming, Pair, parsed
from migrations.survey import Surveyor
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.stores.base import Store

PAIR_COLUMNS = ("old", "new")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacesOptions:
    """Recipe `namespaces`: namespaces that a pair of `naming` matches, into `target` (None: within the index).

    An absent target is created as `new` says (no place named: where the source is).
    """

    index: str
    naming: Naming
    target: str | None = None
    new: NewIndex = field(default_factory=NewIndex)
    common: Common = field(default_factory=Common)


def plan_namespaces(store: Store, options: NamespacesOptions, *, now: datetime, into: Store | None = None) -> Plan:
    """Plan the recipe `namespaces`. Raises BadPlan with every problem found, NotFound if there is no such index.

    `into`: the account of the target (None: that of the source).
    """
    if not options.naming.pairs:
        raise BadInput("no namespaces are named", next_step="name pairs of OLD=NEW: 'prod=prod_v2' 'tenant-*=t/{1}'")
    target = options.target or options.index
    surveyor = Surveyor.between(store, into)
    survey = surveyor.survey(options.index, target)
    create = new_index(survey, target, options.new)
    common = replace(options.common, naming=options.naming)
    plan = plan_surveyed("namespaces", surveyor, survey, None, common, now, target, create)
    return plan.model_copy(update={"warnings": (*plan.warnings, *_unknown_to_erasures(plan))}).sealed()


def _tenants_made(plan: Plan) -> list[str]:
    """Return the templates by which sources are split among tenants."""
    splits = [move.template for move in plan.moves if move.template is not None]
    return [template for template in splits if names.parse(parsed(template).of("x")) is not None]


def _unknown_to_erasures(plan: Plan) -> list[str]:
    """Warn of tenants whose records in a source only the plan's key tells apart."""
    made = _tenants_made(plan)
    if plan.split is None or not made:
        return []
    return [
        f"{few(made)} makes tenants' names: in the source `vecfleet forget` knows a tenant's records by their "
        f"creator_id and twin_id, and not by {plan.split.key!r}; erase a tenant once the source is cleaned up"
    ]


def naming_of(pairs: tuple[Pair, ...], *, merges: bool, key: str | None, otherwise: str | None) -> Naming:
    """Name the namespaces that pairs match, and leave others alone. Mark records whose origin names do not show."""
    elsewhere = names.canonical(otherwise) if otherwise is not None else None
    return Naming(pairs=pairs, keeps_others=False, merges=merges, marks=True, key=key, otherwise=elsewhere)


def read_pairs(root: Path, file: str) -> tuple[Pair, ...]:
    """Read pairs from CSV with the columns old,new, or a YAML list of such mappings. Raises BadInput, NotFound."""
    pairs = []
    for number, line in enumerate(read_table(within(root, file), PAIR_COLUMNS), start=1):
        old, new = (line.get(column, "") for column in PAIR_COLUMNS)
        if not old or not new:
            raise BadInput(
                f"{file}, entry {number}: it lacks the old name or the new one",
                next_step="give that entry both names, or remove it; the default namespace is called __default__",
            )
        pairs.append(Pair(old, new))
    return tuple(pairs)
