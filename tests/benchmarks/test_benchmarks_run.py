"""Benchmarks that write to the job table by hand, or need a role's rights, run on the product as it is now."""

from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path

import pytest

from benchmarks import catch_up, main_job, pgvector, queueing, scale
from benchmarks.data import Load, fill
from benchmarks.figures import Figure
from benchmarks.fleet import running

TINY: dict[str, Callable[[], Iterator[Figure]]] = {
    "queueing": lambda: queueing.measured(2),
    "scale": lambda: scale.measured([2], 4),
    "pgvector": lambda: pgvector.measured(0.001, "copies"),
}


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_tiny_run_measures_every_figure(name: str) -> None:
    figures = list(TINY[name]())
    assert figures
    assert [figure.name for figure in figures if not isfinite(figure.value)] == []


def test_a_small_job_and_the_requests_of_jobs_are_counted(tmp_path: Path) -> None:
    # Given the seeds' 805 records on a stack of their own
    figure = main_job.small(1)
    assert figure.name == "805 records of the seeds, from plan to verified" and figure.value > 0
    # And a fleet with few records, and one with few namespaces to which nobody writes
    with running(tmp_path / "state") as fleet:
        load = Load("counted", 8, 40, spread=2)
        fill(fleet.settings, load)
        verified, cleaned = (figure.value for figure in main_job.fetches(fleet, load))
        of_pass, _ = (figure.value for figure in catch_up.unwritten(fleet, 2))
    # Then each namespace was fetched for its copy and its proof, and once more on both sides
    assert (verified, cleaned) == (2 * 2 / 0.04, 2 * 4 / 0.04)
    # And a pass asked each once whether it was written to
    assert of_pass == 1.0
