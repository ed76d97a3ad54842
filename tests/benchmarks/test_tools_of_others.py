"""The tools of others are measured where they are installed; where they are not, that is said, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import tools
from benchmarks.figures import Figure
from benchmarks.runner import LeftOut
from tests.compat.conftest import ENVIRONMENTS


def test_tools_that_are_not_installed_are_named_behind_the_fleet_s_own_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine without them
    monkeypatch.setattr(tools, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(tools, "of_fleet", lambda *_: Figure("fleet", 10.0, "records/s"))
    # When they are measured
    figures, found = tools.measured(None, quick=True), []  # type: ignore[arg-type, var-annotated]
    with pytest.raises(LeftOut, match="no vecparity, no vector-io, no vec2pg here; `make compat` installs them"):
        found.extend(figures)
    # Then the fleet was
    assert [figure.name for figure in found] == ["fleet"]


@pytest.mark.parametrize(("tool", "measured"), [("vecparity", tools.vecparity), ("vector-io", tools.vector_io)])
def test_a_tool_that_only_reads_is_measured(tool: str, measured: Callable[[int], Figure]) -> None:
    if not (ENVIRONMENTS / tool).exists():
        pytest.skip(f"no environment with {tool}; `make compat` makes it")
    figure = measured(20)
    assert figure.name == f"{tool}, reads only, 20 × 1,536-d" and figure.value > 0
