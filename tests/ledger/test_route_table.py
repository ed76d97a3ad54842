"""The routes as applications read them: made from the job table, so that a cut-over is one transaction."""

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from msgspec.structs import replace
from stages import a_job, soaked, verified

from migrations.embedding import Embedding
from migrations.plan import PlannedMove
from orchestrator.core.states import JobState
from orchestrator.ledger import batches, doubts, route_table
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.model_cards import ModelCard
from vecfleet.tenancy.routes import Resolved, RouteTable, bare, read_table, write_table


def routes(database: Database) -> RouteTable:
    with database.begin() as connection:
        return route_table.read(connection)


def sides(database: Database) -> dict[str | None, str]:
    resolved = Resolved(routes(database))
    return {route.twin: resolved.side(route) for route in resolved.table.routes}


def test_nobody_has_a_route_before_the_first_cut_over(database: Database) -> None:
    verified(database, "s", "u")

    assert replace(routes(database), frozen=()) == RouteTable()


def test_routes_follow_the_cut_over_step_by_step_and_back(database: Database) -> None:
    table = verified(database, *(f"s{number}" for number in range(8)), dwell_seconds=0)
    table.put(salt="a salt by which some of these, and not all, come first")
    seen = []
    for percent in (25, 100):
        acts.cut_over(table.database, table.job_id, "ana", percent)
        seen.append(sum(side == "new" for side in sides(database).values()))
    assert 0 < seen[0] < 8 == seen[1]

    acts.reverse(table.database, table.job_id, "ana")

    assert set(sides(database).values()) == {"old"}
    assert read_table(write_table(routes(database))) == routes(database)


def test_where_the_application_writes_to_both_sides_it_is_told_from_the_beginning(database: Database) -> None:
    table = a_job(database, "s", "u", writers="dual")

    found = routes(database).routes
    assert [(one.twin, one.dual, one.old[0].namespace, one.new.namespace) for one in found] == [
        ("s", True, "s", "t-s"),
        ("u", True, "u", "t-u"),
    ]
    assert set(sides(database).values()) == {"old"}
    # And who has no route yet is not taken for new
    assert routes(database).unlisted == "legacy"
    # And when it is given up, writers use one side again
    table.put(state=JobState.CANCELLED)
    assert routes(database).routes == ()


def test_once_a_deletion_was_asked_for_nobody_is_sent_to_the_old_side(database: Database) -> None:
    table = verified(database, "s")
    acts.cut_over(table.database, table.job_id, "ana", 100)
    soaked(table)
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)

    (route,) = routes(database).routes
    assert (route.cleaned, route.job, [place.namespace for place in route.old]) == (True, table.job_id, ["s"])


def test_who_has_no_route_is_new_only_when_no_other_job_may_have_them(database: Database) -> None:
    table = verified(database, "s")
    acts.cut_over(table.database, table.job_id, "ana", 100)
    assert routes(database).unlisted == "new"

    # When another job is on its way to move tenants of its own
    other = JobTable(database)
    other.apply(plan_of(planned("u", "t-u")))
    assert routes(database).unlisted == "legacy"

    # Then it is so until that one is settled
    other.put(state=JobState.CANCELLED)
    assert routes(database).unlisted == "new"


def test_the_routes_of_a_job_that_embeds_name_the_model_of_each_side(database: Database) -> None:
    # Given a job from a known model to the local one
    old = ModelCard(name="openai/old", revision="1", dimension=3_072)
    embedding = Embedding(card=ModelCard(name="local/wordllama", revision="1", dimension=64), old=old, text="{text}")
    table = verified(database, "s", embedding=embedding)
    # When its readers move
    acts.cut_over(table.database, table.job_id, "ana", 100)
    # Then clients learn by which model either side is asked; those from before get routes that they can read
    (route,) = routes(database).routes
    assert [(place.model, place.dimension) for place in (*route.old, route.new)] == [
        ("openai/old", 3_072),
        ("local/wordllama", 64),
    ]
    assert b"model" not in write_table(bare(routes(database)))


def test_the_routes_of_a_job_into_documents_tell_the_names_of_keys_there(database: Database) -> None:
    # Given a job whose plan gives a key another name in documents
    names = {"_node_content": "node_content"}
    table = JobTable(database)
    plan = plan_of(planned("s", "t-s"))
    target = plan.target.model_copy(update={"names": names})
    table.apply(plan.model_copy(update={"target": target}).sealed())
    table.verified()
    # When its readers move
    acts.cut_over(table.database, table.job_id, "ana", 100)
    # Then clients learn that name for the new side; those from before get routes that they can read
    (route,) = routes(database).routes
    assert (route.new.names, [place.names for place in route.old]) == (names, [{}])
    assert read_table(write_table(routes(database))) == routes(database)
    assert b"node_content" not in write_table(bare(routes(database)))


def frozen(database: Database) -> dict[str, int | None]:
    return {stop.namespace: stop.job for stop in routes(database).frozen}


def test_the_sources_of_a_job_whose_plan_stops_writers_are_frozen_from_its_first_moment_on(database: Database) -> None:
    table = a_job(database, "s", "u")

    assert frozen(database) == {"s": table.job_id, "u": table.job_id}
    assert {stop.index for stop in routes(database).frozen} == {table.job.source.name}


def test_routes_tell_accounts_apart_and_a_freeze_of_a_named_account_holds_in_each(database: Database) -> None:
    # Given a job within an index of another account
    table = JobTable(database)
    plan = plan_of(planned("s", "t-s"))
    there = plan.source.model_copy(update={"store": "pinecone@eu"})
    table.apply(plan.model_copy(update={"source": there, "target": there}).sealed())
    # Then whoever calls the index by its bare name, or by both, is kept from its source
    name = table.job.source.name
    assert {stop.index for stop in routes(database).frozen} == {name, f"pinecone@eu:{name}"}
    # And readers are led to the account that is meant
    table.verified()
    acts.cut_over(table.database, table.job_id, "ana", 100)
    [route] = routes(database).routes
    assert {place.index for place in (*route.old, route.new)} == {f"pinecone@eu:{name}"}


@pytest.mark.parametrize("writers", ["delta", "dual"])
def test_nothing_is_frozen_where_writers_may_go_on(database: Database, writers: str) -> None:
    a_job(database, "s", writers=writers)

    assert frozen(database) == {}


def test_a_freeze_lasts_to_the_end_of_its_job_and_a_pause_is_no_end(database: Database) -> None:
    table = verified(database, "s", cut_over="none")
    assert frozen(database) == {"s": table.job_id}
    table.put(state=JobState.PAUSED, resume_to=JobState.RUNNING)
    assert frozen(database) == {"s": table.job_id}
    table.put(state=JobState.VERIFIED, resume_to=None)

    acts.finish(database, table.job_id, "ana")

    assert frozen(database) == {}


def test_a_job_that_is_given_up_lets_writers_in(database: Database) -> None:
    table = a_job(database, "s")
    acts.cancel(database, table.job_id, "ana")
    table.advance()

    assert frozen(database) == {}


def test_a_job_that_is_being_cancelled_may_have_a_deletion_under_way_and_lets_nobody_in_yet(database: Database) -> None:
    # Given a clean-up without a cut-over, a deletion of which a worker holds
    table = verified(database, "s", cut_over="none")
    acts.clean_up(database, table.job_id, "ana", by_ids=True)
    [lease] = table.take()
    acts.pause(database, table.job_id, "ana")
    # When the job is given up meanwhile
    acts.cancel(database, table.job_id, "ana")
    table.advance()
    # Then what is written to the source now might be deleted
    assert table.job.state is JobState.CANCELLING and frozen(database) == {"s": table.job_id}
    table.expire(lease)
    with table.begin() as connection:
        batches.requeue_expired(connection, [table.job_id], 5)
    table.advance()
    assert table.job.state is JobState.CANCELLED and frozen(database) == {}


def test_after_lost_commits_nothing_is_read_before_clients_have_let_go_of_routes_without_the_freeze(
    database: Database,
) -> None:
    # Given a job that may have ended in commits that are lost, so that clients found nothing frozen
    table = a_job(database, "s")
    table.put(routes_stale_s=300.0)
    with table.begin() as connection:
        doubts.doubt(connection, "commits were lost", 60.0)
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    # Then it waits for as long as they may write by those routes
    assert table.job.lands_by is not None and (table.job.lands_by - now).total_seconds() > 290


def test_a_job_that_goes_back_lets_writers_in_also_while_it_waits_for_a_person(database: Database) -> None:
    table = verified(database, "s")
    acts.roll_back(database, table.job_id, "ana", None)
    assert frozen(database) == {}

    table.put(state=JobState.NEEDS_ATTENTION, resume_to=JobState.ROLLING_BACK)
    assert frozen(database) == {}


OF_NOBODY = (
    PlannedMove(source="prod", records=3, to="prod_v2"),
    PlannedMove(source="all", records=3, template="team-{value}"),
)


@pytest.mark.parametrize("move", OF_NOBODY, ids=["renamed", "split"])
def test_a_cut_over_of_namespaces_of_nobody_makes_no_tenant_new(database: Database, move: PlannedMove) -> None:
    # Given tenants without routes, and a job about namespaces that are no tenant's
    table = JobTable(database)
    table.apply(plan_of(move))
    table.verified()
    with table.by_hand() as connection:  # this table's copies write into tenants' namespaces
        connection.execute(sa.update(t.target).values(creator=None, twin=None))
    # When its readers move
    acts.cut_over(table.database, table.job_id, "ana", 100)
    # Then tenants are found where they were
    assert routes(database).unlisted == "legacy"


@pytest.mark.parametrize("move", OF_NOBODY, ids=["renamed", "split"])
def test_a_job_about_namespaces_of_nobody_makes_no_new_tenant_old(database: Database, move: PlannedMove) -> None:
    # Given a switch that was made
    table = verified(database, "s")
    acts.cut_over(table.database, table.job_id, "ana", 100)
    # When another job has nothing to do with tenants
    JobTable(database).apply(plan_of(move))
    # Then who has no route is younger than the switch
    assert routes(database).unlisted == "new"


@pytest.mark.parametrize("state", [JobState.ROLLED_BACK, JobState.CANCELLED])
def test_a_job_that_was_given_up_routes_nobody(database: Database, state: JobState) -> None:
    table = verified(database, "s")
    acts.cut_over(table.database, table.job_id, "ana", 100)
    table.put(state=state)

    assert routes(database).routes == ()
