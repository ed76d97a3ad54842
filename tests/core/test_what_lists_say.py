"""Lists of jobs say what became of each job's records; a time that people read is not thousands of seconds."""

from dataclasses import replace

import pytest
from job_table import plan_of, planned
from readings import job, policies, reading, totals

from orchestrator.core.model import Move
from orchestrator.core.progress import progress, proof
from orchestrator.core.reading import done_of, given_up_said, summary
from orchestrator.core.states import JobState, MoveState
from orchestrator.web import pages
from orchestrator.web.plans import PlanView
from orchestrator.web.searching import Wish
from orchestrator.web.sessions import Session

SUMS = totals(expected=376, listed=376, written=376)


@pytest.mark.parametrize(
    ("state", "resume_to", "done", "said"),
    [
        (JobState.RUNNING, None, 376, None),
        (JobState.FINISHED, None, 376, None),
        (JobState.CANCELLED, None, 0, "given up, 376 stay"),
        (JobState.ROLLING_BACK, None, 0, "being taken back"),
        (JobState.NEEDS_ATTENTION, JobState.ROLLING_BACK, 0, "being taken back"),
        (JobState.NEEDS_ATTENTION, JobState.COPIED, 376, None),
        (JobState.ROLLED_BACK, None, 0, "taken back"),
    ],
)
def test_what_was_given_up_or_taken_back_is_not_done(
    state: JobState, resume_to: JobState | None, done: int, said: str | None
) -> None:
    row = job(state, resume_to=resume_to)
    assert (done_of(row, SUMS), given_up_said(row, SUMS), summary(row, SUMS)["done"]) == (done, said, done)
    listed = pages.text("part_jobs.html", jobs=[(row, SUMS)], wish=Wish(), fillings=())
    assert ("100 %" in listed, (said or "376") in listed) == (bool(done), True)


def test_a_job_that_was_given_up_before_it_began_leaves_nothing() -> None:
    given_up, none = job(JobState.CANCELLED), totals(expected=9)
    assert given_up_said(given_up, none) == "given up"
    listed = pages.text("part_jobs.html", jobs=[(given_up, none)], wish=Wish(), fillings=())
    assert "given up" in listed and "<progress" not in listed


def test_a_namespace_that_was_taken_back_has_nothing_done() -> None:
    rest = dict.fromkeys(Move.__dataclass_fields__, 0)
    move = Move(**{**rest, "source": "s", "to": "t", "state": MoveState.VERIFIED, "written": 376, "listed": 376})
    back = replace(move, state=MoveState.ROLLED_BACK)
    assert [view.done for view in progress(reading(page=(move, back))).namespaces] == [376, 0]
    table = pages.text(
        "namespaces.html", session=None, job=job(JobState.ROLLED_BACK), moves=[back], more=None, state="", after=0
    )
    assert "0 of 376" in table and "376 of 376" not in table


@pytest.mark.parametrize(
    ("state", "verify", "said"),
    [
        (JobState.VERIFIED, "content", "376 records were read back from 2 target namespaces and found equal"),
        (JobState.CLEANED, "ids", "376 records were listed at 2 target namespaces and all were there"),
        (JobState.ROLLED_BACK, "content", None),
        (JobState.RUNNING, "content", None),
    ],
)
def test_what_is_proven_is_one_sentence(state: JobState, verify: str, said: str | None) -> None:
    seen = reading(state, policies=policies(verify=verify), totals=SUMS, targets={"verified": 2})
    assert proof(seen) == progress(seen).proof == said


@pytest.mark.parametrize(
    ("stores", "said"),
    [
        (("pinecone", "pinecone"), "stores in brain"),
        (("pinecone", "pgvector"), "stores: pinecone:brain → pgvector:brain"),
    ],
)
def test_indexes_of_two_stores_that_share_a_name_are_told_as_two(stores: tuple[str, str], said: str) -> None:
    """A copy from Pinecone to Postgres read like a job within one index."""
    row = job(JobState.VERIFIED, recipe="stores", source_store=stores[0], target_store=stores[1])
    assert f">{said}<" in pages.text("part_jobs.html", jobs=[(row, SUMS)], wish=Wish(), fillings=())
    plan = plan_of(planned("s", "t"))
    source, target = (plan.source.model_copy(update={"store": store, "index": "brain"}) for store in stores)
    view = PlanView("plan.yaml", plan.model_copy(update={"recipe": "stores", "source": source, "target": target}), None)
    assert f">{said}<" in pages.text("plans.html", session=None, plans=[view])


def test_a_policy_that_is_a_time_is_told_as_one() -> None:
    view = PlanView("plan.yaml", plan_of(planned("s", "t", 2), soak_seconds=9_000, max_passes=9), None)
    told = pages.text("plan.html", session=Session("ana", True, "a proof"), view=view)
    assert "<dt>soak</dt><dd>2 h 30 min</dd>" in told and "<dt>max passes</dt><dd>9</dd>" in told
    assert "9000" not in told and "seconds" not in told
