"""The number of worker processes of a running stack: asked for in a file, carried out by its supervisor."""

from pathlib import Path

from orchestrator.embedded.record import StackRecord
from vecfleet.errors import BadInput, Refused

MAX_WORKERS = 64
"""More than one machine can use: a typing error should not start thousands of processes."""


def scale(state_dir: Path, workers: int) -> None:
    """Ask the supervisor of the stack in this folder for so many workers. Refused where none runs."""
    if not 0 <= workers <= MAX_WORKERS:
        raise BadInput(
            f"{workers} worker processes are not possible", next_step=f"give a number from 0 to {MAX_WORKERS}"
        )
    record = StackRecord.read(state_dir)
    if record is None or not record.ready or not record.supervisor.alive():
        raise Refused(
            "no stack of `vecfleet up` runs here, and workers started otherwise are not ours to count",
            code="no-stack",
            next_step="start more where they run: `vecfleet worker`, or `docker compose up --scale worker=N`",
        )
    draft = _place(state_dir).with_suffix(".unfinished")
    draft.write_text(str(workers))
    draft.rename(_place(state_dir))


def asked(state_dir: Path) -> int | None:
    """Return the number of workers asked for; None where nobody asked."""
    place = _place(state_dir)
    return int(place.read_text()) if place.exists() else None


def forget(state_dir: Path) -> None:
    _place(state_dir).unlink(missing_ok=True)


def _place(state_dir: Path) -> Path:
    return state_dir / "workers"
