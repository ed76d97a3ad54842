"""Somebody else writes into a target that is being filled: what stands there under an id of ours is not replaced."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from migrations.enriching import enrich
from migrations.routing import Owner, Routed
from orchestrator.core.states import JobState
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, Written
from vecfleet.stores.memory import MemoryIndex

Open = Callable[..., One]
LAST = "r22"  # in the last of three batches
OURS = Routed(TARGET, Owner("ana", "s"))


@pytest.fixture
def open_job(database_url: str, redis_url: str) -> Iterator[Open]:
    """`open_job(**policies)`: s → creator_ana_twin_s over 23 records."""
    with ExitStack() as ending:
        yield lambda **policies: ending.enter_context(
            open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT), **policies)
        )


def after_the_first_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Somebody acts when the first batch has been written to the target, and before any other."""
    upsert, begun = MemoryIndex.upsert, []

    def then_act(index: MemoryIndex, namespace: str, records: list[Record]) -> Written:
        written = upsert(index, namespace, records)
        if namespace == TARGET and not begun:
            begun.append(True)
            act()
        return written

    monkeypatch.setattr(MemoryIndex, "upsert", then_act)


@pytest.mark.parametrize("existed", [True, False])
def test_a_record_that_somebody_else_wrote_into_a_target_is_parked_and_not_replaced(
    open_job: Open, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    # Given a target that was there, empty, or one of our own whose every write is to be checked
    one = open_job(check_every_write=not existed)
    if existed:
        assert one.index.create_namespace(TARGET, None)
    theirs = Record(LAST, bytes(4 * 3_072), metadata={"text": "somebody else's"})

    # When somebody writes an id there that is not copied yet
    def write() -> None:
        one.index.upsert(TARGET, [theirs])

    after_the_first_write(monkeypatch, write)
    one.until(JobState.NEEDS_ATTENTION)

    # Then theirs stays, ours waits for a person, and everything else has arrived
    assert one.table.parked_ids() == [LAST]
    assert one.index.fetch(TARGET, [LAST]).records[LAST] == theirs
    assert (one.table.move.written, one.table.move.parked) == (COUNT - 1, 1)


def test_what_an_attempt_wrote_that_died_is_not_taken_for_somebody_elses(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a target that was there, and an attempt that wrote a record and died, after which the source changed
    one = open_job(writers="delta")
    assert one.index.create_namespace(TARGET, None)
    (before,) = one.index.fetch("s", [LAST]).records.values()

    def die_and_change() -> None:
        written = enrich(before, "s", OURS, "fail")
        assert isinstance(written, Record)
        one.index.upsert(TARGET, [written])
        one.index.upsert("s", [before.with_metadata({"text": "newer"})])

    after_the_first_write(monkeypatch, die_and_change)

    # Then the next attempt replaces it
    one.until(JobState.VERIFIED)
    assert one.index.fetch(TARGET, [LAST]).records[LAST].metadata["text"] == "newer"


def test_an_older_version_does_not_replace_one_written_to_both_sides_meanwhile(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an application that changes a record on both sides right after it was read to be copied
    one = open_job(writers="dual")
    fetch, upsert, sent = MemoryIndex.fetch, MemoryIndex.upsert, list[Any]()
    changed = list[Record]()

    def then_change(index: MemoryIndex, namespace: str, ids: list[str]) -> Fetched:
        fetched = fetch(index, namespace, ids)
        if namespace == "s" and ids == ["r20", "r21", LAST] and not changed:
            changed.append(fetched.records[LAST].with_metadata({"text": "newer"}))
            twin = enrich(changed[0], "s", OURS, "fail")
            assert isinstance(twin, Record)
            upsert(index, "s", changed)
            upsert(index, TARGET, [twin])
        return fetched

    def noted(index: MemoryIndex, namespace: str, records: list[Record]) -> Written:
        sent.extend((namespace, record.id, record.metadata["text"]) for record in records)
        return upsert(index, namespace, records)

    monkeypatch.setattr(MemoryIndex, "fetch", then_change)
    monkeypatch.setattr(MemoryIndex, "upsert", noted)
    one.until(JobState.VERIFIED)

    # Then the older version is never written over it
    assert changed and (TARGET, LAST, f"text {COUNT - 1}") not in sent
    assert one.index.fetch(TARGET, [LAST]).records[LAST].metadata["text"] == "newer"
