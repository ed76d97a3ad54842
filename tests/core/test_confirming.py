"""A reason leads to what a person can type: the number, and the target, are filled in."""

import pytest
from snapshots import JOB, MOVE

from orchestrator.core.confirming import confirmation, confirmations, numbers_in
from orchestrator.core.guards import MissingAt, against_missing


def test_a_reason_leads_to_the_command_that_it_names_however_its_target_is_called() -> None:
    for target in ("t", "creator ana", "it's", None):
        reason = f"4 records are away: `{confirmation(7, 4, target)}`, then retry"
        assert numbers_in([reason]) == {target: 4}


def test_of_several_reasons_the_largest_number_of_each_target_counts() -> None:
    reasons = [f"`{confirmation(7, count, target)}`" for count, target in ((4, "t"), (22, "t"), (9, None), (1, "u"))]
    wanted = numbers_in([*reasons, "it is locked", "`vecfleet set 7 budget 4`"])
    assert wanted == {"t": 22, None: 9, "u": 1}
    assert confirmations(7, wanted, {}) == (
        "vecfleet set 7 missing 22 --target t",
        "vecfleet set 7 missing 9",
        "vecfleet set 7 missing 1 --target u",
    )
    # And what a person has said is not asked for again
    assert confirmations(7, wanted, {"t": 22, None: 8, "u": 5}) == ("vecfleet set 7 missing 9",)


@pytest.mark.parametrize("text", ["`vecfleet set 7 missing 'oh`", "`vecfleet set 7 missing 4 --target`"])
def test_a_command_that_is_cut_short_is_not_proposed(text: str) -> None:
    assert numbers_in([text]) == {}


def test_records_missing_at_several_targets_are_confirmed_by_their_number() -> None:
    at = MissingAt("t", compared=1, written=1_000, said=5, holds_nothing=False)
    why = against_missing(JOB, MOVE, 400, [at])
    assert why is not None and numbers_in([why]) == {None: 400}
