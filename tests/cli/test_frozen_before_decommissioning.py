"""A `decommission` that is frozen between its note and its deletion deletes nothing that a plan may use by then."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned
from terminal import Brain, Vecfleet

from migrations.plan import IndexRef
from orchestrator.core.states import JobState
from orchestrator.ledger import tables as t
from vecfleet import clock
from vecfleet.stores.pinecone.store import PineconeStore

OLD = INDEX.name


def test_what_is_frozen_before_its_deletion_deletes_nothing_later(
    vecfleet: Vecfleet, brain: Brain, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an old index that a job took everything out of, eight days ago
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.2")
    brain.create(OLD)
    ref = IndexRef(store="pinecone", index=OLD, kind=INDEX.kind, dimension=INDEX.dimension, metric=INDEX.metric)
    table.apply(plan_of(planned("s", "t-s")).model_copy(update={"source": ref}).sealed())
    then = sa.func.clock_timestamp() - timedelta(days=8)
    table.put(state=JobState.CLEANED, cut_over_percent=100, cut_over_at=then, ended_at=sa.func.clock_timestamp())
    with table.begin() as connection:
        connection.execute(sa.delete(t.claim))

    # When its deletion is held up for as long as no plan with the index is applied
    remove, now = PineconeStore.remove, clock.now

    def held_up(store: PineconeStore, *given: Any) -> None:
        monkeypatch.setattr(clock, "now", lambda: now() + 15 * 60)
        remove(store, *given)

    monkeypatch.setattr(PineconeStore, "remove", held_up)
    answer = vecfleet("decommission", OLD, "--yes")

    # Then it is not sent, and the person is told
    assert answer.code != 0 and f"delete the index '{OLD}'" in answer.err
    assert OLD in {info.name for info in brain.store.indexes()}
