"""The alias that a plan may leave where a namespace was deleted: its old name leads to its target from then on."""

from vecfleet.names import DEFAULT
from workers.work import NotProven, Work


def _alias_leads_to(work: Work) -> str | None:
    """Where the old name is to lead once its namespace is deleted, if the plan leaves an alias."""
    leaves = work.job.plan.policies.leave_alias and work.move.source != DEFAULT
    return work.move.to if leaves else None


def leave_alias(work: Work) -> None:
    """Where the plan says so, the old name leads to the target from now on. Safe to repeat: it is led there again."""
    to = _alias_leads_to(work)
    if to is not None:
        work.source.point_alias(work.move.source, to)


def is_our_alias(work: Work) -> bool:
    """Whether the alias that the plan leaves stands already: an earlier attempt deleted the namespace.

    Raises NotProven where the name is somebody else's alias: what it leads to is not the source.
    """
    wanted = _alias_leads_to(work)
    to = None if wanted is None else work.source.alias(work.move.source)
    if to is not None and (to != wanted or not work.lease.intended):
        raise NotProven(f"{work.move.source} is an alias by now, and leads to {to}: nothing is deleted through it")
    return to is not None
