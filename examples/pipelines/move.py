"""The steps of a pipeline that moves vectors: plain functions, which the schedulers beside this file call.

A scheduler may run each again under the same `run`: it is done once.
"""

from vecfleet.fleet import FleetClient

WITHIN_S = 6 * 3_600.0


def start(plan: str, digest: str, run: str) -> int:
    """Start the job of a plan file of the fleet, the one with this digest. Return its number."""
    with FleetClient.from_environment() as fleet:
        return fleet.apply(plan, digest, no_backup=True, key=f"{run}-start")


def wait_until_proven(job: int, within_s: float = WITHIN_S) -> int:
    """Return once every record was read back and found equal. Fails with the job's reason where it stops before."""
    with FleetClient.from_environment() as fleet:
        return fleet.wait(job, within_s=within_s).job


def move_readers(job: int, run: str) -> int:
    """Move all readers to the new side; `vecfleet reverse` takes them back. Needs a token of the role approve."""
    with FleetClient.from_environment() as fleet:
        fleet.cut_over(job, 100, key=f"{run}-move-readers")
    return job
