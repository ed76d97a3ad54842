"""Two workers are at a target's first batches at once: one makes the namespace, the other finds it there."""

from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import TARGET, One

from orchestrator import tables as t
from orchestrator.ledger import moves
from orchestrator.states import JobState
from vecfleet.records import Record
from vecfleet.stores.base import IdPage
from vecfleet.stores.memory import MemoryIndex


def test_a_worker_that_was_second_does_not_list_what_the_first_goes_on_writing(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did, again and again for as long as the copy lasted: each listing showed what had come since."""
    create, list_ids, looks = MemoryIndex.create_namespace, MemoryIndex.list_ids, [0]

    # Given a worker that finds the namespace made, and whose peer, who made it, has noted that
    def made_by_another(index: MemoryIndex, name: str, *arguments: Any) -> bool:
        create(index, name, *arguments)
        with one.table.begin() as connection:
            of_target = connection.execute(sa.select(t.target.c.id)).scalar_one()
            moves.prepared(connection, of_target, created_by_us=True)
        return False

    # And the peer's batches write on: at each look there is one record more
    def grows(index: MemoryIndex, namespace: str, *arguments: Any, **options: Any) -> IdPage:
        if namespace == TARGET and one.table.job.state is JobState.RUNNING:
            looks[0] += 1
            assert looks[0] < 10, "it lists without end"
            written = Record(f"r{looks[0]:02d}", bytes(4 * 3_072))
            index.upsert(namespace, [written])
        return list_ids(index, namespace, *arguments, **options)

    monkeypatch.setattr(MemoryIndex, "create_namespace", made_by_another)
    monkeypatch.setattr(MemoryIndex, "list_ids", grows)
    one.until(JobState.VERIFIED)

    # Then it was soon done, and nothing of what the peer wrote counts as there before
    with one.table.begin() as connection:
        assert connection.execute(sa.select(t.target.c.held_before)).scalar_one() == 0
    assert one.ids(TARGET) == one.ids("s")
