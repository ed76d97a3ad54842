"""Emulators as clients of other versions meet them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.contested import Contested
from emulator.server import Running, start

_LENIENT = Contested(undeclared_sparse="accept")
ENVIRONMENTS = Path(__file__).resolve().parents[2] / ".compat"


@pytest.fixture
def emulated() -> Iterator[Callable[..., str]]:
    """Starts an emulator and returns its control plane.

    It takes a request without a version as the service does. The newest SDK declares no sparse field for an index that
    takes sparse values with every older one.
    """
    running: list[Running] = []

    def run(seeds: bool = False) -> str:
        running.append(start(port=0, seeds=seeds, absent_version="2025-10", contested=_LENIENT))
        return running[-1].control

    yield run
    for emulator in running:
        emulator.stop()
