"""A tenant is erased while the service converts its index: there is no certificate before nothing comes back."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from migrations.documents import DocumentsOptions, plan_documents
from migrations.recipes import Common
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW
from orchestrator.services import apply, forget
from tests.stories.emulated import row
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.errors import Refused
from vecfleet.names import Tenant

pytestmark = pytest.mark.story

DOCUMENTS, ZOE = "documents", "zoe.77"
OWN = f"creator_{ZOE}_twin_coach"


def erase(world: World) -> bool:
    """Say whether the erasure has its certificate."""
    return bool(forget.erase(world.fleet, Tenant(ZOE), WHO, forget.reach(world.fleet)).certificate)


def of_zoe(world: World) -> list[str]:
    """Return the ids of her records in both indexes, as the emulator holds them."""
    held = [ids for index in (SMALL, DOCUMENTS) for ids in world.emulator.dump(index).values()]
    return [record_id for ids in held for record_id in ids if "zoe" in record_id]


def is_converted(world: World) -> bool:
    conversion = world.fleet.store.conversions().find(SMALL, DOCUMENTS)
    return conversion is not None and conversion.complete


def test_an_erasure_while_the_service_converts_is_certified_once_nothing_came_back(open_world: OpenWorld) -> None:
    world = open_world(pinecone_index_name=SMALL, freshness_wait_seconds=0.2)
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row("alma-1", page=1), row("zoe-among-others", creator_id=ZOE)])
    world.emulator.write(SMALL, OWN, [row("zoe-own", creator_id=ZOE)])
    options = DocumentsOptions(source=SMALL, target=DOCUMENTS, converts=True, common=Common())
    plan = plan_documents(world.fleet.store, options, now=datetime.now(UTC))

    # When she is erased after the service has taken its snapshot, and before the plan's job begins
    def erased_meanwhile(_: object) -> None:
        with pytest.raises(Refused, match=f"the service fills {DOCUMENTS}") as refused:
            erase(world)
        assert refused.value.code == "filling-under-way"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=erased_meanwhile)

    # Then there is no certificate as long as the conversion brings her records
    world.until("the conversion is complete", lambda: world.fleet.store.conversions().find(SMALL, DOCUMENTS).complete)
    assert "zoe-own" in of_zoe(world)

    # And the next erasure finds them there, whether or not anybody applies the plan to its end
    assert erase(world)
    assert of_zoe(world) == []


def test_nothing_is_converted_while_a_tenant_is_being_erased(open_world: OpenWorld) -> None:
    world = open_world(pinecone_index_name=SMALL)
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row("alma-1", page=1)])
    options = DocumentsOptions(source=SMALL, target=DOCUMENTS, converts=True, common=Common())
    plan = plan_documents(world.fleet.store, options, now=datetime.now(UTC))
    forget.JobTableBooks(world.fleet.database, world.fleet.settings).begin(Tenant(ZOE), WHO)

    with pytest.raises(Refused, match="a tenant is being erased") as refused:
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)

    assert refused.value.code == "erasure-under-way"
    assert world.emulator.calls(operation="convert_index") == []


def test_nothing_is_converted_of_a_snapshot_that_may_be_older_than_an_erasure(open_world: OpenWorld) -> None:
    # Given a tenant that was erased, and certified to be gone, a moment ago
    world = open_world(pinecone_index_name=SMALL, freshness_wait_seconds=0.2)
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row("alma-1", page=1), row("zoe-among-others", creator_id=ZOE)])
    assert erase(world)

    # When another plan would have the service convert the index, then that is refused: its snapshot may hold her yet
    options = DocumentsOptions(source=SMALL, target=DOCUMENTS, converts=True, common=Common())
    plan = plan_documents(world.fleet.store, options, now=datetime.now(UTC))
    with pytest.raises(Refused, match="may be older than that") as refused:
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert refused.value.code == "erasure-recent" and "apply again after" in str(refused.value.next_step)
    assert world.emulator.calls(operation="convert_index") == []

    # And no more once every snapshot is younger
    with world.fleet.database.begin() as connection:
        connection.execute(sa.update(t.erasure).values(certified_at=NOW - timedelta(minutes=15)))

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=stop)
    assert len(world.emulator.calls(operation="convert_index")) == 1
