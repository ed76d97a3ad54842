"""Convert: the store itself makes a plan's target of its source, before the job copies what that left out.

Nothing of ours is written here. Stopped in the middle, the conversion goes on at the store, and the next apply of the
same plan waits for it.
"""

from collections.abc import Callable

from migrations.findings import few
from migrations.plan import Plan
from orchestrator.bootstrap import Fleet
from vecfleet.errors import Refused
from vecfleet.names import canonical
from vecfleet.stores.base import Conversion, IndexInfo

OnWait = Callable[[Conversion], None]


def finish(fleet: Fleet, plan: Plan, on_wait: OnWait | None) -> Conversion | None:
    """Wait for the conversion that an earlier apply of the plan began; None if none did, or its index was deleted.

    `on_wait`: None if nobody waits; then Refused is raised for one that is under way.
    """
    store = fleet.accounts.store(plan.source.store)
    conversions = store.conversions()
    begun = conversions.find(plan.source.index, plan.target.index)
    if begun is None or plan.target.index not in {info.name for info in store.indexes()}:
        return None
    return conversions.finish(begun, on_wait or _refuse_to_wait)


def convert(fleet: Fleet, plan: Plan, source: IndexInfo, on_wait: OnWait | None) -> IndexInfo:
    """Have the store convert the plan's source into its target, and wait. Return the target."""
    if on_wait is None:
        raise Refused(
            f"{plan.source.index!r} is converted by the service first, for as long as that takes",
            code="conversion-takes-long",
            next_step="start this plan by `vecfleet apply`, which waits for it",
        )
    store, new = fleet.accounts.store(plan.source.store), plan.create_target
    assert new is not None, "a plan whose target is there is not converted into it"
    tags = source.tags if new.tags is None else new.tags
    conversions = store.conversions()
    begun = conversions.begin(plan.source.index, plan.target.index, plan.target.fields or {}, tags)
    conversions.finish(begun, on_wait)
    return store.describe(plan.target.index)


def require_all_planned(fleet: Fleet, plan: Plan, target: IndexInfo) -> None:
    """Raise Refused if the store made a namespace that the plan does not have: nobody would prove it."""
    planned = {canonical(move.to) for move in plan.moves if move.to is not None}
    others = {held.name for held in fleet.store_named(plan.target.store).open(target).namespaces()} - planned
    if others:
        raise Refused(
            f"{plan.target.index!r} holds namespaces that are not in the plan: {few(others)}",
            code="plan-outdated",
            next_step=f"delete the index {plan.target.index!r}, and make the plan again",
        )


def require_made(plan: Plan, conversion: Conversion | None) -> None:
    """Raise Refused if the plan's target is there, and no conversion has made it."""
    if conversion is None:
        raise Refused(
            f"the index {plan.target.index!r} is there, and no conversion of {plan.source.index!r} has made it",
            code="plan-outdated",
            next_step="plan with another name for the new index",
        )


def _refuse_to_wait(conversion: Conversion) -> None:
    raise Refused(
        f"the conversion of {conversion.source!r} is at {conversion.percent:.0f} %",
        code="conversion-takes-long",
        next_step="try again when it is complete; `vecfleet apply` waits for it",
    )
