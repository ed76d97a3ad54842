"""Records that are not where they were: how many may be without a person saying that it is meant."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.next_steps import next_steps
from orchestrator.core.states import BatchKind, BatchState, JobState, MoveState
from orchestrator.ledger import status
from orchestrator.services import acts
from vecfleet.errors import Unavailable
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, Kind, Written
from vecfleet.stores.memory import MemoryIndex
from workers import calls

SHARED = "creator_ana"
Open = Callable[..., One]


@pytest.fixture
def open_job(database_url: str, redis_url: str) -> Iterator[Open]:
    """`open_job(namespaces, *moves, **policies)`."""
    with ExitStack() as ending:
        yield lambda *given, **policies: ending.enter_context(open_one(database_url, redis_url, *given, **policies))


@pytest.mark.parametrize("by_ids", [False, True])
def test_a_small_source_most_of_which_its_target_lost_is_not_deleted_before_a_person_says_so(
    open_job: Open, by_ids: bool
) -> None:
    # Given seven records, of which somebody deleted four where readers have moved to
    one = open_job({"s": twenty_three()[:7]}, planned("s", TARGET, 7), cut_over="operator", soak_seconds=0)
    database, job_id = one.table.database, one.table.job_id
    one.until(JobState.VERIFIED)
    acts.cut_over(database, job_id, "ana", 100)
    one.index.delete(TARGET, ["r00", "r01", "r02", "r03"])

    # When it is verified once more and cleaned up, then nothing is deleted
    acts.verify(database, job_id, "ana")
    one.until(JobState.CUT_OVER)
    acts.clean_up(database, job_id, "ana", by_ids=by_ids)
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == 7
    assert one.table.move.state is MoveState.PARKED
    assert one.table.move.reason is not None
    assert f"`vecfleet set {job_id} missing 4 --target {TARGET}`" in one.table.move.reason

    # Nor when a person says that so many of any source may be missing: it is most of this target
    acts.set_lever(database, job_id, "ana", "missing", 4)
    acts.retry(database, job_id, "ana", "failed")
    one.until(JobState.NEEDS_ATTENTION)
    assert len(one.ids("s")) == 7

    # Until a person says of this target that it is meant, as they are led to
    said = f"vecfleet set {job_id} missing 4 --target {TARGET}"
    assert proposed(one)[:3] == (f"vecfleet park list {job_id}", said, f"vecfleet retry {job_id} failed")
    acts.set_lever(database, job_id, "ana", "missing", 4, TARGET)
    assert said not in proposed(one)
    acts.retry(database, job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert one.ids("s") == []


def test_what_a_target_lost_is_counted_before_the_first_batch_deletes_anything(open_job: Open) -> None:
    # Given 23 records in batches of ten and less, a target that lost all but one, and an application that writes there
    records = twenty_three()
    one = open_job({"s": records}, planned("s", TARGET, COUNT), cut_over="operator", soak_seconds=0)
    database, job_id = one.table.database, one.table.job_id
    one.until(JobState.VERIFIED)
    acts.cut_over(database, job_id, "ana", 100)
    one.index.delete(TARGET, [record.id for record in records[1:]])

    # When its source is cleaned up by ids, each batch by itself, none of which lacks more than a few
    acts.clean_up(database, job_id, "ana", by_ids=True)
    one.until(JobState.NEEDS_ATTENTION)

    # Then none of them deleted the last place of a record
    assert set(one.ids("s")) >= {record.id for record in records[1:]}
    assert f"`vecfleet set {job_id} missing 22 --target {TARGET}`" in (one.table.move.reason or "")


@pytest.mark.parametrize(("kept", "answer"), [(0, 20), (1, 19)])
def test_what_a_target_lacks_is_counted_over_all_sources_that_go_there(open_job: Open, kept: int, answer: int) -> None:
    # Given two sources of ten records each, in one target that lost so many of them
    first, second = twenty_three()[:10], twenty_three()[10:20]
    one = open_job(
        {"s1": first, "s2": second},
        planned("s1", SHARED, 10),
        planned("s2", SHARED, 10),
        cut_over="operator",
        soak_seconds=0,
        collisions="skip",
    )
    database, job_id = one.table.database, one.table.job_id
    one.until(JobState.VERIFIED)
    acts.cut_over(database, job_id, "ana", 100)
    one.index.delete(SHARED, [record.id for record in [*first, *second]][kept:])

    # When a person said that ten of each source may be missing, then not all that this target held
    acts.set_lever(database, job_id, "ana", "missing", 10)
    acts.clean_up(database, job_id, "ana", by_ids=False)
    one.until(JobState.NEEDS_ATTENTION)
    why = [move.reason for move in one.table.moves.values() if move.state is MoveState.PARKED]
    assert any(f"`vecfleet set {job_id} missing {answer} --target {SHARED}`" in str(reason) for reason in why), why
    kept_back = [name for name in ("s1", "s2") if one.ids(name)]
    assert kept_back

    # Until it is said of the target
    acts.set_lever(database, job_id, "ana", "missing", 20, SHARED)
    acts.retry(database, job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert one.ids("s1") == one.ids("s2") == []


@pytest.mark.parametrize("writers", ["freeze", "delta"])
def test_a_source_that_lists_much_less_than_was_planned_waits_for_a_person(open_job: Open, writers: str) -> None:
    # Given a plan over 23 records, and a source that lists five
    one = open_job({"s": twenty_three()[:5]}, planned("s", TARGET, COUNT), writers=writers)
    database, job_id = one.table.database, one.table.job_id

    # Then nothing of it is believed, however often a person only resumes it
    for _ in range(2):
        one.until(JobState.PAUSED)
        assert one.table.job.reason is not None
        assert f"s lists 5 ids, though {COUNT} records were planned" in one.table.job.reason
        assert f"`vecfleet set {job_id} missing 18` and resume" in one.table.job.reason
        acts.resume(database, job_id, "ana")
    assert one.table.moves["s"].listed_all is False

    # Until a person says that the others were deleted, as they are led to
    one.until(JobState.PAUSED)
    assert proposed(one)[:2] == (f"vecfleet set {job_id} missing 18", f"vecfleet resume {job_id}")
    acts.set_lever(database, job_id, "ana", "missing", 18)
    assert proposed(one)[0] == f"vecfleet resume {job_id}"
    acts.resume(database, job_id, "ana")
    one.until(JobState.VERIFIED)
    assert one.ids(TARGET) == one.ids("s") and one.table.move.listed == 5


def test_a_source_that_shrank_a_little_since_its_plan_is_copied_as_it_is(open_job: Open) -> None:
    one = open_job({"s": twenty_three()[:13]}, planned("s", TARGET, COUNT))
    one.until(JobState.VERIFIED)
    assert (one.table.move.listed, one.ids(TARGET)) == (13, one.ids("s"))


def proposed(one: One) -> tuple[str, ...]:
    """Return the steps that a person is led to: in the terminal, on the page and in the report alike."""
    with one.table.begin() as connection:
        return next_steps(status.reading(connection, one.table.job_id, namespaces=0))


def away(monkeypatch: pytest.MonkeyPatch, *kept: str) -> None:
    """The service does not find the records of `s`, but for `kept`, though it listed them."""
    original, listing = MemoryIndex.fetch, MemoryIndex.list_ids

    def fetch(index: MemoryIndex, namespace: str, ids: list[str]) -> Fetched:
        return original(index, namespace, [one for one in ids if namespace != "s" or one in kept])

    def list_ids(index: MemoryIndex, namespace: str, *rest: object, **more: object) -> object:
        page = listing(index, namespace, *rest, **more)  # type: ignore[arg-type]
        return page if namespace != "s" else type(page)([one for one in page.ids if one in kept], None, page.usage)

    monkeypatch.setattr(MemoryIndex, "fetch", fetch)
    monkeypatch.setattr(MemoryIndex, "list_ids", list_ids)


@pytest.mark.parametrize(
    ("kept", "why", "gone"),
    [
        ([], "s lists no ids any more: what it held is not counted as gone", 0),
        (["r00", "r10", "r20"], "records of s were listed and are not there any more; they would count as gone", 9),
    ],
)
def test_a_namespace_that_is_away_for_a_while_is_not_taken_for_empty(
    open_job: Open, monkeypatch: pytest.MonkeyPatch, kept: list[str], why: str, gone: int
) -> None:
    # Given a source that was listed
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), cut_over="auto")
    one.table.advance()
    one.deliver()
    assert len(one.table.rows(BatchKind.COPY)) == 3

    # When the service does not find it, then the job waits for a person
    with monkeypatch.context() as patched:
        away(patched, *kept)
        one.until(JobState.PAUSED)
        assert one.table.job.reason is not None and why in one.table.job.reason

    # And when it does again, everything is copied but the few that were believed
    acts.resume(one.table.database, one.table.job_id, "ana")
    one.until(JobState.CUT_OVER)
    assert (one.table.move.written, one.table.move.gone) == (COUNT - gone, gone)


@pytest.mark.parametrize("writers", ["freeze", "delta"])
def test_gone_records_count_once_although_their_batch_failed_afterwards(
    open_job: Open, monkeypatch: pytest.MonkeyPatch, writers: str
) -> None:
    # Given a listed source of which the application deletes a record
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), writers=writers)
    one.table.advance()
    one.deliver()
    one.index.delete("s", ["r05"])

    # When the target takes nothing for a while, so that its batch fails when it has noted that one is gone
    with monkeypatch.context() as patched:
        patched.setattr(calls, "_FIRST_WAIT_S", 0.001)
        patched.setattr(calls, "_LONGEST_WAIT_S", 0.001)
        patched.setattr(MemoryIndex, "upsert", unavailable)
        one.work_until(lambda: noted(one))
    assert noted(one) == [(BatchState.READY, {"lacking": 1})]

    # Then it counts as gone when the batch is done
    one.until(JobState.VERIFIED)
    move = one.table.move
    assert (move.listed, move.written, move.gone) == (COUNT, COUNT - 1, 1)


def noted(one: One) -> list[tuple[BatchState, dict[str, int]]]:
    return [(row.state, row.found) for row in one.table.rows(BatchKind.COPY) if row.found]


def unavailable(index: MemoryIndex, namespace: str, records: list[Record]) -> Written:
    raise Unavailable("it takes nothing")


def test_records_that_a_person_says_were_deleted_meanwhile_count_as_gone(open_job: Open) -> None:
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.table.advance()
    one.deliver()
    one.index.delete("s", [f"r{number:02d}" for number in range(11)])
    one.until(JobState.PAUSED)
    acts.set_lever(one.table.database, one.table.job_id, "ana", "missing", 11)
    acts.resume(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)
    assert (one.table.move.written, one.table.move.gone) == (12, 11)


def test_batches_that_were_parked_and_tried_again_may_not_lack_more_than_others(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two batches of ten that are parked, for the service lists their ids and does not give their records
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    withheld = {f"r{number:02d}" for number in range(20)}
    with monkeypatch.context() as patched:
        fetch = MemoryIndex.fetch

        def withhold(index: MemoryIndex, namespace: str, ids: list[str]) -> Fetched:
            fetched = fetch(index, namespace, ids)
            return Fetched({key: one for key, one in fetched.records.items() if key not in withheld}, fetched.usage)

        patched.setattr(MemoryIndex, "fetch", withhold)
        one.until(JobState.NEEDS_ATTENTION)

    # When their records are gone by the time a person tries them again, then that is more than a few
    one.index.delete("s", sorted(withheld))
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.PAUSED)
    assert "records of s were listed and are not there any more" in (one.table.job.reason or "")


def test_a_pod_is_not_asked_for_a_listing_of_what_is_gone(open_job: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod lists nothing; what it does not answer twice is gone, and how much may be is capped."""
    # Given a listed source in what is a pod from then on, of which the application deletes a record
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT))
    one.table.advance()
    one.deliver()
    asked = counted_listings(monkeypatch)
    monkeypatch.setattr(one.index, "info", replace(one.index.info, kind=Kind.POD))
    one.index.delete("s", ["r05"])

    # When its batch is copied, then it is not parked
    one.work_until(lambda: all(row.state == BatchState.DONE for row in one.table.rows(BatchKind.COPY)))
    assert (one.table.move.written, one.table.move.gone) == (COUNT - 1, 1)
    assert "s" not in asked


def test_whether_a_source_is_empty_is_asked_once_and_not_for_each_record(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a listed source whose ten records are gone, as its owner says
    one = open_job({"s": twenty_three()[:10]}, planned("s", TARGET, 10))
    one.table.advance()
    one.deliver()
    acts.set_lever(one.table.database, one.table.job_id, "ana", "missing", 10)
    asked = counted_listings(monkeypatch)
    one.index.delete("s", [f"r{number:02d}" for number in range(10)])

    # Then one look tells that it is empty, and a second that the job is to wait for a person
    one.until(JobState.PAUSED)
    assert asked == ["s", "s"]


def counted_listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The namespaces that are listed from now on, in turn."""
    listing, asked = MemoryIndex.list_ids, list[str]()

    def list_ids(index: MemoryIndex, namespace: str, *rest: object, **more: object) -> object:
        asked.append(namespace)
        return listing(index, namespace, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryIndex, "list_ids", list_ids)
    return asked
