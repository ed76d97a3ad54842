"""Recipe `reverse`: the way back after clean-up. Every record returns to the namespace it came from, as it was.

Each record carries all that the way back needs: `migrated_from`, `_vecfleet_prev` if an enriched key was there before,
and `_vecfleet_map` if the plan has a metadata map. So the way back needs neither the old job's manifests nor its
ownership look-up. If a plan of the recipes `namespaces` and `documents` added nothing, names alone show where records
came from: each target goes back to its one source.
"""

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from migrations import checks
from migrations.enriching import SOURCE, restore
from migrations.estimating import CostModel, Prices
from migrations.mapping import MetadataMap
from migrations.plan import NewIndex, Plan, PlannedMove, Policies
from migrations.renaming import choose
from migrations.routing import Owner, Routed, Rule, Unrouted
from migrations.survey import Surveyor
from vecfleet import names
from vecfleet.errors import BadPlan
from vecfleet.records import Record
from vecfleet.stores.base import Store

_NAMED = 40  # namespaces that a command to go back names


@dataclass(frozen=True, slots=True)
class Backward:
    """The rule of a reverse plan: sources, review namespace and metadata map of the plan that it takes back.

    `owners`: whether that plan wrote owners into records. If not, owner keys in a record were there before.
    """

    sources: Collection[str]
    review: str | None
    metadata_map: MetadataMap | None = None
    owners: bool = True

    def take_back(self, record: Record, namespace: str) -> tuple[str, Record] | Unrouted:
        """Return the record's origin and the record as it was there, or why the origin is unknown. Pure."""
        came_from = record.metadata.get(SOURCE)
        if not isinstance(came_from, str) or came_from not in self.sources:
            return Unrouted("it names no source of the plan that is taken back, so that plan did not bring it here")
        tenant = names.parse(namespace) if self.owners else None
        owner = Owner(tenant.creator, tenant.twin) if tenant is not None else None
        rule: Rule = "review" if namespace == self.review else "move"
        restored = restore(record, came_from, Routed(namespace, owner, rule))
        if self.metadata_map is None:
            return came_from, restored
        metadata = self.metadata_map.undone(restored.metadata)
        if metadata is None:
            return Unrouted("it lacks the mark of its metadata map: it was written anew since")
        return came_from, restored.with_metadata(metadata)


def plan_reverse(
    store: Store,
    original: Plan,
    targets: Collection[str],
    *,
    prices: Prices,
    now: datetime,
    into_store: Store | None = None,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    writers: Literal["freeze", "delta"] = "freeze",
    max_passes: int = 5,
) -> Plan:
    """Plan to take back the effect of a plan whose job wrote to `targets` of `store`. Read-only.

    `only`, `skip`: globs of targets to take back, and of targets to leave. `into_store`: the store of the plan's
    source, if it is another one. Raises BadPlan with every problem found: names that were never changed, prefixed ids,
    a map that cannot be taken back, no records to take back.
    """
    _check_reversible(original)
    surveyor = Surveyor(store, Surveyor(into_store) if into_store is not None else None)
    into = None if original.same_index else original.source.index
    survey = surveyor.survey(original.target.index, into)
    findings = checks.check_indexes(survey)
    # Each id is checked against the present content of the old namespaces, so that no record there is overwritten.
    policies = Policies(
        writers=writers,
        max_passes=max_passes,
        collisions="identical",
        enrich=False,
        cut_over="none",
        soak_seconds=0,
        orphans=original.policies.orphans,
        review_namespace=original.policies.review_namespace,
        metadata_map=original.policies.metadata_map,
        encoded_ids=original.policies.encoded_ids,
    )
    held = {name for name in targets if name in survey.namespaces and survey.namespaces[name].records}
    written, objections = choose(held, survey.source.name, only, skip)
    findings.problems += objections
    came_from = {} if original.policies.enrich else {move.to: move.source for move in original.moves}
    moves = [
        PlannedMove(source=name, records=survey.namespaces[name].records, to=came_from.get(name))
        for name in sorted(written)
    ]
    sources = tuple(sorted(move.source for move in original.moves))
    if not moves and not objections:
        findings.problems.append(
            "the namespaces that the job wrote to are empty or gone, or left out: there is nothing to take back"
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
        takes_back_owners=original.writes_owners,
        moves=tuple(sorted(moves, key=lambda move: (-move.records, move.source))),
        left_alone=tuple(sorted(set(survey.namespaces) - written)),
        estimate=costs.estimate(moves),
        warnings=tuple(findings.warnings),
    ).sealed()


def way_back(original: Plan, job_id: int | None = None) -> str:
    """Say how to bring the records back after the plan's job deleted them from their sources."""
    if original.takes_back:
        return "apply the plan it took back once more"
    lossy = _is_lossy(original)
    if original.policies.embedding is None and not _is_reversible(original):
        mapped = ", which keeps the metadata as the map left them" if lossy else ""
        return f"`vecfleet plan {_of_kept_names(original)}`{mapped}"
    if original.policies.collisions == "prefix" or lossy or original.policies.embedding is not None:
        return f"`vecfleet plan import FOLDER {original.source.typed}`, of an export made before the job"
    return "`vecfleet plan reverse`" if job_id is None else f"`vecfleet plan reverse {job_id}`"


def _check_reversible(original: Plan) -> None:
    if original.takes_back:
        raise BadPlan("this job is itself a way back", next_step=way_back(original))
    if original.policies.embedding is not None:
        raise BadPlan(
            "this job made new vectors, and the old ones did not travel",
            next_step=f"{way_back(original)} brings them back; or `vecfleet plan reembed {original.target.typed} "
            f"{original.source.typed}` makes them again by their old model",
        )
    if _is_lossy(original):
        raise BadPlan(
            "this job's metadata map cannot be taken back: values that it dropped or replaced did not travel",
            next_step=way_back(original),
        )
    if not _is_reversible(original):
        raise BadPlan(
            "this job kept all names and metadata: its records do not say where they came from",
            next_step=f"{way_back(original)} brings them back",
        )
    if original.policies.collisions == "prefix":
        raise BadPlan(
            "this job prefixed the ids: a reverse plan does not remove prefixes",
            next_step="bring the records back from an export: `vecfleet plan import`",
        )


def _is_reversible(original: Plan) -> bool:
    """Say whether records, or names in a plan that renames one by one, show where each record came from."""
    return original.policies.enrich or original.recipe in ("namespaces", "documents")


def _is_lossy(original: Plan) -> bool:
    """Say whether the plan has a map that cannot be taken back."""
    metadata_map = original.policies.metadata_map
    return metadata_map is not None and not metadata_map.travels


def _of_kept_names(original: Plan) -> str:
    """Return the recipe that brings back records which kept their names and metadata."""
    source, target = original.source, original.target
    if original.recipe == "tables":
        return "tables " + " ".join(f"{move.to}={move.source}" for move in original.moves)
    encoded = " --encode-ids" if original.policies.encoded_ids else ""
    chosen = _chosen(original)
    if original.recipe == "stores":
        return (
            f"stores {target.store}:{target.index} {source.store}:{source.index}{chosen}{_renamed(original)}{encoded}"
        )
    if original.recipe == "import":
        return f"export {target.typed}{chosen}{encoded}"
    return f"{'import' if original.keeps_files else 'index'} {target.typed} {source.typed}{chosen}{encoded}"


def _chosen(original: Plan) -> str:
    """Return the options that choose the plan's own namespaces at its target: others there never came from its source.

    They need no choice in a folder of files, nor in an index that the plan created for the whole source. Of very many
    namespaces the options name none.
    """
    targets = sorted({move.to for move in original.moves if move.to is not None})
    if original.keeps_files or (original.create_target is not None and not original.left_alone):
        return ""
    if len(targets) > _NAMED:
        return f" --namespace NAME for each of the {len(targets):,} names in the plan"
    return "".join(f" --namespace {shlex.quote(name)}" for name in targets)


def _renamed(original: Plan) -> str:
    """Return the options that give namespaces their old names again."""
    pairs = [f"{move.to}={move.source}" for move in original.moves if move.to not in (None, move.source)]
    return "".join(f" --rename {shlex.quote(pair)}" for pair in pairs[:_NAMED])
