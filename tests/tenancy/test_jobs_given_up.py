"""A job that is given up takes no reader away from where its tenants' records have been written since the cut-over."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned

from orchestrator.core.states import JobState
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from orchestrator.web.applications import JobTableRoutes
from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.errors import Refused
from vecfleet.settings import Settings
from vecfleet.tenancy import CachedRoutes, PineconeDelphiClient, Rollout

OLD, NEW = "coach", "creator_ana_twin_coach"
WRITTEN = [{"id": "since", "values": [1.0] * SMALL}]


class Application:
    """An application that follows the job table's routes, started anew at each call."""

    def __init__(self, database: Database, index: str) -> None:
        self._database, self._index = database, index

    def _client(self) -> PineconeDelphiClient:
        return PineconeDelphiClient(
            self._index, rollout=Rollout(CachedRoutes(JobTableRoutes(self._database)), flag=False)
        )

    def write(self) -> None:
        assert self._client().upsert_vectors(WRITTEN, "ana", "coach") == 1

    def found(self) -> tuple[str, list[str]]:
        """Return the namespace that a query reads, and the ids that it finds there."""
        answer = self._client().query(vector=[1.0] * SMALL, creator_id="ana", twin_id="coach")
        return answer.namespace, [match.id for match in answer.matches]


@pytest.fixture
def table(database_url: str) -> Iterator[JobTable]:
    """A verified job whose plan leads ana's coach to a namespace of its own."""
    database = Database(database_url, pool_size=4)
    table = JobTable(database)
    table.apply(plan_of(planned(OLD, NEW)))
    table.verified()
    yield table
    database.dispose()


@pytest.fixture
def application(table: JobTable, make_index: MakeIndex, environment: Settings) -> Application:
    """It wrote a record after the cut-over of all readers."""
    application = Application(table.database, make_index(INDEX.name))
    acts.cut_over(table.database, table.job_id, "ana", 100)
    application.write()
    assert application.found() == (NEW, ["since"])
    return application


def test_a_job_is_not_cancelled_while_its_readers_are_on_the_new_side(
    table: JobTable, application: Application
) -> None:
    # Given a job that is checked once more, after the cut-over of its readers
    acts.verify(table.database, table.job_id, "ana")

    # When a person gives it up, then that is refused: readers would miss what was acknowledged since
    with pytest.raises(Refused, match="readers are cut over at 100 %") as refused:
        acts.cancel(table.database, table.job_id, "ana")

    assert refused.value.code == "readers-on-target"
    step = str(refused.value.next_step)
    assert f"vecfleet finish {table.job_id}" in step and f"vecfleet reverse {table.job_id}" in step
    assert application.found() == (NEW, ["since"])


def test_while_readers_are_on_both_sides_all_go_to_one_first(table: JobTable) -> None:
    # Given a job of whose readers a quarter was moved
    acts.cut_over(table.database, table.job_id, "ana", 25)

    # When a person gives it up, or ends it as it is
    with pytest.raises(Refused) as cancelled:
        acts.cancel(table.database, table.job_id, "ana")
    with pytest.raises(Refused) as finished:
        acts.finish(table.database, table.job_id, "ana")

    # Then both say that all of them have to be on one side first
    assert (cancelled.value.code, finished.value.code) == ("readers-on-target", "readers-split")
    for refused in (cancelled.value, finished.value):
        step = str(refused.next_step)
        assert f"vecfleet cutover {table.job_id} --percent 100" in step and f"vecfleet reverse {table.job_id}" in step


def test_once_its_readers_are_back_a_job_may_be_cancelled(table: JobTable, application: Application) -> None:
    acts.verify(table.database, table.job_id, "ana")
    acts.reverse(table.database, table.job_id, "ana")
    assert application.found() == (OLD, [])

    acts.cancel(table.database, table.job_id, "ana")
    table.advance()

    assert table.job.state is JobState.CANCELLED


def test_a_job_given_up_within_a_clean_up_that_deleted_nothing_leaves_its_readers_where_they_are(
    table: JobTable, application: Application
) -> None:
    # Given a clean-up that a worker has begun
    table.put(cut_over_at=sa.func.clock_timestamp() - timedelta(days=3))
    acts.clean_up(table.database, table.job_id, "ana", by_ids=True)
    [removal] = table.take()
    acts.pause(table.database, table.job_id, "ana")
    acts.cancel(table.database, table.job_id, "ana")

    # When a guard refuses the only deletion, and the job ends
    table.park(removal, "a record changed")
    table.advance()

    # Then its readers find what they wrote, and are not led to a source that other jobs may have by now
    assert table.job.state is JobState.CANCELLED
    assert application.found() == (NEW, ["since"])
    with pytest.raises(Refused, match="other jobs may have its old namespaces") as refused:
        acts.reverse(table.database, table.job_id, "ana")
    assert refused.value.next_step == f"`vecfleet plan reverse {table.job_id}` plans a way back"


def test_a_job_is_not_finished_before_a_pass_has_read_what_came_to_the_old_side_last(
    table: JobTable, application: Application
) -> None:
    # Given a cut-over after which nobody has read the old namespaces: a write from right before it is there alone
    following = plan_of(planned(OLD, NEW), writers="delta")
    table.put(plan=following.model_dump(mode="json"), plan_digest=following.digest)
    with pytest.raises(Refused, match="no pass has read them since") as refused:
        acts.finish(table.database, table.job_id, "ana")
    assert refused.value.code == "pass-missing" and f"vecfleet pass {table.job_id}" in str(refused.value.next_step)

    # When a pass began once reads showed the last such write
    table.put(as_of=table.job.cut_over_at)
    acts.finish(table.database, table.job_id, "ana")

    assert table.job.state is JobState.FINISHED and application.found() == (NEW, ["since"])
