"""Planning: typed options in, a plan out.

Gather (a survey, the look-up), decide (creators, index, checks), write down. Nothing here writes to a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from migrations import checks, convertible, importable
from migrations.analysis import analyze, foresee, foresee_conflicts
from migrations.creators import Grouping, assign
from migrations.embedding import Embedding
from migrations.embedding_checks import check_embedding
from migrations.estimating import CostModel, Prices, Shape
from migrations.findings import Findings, few, way_to_look
from migrations.idsources import IdSources
from migrations.index import new_index, rename, require_room
from migrations.plan import IndexRef, NewIndex, Plan, PlannedMove, Policies, Split
from migrations.rechecking import check_plan, survey_again
from migrations.renaming import Naming, choose
from migrations.routing import ByKey, Ownership, Router
from migrations.survey import COMPARE_UP_TO, CommonIds, HeldNamespace, Survey, Surveyor, common_ids
from migrations.texts import TextRows, texts_of
from vecfleet.errors import BadPlan
from vecfleet.records import FLOAT32_BYTES
from vecfleet.stores.base import BulkFiles, IndexInfo, Kind, Limits, ReadNodes, Store

__all__ = [
    "Common",
    "CreatorsOptions",
    "ExportOptions",
    "ImportOptions",
    "IndexOptions",
    "check_plan",
    "plan_creators",
    "plan_export",
    "plan_import",
    "plan_index",
    "survey_again",
]

# Stores that charge nothing for reads and writes: folders of files, tables of the user's own databases.
UNMETERED = frozenset({"parquet", "pgvector", "pgvector-other"})
# How many owners records are assumed to spread over, if there is no look-up.
GUESSED_OWNERS = 10
# Queries a month if nobody says how many: the price of a month then stands for each million.
MONTHLY_QUERIES = 1_000_000
# Records. Namespaces to be split are read when planning up to this size, for at most 1,100 read units.
ANALYZE_UP_TO = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options of every recipe. `skip`: globs of source namespaces to leave alone; `only`: leave all others alone.

    `naming`: the rules for new names of source namespaces. `texts`: the rows with the texts of a plan that embeds, if
    its records do not hold them.
    """

    policies: Policies = field(default_factory=Policies)
    prices: Prices = field(default_factory=Prices)
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    naming: Naming = field(default_factory=Naming)
    lookup_key: str = "source_id"
    schema_from: str | None = None
    monthly_queries: int = MONTHLY_QUERIES
    namespace_quota: int = checks.NAMESPACE_QUOTA
    texts: TextRows | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatorsOptions:
    """Recipe `creators`: the namespaces of one index become tenants' namespaces, in that index."""

    index: str
    grouping: Grouping
    common: Common = field(default_factory=Common)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """Recipe `index`: everything into another index, under its own name or, with `grouping`, as tenants' namespaces.

    An absent target is created as `new` says (no place named: where the source is). Only a pod index needs `ids`.
    """

    source: str
    target: str
    grouping: Grouping | None = None
    new: NewIndex = field(default_factory=NewIndex)
    ids: IdSources | None = None
    common: Common = field(default_factory=Common)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Recipe `export`: an index into a folder of files, under its own names. `ids`: as for `IndexOptions`."""

    index: str
    folder: str
    ids: IdSources | None = None
    common: Common = field(default_factory=Common)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Recipe `import`: an exported folder into an index.

    An absent index is created as `new` says (no place named: where the exported one was). `bulk`: a copy of the folder
    in a bucket, which the service imports by itself first.
    """

    folder: str
    index: str
    new: NewIndex = field(default_factory=NewIndex)
    bulk: BulkFiles | None = None
    common: Common = field(default_factory=Common)


def plan_creators(store: Store, options: CreatorsOptions, *, now: datetime) -> Plan:
    """Plan the recipe `creators`. Raises BadPlan with every problem found, NotFound if there is no such index."""
    surveyor = Surveyor(store)
    survey = surveyor.survey(options.index)
    return plan_surveyed("creators", surveyor, survey, options.grouping, options.common, now, options.index)


def plan_index(store: Store, options: IndexOptions, *, now: datetime, into: Store | None = None) -> Plan:
    """Plan the recipe `index`. Raises BadPlan with every problem found, NotFound if there is no such source.

    `into`: the account of the target (None: that of the source).
    """
    surveyor = Surveyor.between(store, into)
    survey = surveyor.survey(options.source, options.target, options.ids)
    if survey.same_index and options.grouping is None:
        raise BadPlan(
            f"{options.source!r} is both the source and the target: under its own name each namespace is there already",
            next_step=f"`vecfleet plan namespaces {options.source} OLD=NEW` copies or renames within an index; or name "
            "another target",
        )
    create = new_index(survey, options.target, options.new)
    return plan_surveyed("index", surveyor, survey, options.grouping, options.common, now, options.target, create)


def plan_export(store: Store, folders: Store, options: ExportOptions, *, now: datetime) -> Plan:
    """Plan the recipe `export`. Raises BadPlan with every problem found, NotFound if there is no such index."""
    surveyor = Surveyor(store, Surveyor(folders))
    survey = surveyor.survey(options.index, options.folder, options.ids)
    create = NewIndex() if survey.target is None else None
    return plan_surveyed("export", surveyor, survey, None, _unread(options.common), now, options.folder, create)


def plan_import(folders: Store, store: Store, options: ImportOptions, *, now: datetime) -> Plan:
    """Plan the recipe `import`. Raises BadPlan with every problem found, NotFound if there is no such folder."""
    if options.common.policies.writers != "freeze":
        raise BadPlan(
            "an exported folder holds what was exported, and nobody writes to it: there is nothing to follow",
            next_step="leave out --writers; for what came since: `vecfleet plan index` or `plan stores` with "
            "`--writers delta` from the index itself",
        )
    surveyor = Surveyor(folders, Surveyor(store))
    survey = surveyor.survey(options.folder, options.index)
    create = new_index(survey, options.index, options.new)
    if options.bulk is None:
        return plan_surveyed("import", surveyor, survey, None, _unread(options.common), now, options.index, create)
    policies = options.common.policies.model_copy(update={"bulk": options.bulk})
    importable.check(survey, folders, policies, create)
    common = _unread(replace(options.common, policies=policies))
    plan = plan_surveyed("import", surveyor, survey, None, common, now, options.index, create)
    convertible.check_all_chosen(plan, survey, "bulk import")
    gb = plan.estimate.records * plan.estimate.record_bytes / 1e9
    note = importable.said(policies, options.folder, gb, priced=bool(common.prices.conversion_gb))
    before = importable.made_before(store, survey.target, options.bulk)
    return plan.model_copy(update={"warnings": (*plan.warnings, note), "filled_before": before}).sealed()


def _unread(common: Common) -> Common:
    """Leave out the cut-over and the soak, because nobody reads from a folder."""
    return replace(common, policies=common.policies.model_copy(update={"cut_over": "none", "soak_seconds": 0}))


def plan_surveyed(
    recipe: str,
    surveyor: Surveyor,
    survey: Survey,
    grouping: Grouping | None,
    common: Common,
    now: datetime,
    target: str,
    create: NewIndex | None = None,
) -> Plan:
    """Make the plan of a recipe from its survey. Raises BadPlan with every problem found."""
    embedding = common.policies.embedding
    findings = checks.check_indexes(survey, embedding)
    look = way_to_look(surveyor.store.name, survey.source.name)
    if not survey.namespaces:
        findings.raise_problems(look)  # if the source cannot be read, nothing else can be checked
    policies = _settled(common.policies, grouping)
    if policies.writers == "delta" and survey.source.kind is Kind.POD:
        findings.problems.append(
            "a pod index cannot be listed, so no pass would find what writers add to it: stop them (--writers freeze), "
            "or have the application write to both sides (--writers dual)"
        )
    findings.add(checks.check_queries((survey.source, survey.target), policies))
    candidates, left_alone = _candidates(survey, common, findings)
    naming = common.naming
    split = Split(key=naming.key, otherwise=naming.otherwise) if naming.key is not None else None
    if grouping is None:
        findings.problems += naming.objections(survey.source.name, sorted(survey.namespaces), sorted(candidates))
        occupied = {name for name, held in survey.occupied.items() if held.records}
        assignment = rename(candidates, naming, occupied)
    else:
        assignment = assign(candidates, grouping, occupied=survey.occupied, policies=policies)
    # A map that can be taken back needs to know where each record came from.
    travels = policies.metadata_map is not None and policies.metadata_map.travels
    policies = policies.model_copy(update={"enrich": assignment.enrich or travels})
    findings.add(assignment.findings)
    moves, idle = checks.drop_no_ops(assignment.moves, survey)
    findings.add(idle)
    snapshot = grouping.snapshot if grouping else None
    router = Router(
        ownership=snapshot.ownership if snapshot else Ownership(),
        lookup_key=common.lookup_key,
        review_namespace=policies.review,
        by_key=ByKey.of(split, moves),
    )
    reachable = checks.reachable_targets(snapshot, policies, split)
    read, unread = _analyzable(survey, moves)
    for move in read:
        breakdown = analyze(surveyor.reader(survey.source), move.source, router)
        findings.add(foresee(breakdown, policies, split))
        reachable |= set(breakdown.targets)
    if unread:
        findings.warnings.append(
            f"too large to read when planning, so the targets of their records show only while copying: {few(unread)}"
        )
    findings.add(checks.check_targets(moves, survey, policies, reachable, common.namespace_quota))
    findings.add(checks.check_schemas(moves, survey, common.schema_from))
    findings.add(checks.check_map(moves, policies, surveyor.sample(survey) if policies.metadata_map else ()))
    findings.add(checks.check_ids(moves, survey, policies, surveyor.at_target.store.name))
    if embedding is not None:
        sample = surveyor.sample(survey)
        texts = texts_of(embedding, common.texts, sample)
        findings.add(check_embedding(embedding, survey, moves, policies, sample, texts))
    findings.add(_compare_ids(surveyor, survey, moves, policies))
    if snapshot is not None:
        findings.warnings += snapshot.warnings
    if not moves and not findings.problems:
        findings.problems.append(_nothing_to_move(survey.source.name, [move.source for move in assignment.moves]))
    findings.raise_problems(look)
    whole = {move.source for move in moves} - {move.source for move in read}
    rest = [move for move in moves if move.source in whole]
    findings.add(foresee_conflicts(surveyor.sampled(survey), rest, router, policies))
    if survey.ids is not None:
        moves = [move.model_copy(update={"ids_file": survey.ids.files[move.source]}) for move in moves]
    free_source, free_target = surveyor.store.name in UNMETERED, surveyor.at_target.store.name in UNMETERED
    costs = CostModel(
        shape=_shape(surveyor, survey, embedding),
        policies=policies,
        # The side with the smaller limits sets the size of a batch; folders and tables have the largest.
        limits=Limits() if free_source else surveyor.reader(survey.source).index.limits,
        prices=common.prices,
        owners=len(reachable) or GUESSED_OWNERS,
        metered_source=survey.source.kind is not Kind.POD,
        free_source=free_source,
        free_target=free_target,
    )
    estimate = costs.estimate(moves)
    if create is not None and create.read_capacity is not None:
        require_room(create.read_capacity, estimate.records * estimate.record_bytes)
    monthly = costs.monthly(
        moves,
        common.monthly_queries,
        {name: held.records for name, held in survey.occupied.items()},
        source_nodes=survey.source.read_capacity,
        target_nodes=_read_capacity(survey, create),
    )
    return Plan(
        recipe=recipe,
        made_at=now,
        source=_ref(surveyor.store, survey.source),
        target=_target_ref(surveyor.at_target.store, survey, target, embedding),
        create_target=create,
        policies=policies,
        ownership=snapshot.ref if snapshot else None,
        lookup_key=common.lookup_key,
        schema_from=common.schema_from,
        split=split,
        moves=tuple(sorted(moves, key=lambda move: (-move.records, move.source))),
        left_alone=tuple(sorted([*left_alone, *assignment.left_alone])),
        estimate=estimate.model_copy(update={"monthly": monthly}),
        warnings=tuple(findings.warnings),
    ).sealed()


def _nothing_to_move(index: str, kept: list[str]) -> str:
    """Say why a plan has no moves. `kept`: namespaces that would keep their names in the same index."""
    if not kept:
        return f"the index {index!r} holds nothing to move"
    keep, them = ("would keep its name", "it") if len(kept) == 1 else ("would keep their names", "them")
    return f"{few(kept)} {keep} in the same index: name another one for {them}, or another index by --to"


def _analyzable(survey: Survey, moves: Sequence[PlannedMove]) -> tuple[list[PlannedMove], list[str]]:
    """Return the moves to several targets that are small enough to read now, and the sources of larger ones."""
    read: list[PlannedMove] = []
    unread, left = [], 0 if survey.source.kind is Kind.POD else ANALYZE_UP_TO
    for move in sorted((move for move in moves if move.is_divided), key=lambda move: (move.records, move.source)):
        if move.records <= left:
            read.append(move)
            left -= move.records
        else:
            unread.append(move.source)
    return read, unread


def _settled(policies: Policies, grouping: Grouping | None) -> Policies:
    """Add the policies that the grouping implies: to review the unowned means to review orphans."""
    reviewed = grouping is not None and grouping.unowned == "review"
    return policies.model_copy(update={"orphans": "review"}) if reviewed else policies


def _candidates(survey: Survey, common: Common, findings: Findings) -> tuple[dict[str, HeldNamespace], list[str]]:
    """Return the namespaces to decide about, and those to leave alone: skipped, not chosen, or empty."""
    chosen, objections = choose(survey.namespaces, survey.source.name, common.only, common.skip)
    findings.problems += objections
    empty = {name for name in chosen if not survey.namespaces[name].records}
    if empty:
        findings.warnings.append(f"left alone, because they are empty: {few(empty)}")
    candidates = {name: held for name, held in survey.namespaces.items() if name in chosen - empty}
    return candidates, sorted(set(survey.namespaces) - set(candidates))


def _compare_ids(surveyor: Surveyor, survey: Survey, moves: Sequence[PlannedMove], policies: Policies) -> Findings:
    common: dict[str, CommonIds] = {}
    unread = []
    for name, sources in checks.sharing_groups(moves, survey.occupied).items():
        there = survey.occupied.get(name)
        records = sum(survey.namespaces[source].records for source in sources) + (there.records if there else 0)
        if records > COMPARE_UP_TO:
            unread.append(name)
            continue
        streams = [surveyor.ids(survey, source) for source in sources]
        if there is not None and survey.target is not None:
            streams.append(surveyor.at_target.reader(survey.target).ids(name))
        common[name] = common_ids(streams)
    findings = checks.check_common_ids(common, policies)
    if unread:
        findings.warnings.append(f"too large to compare ids when planning, compared while copying: {few(unread)}")
    return findings


def _read_capacity(survey: Survey, create: NewIndex | None) -> ReadNodes | None:
    if create is not None:
        return create.read_capacity
    return survey.target.read_capacity if survey.target is not None else None


def _shape(surveyor: Surveyor, survey: Survey, embedding: Embedding | None) -> Shape:
    """Return the sizes of the source's records; with their new vectors, where these are larger."""
    shape = surveyor.shape(survey)
    new, old = (embedding.card.dimension if embedding is not None else 0), survey.source.dimension or 0
    return shape.wider(max(0, new - old) * FLOAT32_BYTES)


def _ref(store: Store, info: IndexInfo) -> IndexRef:
    return IndexRef.model_validate(
        {
            "store": store.name,
            "index": info.name,
            "kind": info.kind,
            "dimension": info.dimension,
            "metric": info.metric,
            "project": info.project,
        }
    )


def _target_ref(store: Store, survey: Survey, name: str, embedding: Embedding | None) -> IndexRef:
    if survey.target is not None:
        return _ref(store, survey.target)
    if embedding is not None:
        return _ref(store, replace(embedding.made(survey.source), name=name, host=""))
    kind = Kind.DENSE if survey.source.kind is Kind.POD else survey.source.kind
    return _ref(store, replace(survey.source, name=name, kind=kind, host=""))
