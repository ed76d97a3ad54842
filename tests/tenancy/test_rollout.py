"""The roll-out: which side a tenant is on, and that what cannot be read is never taken for "legacy"."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tests.tenancy.told import Clock, Told
from vecfleet.errors import RoutesTooOld
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.tenancy import (
    CachedRoutes,
    FileRoutes,
    Rollout,
    use_creator_namespaces,
    use_delphi_namespaces,
    use_serverless,
)
from vecfleet.tenancy.routes import Resolved, read_table, share_of

OWN = "creator_c_twin_t"


def route(side: str | None = None, **more: Any) -> dict[str, Any]:
    found = {"creator": "c", "twin": "t", "old": [{"namespace": "t"}], "new": {"namespace": OWN}, **more}
    return found if side is None else found | {"side": side}


def rollout(provider: Told | None = None, clock: Clock | None = None, **settings: Any) -> Rollout:
    routes = CachedRoutes(provider, 5.0, 60.0, clock or Clock()) if provider is not None else None
    return Rollout(routes, **{"flag": False, **settings})


@pytest.mark.parametrize(
    ("table", "creators", "flag", "side"),
    [
        ({"routes": [route("old")]}, {"c": True}, True, "old"),  # the route first,
        ({"routes": [route("new")]}, {"c": False}, False, "new"),
        ({}, {"c": True}, False, "new"),  # then the creator's setting,
        ({}, {"c": False}, True, "old"),
        ({"creators": {"c": True}}, {}, False, "new"),
        ({}, {}, True, "new"),  # then the flag,
        ({}, {}, False, "old"),  # then legacy
        ({"unlisted": "new"}, {}, False, "new"),  # a twin made after the switch
        ({"unlisted": "new", "kept": ["t"]}, {}, False, "old"),  # one that the plan left where it was
    ],
)
def test_the_first_of_route_setting_flag_and_legacy_that_speaks_is_heard(
    table: dict[str, Any], creators: dict[str, bool], flag: bool, side: str
) -> None:
    where = rollout(Told(**table), creators=creators, flag=flag).where("c", "t")

    assert where.side == side
    assert where.reads[0].namespace == (OWN if side == "new" else "t")
    assert where.why


def test_without_a_provider_setting_and_flag_decide() -> None:
    assert rollout().where("c", "t").side == "old"
    assert rollout(flag=True).where("c", "t").side == "new"
    assert rollout(creators={"c": True}).use_creator_namespaces("c")


def test_a_percentage_takes_the_same_tenants_in_every_process_and_keeps_them_as_it_grows() -> None:
    twins = [f"t{n}" for n in range(2_000)]
    routes = [route(twin=twin, new={"namespace": f"creator_c_twin_{twin}"}) for twin in twins]
    before: set[str] = set()
    for percent in (5, 25, 50, 100):
        found = rollout(Told(routes=routes, percent=percent, salt="s"))
        new = {twin for twin in twins if found.where("c", twin).side == "new"}
        assert before <= new
        assert abs(len(new) / len(twins) - percent / 100) < 0.03
        before = new
    assert share_of(OWN, "s") == share_of(OWN, "s") != share_of(OWN, "another job")


def test_a_reversal_takes_effect_within_the_cache_time() -> None:
    provider, clock = Told(routes=[route("new")]), Clock()
    found = rollout(provider, clock)
    assert found.where("c", "t").side == "new"

    provider.table = {"routes": [route("old")]}
    clock.now += 5.0

    assert found.where("c", "t").side == "old"


def test_within_the_cache_time_the_provider_is_left_alone() -> None:
    provider = Told(routes=[route("new")])
    found = rollout(provider)
    for _ in range(100):
        found.where("c", "t")

    assert provider.asked == 1


def test_a_provider_lost_after_the_clean_up_means_new() -> None:
    provider, clock = Told(routes=[route("old", cleaned=True)]), Clock()
    found = rollout(provider, clock)
    found.where("c", "t")

    provider.table = None
    clock.now += 10 * 86_400

    assert found.where("c", "t").side == "new"
    # And in a process that never reached it, for it cannot know that the old side is there
    assert rollout(Told(), None).where("c", "t").side == "old"
    lost = Told()
    lost.table = None
    where = rollout(lost).where("c", "t")
    assert (where.side, where.until, where.other) == ("new", -inf, ())


def test_a_provider_lost_for_a_moment_changes_nothing_and_for_longer_hides_a_clean_up() -> None:
    provider, clock = Told(routes=[route("old")]), Clock()
    found = rollout(provider, clock)
    found.where("c", "t")
    provider.table = None

    clock.now += 60
    assert found.where("c", "t").side == "old"
    clock.now += 3_600
    where = found.where("c", "t")
    assert (where.side, where.until) == ("new", -inf)


def test_a_table_that_cannot_be_read_is_no_table(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    file.write_text('{"routes": [{"creator": 7}]}')

    assert Rollout(CachedRoutes(FileRoutes(file)), flag=False).where("c", "t").until == -inf


def test_a_file_of_routes_is_read_again_when_another_takes_its_place(tmp_path: Path) -> None:
    file, clock = tmp_path / "routes.json", Clock()
    file.write_text(json.dumps({"routes": [route("old")]}))
    found = Rollout(CachedRoutes(FileRoutes(file), 5.0, clock=clock), flag=False)
    assert found.where("c", "t").side == "old"

    other = tmp_path / "other.json"
    other.write_text(json.dumps({"routes": [route("new")]}))
    other.replace(file)
    clock.now += 5

    assert found.where("c", "t").side == "new"


def test_an_old_namespace_of_two_tenants_is_shared_though_nobody_said_so() -> None:
    table = {"routes": [route("old"), route("old", creator="d", new={"namespace": "creator_d_twin_t"})]}
    resolved = Resolved(read_table(json.dumps(table).encode()))

    assert [place.shared for one in resolved.table.routes for place in resolved.old(one)] == [True, True]


def test_the_flags_of_the_seeds_are_read_from_the_environment(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not (use_delphi_namespaces() or use_serverless() or use_creator_namespaces("c"))

    monkeypatch.setenv("USE_DELPHI_NAMESPACES", "TRUE")
    monkeypatch.setenv("USE_PINECONE_SERVERLESS", "true")

    assert use_delphi_namespaces() and use_serverless() and use_creator_namespaces("c")


def test_a_table_that_cannot_be_read_does_not_make_the_one_before_young() -> None:
    class Broken:
        """As a file does: a table that somebody spoiled is given once, and has not changed since."""

        given = [b"{}", b"{]"]

        def read(self) -> bytes | None:
            return self.given.pop(0) if self.given else None

    clock = Clock()
    found = Rollout(CachedRoutes(Broken(), 5.0, 60.0, clock), flag=False)
    assert found.where("c", "t").until == clock.now + 60

    for _ in range(20):
        clock.now += 3.0
        found.where("c", "t")

    assert found.where("c", "t", to_write=True).until == -inf


def test_each_round_of_an_erasure_asks_young_routes_whose_a_namespace_is() -> None:
    # Given an erasure that has begun, and a namespace that is given to another tenant meanwhile
    provider, clock = Told(routes=[route("old")]), Clock()
    told = rollout(provider, clock).known_of(Tenant("c", "t"), "small")
    assert told is not None
    known, _ = told
    assert known("small").legacy == {"t"}

    provider.table = {"routes": [route("old", twin="u", new={"namespace": "creator_c_twin_u"})]}
    clock.now += 100

    assert (known("small").legacy, known("small").others) == (set(), {"t"})
    provider.table = None
    clock.now += 100
    with pytest.raises(RoutesTooOld, match="too long ago"):
        known("small")
