"""Laws that every decision about a job keeps, whatever the job table says."""

from hypothesis import given
from hypothesis import strategies as st
from snapshots import NOW, snapshot

from migrations.plan import Policies
from orchestrator.core.deciding import JobSnapshot, To, decide
from orchestrator.core.reading import RollBackProgress
from orchestrator.core.states import BATCH_OPEN, JOB_EDGES, JOB_WORKING, BatchKind, BatchState, JobState, MoveState

J, K, B, M = JobState, BatchKind, BatchState, MoveState

_COUNT = st.integers(0, 2)
SNAPSHOTS = st.builds(
    snapshot,
    st.sampled_from(JobState),
    batches=st.dictionaries(
        st.tuples(st.sampled_from(BatchKind), st.sampled_from(sorted({*BATCH_OPEN, BatchState.PARKED}))), _COUNT
    ),
    moves=st.dictionaries(st.sampled_from(MoveState), _COUNT),
    targets=st.dictionaries(st.sampled_from(["waiting", "checking", "verified", "mismatched", "empty"]), _COUNT),
    policies=st.builds(
        Policies,
        cut_over=st.sampled_from(["operator", "auto", "none"]),
        clean_up=st.sampled_from(["operator", "auto"]),
        repair_rounds=_COUNT,
        soak_seconds=_COUNT,
    ),
    roll_back=st.builds(RollBackProgress, _COUNT, _COUNT, _COUNT, _COUNT, _COUNT),
    undecided=_COUNT,
    void=st.lists(_COUNT, max_size=2).map(tuple),
    differing=_COUNT,
    over_budget=st.sampled_from([None, "the budget is used up"]),
    readers_moved=st.booleans(),
    resume_to=st.one_of(st.none(), st.sampled_from(sorted(JOB_WORKING))),
    repairs=_COUNT,
    verified_at=st.one_of(st.none(), st.just(NOW)),
    cut_over_at=st.one_of(st.none(), st.just(NOW)),
    cut_over_percent=st.sampled_from([0, 5, 100]),
    changed_records=st.sampled_from([None, "keep"]),
)


@given(SNAPSHOTS)
def test_whatever_the_job_table_says_every_change_of_state_is_an_edge_of_the_table(given_snapshot: JobSnapshot) -> None:
    changes = [command.state for command in decide(given_snapshot, NOW) if isinstance(command, To)]
    assert len(changes) <= 1
    assert set(changes) <= set(JOB_EDGES[given_snapshot.job.state])


@given(SNAPSHOTS)
def test_whatever_the_job_table_says_a_job_that_asks_for_attention_says_why_and_where_it_stopped(
    given_snapshot: JobSnapshot,
) -> None:
    for command in decide(given_snapshot, NOW):
        if isinstance(command, To) and command.state is J.NEEDS_ATTENTION:
            assert command.reason
            assert command.resume_to in JOB_WORKING


@given(SNAPSHOTS)
def test_whatever_the_job_table_says_no_batch_in_flight_is_left_behind_by_a_pause_or_an_end(
    given_snapshot: JobSnapshot,
) -> None:
    for command in decide(given_snapshot, NOW):
        if isinstance(command, To) and command.state in {J.PAUSED, J.CANCELLED}:
            assert given_snapshot.leased == 0


@given(SNAPSHOTS)
def test_a_job_is_verified_only_with_every_target_proven_and_every_record_decided(
    given_snapshot: JobSnapshot,
) -> None:
    if To(J.VERIFIED) in decide(given_snapshot, NOW):
        counts = {state: number for state, number in given_snapshot.targets.items() if number}
        assert counts.get("verified") and set(counts) <= {"verified", "empty"}
        assert not given_snapshot.undecided and not given_snapshot.void
        assert not given_snapshot.unsettled(K.LIST, K.COPY)
