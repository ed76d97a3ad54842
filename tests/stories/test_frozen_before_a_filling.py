"""A process that is frozen between its note of a filling and the request for it does not ask late."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from migrations.documents import DocumentsOptions, plan_documents
from migrations.plan import Plan
from migrations.recipes import Common, ImportOptions, plan_import
from orchestrator.ledger import index_acts
from orchestrator.ledger import tables as t
from orchestrator.services import apply, fillings
from tests.stories.emulated import row
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet import clock
from vecfleet.errors import Transient
from vecfleet.stores.base import BulkFiles
from vecfleet.stores.pinecone.bulk_imports import PineconeImports
from vecfleet.stores.pinecone.conversions import PineconeConversions

pytestmark = pytest.mark.story

FROZEN = timedelta(minutes=16)
FOLDER, TARGET = "exports/small", "filled"


def conversion(world: World) -> Plan:
    options = DocumentsOptions(source=SMALL, target=TARGET, converts=True, common=Common())
    return plan_documents(world.fleet.store, options, now=datetime.now(UTC))


def an_import(world: World) -> Plan:
    store, folders = world.fleet.store, world.fleet.folders
    source = store.open(store.describe(SMALL))
    folder = folders.open(folders.create_like(FOLDER, source.info, None, None))
    folder.upsert("alma", list(source.fetch("alma", ["alma-1"]).records.values()))
    world.emulator.create_index(TARGET)
    options = ImportOptions(folder=FOLDER, index=TARGET, bulk=BulkFiles(f"file://{world.folder}/{FOLDER}"))
    return plan_import(folders, store, options, now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("planned", "asks", "operation"),
    [(conversion, PineconeConversions, "convert_index"), (an_import, PineconeImports, "start_import")],
    ids=["conversion", "import"],
)
def test_what_was_settled_as_never_sent_is_never_sent(
    planned: Callable[[World], Plan],
    asks: type[Any],
    operation: str,
    open_world: OpenWorld,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an apply that is frozen right after its note, until an erasure has taken its request for one never sent
    world = open_world(pinecone_index_name=SMALL)
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row("alma-1", page=1)])
    plan = planned(world)
    begin, now, standing = asks.begin, clock.now, list[int]()

    def frozen(*given: Any) -> Any:
        with world.fleet.database.begin() as connection:
            connection.execute(sa.update(t.index_act).values(begun_at=t.index_act.c.begun_at - FROZEN))
        fillings.settle(world.fleet.database, world.fleet.accounts)
        with world.fleet.database.begin() as connection:
            standing.append(len(index_acts.fillings(connection)))
        monkeypatch.setattr(clock, "now", lambda: now() + FROZEN.total_seconds())
        return begin(*given)

    monkeypatch.setattr(asks, "begin", frozen)

    # When it goes on
    with pytest.raises(Transient, match="the call's time is over"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)

    # Then the service never hears of it
    assert standing == [0]
    assert world.emulator.calls(operation=operation) == []

    # And typed again, it is noted and sent
    monkeypatch.undo()
    assert apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert len(world.emulator.calls(operation=operation)) == 1
