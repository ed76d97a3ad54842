"""Verification from the command line: as far as one asks, and what came of it, in words."""

import pytest
import yaml
from job_table import JobTable, plan_of, planned
from terminal import Brain, Vecfleet

from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import tables as t
from orchestrator.services import acts
from vecfleet.stores.base import IndexInfo


@pytest.fixture
def copied(table: JobTable, brain: Brain) -> JobTable:
    """A copied job first → creator_ana_twin_first whose two records are there."""
    info = brain.store.describe("brain")
    table.apply(_in_pinecone(info))
    table.put(source=_row(info), target=_row(info))
    table.listed({"first": [["a-1", "a-2"]]})
    for lease in table.take():
        table.copy(lease, "creator_ana_twin_first")
    brain.write("creator_ana_twin_first", "a-1", "a-2")
    table.advance(2)
    return table


def _row(info: IndexInfo) -> dict[str, object]:
    from orchestrator.core.model import index_to_json

    return index_to_json(info)


def _in_pinecone(info: IndexInfo) -> object:
    plan = plan_of(planned("first", "creator_ana_twin_first", 2))
    ref = plan.source.model_copy(
        update={"store": "pinecone", "index": info.name, "dimension": info.dimension, "metric": info.metric}
    )
    return plan.model_copy(update={"source": ref, "target": ref}).sealed()


def test_a_count_is_printed_and_changes_nothing(vecfleet: Vecfleet, copied: JobTable, brain: Brain) -> None:
    before = copied.targets
    told = vecfleet("verify", str(copied.job_id), "--level", "count")
    assert told.code == 0
    assert "0 of 1 targets count differently from what was written; counts lag, and prove nothing" in told.out

    # And where they differ, that is not what was asked for
    brain.write("creator_ana_twin_first", "a-3")
    told = vecfleet("verify", str(copied.job_id), "--level", "count")
    assert told.code == 1
    assert told.out.splitlines()[-1] == f"next: vecfleet verify {copied.job_id} --level ids"
    assert copied.targets == before


def test_a_person_may_ask_for_less_or_more_than_the_plan(vecfleet: Vecfleet, copied: JobTable) -> None:
    said = vecfleet("verify", str(copied.job_id), "--level", "ids")
    assert (said.code, said.out.splitlines()[0]) == (0, f"job {copied.job_id}: 1 target is checked again")
    copied.advance()
    assert copied.rows(BatchKind.VERIFY) == []

    vecfleet("verify", str(copied.job_id), "--level", "content+query")
    copied.advance()
    assert len(copied.rows(BatchKind.VERIFY)) == len(copied.rows(BatchKind.QUERY)) == 1


def test_the_report_and_the_log_tell_how_both_sides_answer(vecfleet: Vecfleet, copied: JobTable) -> None:
    vecfleet("verify", str(copied.job_id), "--level", "content+query")
    copied.advance()
    answers = [
        {"id": f"a-{n}", "overlap": 1.0, "compared": 5, "lost": 0, "odd": 0, "pushed_out": 0, "drift": 0.0}
        | {"old_ms": 40.0, "new_ms": 40.0 + n}
        for n in (1, 2)
    ]
    for lease in copied.take():
        if lease.kind is BatchKind.QUERY:
            copied.check(lease, queries=answers)  # type: ignore[arg-type]
        else:
            copied.check(lease)
    copied.advance()
    assert copied.job.state is JobState.VERIFIED

    told = vecfleet("report", str(copied.job_id)).out
    row = "PASSED: 42ms P95, 40ms on the old side; 2 queries agree to 100% at worst, scores to 0"
    assert row in told
    assert "P50 42 ms, 40 ms on the old side; agreement 100.0% on average" in told
    log = yaml.safe_load(vecfleet("report", str(copied.job_id), "--format", "yaml").out)
    assert log["migration"]["tests"]["query_performance"] == row
    found = vecfleet("report", str(copied.job_id), "--json").json
    assert found["queries"]["new_p95_ms"] == pytest.approx(41.95)


def test_what_happened_at_a_target_since_readers_moved_is_said_and_named(vecfleet: Vecfleet, copied: JobTable) -> None:
    # Given a target that readers moved to, where a verification found one record changed and one added since
    for lease in copied.take():
        copied.check(lease)
    copied.advance()
    acts.cut_over(copied.database, copied.job_id, "ana", 100)
    acts.verify(copied.database, copied.job_id, "ana")
    copied.advance()
    for lease in copied.take():
        found = {"different": 1} if lease.kind is BatchKind.VERIFY else {"extra": 1, "count": 3}
        copied.check(lease, **found)
    copied.advance(2)

    # Then who looks is told, and the report names them
    status = vecfleet("status", str(copied.job_id))
    assert f"at the targets since: 1 changed, 1 added; `vecfleet report {copied.job_id}` names them" in status.out
    seen = vecfleet("status", str(copied.job_id), "--json").json
    assert seen["changed_since"] == {"removed": 0, "changed": 1, "added": 1}
    report = vecfleet("report", str(copied.job_id))
    assert "issue: since then changed: creator_ana_twin_first / r" in report.out
    assert "issue: since then added: creator_ana_twin_first / r" in report.out
    told = vecfleet("report", str(copied.job_id), "--json").json["changed_since"]
    assert {"namespace": "creator_ana_twin_first", "id": "r", "what": "added"} in told["records"]


def test_a_report_names_the_records_that_differ(vecfleet: Vecfleet, copied: JobTable) -> None:
    for lease in copied.take():
        copied.check(lease, **({"extra": 1, "count": 3} if lease.kind is BatchKind.SURVEY else {}))
    copied.advance()
    assert "issue: extra: creator_ana_twin_first / r" in vecfleet("report", str(copied.job_id)).out


def test_a_parked_batch_is_listed_with_its_number_and_can_be_left_behind(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 3)))
    table.listed({"s": [["a", "b"], ["c"]]})
    doomed, other = table.take()
    table.park(doomed)
    table.copy(other, "t")
    table.advance()
    listed = vecfleet("park", "list", str(table.job_id), "--json").json
    assert [batch["id"] for batch in listed["batches"]] == [doomed.id]
    assert f"vecfleet park accept {table.job_id} --all-batches" in listed["next_steps"]

    # Which records is to be said one way, not two
    assert vecfleet("park", "accept", str(table.job_id), "--all", "--all-batches").code == 2
    assert vecfleet("park", "accept", str(table.job_id), "--batch", "999").code == 3
    accepted = vecfleet("park", "accept", str(table.job_id), "--batch", str(doomed.id), "--yes")
    assert accepted.code == 0 and f"job {table.job_id}: 2 records stay behind" in accepted.out
    with table.begin() as connection:
        kept = connection.execute(t.parked_record.select()).all()
    assert [(row.record_id, row.reason) for row in kept] == [(x, "its batch: no retry helps") for x in ("a", "b")]
    table.advance(2)
    assert table.job.state is JobState.COPIED
