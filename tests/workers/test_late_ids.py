"""Listings lag, and a page may be empty before its time: neither loses a record nor a namespace."""

import pytest
from in_one_process import COUNT, TARGET, One

from orchestrator.core.model import LISTED_LATE
from orchestrator.core.states import BatchKind, JobState
from orchestrator.services import acts
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, IdPage
from vecfleet.stores.memory import MemoryIndex


def lacking_at_first(monkeypatch: pytest.MonkeyPatch, namespace: str, *ids: str) -> None:
    """The next listing of this namespace lacks these ids (none named: all); those after it do not."""
    original, listings = MemoryIndex.list_ids, 0

    def list_ids(index: MemoryIndex, name: str, *rest: object, **more: object) -> IdPage:
        nonlocal listings
        page = original(index, name, *rest, **more)  # type: ignore[arg-type]
        if name != namespace:
            return page
        listings += 1
        if listings > 1:
            return page
        return IdPage([one for one in page.ids if ids and one not in ids], page.next_token, page.usage)

    monkeypatch.setattr(MemoryIndex, "list_ids", list_ids)


def test_ids_that_lag_before_the_bookmark_are_found_by_the_second_listing(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They used to be dropped: below the bookmark counted as on record."""
    lacking_at_first(monkeypatch, "s", "r00", "r11")
    one.until(JobState.VERIFIED)
    assert one.ids(TARGET) == one.ids("s")
    move = one.table.move
    assert (move.listed, move.written) == (COUNT, COUNT)
    assert [row.size for row in one.table.rows(BatchKind.COPY) if row.listed_in == LISTED_LATE] == [2]

    # And their loss at the target is found and repaired like any other, and they are cleaned up with the rest
    one.index.delete(TARGET, ["r00", "r12"])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.COPIED)
    one.until(JobState.VERIFIED)
    assert one.ids(TARGET) == one.ids("s")
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.CLEANED)
    assert one.ids("s") == []


def test_a_namespace_whose_listing_is_empty_once_is_not_dropped_on_its_account(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a target of ours to which an application has written meanwhile
    one.until(JobState.VERIFIED)
    theirs = Record("theirs", one.index.fetch("s", ["r00"]).records["r00"].values)
    one.index.upsert(TARGET, [theirs])
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    # When the first listing of it shows nothing yet
    lacking_at_first(monkeypatch, TARGET)
    one.until(JobState.ROLLED_BACK)
    # Then what we wrote is gone, and what they wrote is there
    assert one.ids(TARGET) == ["theirs"]


def test_a_record_that_a_lagging_fetch_omits_is_not_taken_for_gone_by_a_roll_back(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a verified job, and a target that omits a record from the first answer to each undoing batch
    one.until(JobState.VERIFIED)
    original, omitted = MemoryIndex.fetch, set[str]()

    def fetch(index: MemoryIndex, namespace: str, ids: list[str]) -> Fetched:
        found = original(index, namespace, ids)
        if namespace != TARGET or not one.table.rows(BatchKind.UNDO):
            return found
        late = set(ids[:1]) - omitted
        omitted.update(late)
        return Fetched({id: record for id, record in found.records.items() if id not in late}, found.usage)

    monkeypatch.setattr(MemoryIndex, "fetch", fetch)

    # When it is rolled back
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.ROLLED_BACK)

    # Then nothing of it stays
    assert omitted and one.index.namespace(TARGET) is None
    assert len(one.ids("s")) == COUNT
