"""Tell by the versions of a source's rows that a later pass need not read a batch again.

The versions were read before the records, and are compared for equality alone. So whatever was committed after that
first look, by however old a transaction, makes them differ, and so does a row that is gone. Only a whole copy is left
as it is: every id was written or equal at its target, and none parked, gone, left behind or erased since. Read-only.
"""

from workers.work import Work

_LEFT = ("gone", "parked", "left_behind")


def versions_of(work: Work) -> str | None:
    """Return the versions of the batch's rows; None where no pass would ask, or the store tells none.

    Under `dual` a pass compares both sides, so it reads both.
    """
    if work.job.plan.policies.writers != "delta":
        return None
    return work.source.versions(work.move.source, work.ids)


def is_unchanged(work: Work, versions: str | None) -> bool:
    """Say whether the batch was copied whole and no row of it has changed since."""
    found = work.lease.found or {}
    known = work.job.passes > 1 and work.job.doubted_at is None
    if not known or versions is None or found.get("versions") != versions:
        return False
    whole = found.get("written", 0) + found.get("identical", 0) == len(work.ids)
    return whole and not any(found.get(name) for name in _LEFT)
