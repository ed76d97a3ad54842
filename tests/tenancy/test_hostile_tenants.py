"""Ten thousand calls made to reach what is another tenant's: none does. `benchmarks.hostile_tenants` makes more."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.hostile_tenants import attack
from vecfleet.tenancy import client_core, places, requests, writing
from vecfleet.tenancy.places import Place

CALLS = 10_000


def test_no_hostile_call_of_either_client_reaches_what_is_anothers() -> None:
    report = attack(CALLS, seed=1)

    assert not report.wrong, "\n".join(report.examples)
    # And it was no fuss about nothing: thousands of them were carried out for whoever they belong to.
    assert report.refused["TenantIsolationError"] > CALLS / 10
    for reached in ("query", "upsert", "delete", "fetch", "delete_namespace"):
        assert report.reached[reached] > CALLS / 50, report.reached


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (client_core, "admitted", lambda where: where),
        (writing, "require_not_others", lambda *_: None),
        (requests, "require_marked", lambda *_: None),
        (writing, "is_own", lambda *_: True),
        (places, "_own_filter", lambda _: {}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_each_guard_that_is_taken_out_is_missed(
    module: Any, name: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, instead)
    if name == "_own_filter":  # what the filter lets through is looked at once more: both have to fail
        monkeypatch.setattr(places, "is_own", lambda *_: True)

    assert attack(4_000, seed=2).wrong


def test_the_one_check_of_whose_a_place_is_holds_for_the_names_that_look_alike() -> None:
    theirs = Place("creator_b_twin_u", owned=True)

    with pytest.raises(places.TenantIsolationError):
        places.require_own(theirs, places.Tenant("a", "creator_b_twin_u"))
    places.require_own(theirs, places.Tenant("b", "u"))
