"""The service's own counts of a job's targets. A count lags, and one deletion hides one insert: it proves nothing."""

from dataclasses import dataclass

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import checks, jobs, moves


@dataclass(frozen=True, slots=True)
class Counted:
    """One target: the records that should be there (older ones included), and the service's own count."""

    namespace: str
    expected: int
    counted: int


def counts(fleet: Fleet, job_id: int) -> list[Counted]:
    """Return every target of a job with the service's count. Changes nothing. Raises NotFound, StoreError."""
    with fleet.database.begin() as connection:
        job = jobs.get(connection, job_id)
        targets = moves.targets_of_job(connection, job_id)
        written = checks.expected_of(connection, [target.id for target in targets])
    index = fleet.store_named(job.plan.target.store).open(job.target)
    held = {namespace.name: namespace.count for namespace in index.namespaces()}
    return [
        Counted(
            target.namespace,
            target.held_before + (written[target.id].count if target.id in written else 0),
            held.get(target.namespace, 0),
        )
        for target in targets
    ]
