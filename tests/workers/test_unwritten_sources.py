"""Writers go on, but not everywhere: a pass asks once about a source to which nobody wrote, and reads nothing of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import One, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import JobState, MoveState
from orchestrator.ledger import tables as t
from orchestrator.services import acts
from vecfleet.errors import Unavailable
from vecfleet.stores.base import Matches

S, U = "creator_ana_twin_s", "creator_ana_twin_u"


@pytest.fixture
def proven(database_url: str, redis_url: str) -> Iterator[One]:
    """A verified copy of s and u, whose writers go on."""
    with ExitStack() as ending:
        moves = (planned("s", S, 23), planned("u", U, 23))
        sources = {name: twenty_three() for name in "su"}
        one = ending.enter_context(
            open_one(database_url, redis_url, sources, *moves, writers="delta", max_passes=20, enrich=False)
        )
        one.until(JobState.VERIFIED)
        yield one


def write_to_s(one: One) -> None:
    (record,) = one.index.fetch("s", ["r07"]).records.values()
    one.index.upsert("s", [record.with_metadata({**record.metadata, "text": "changed"})])


def asked_in_a_pass(one: One, **how: bool) -> Counter[tuple[str, str]]:
    """Take a pass, and those until two in a row are quiet. Return how often each namespace was asked for what."""
    asked: Counter[tuple[str, str]] = Counter()

    def counting(operation: str) -> Callable[..., Any]:
        call = getattr(one.index, operation)

        def count(namespace: str, *arguments: Any, **named: Any) -> Any:
            asked[operation, namespace] += 1
            return call(namespace, *arguments, **named)

        return count

    with pytest.MonkeyPatch.context() as patch:
        for operation in ("list_ids", "fetch", "query"):
            patch.setattr(one.index, operation, counting(operation))
        acts.another_pass(one.table.database, one.table.job_id, "ana", **how)
        one.table.advance()
        one.until(JobState.VERIFIED)
    return asked


def texts(one: One, namespace: str) -> dict[str, object]:
    records = one.index.fetch(namespace, one.ids(namespace)).records
    return {record_id: record.metadata["text"] for record_id, record in records.items()}


def test_a_pass_asks_once_about_a_source_to_which_nobody_wrote(proven: One) -> None:
    write_to_s(proven)
    passes = proven.table.job.passes

    asked = asked_in_a_pass(proven)

    # Then the change is copied, by one reading of its source
    assert texts(proven, S)["r07"] == "changed"
    assert asked["list_ids", "s"] and asked["fetch", "s"] == 3
    # And of the other source each pass asked for the newest write, and nothing else
    taken = proven.table.job.passes - passes
    assert {call: count for call, count in asked.items() if call[1] == "u"} == {("query", "u"): taken}
    assert {move.state for move in proven.table.moves.values()} == {MoveState.VERIFIED}


def test_a_person_has_every_source_read_whatever_it_tells(proven: One) -> None:
    """For example because an application drops a namespace, and fills it again in as many writes."""
    writes = proven.index.query("u", twenty_three()[0], 1).lsn
    proven.index.delete_namespace("u")
    records = [record.with_metadata({"text": "of today"}) for record in twenty_three()]
    for start in range(0, len(records), 10):
        proven.index.upsert("u", records[start : start + 10])
    assert proven.index.query("u", records[0], 1).lsn == writes

    asked = asked_in_a_pass(proven, whole=True)

    assert asked["fetch", "u"] and asked["fetch", "s"]
    assert set(texts(proven, U).values()) == {"of today"}


def test_a_source_that_no_longer_tells_its_newest_write_is_read(proven: One, monkeypatch: pytest.MonkeyPatch) -> None:
    query = proven.index.query

    def silent(*arguments: Any) -> Matches:
        return replace(query(*arguments), lsn=None)

    monkeypatch.setattr(proven.index, "query", silent)

    asked = asked_in_a_pass(proven)

    assert asked["fetch", "u"] and asked["fetch", "s"]


def test_a_listing_that_fails_after_the_look_is_repeated_and_loses_nothing(
    proven: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a written source whose first listing fails, after its batches were opened again
    write_to_s(proven)
    list_ids, failed = proven.index.list_ids, list[str]()

    def failing(namespace: str, *arguments: Any, **named: Any) -> Any:
        if namespace == "s" and not failed:
            failed.append(namespace)
            raise Unavailable("503, says the test")
        return list_ids(namespace, *arguments, **named)

    monkeypatch.setattr(proven.index, "list_ids", failing)

    asked = asked_in_a_pass(proven)

    # Then the pass goes on where it was: nobody looks or reads twice
    assert failed and asked["fetch", "s"] == 3
    assert asked["query", "s"] == asked["query", "u"]
    assert texts(proven, S)["r07"] == "changed"


def test_a_written_source_is_read_though_the_job_tables_clock_was_put_back(proven: One) -> None:
    """For example because another server took over, whose clock is behind."""
    with proven.table.begin() as connection:
        later = t.move.c.source_read_at + sa.text("interval '1 hour'")
        connection.execute(sa.update(t.move).values(source_read_at=later))
    write_to_s(proven)

    asked_in_a_pass(proven)

    assert texts(proven, S)["r07"] == "changed"
