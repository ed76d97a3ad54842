"""The levels of a verification: ids, contents, and whether both sides answer the same questions alike."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from in_one_process import COUNT, TARGET, One, open_one, twenty_three
from job_table import INDEX, planned

from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger.check_results import questions
from orchestrator.services import acts
from vecfleet.errors import Refused, WrongKind
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import IndexInfo, Kind, Matches, NamespaceInfo
from vecfleet.stores.memory import MemoryIndex

Open = Callable[..., One]
DIMENSION = 16
SMALL = replace(INDEX, dimension=DIMENSION)


@pytest.fixture
def open_job(database_url: str, redis_url: str) -> Iterator[Open]:
    """`open_job(namespaces, *moves, info=…, **policies)`."""
    with ExitStack() as ending:
        yield lambda *given, **policies: ending.enter_context(open_one(database_url, redis_url, *given, **policies))


def dense(id: str, **metadata: Any) -> Record:
    values = np.random.default_rng([*id.encode()]).standard_normal(DIMENSION, dtype="<f4").tobytes()
    return Record(id, values, metadata=metadata)


def sparse(id: str, values: bytes = b"") -> Record:
    chance = np.random.default_rng([*id.encode()])
    indices = np.sort(chance.choice(40, 6, replace=False)).astype("<u4").tobytes()
    return Record(id, values, Sparse(indices, chance.random(6, dtype="<f4").tobytes()))


def hybrid(id: str) -> Record:
    return sparse(id, dense(id).values)


def verdict(one: One, namespace: str = TARGET) -> dict[str, Any]:
    found = one.table.targets[namespace].verdict
    assert found is not None
    return dict(found)


def test_a_verification_of_ids_lists_and_reads_no_record(one: One) -> None:
    one.until(JobState.COPIED)
    acts.verify(one.table.database, one.table.job_id, "ana", "ids")
    one.until(JobState.VERIFIED)
    assert verdict(one)["level"] == "ids"
    assert verdict(one)["reason"] == "23 ids listed, none missing and none extra; no record was read"
    assert one.table.rows(BatchKind.VERIFY) == []


def test_ids_that_are_missing_are_repaired_without_reading_a_record(open_job: Open) -> None:
    one = open_job({"s": twenty_three()}, planned("s", TARGET, COUNT), verify="ids")
    one.until(JobState.COPIED)
    one.index.delete(TARGET, ["r07", "r19"])
    one.until(JobState.VERIFIED)
    assert one.table.job.repairs == 1
    assert len(one.ids(TARGET)) == COUNT


def test_what_the_plan_asks_is_not_proven_by_less(one: One) -> None:
    # Given a job whose plan asks for contents, and a person who had only the ids listed
    one.until(JobState.VERIFIED)
    acts.verify(one.table.database, one.table.job_id, "ana", "ids")
    one.until(JobState.VERIFIED)

    # When the old is to be deleted, then that is not enough
    with pytest.raises(Refused, match="is of level ids; the plan asks for content"):
        acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)

    # And a verification without a word is that of the plan
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.VERIFIED)
    assert verdict(one)["level"] == "content"


@pytest.mark.parametrize(
    ("info", "make"),
    [
        (SMALL, dense),
        (replace(SMALL, metric="euclidean"), dense),
        (replace(SMALL, metric="dotproduct"), dense),
        (replace(SMALL, kind=Kind.SPARSE, dimension=None, metric="dotproduct"), sparse),
        (replace(SMALL, kind=Kind.HYBRID, metric="dotproduct"), hybrid),
    ],
    ids=["cosine", "euclidean", "dot product", "sparse", "hybrid"],
)
def test_both_sides_answer_alike_whatever_the_index_holds(
    open_job: Open, info: IndexInfo, make: Callable[[str], Record]
) -> None:
    records = [make(f"r{number:03d}") for number in range(60)]
    one = open_job(
        {"s": records}, planned("s", TARGET, 60), info=info, verify="content+query", query_sample=30, query_top_k=5
    )
    one.until(JobState.VERIFIED)
    found = verdict(one)
    assert found["level"] == "content+query"
    assert (found["queries"]["asked"], found["queries"]["compared"]) == (30, 30)
    assert (found["queries"]["overlap_worst"], found["queries"]["drift_worst"]) == (1.0, 0.0)
    assert found["queries"]["old_p95_ms"] > 0 and found["queries"]["new_p95_ms"] > 0
    assert found["reason"] == "60 records read back and equal; 30 queries agree with the source, the worst to 100%"
    # And the questions are kept, in batches: about thirty different records, whose ids are not among what is kept
    rows = one.table.rows(BatchKind.QUERY)
    assert [row.size for row in rows] == [25, 5]
    with one.table.begin() as connection:
        parts = [questions(connection, row.target_id, one.table.job.salt, 30, row.seq) for row in rows]
    sampled = {record.record_id for part in parts for record in part}
    assert len(sampled) == 30
    assert not [record_id for record_id in sampled if any(record_id in str(row.found) for row in rows)]


def test_neighbours_that_other_sources_push_out_of_a_shared_target_are_not_called_lost(open_job: Open) -> None:
    # Given two sources of one target, the second with closer neighbours of the first one's records than its own
    first = [dense(f"a{number:02d}") for number in range(20)]
    nearer = [
        Record(f"b{number:02d}-{copy}", (np.frombuffer(one.values, "<f4") * (1 + copy / 1_000)).tobytes())
        for number, one in enumerate(first)
        for copy in range(3)
    ]
    one = open_job(
        {"s": first, "u": nearer},
        planned("s", TARGET, 20),
        planned("u", TARGET, 60),
        info=SMALL,
        verify="content+query",
        query_sample=80,
        query_top_k=4,
        collisions="prefix",
    )
    one.until(JobState.VERIFIED)
    queries = [question for row in one.table.rows(BatchKind.QUERY) for question in row.found["queries"]]
    assert any(question["pushed_out"] for question in queries)
    assert not any(question["lost"] or question["odd"] for question in queries)
    assert verdict(one)["queries"]["overlap_worst"] == 1.0


def test_answers_that_differ_though_every_byte_is_equal_are_for_a_person(
    open_job: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a new side whose index forgets a record when it is searched
    one = open_job({"s": [dense(f"r{n}") for n in range(20)]}, planned("s", TARGET, 20), info=SMALL, query_top_k=5)
    original = MemoryIndex.query

    def forget(index: MemoryIndex, namespace: str, like: Record, top_k: int) -> Matches:
        answer = original(index, namespace, like, top_k + 1)
        kept = [match for match in answer.matches if namespace != TARGET or match != answer.matches[0]]
        return replace(answer, matches=kept[:top_k])

    monkeypatch.setattr(MemoryIndex, "query", forget)
    one.until(JobState.VERIFIED)

    # When a person asks for queries too, then the job says so, and repairs nothing that is whole
    acts.verify(one.table.database, one.table.job_id, "ana", "content+query")
    one.until(JobState.NEEDS_ATTENTION)
    assert one.table.job.repairs == 0
    assert verdict(one)["reason"] == (
        "20 records read back and equal, but a query agrees with the source to 80% only, and the plan asks for 90%"
    )


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (lambda *_: Matches([]), "its queries are not verified: none could be compared"),
        (
            lambda *_: (_ for _ in ()).throw(WrongKind("it answers no queries")),
            "its queries are not verified: it answers no queries",
        ),
        (lambda *_: Matches([], lsn=1), "its queries are not verified: queries of creator_ana_twin_s see its writes"),
    ],
    ids=["no answer", "no queries", "old answers"],
)
def test_without_a_question_that_was_answered_there_is_no_verdict(
    open_job: Open, monkeypatch: pytest.MonkeyPatch, answers: Callable[..., Matches], why: str
) -> None:
    one = open_job(
        {"s": [dense(f"r{n}") for n in range(20)]}, planned("s", TARGET, 20), info=SMALL, verify="content+query"
    )
    monkeypatch.setattr(MemoryIndex, "query", answers)
    one.until(JobState.NEEDS_ATTENTION)
    assert verdict(one)["verified"] is False
    assert why in verdict(one)["reason"]


def test_a_count_that_the_listing_does_not_bear_out_costs_a_second_listing_and_decides_nothing(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that counts one record too many for as long as anybody asks
    monkeypatch.setattr(MemoryIndex, "namespace", lambda index, name: NamespaceInfo(name, COUNT + 1))
    listings = []
    original = MemoryIndex.list_ids

    def listing(index: MemoryIndex, namespace: str, *rest: Any, **more: Any) -> Any:
        listings.append(namespace)
        return original(index, namespace, *rest, **more)

    monkeypatch.setattr(MemoryIndex, "list_ids", listing)
    one.until(JobState.VERIFIED)
    assert listings.count(TARGET) == 2
    assert (verdict(one)["counted"], verdict(one)["listed"], verdict(one)["listings"]) == (COUNT + 1, COUNT, 2)
