"""Caps on the records that may go without a person: gone from a source, withdrawn from a target, or missing there.

An application deletes a few records. If many are gone, the service may not find them for a while, or the source may
be their last place. Each cap raises with the command by which a person confirms the number.
"""

from collections import Counter

from orchestrator.core.confirming import confirmation
from orchestrator.core.guards import MissingAt, against_missing, may_go
from orchestrator.core.states import BatchKind
from orchestrator.ledger import cleanup
from vecfleet.errors import NeedsOperator
from vecfleet.stores.base import Kind
from workers.erasure_check import require_no_erasure
from workers.work import NotProven, Work


def require_most_listed(work: Work, lacking: int) -> None:
    """Raise NeedsOperator if the source lists far fewer ids than planned.

    The plan's number is an estimate, and a source may shrink until it is copied.
    """
    move, job = work.move, work.job
    allowed = may_go(move.planned, job.missing_allowed)
    if lacking > allowed:
        with work.database.begin() as connection:
            require_no_erasure(connection, move.source)
        raise NeedsOperator(
            f"{move.source} lists {move.planned - lacking} ids, though {move.planned} records were planned",
            next_step=f"if {lacking} were deleted since, `{confirmation(job.id, lacking)}` and resume; if not, "
            "resume once it lists them",
        )


def require_few_withdrawn(work: Work, count: int) -> None:
    """Raise NeedsOperator if many copied records, or all, are gone. Writers delete a few; a person confirms more."""
    source = work.move.source
    _require_any(work, "nothing is removed on its account")
    why = f"records of {source} went away after they were copied; what was written of them would be removed"
    of = work.move.planned if work.job.plan.policies.prefilled else work.move.written
    _require_under_cap(work, "removed", count, of, why)


def require_few_gone(work: Work, count: int) -> None:
    """Raise NeedsOperator if many listed records are gone, or all of them while writers stand still.

    A few may go. If many are gone, the service probably does not find the namespace for a while. While writers go on,
    the next listing shows whether all are gone.
    """
    source, job = work.move.source, work.job
    if not job.plan.policies.quiet_passes:
        _require_any(work, "what it held is not counted as gone")
    why = f"records of {source} were listed and are not there any more; they would count as gone"
    _require_under_cap(work, "lacking", count, max(work.move.planned, work.move.listed), why)


def missing_if_few(work: Work, missing: Counter[int]) -> Counter[int]:
    """Return how many records of this batch are missing at each target. Raise NotProven if too many are missing.

    Adds up two totals: for each target over all its sources, and for this source over all its batches. Batches that
    still run count too. Each batch deletes by ids right after its own proof, so a target's total also takes in the
    shortfall of the service's own count: records that no batch has compared yet.
    Records that an earlier attempt counted and then deleted still count, though this attempt does not see them.
    """
    noted = (work.lease.found or {}).get("missing_at", {})
    if work.lease.intended:
        missing |= Counter({int(target_id): count for target_id, count in noted.items()})
    if not missing and not noted:
        return missing
    looked = {target.id: target for target in work.copy_targets if target.id in missing}
    empty = {id for id, target in looked.items() if _holds_nothing(work, target.namespace)}
    counts = {id: work.target.count(target.namespace) for id, target in looked.items()}
    with work.database.begin() as connection:
        total, rows = cleanup.add_up_missing(connection, work.lease, missing)
        targets = [
            MissingAt(
                looked[id].namespace,
                row.missing,
                row.written,
                row.said,
                holds_nothing=id in empty,
                uncounted=looked[id].held_before + row.written - counts[id],
            )
            for id, row in rows.items()
        ]
        why = against_missing(work.job, work.move, total, targets)
        if why:
            raise NotProven(why)
    return missing


def _require_any(work: Work, otherwise: str) -> None:
    source = work.move.source
    if work.source.index.info.kind is not Kind.POD and not work.source.page(source).ids:
        with work.database.begin() as connection:
            require_no_erasure(connection, source)
        raise NeedsOperator(
            f"{source} lists no ids any more: {otherwise}",
            next_step=f"restore it and resume, or `vecfleet cancel {work.job.id}`",
        )


def _require_under_cap(work: Work, what: str, count: int, of: int, why: str) -> None:
    """Raise NeedsOperator if the count over the whole source, of all batches at work, is above the cap."""
    job = work.job
    allowed = may_go(of, job.missing_allowed)
    with work.database.begin() as connection:
        total = cleanup.add_up(connection, work.lease, (BatchKind.COPY,), what, count)
        if total > allowed:
            require_no_erasure(connection, work.move.source)
            raise NeedsOperator(
                f"{total} {why}", next_step=f"if that is meant, `{confirmation(job.id, total)}` and resume"
            )


def _holds_nothing(work: Work, namespace: str) -> bool:
    if work.target.index.info.kind is Kind.POD:
        return not work.target.count(namespace)
    return next(work.target.ids(namespace), None) is None
