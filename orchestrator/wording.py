"""Sentences that several places say: counts, and what a roll back drops."""

from collections.abc import Sequence

from orchestrator.model import Target


def counted(count: int, one: str, many: str) -> str:
    """`1 batch is parked`, `2 batches are parked`."""
    return f"1 {one}" if count == 1 else f"{count:,} {many}"


def wait_for_a_decision(records: int) -> str:
    """Parked records that nobody has decided about, as a reason."""
    return counted(records, "parked record waits for a decision", "parked records wait for a decision")


def another_plan(records: int, job_id: int) -> str:
    """What becomes of parked records that hold something else in a key that the plan adds."""
    found = counted(records, "parked record holds", "parked records hold")
    return (
        f"{found} another value in a key that the plan adds, and while it is there a retry parks them again: "
        f"to move them as they are, `vecfleet cancel {job_id}`, `vecfleet rollback {job_id}`, "
        "and plan again with `--conflicts keep`; or accept that they stay behind"
    )


def to_be_dropped(targets: Sequence[Target]) -> str:
    """What a roll back does to the namespaces that its job created."""
    kept = sum(target.created_by_us and target.tells_the_truth for target in targets)
    dropped = counted(sum(target.created_by_us for target in targets) - kept, "namespace", "namespaces")
    stays = (
        f" {counted(kept, 'namespace', 'namespaces')} to which readers had moved will stay, empty or not: applications "
        "may write there."
        if kept
        else ""
    )
    return f"{dropped} that it created, once empty.{stays}"
