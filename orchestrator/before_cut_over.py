"""What must be true before readers are moved: gathered from the job table here, decided by `guards` and `stepping`."""

from datetime import datetime

import sqlalchemy as sa

from orchestrator.guards import Proof, against_landing, against_proof, proving, reaches
from orchestrator.ledger import moves, routes, steps
from orchestrator.model import Job
from orchestrator.stepping import against_step
from vecfleet.errors import Refused
from vecfleet.tenancy.routes import share_of


def require(connection: sa.Connection, job: Job, percent: int, now: datetime) -> None:
    """Raises Refused where so many per cent of the readers may not be on the new side yet. Writes nothing."""
    _require_verdicts(connection, job, percent, now)
    _require_step(connection, job, percent, now)


def _require_verdicts(connection: sa.Connection, job: Job, percent: int, now: datetime) -> None:
    """Every target has a valid one; those to which readers are moved now have one that is young enough for them."""
    back = steps.taken_back(connection, job.id)
    there = {route.new_namespace for route in routes.of_job(connection, job.id) if route.side == "new"}
    for target in moves.targets_of_job(connection, job.id):
        landing = against_landing(target, now)
        if landing is not None:
            raise Refused(landing, next_step=f"cut over then; `vecfleet status {job.id} --watch` follows it")
        valid = target.check_state in ("verified", "empty") and target.sequence == target.check_sequence
        why, command = f"{target.namespace} has no valid verdict", "verify"
        if valid and target.verdict_at is not None and reaches(target, proving(job).verify):
            gains = target.namespace not in there and share_of(target.namespace, job.salt) < percent
            proof = Proof(target.namespace, target.verdict_at, job.passes, back)
            against = against_proof(proof, job.plan.policies, now) if gains else None
            if against is None:
                continue
            why, command = against
        raise Refused(why, next_step=f"`vecfleet {command} {job.id}`, then cut over")


def _require_step(connection: sa.Connection, job: Job, percent: int, now: datetime) -> None:
    step = steps.current(connection, job.id) if job.cut_over_percent else None
    objections = against_step(step, percent, job.plan.policies, now)
    if objections:
        raise Refused(
            "; ".join(objections),
            next_step=f"wait, or take the readers back: `vecfleet reverse {job.id}`",
            objections=tuple(objections),
        )
