"""Costs learned from a calibration: those that explain what was used, and none below nothing."""

import pytest

from benchmarks.simulating.costs import BYTES, CALLS, EMULATOR, RECORDS, ROLES, STEPS, WORKER, learned


def used(**seconds: float) -> dict[str, float]:
    return dict.fromkeys(ROLES, 0.0) | seconds


def test_runs_of_different_shape_tell_what_each_unit_costs() -> None:
    counted = [
        {(WORKER, STEPS): 1_000, (WORKER, RECORDS): 100, (WORKER, BYTES): 3_200},
        {(WORKER, STEPS): 100, (WORKER, RECORDS): 10_000, (WORKER, BYTES): 320_000},
        {(WORKER, STEPS): 100, (WORKER, RECORDS): 5_000, (WORKER, BYTES): 61_440_000},
    ]
    step, record, byte = 2e-3, 5e-5, 2e-9
    spent = [
        used(worker=run[WORKER, STEPS] * step + run[WORKER, RECORDS] * record + run[WORKER, BYTES] * byte)
        for run in counted
    ]
    costs = learned(counted, spent)
    assert costs.of(WORKER, STEPS) == pytest.approx(step)
    assert costs.of(WORKER, RECORDS) == pytest.approx(record)
    assert costs.of(WORKER, BYTES) == pytest.approx(byte)


def test_nothing_costs_less_than_nothing() -> None:
    counted = [{(EMULATOR, CALLS): 100, (EMULATOR, RECORDS): 10}, {(EMULATOR, CALLS): 100, (EMULATOR, RECORDS): 1_000}]
    costs = learned(counted, [used(emulator=1.0), used(emulator=0.5)])
    assert costs.of(EMULATOR, RECORDS) == 0.0
    assert 0.0 < costs.of(EMULATOR, CALLS) < 0.01
