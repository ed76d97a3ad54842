"""Two workers are at a target's first batches at once: one makes the namespace, the other finds it there."""

from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import TARGET, One

from orchestrator.core.states import JobState
from orchestrator.ledger import moves
from orchestrator.ledger import tables as t
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


def test_a_worker_that_finds_what_its_peer_is_about_to_record_waits_for_that_and_not_for_freshness(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given listings that lag for hours, and a peer that has made the namespace and has not recorded it yet
    create, found = MemoryIndex.create_namespace, []

    def made_by_another(index: MemoryIndex, name: str, *arguments: Any) -> bool:
        found.append(create(index, name, *arguments))
        return False

    monkeypatch.setattr(MemoryIndex, "create_namespace", made_by_another)
    one.process.settings = one.process.settings.model_copy(update={"freshness_wait_seconds": 7_200.0})
    one.work_until(lambda: found)
    # When the peer records it
    with one.table.begin() as connection:
        of_target = connection.execute(sa.select(t.target.c.id)).scalar_one()
        moves.prepared(connection, of_target, created_by_us=True)
    # Then the others write there without waiting hours
    one.until(JobState.VERIFIED)
    assert one.ids(TARGET) == one.ids("s")


@pytest.mark.parametrize("hidden", [{"r03"}, {"r03", "theirs"}], ids=["one of two", "all"])
def test_a_namespace_that_was_there_is_looked_at_again_before_it_is_written_to(
    one: One, monkeypatch: pytest.MonkeyPatch, hidden: set[str]
) -> None:
    """Somebody's record of the same id, which the first listings do not show yet, would have been written over."""
    # Given a namespace that is there and holds two records, and listings that lag
    theirs = Record("r03", bytes(range(1, 13)) * 1_024, metadata={"text": "theirs"})
    one.index.create_namespace(TARGET, None)
    one.index.upsert(TARGET, [theirs, Record("theirs", theirs.values)])
    list_ids, looks = MemoryIndex.list_ids, [0]

    def lags(index: MemoryIndex, namespace: str, *arguments: Any, **options: Any) -> IdPage:
        page = list_ids(index, namespace, *arguments, **options)
        looks[0] += namespace == TARGET
        lagging = namespace == TARGET and looks[0] <= 2
        return IdPage([one for one in page.ids if not lagging or one not in hidden], page.next_token)

    monkeypatch.setattr(MemoryIndex, "list_ids", lags)
    one.process.settings = one.process.settings.model_copy(update={"freshness_wait_seconds": 2.0})

    # When it is copied into
    one.until(JobState.VERIFIED, JobState.NEEDS_ATTENTION)

    # Then their records are as they were, and ours of the same id is parked
    assert one.index.fetch(TARGET, ["r03"]).records["r03"] == theirs
    with one.table.begin() as connection:
        assert connection.execute(sa.select(t.parked_record.c.record_id)).scalars().all() == ["r03"]
        assert connection.execute(sa.select(t.target.c.held_before)).scalar_one() == 2
