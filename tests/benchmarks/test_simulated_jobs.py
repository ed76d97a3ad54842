"""A job in the simulation: real decisions, counted time."""

from pathlib import Path

import pytest

from benchmarks.simulating.costs import STEPS, WORKER, Costs
from benchmarks.simulating.fleet import Servers, servers
from benchmarks.simulation import Case, Predicted, here, predict

TIGHT = Case("tight", namespaces=2, records=600, dimension=8, share=0.02)


def predicted(empty: Servers, case: Case, costs: Costs) -> Predicted:
    return predict(empty, case, costs, here(case, others=0.0))


def test_a_job_takes_as_long_as_its_pace_its_processors_and_the_service_make_it(tmp_path: Path) -> None:
    with servers(tmp_path) as empty:
        # At two hundredths of the documented limits a listing has four requests a second, and there are 2 × (6 + 6).
        slow = predicted(empty, TIGHT, Costs())
        assert 6.0 < slow.seconds < 15.0
        again = predicted(empty, TIGHT, Costs())
        assert again.seconds == pytest.approx(slow.seconds, abs=0.5)
        free = predicted(empty, Case("free", 2, 600, 8), Costs())
        assert free.seconds < slow.seconds / 3
        dear = predicted(empty, Case("dear", 2, 600, 8), Costs({(WORKER, STEPS): 1.0}))
        assert dear.seconds > free.seconds + dear.counted[WORKER, STEPS] / 2
        late = predicted(empty, Case("late", 2, 600, 8, late_ms=1_000.0), Costs())
        assert late.seconds > free.seconds + 12.0  # six pages one after the other, for the listing and for the survey
