"""A plan that stops the writers stops the clients that follow the routes: while its job lives, and no longer."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from tests.tenancy.test_routes_too_old import (
    NEW,
    OLD,
    STALE_S,
    WRITES,
    during_a_call,
    fault,
    index,
    rollout,
    route,
    written,
)
from tests.tenancy.told import CLIENTS, Client, Clock, Told, client_of
from vecfleet.errors import WritesFrozen
from vecfleet.settings import Settings
from vecfleet.tenancy import PineconeDelphiClient

__all__ = ["during_a_call", "fault", "index", "written"]

FROZEN = {"namespace": OLD, "index": "small", "job": 7}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("named", [FROZEN, {"namespace": OLD}], ids=["by its index", "in the client's own"])
def test_a_write_to_a_frozen_namespace_is_refused_before_it_is_sent_and_a_query_is_answered(
    index: str, kind: type[Client], write: Callable[[Client], Any], named: Any, written: Callable[[], list[str]]
) -> None:
    client = client_of(kind, index, rollout(Told(routes=[route()], frozen=[named]), Clock()))

    with pytest.raises(WritesFrozen, match="nothing was written: the namespace 'coach' is frozen") as refused:
        write(client)

    assert refused.value.next_step is not None and "write it again later" in refused.value.next_step
    assert written() == []
    assert client.query(vector=[1.0] * SMALL, creator_id="ana", twin_id="coach").namespace == OLD


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_same_write_passes_once_the_job_has_ended_or_moved_its_readers(
    index: str, kind: type[Client], written: Callable[[], list[str]]
) -> None:
    provider, clock = Told(routes=[route()], frozen=[FROZEN]), Clock()
    client = client_of(kind, index, rollout(provider, clock))
    with pytest.raises(WritesFrozen):
        WRITES["upsert"](client)

    # When the readers are on the new side, and the source stays frozen
    provider.table = {"routes": [route("new")], "frozen": [FROZEN]}
    clock.now += 5
    assert WRITES["upsert"](client) == 1

    # And when they are back, and the job has ended
    provider.table = {"routes": [route()]}
    clock.now += 5
    assert WRITES["upsert"](client) == 1
    assert written() == [NEW, OLD]


def test_a_twin_without_a_route_is_kept_from_its_frozen_namespace_too(
    index: str, written: Callable[[], list[str]]
) -> None:
    # Given a copy of a namespace, which gives no tenant a route
    client = PineconeDelphiClient(index, rollout=rollout(Told(frozen=[FROZEN | {"namespace": NEW}]), Clock()))
    client.rollout._creators["ana"] = True  # type: ignore[union-attr]

    with pytest.raises(WritesFrozen, match="while job 7 moves or copies it"):
        WRITES["upsert"](client)

    assert client.upsert_vectors([{"id": "a", "values": [1.0] * SMALL}], "ana", "other") == 1
    assert written() == ["creator_ana_twin_other"]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_write_that_is_answered_after_its_routes_ended_does_not_count_if_its_namespace_was_frozen(
    index: str, kind: type[Client], during_a_call: Callable[[Callable[[], object]], None]
) -> None:
    # Given a job that begins while a write is under way, and an answer that comes when its routes are too old
    provider, clock = Told(routes=[route()]), Clock()

    def freeze() -> None:
        provider.table = {"routes": [route()], "frozen": [FROZEN]}
        clock.now += STALE_S

    during_a_call(freeze)

    with pytest.raises(WritesFrozen, match="does not count"):
        WRITES["upsert"](client_of(kind, index, rollout(provider, clock)))


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_long_write_is_stopped_by_a_freeze_at_the_latest_when_its_routes_end(
    index: str,
    kind: type[Client],
    during_a_call: Callable[[Callable[[], object]], None],
    written: Callable[[], list[str]],
) -> None:
    provider, clock = Told(routes=[route()]), Clock()
    client = client_of(kind, index, rollout(provider, clock))

    def freeze() -> None:
        provider.table = {"routes": [route()], "frozen": [FROZEN]}
        clock.now += STALE_S

    during_a_call(freeze)
    with pytest.raises(WritesFrozen):
        client.upsert_vectors([{"id": f"{n}", "values": [1.0] * SMALL} for n in range(3_000)], "ana", "coach")

    # Then only the first of its three requests was sent
    assert written() == [OLD]


def test_what_is_erased_may_be_frozen(make_index: MakeIndex, environment: Settings) -> None:
    # Given a twin's records, and a job that freezes their namespace
    index, provider, clock = make_index(), Told(routes=[route("new")]), Clock()
    client = PineconeDelphiClient(index, rollout=rollout(provider, clock))
    WRITES["upsert"](client)
    provider.table = {"routes": [route("new")], "frozen": [FROZEN | {"namespace": NEW}]}
    clock.now += 5

    # Then a tenant's wish goes before: the fleet forgets it, too
    assert client.delete_twin("ana", "coach")
