"""The files of runs."""

from pathlib import Path

import pytest

from migrations.certifying.runs import Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)
