"""The alias that a plan may leave in place of a deleted namespace, so that the old name leads to the target."""

from vecfleet.names import DEFAULT
from workers.work import NotProven, Work


def _alias_leads_to(work: Work) -> str | None:
    """Return the target of the old name once its namespace is deleted; None if the plan leaves no alias."""
    leaves = work.job.plan.policies.leave_alias and work.move.source != DEFAULT
    return work.move.to if leaves else None


def leave_alias(work: Work) -> None:
    """Point the old name at the target, if the plan says so. Safe to repeat."""
    to = _alias_leads_to(work)
    if to is not None:
        work.source.point_alias(work.move.source, to)


def is_our_alias(work: Work) -> bool:
    """Say whether the plan's alias exists already, because an earlier attempt deleted the namespace.

    Raises NotProven if the name is somebody else's alias, which does not lead to the source.
    """
    wanted = _alias_leads_to(work)
    to = None if wanted is None else work.source.alias(work.move.source)
    if to is not None and (to != wanted or not work.lease.intended):
        raise NotProven(f"{work.move.source} is now an alias that leads to {to}: nothing is deleted through it")
    return to is not None
