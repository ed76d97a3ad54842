"""Recipe `reverse`: the way back after clean-up. Every record returns to the namespace it came from, as it was.

Each record carries what it needs: `migrated_from`, and `_vecfleet_prev` where an enriched key was there before. So the
way back needs neither the old job's manifests nor its ownership look-up.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from migrations import checks
from migrations.enriching import SOURCE, restore
from migrations.estimating import CostModel, Prices
from migrations.plan import NewIndex, Plan, PlannedMove, Policies
from migrations.routing import Owner, Routed, Rule, Unrouted
from migrations.survey import Surveyor
from vecfleet import names
from vecfleet.errors import BadPlan
from vecfleet.records import Record
from vecfleet.stores.base import Store


@dataclass(frozen=True, slots=True)
class Backward:
    """The rule of a reverse plan: the sources of the plan it takes back, and that plan's namespace for review."""

    sources: Collection[str]
    review: str | None

    def take_back(self, record: Record, namespace: str) -> tuple[str, Record] | Unrouted:
        """Return the record's origin and what it was there, or why that is unknown. Pure."""
        came_from = record.metadata.get(SOURCE)
        if not isinstance(came_from, str) or came_from not in self.sources:
            return Unrouted("it was not brought here by the plan that is taken back: it names no source of it")
        tenant = names.parse(namespace)
        owner = Owner(tenant.creator, tenant.twin) if tenant is not None else None
        rule: Rule = "review" if namespace == self.review else "move"
        return came_from, restore(record, came_from, Routed(namespace, owner, rule))


def plan_reverse(store: Store, original: Plan, targets: Collection[str], *, prices: Prices, now: datetime) -> Plan:
    """Plan to take a plan's effect back; its job wrote to `targets`. Read-only.

    Raises BadPlan with every problem found: names that were never changed, prefixed ids, nothing there to take back.
    """
    _check_reversible(original)
    surveyor = Surveyor(store)
    into = None if original.same_index else original.source.index
    survey = surveyor.survey(original.target.index, into)
    findings = checks.check_indexes(survey)
    # Each id is checked against the present content of the old namespaces: nothing there is overwritten.
    policies = Policies(
        collisions="identical",
        enrich=False,
        cut_over="none",
        soak_seconds=0,
        orphans=original.policies.orphans,
        review_namespace=original.policies.review_namespace,
    )
    written = [name for name in sorted(targets) if name in survey.namespaces and survey.namespaces[name].records]
    moves = [PlannedMove(source=name, records=survey.namespaces[name].records) for name in written]
    sources = tuple(sorted(move.source for move in original.moves))
    if not moves:
        findings.problems.append(
            "the namespaces that the job wrote to are empty or gone: there is nothing to take back"
        )
    findings.add(checks.check_targets(moves, survey, policies, sources, takes_back=True))
    findings.raise_problems()
    costs = CostModel(
        shape=surveyor.shape(survey),
        policies=policies,
        limits=surveyor.reader(survey.source).index.limits,
        prices=prices,
        owners=len(sources),
    )
    return Plan(
        recipe="reverse",
        made_at=now,
        source=original.target,
        target=original.source,
        create_target=None if survey.target or original.same_index else NewIndex(),
        policies=policies,
        takes_back=sources,
        moves=tuple(sorted(moves, key=lambda move: (-move.records, move.source))),
        left_alone=tuple(sorted(set(survey.namespaces) - set(written))),
        estimate=costs.estimate(moves),
        warnings=tuple(findings.warnings),
    ).sealed()


def way_back(original: Plan, job_id: int | None = None) -> str:
    """Tell what brings the records back after the plan's job deleted them from their sources."""
    if original.takes_back:
        return "apply the plan it took back once more"
    if not original.policies.enrich:
        return f"`vecfleet plan {_of_kept_names(original)}`"
    if original.policies.collisions == "prefix":
        return f"`vecfleet plan import FOLDER {original.source.index}`, of an export made before the job"
    return "`vecfleet plan reverse`" if job_id is None else f"`vecfleet plan reverse {job_id}`"


def _check_reversible(original: Plan) -> None:
    if original.takes_back:
        raise BadPlan("this job is itself a way back", next_step=way_back(original))
    if not original.policies.enrich:
        raise BadPlan(
            "this job kept all names and metadata: its records do not say where they came from",
            next_step=f"{way_back(original)} brings them back",
        )
    if original.policies.collisions == "prefix":
        raise BadPlan(
            "this job prefixed the ids: a reverse plan does not take that off",
            next_step="bring the records back from an export: `vecfleet plan import`",
        )


def _of_kept_names(original: Plan) -> str:
    """Return the recipe that brings back records which kept their names and metadata."""
    source, target = original.source, original.target
    if original.recipe == "tables":
        return "tables " + " ".join(f"{move.to}={move.source}" for move in original.moves)
    if original.recipe == "stores":
        return f"stores {target.store}:{target.index} {source.store}:{source.index}"
    if original.recipe == "import":
        return f"export {target.index}"
    return f"{'import' if original.keeps_files else 'index'} {target.index} {source.index}"
