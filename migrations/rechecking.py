"""Check that a plan still fits the stores when it is applied: the same indexes, the same sources, the same answers."""

from collections.abc import Mapping
from pathlib import Path

from migrations import checks
from migrations.findings import few
from migrations.idsources import count_ids
from migrations.ownership import OwnershipSnapshot
from migrations.plan import IndexRef, Plan
from migrations.survey import HeldNamespace, Survey, Surveyor
from vecfleet.stores.base import IndexInfo, Store
from vecfleet.stores.documents import Layout


def survey_again(store: Store, plan: Plan, *, root: Path, into: Store | None = None) -> Survey:
    """Survey the present stores for `check_plan`. Raises NotFound if the plan's source index is gone.

    `into` is the target's store, if it is not the source's.
    """
    files = plan.ids_files
    surveyor = Surveyor(store, Surveyor(into) if into is not None else None)
    return surveyor.survey(plan.source.index, plan.target.index, count_ids(root, files) if files else None)


def check_plan(plan: Plan, survey: Survey, ownership: OwnershipSnapshot | None = None) -> list[str]:
    """Return the objections to applying this plan now.

    `ownership` are the look-up's present answers, for a plan that was made with a look-up.
    """
    objections = _index_changes(plan.source, survey.source)
    if survey.same_index and not plan.same_index:
        objections.append("source and target are the same database: the copy would be deleted with the source")
    if survey.target is not None:
        objections += _index_changes(plan.target, survey.target)
    elif plan.create_target is None:
        objections.append(f"the target index {plan.target.index!r} is not there any more")
    objections += _source_changes(plan, survey.namespaces)
    if plan.ownership is not None:
        if ownership is None:
            objections.append("the ownership look-up was not asked again")
        elif ownership.ref.digest != plan.ownership.digest:
            objections.append(
                f"the ownership look-up ({plan.ownership.origin}) answers otherwise than when the plan was made"
            )
    reachable = plan.old_namespaces or checks.reachable_targets(ownership, plan.policies, plan.split)
    findings = checks.check_targets(plan.moves, survey, plan.policies, reachable, takes_back=bool(plan.takes_back))
    objections += findings.problems
    return objections


# The dimension of an index that embeds texts itself is told by some versions of the service only.
_MAY_BE_UNTOLD = {"project", "dimension"}


def _index_changes(planned: IndexRef, now: IndexInfo) -> list[str]:
    before, after = Layout.of(planned.shape(now)), Layout.of(now)
    if before is not None and before.fields != (after.fields if after is not None else None):
        return [f"the fields of the index {planned.index!r} are others than when the plan was made"]
    return [
        f"the plan was made for an index {planned.index!r} with {property_name} {before}; it has {after}"
        for property_name, before, after in (
            ("kind", planned.kind.value, now.kind.value),
            ("dimension", planned.dimension, now.dimension),
            ("metric", planned.metric, now.metric),
            ("project", planned.project, now.project),
        )
        if before != after and (property_name not in _MAY_BE_UNTOLD or None not in (before, after))
    ]


def _source_changes(plan: Plan, namespaces: Mapping[str, HeldNamespace]) -> list[str]:
    gone, changed = [], []
    for move in plan.moves:
        held = namespaces.get(move.source)
        if held is None or not held.records:
            gone.append(move.source)
        elif held.records != move.records and plan.policies.writers == "freeze":
            changed.append(f"{move.source!r} ({move.records:,} when planned, {held.records:,} now)")
    objections = [f"gone since the plan was made: {few(gone)}"] if gone else []
    if changed:
        objections.append(
            f"changed since the plan was made, though writers were to be stopped: {few(changed, quoted=False)}"
        )
    return objections
