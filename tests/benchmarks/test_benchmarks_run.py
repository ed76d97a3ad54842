"""Benchmarks that write to the job table by hand, or need a role's rights, run on the product as it is now."""

from collections.abc import Callable, Iterator
from math import isfinite

import pytest

from benchmarks import pgvector, queueing, scale
from benchmarks.figures import Figure

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
