"""Convert: the store itself makes a plan's target of its source, before the job copies what that left out.

Nothing of ours is written here. Stopped in the middle, the conversion goes on at the store, and the next apply of the
same plan waits for it. The job names its conversion, which no other job begins with: by then others may write there.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from migrations.findings import few
from migrations.plan import Plan
from orchestrator.bootstrap import Fleet
from vecfleet.errors import Refused
from vecfleet.names import canonical
from vecfleet.stores.base import Conversion, IndexInfo

OnWait = Callable[[Conversion], None]
_CLOCKS_APART = timedelta(minutes=5)  # the most, of the service's clock and of the planner's


def find(fleet: Fleet, plan: Plan) -> Conversion | None:
    """Return the conversion that an earlier apply of the plan began; None if none did, or its index was deleted.

    No index had the name when the plan was made: what an older conversion made is gone. An index that serves is not
    what a conversion left when it failed: that one was deleted, too.
    """
    store = fleet.accounts.store(plan.source.store)
    conversion = store.conversions().find(plan.source.index, plan.target.index)
    if conversion is None or was_there(plan, conversion.id, conversion.created_at):
        return None
    there = [info for info in store.indexes() if info.name == plan.target.index]
    return conversion if any(not (conversion.failed and info.ready) for info in there) else None


def was_there(plan: Plan, key: str, created_at: datetime) -> bool:
    """Say whether this conversion or import is older than the plan: the plan names those. No clocks are compared.

    Plans of earlier versions name none. There the clocks of the planner and of the service decide, and may be five
    minutes apart.
    """
    if plan.filled_before is None:
        return created_at < plan.made_at - _CLOCKS_APART
    return key in plan.filled_before


def begin(fleet: Fleet, plan: Plan, source: IndexInfo, on_wait: OnWait | None) -> Conversion:
    """Have the store begin to convert the plan's source into its target. Raises Refused if nobody waits for it."""
    if on_wait is None:
        raise Refused(
            f"{plan.source.index!r} is converted by the service first, for as long as that takes",
            code="conversion-takes-long",
            next_step="start this plan by `vecfleet apply`, which waits for it",
        )
    store, new = fleet.accounts.store(plan.source.store), plan.create_target
    assert new is not None, "a plan whose target is there is not converted into it"
    tags = source.tags if new.tags is None else new.tags
    return store.conversions().begin(plan.source.index, plan.target.index, plan.target.fields or {}, tags)


def finish(fleet: Fleet, plan: Plan, conversion: Conversion, on_wait: OnWait | None) -> None:
    """Wait until it is complete. `on_wait`: None if nobody waits; then Refused is raised for one that is under way."""
    fleet.accounts.store(plan.source.store).conversions().finish(conversion, on_wait or _refuse_to_wait)


def require_absent(plan: Plan, target: IndexInfo | None) -> None:
    """Raise Refused if the plan's target is there: no conversion for this plan has made it."""
    if target is not None:
        raise Refused(
            f"the index {plan.target.index!r} exists, and no conversion of {plan.source.index!r} created it",
            code="plan-outdated",
            next_step="plan with another name for the new index",
        )


def require_made(plan: Plan, target: IndexInfo | None) -> IndexInfo:
    """Return the index that the conversion made. Raises Refused if somebody deleted it since."""
    if target is None:
        raise Refused(
            f"the index {plan.target.index!r} was deleted after the service had made it",
            code="plan-outdated",
            next_step="apply again, if that was meant: the service converts anew",
        )
    return target


def require_all_planned(fleet: Fleet, plan: Plan, target: IndexInfo) -> None:
    """Raise Refused if the store made a namespace that the plan does not have: nobody would prove it."""
    planned = {canonical(move.to) for move in plan.moves if move.to is not None}
    others = {held.name for held in fleet.store_named(plan.target.store).open(target).namespaces()} - planned
    if others:
        raise Refused(
            f"{plan.target.index!r} holds namespaces that are not in the plan: {few(others)}",
            code="plan-outdated",
            next_step=_without_others(plan),
        )


def _without_others(plan: Plan) -> str:
    """Say what to do about namespaces that nobody planned.

    A conversion has them from the source. An import has them from the bucket, or somebody wrote them since.
    """
    if plan.policies.converted:
        return (
            f"make the plan again, into another new index; the index {plan.target.index!r} is of no use then, unless "
            "somebody writes there"
        )
    assert plan.policies.bulk is not None, "only what the store filled is looked through"
    uri = plan.policies.bulk.uri
    return (
        f"see whose they are with `vecfleet audit {plan.target.typed}`. If the import made them, {uri} holds more than "
        f"{plan.source.index}: take that out there, and make the plan again, into another new index; or plan without "
        "`--via bulk`"
    )


def _refuse_to_wait(conversion: Conversion) -> None:
    raise Refused(
        f"the conversion of {conversion.source!r} is under way: {conversion.so_far}",
        code="conversion-takes-long",
        next_step="try again when it is complete; `vecfleet apply` waits for it",
    )
