"""Counts in sentences."""


def counted(count: int, one: str, many: str) -> str:
    """`1 batch is parked`, `2 batches are parked`."""
    return f"1 {one}" if count == 1 else f"{count:,} {many}"


def wait_for_a_decision(records: int) -> str:
    """Parked records that nobody has decided about, as a reason."""
    return counted(records, "parked record waits for a decision", "parked records wait for a decision")
