"""An index that is deleted whole, and a job that would use it: of the two, one is refused, whoever is first."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa
from job_table import ELSEWHERE, INDEX, JobTable, plan_of, planned

from migrations.plan import Plan
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs, whole_indexes
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused

WHO = "a person"


def of_the_vector_database(plan: Plan) -> Plan:
    sides = {"source": plan.source, "target": plan.target}
    return plan.model_copy(update={name: ref.model_copy(update={"store": "pinecone"}) for name, ref in sides.items()})


PLAN = of_the_vector_database(plan_of(planned("s", "t"))).sealed()


def decommission(database: Database) -> None:
    with database.begin() as connection:
        whole_indexes.note_decommission(connection, WHO, INDEX.name, INDEX.host, [])


def apply(database: Database, plan: Plan = PLAN) -> int:
    """Apply the plan as `vecfleet apply` does in its transaction."""
    table = JobTable(database)
    with database.begin() as connection:
        job_id = table.insert(connection, plan)
        whole_indexes.require_staying(connection, plan)
    return job_id


def test_who_applies_a_plan_of_an_index_that_is_being_deleted_is_told_so(database: Database) -> None:
    decommission(database)

    with pytest.raises(Refused, match=f"{INDEX.name} is being deleted, by {WHO}") as refusal:
        apply(database)

    assert refusal.value.next_step is not None and "apply the plan after" in refusal.value.next_step
    with database.begin() as connection:
        assert jobs.every(connection) == []
    # And what is over is over: an index of this name may have been made anew
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER USER"))  # nobody changes a row otherwise
        connection.execute(sa.update(t.audit).values(at=t.audit.c.at - timedelta(hours=1)))
    assert apply(database)


def test_a_plan_of_other_indexes_is_applied_meanwhile(database: Database) -> None:
    with database.begin() as connection:
        whole_indexes.note_decommission(connection, WHO, "another index", "another.host", [])
    assert apply(database)


def test_an_index_that_a_live_job_uses_is_not_deleted_also_where_it_holds_no_namespace_of_it_yet(
    database: Database,
) -> None:
    # Given a job whose records go to their owners' namespaces in another index, and none was read yet
    table = JobTable(database)
    table.apply(plan_of(planned("s"), target=ELSEWHERE), target=ELSEWHERE)

    with database.begin() as connection, pytest.raises(Refused, match="job 1 works on another"):
        whole_indexes.note_decommission(connection, WHO, ELSEWHERE.name, ELSEWHERE.host, [])

    # And once it has ended, it is
    table.put(state=JobState.CANCELLED)
    with database.begin() as connection:
        whole_indexes.note_decommission(connection, WHO, ELSEWHERE.name, ELSEWHERE.host, [])


def test_an_index_that_a_job_took_since_it_was_looked_at_is_not_emptied(database: Database) -> None:
    apply(database)
    with database.begin() as connection, pytest.raises(Refused, match="job 1 works on"):
        whole_indexes.note_wipe(connection, WHO, INDEX.name, INDEX.host, 3, 1, 60.0)


@pytest.mark.parametrize("turn", range(5))
def test_of_two_at_once_one_is_refused(database: Database, turn: int) -> None:
    barrier = Barrier(2)

    def at_once(what: object) -> bool:
        barrier.wait()
        try:
            what(database)  # type: ignore[operator]
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(at_once, (decommission, apply)))

    assert sorted(won) == [False, True]
