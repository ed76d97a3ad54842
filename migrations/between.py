"""Recipes `stores` and `tables`: namespaces between Pinecone, Postgres and other databases, and within one."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from migrations.findings import few
from migrations.index import new_index, require_nothing_asked
from migrations.plan import NewIndex, Plan
from migrations.recipes import Common, plan_surveyed
from migrations.renaming import Naming, Pair
from migrations.survey import Survey, Surveyor
from vecfleet.errors import BadInput, BadPlan
from vecfleet.pgvector import naming, values
from vecfleet.stores.base import IndexInfo, Store
from vecfleet.stores.pgvector.index import VALUES, PgvectorIndex

TABLES = ("pgvector", "pgvector-other")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoresOptions:
    """Recipe `stores`: an index of one store into one of another store, created if it is absent.

    Records keep their names and metadata. Pinecone creates the index as `new` says.
    """

    source: str
    target: str
    new: NewIndex = field(default_factory=NewIndex)
    common: Common = field(default_factory=Common)


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesOptions:
    """Recipe `tables`: namespaces into others of the same schema, in batches by key rather than in one transaction."""

    index: str
    pairs: tuple[Pair, ...]
    common: Common = field(default_factory=Common)


def plan_stores(source: Store, target: Store, options: StoresOptions, *, now: datetime) -> Plan:
    """Plan the recipe `stores`. Raises BadPlan with every problem found, NotFound if there is no such source."""
    surveyor = Surveyor(source, Surveyor(target) if target is not source else None)
    survey = surveyor.survey(options.source, options.target)
    if survey.same_index:
        same = "database and schema" if source.name in TABLES else "index"
        within = "tables" if source.name in TABLES else f"namespaces {options.source}"
        raise BadPlan(
            f"source and target are the same {same}: there is nothing to move from one to the other",
            next_step=f"`vecfleet plan {within} OLD=NEW` copies or renames within it; or name another target",
        )
    if target.name in TABLES:
        require_nothing_asked(options.new, "a schema of Postgres")
        create = NewIndex() if survey.target is None else None
    else:
        create = new_index(survey, options.target, options.new)
    warnings = halves(survey, target, options.common) if target.name in TABLES else []
    plan = plan_surveyed("stores", surveyor, survey, None, options.common, now, options.target, create)
    if target.name in TABLES:
        warnings += _columns(source, survey, plan) + tables_of(plan)
    return plan.model_copy(update={"warnings": (*plan.warnings, *warnings)}).sealed()


def plan_tables(store: Store, options: TablesOptions, *, now: datetime) -> Plan:
    """Plan the recipe `tables`. Raises BadPlan with every problem found, InvalidNamespace for a name."""
    if not options.pairs:
        raise BadInput("no namespaces are named", next_step="name pairs: production=staging")
    surveyor = Surveyor(store)
    survey = surveyor.survey(options.index)
    common = replace(options.common, naming=Naming(pairs=options.pairs, keeps_others=False))
    plan = plan_surveyed("tables", surveyor, survey, None, common, now, options.index)
    for move in plan.moves:
        naming.check(move.source)
        naming.check(move.to or "")
    note = "build the indexes on the vectors once it is verified: `vecfleet pg create NAMESPACE`"
    return plan.model_copy(update={"warnings": (*plan.warnings, note, *_columns(store, survey, plan))}).sealed()


def halves(survey: Survey, target: Store, common: Common) -> list[str]:
    """Refuse to keep half the bits of each value unless the options accept it. The source's deletion loses the rest."""
    if _kind(survey.target, survey.source.dimension) != values.HALFVEC or _is_half(survey.source):
        return []
    message = (
        f"{target.name} keeps vectors of {survey.source.dimension:,} dimensions as halfvec, 16 bits a value: "
        "verification compares rounded values, and cleaning up the source deletes the only exact ones"
    )
    if common.policies.halves == "refuse":
        raise BadPlan(message, next_step="if that is what you want: `--halves accept`")
    return [message]


def _kind(there: IndexInfo | None, dimension: int | None) -> str:
    return str(there.schema.get(VALUES, values.VECTOR)) if there is not None else values.type_for(dimension or 0)


def _is_half(source: IndexInfo) -> bool:
    return source.schema.get(VALUES) == values.HALFVEC


def _columns(source: Store, survey: Survey, plan: Plan) -> list[str]:
    """Warn which columns become metadata keys: a new table has the columns of our own layout only."""
    index = source.open(survey.source)
    if not isinstance(index, PgvectorIndex):
        return []
    moved = {move.source for move in plan.moves}
    own_columns = {namespace: columns for namespace, columns in index.own_columns().items() if namespace in moved}
    if not own_columns:
        return []
    shown = few([f"{namespace} ({', '.join(columns)})" for namespace, columns in own_columns.items()])
    return [
        f"new tables have no columns for these, which become keys of their metadata, without their indexes and "
        f"constraints: {shown}; `vecfleet pg copy` makes a table like the source"
    ]


def tables_of(plan: Plan) -> list[str]:
    """Say what becomes of names that are no table's, and what is left to do for the new tables."""
    foreign = [move.to for move in plan.moves if move.to is not None and not naming.is_valid(move.to)]
    notes = []
    if foreign:
        tables = few([naming.table_name_of_any(name) for name in foreign[:3]])
        notes = [
            f"{len(foreign)} names are not of the kind that `vecfleet pg` manages; the namespaces keep them, "
            f"and their tables are called after digests of the names: {tables}"
        ]
    return [*notes, "build the indexes on the vectors once it is verified: `vecfleet pg create NAMESPACE`"]
