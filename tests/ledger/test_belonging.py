"""The owner of a namespace in the job table: what a plan said of one index says nothing of another."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from job_table import INDEX, lift_the_edges, plan_of

from migrations.plan import Plan, PlannedMove
from migrations.routing import Owner, Ownership
from orchestrator.core.freshness import Waits
from orchestrator.core.redaction import Traces
from orchestrator.core.states import JobState
from orchestrator.ledger import anonymise, jobs, ownership
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services.erase import JobTableBooks
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.tenancy.fences import Here

ANA, BOB = Tenant("ana"), Tenant("bob")
DELPHI, COPY = "delphi", "copy"


def given(source: str, creator: str, twin: str | None = None) -> PlannedMove:
    to = f"creator_{creator}_twin_{twin}" if twin else f"creator_{creator}"
    return PlannedMove(source=source, records=0, to=to, creator=creator, twin=twin)


def copied(source: str, to: str | None = None) -> PlannedMove:
    return PlannedMove(source=source, records=0, to=to or source)


def a_job(
    database: Database,
    *moves: PlannedMove,
    old: str = INDEX.name,
    new: str | None = None,
    twins: dict[str, Owner] | None = None,
    sources: dict[str, Owner] | None = None,
    state: JobState = JobState.CLEANED,
    account: str = "memory",
) -> int:
    """A job from one index, of this account, to the other, as it is once it has ended."""
    source, target = (replace(INDEX, name=name, host=f"{name}.local") for name in (old, new or old))
    plan: Plan = plan_of(*moves, target=target)
    plan = plan.model_copy(update={"source": plan.source.model_copy(update={"index": old, "store": account})}).sealed()
    with database.begin() as connection:
        job_id = jobs.insert_job(
            connection,
            plan,
            source=source,
            target=target,
            way_back="roll back",
            ownership=Ownership(twins or {}, sources or {}),
            created_by="a person",
            batch_window=1,
            pace_share=1.0,
            waits=Waits(),
        )
        lift_the_edges(connection)
        connection.execute(sa.update(t.job).where(t.job.c.id == job_id).values(state=state))
        connection.execute(sa.delete(t.claim))
    return job_id


def known(database: Database, tenant: Tenant = ANA) -> dict[str, Here]:
    with database.begin() as connection:
        return ownership.of_tenant(connection, tenant)


def test_a_name_is_each_ones_own_in_the_index_of_whose_plan_it_was(database: Database) -> None:
    a_job(database, given("alma", "ana", "alma"))
    a_job(database, given("alma", "bob", "alma"), old=DELPHI)

    hers, his = known(database), known(database, BOB)

    assert "alma" in hers[INDEX.name].legacy and hers[INDEX.name].others == ()
    assert "alma" not in hers[DELPHI].legacy and "alma" in hers[DELPHI].others
    assert "alma" in his[DELPHI].legacy and "alma" not in his[INDEX.name].legacy


def test_a_copy_of_a_namespace_is_its_owners_whichever_of_the_two_was_planned_first(database: Database) -> None:
    a_job(database, copied("alma"), copied("bruno"), new=COPY)
    a_job(database, copied("alma"), copied("bruno"), old=COPY, new="copy of a copy")
    a_job(database, given("alma", "ana", "alma"), given("bruno", "bob"))

    told = known(database)

    for index in (COPY, "copy of a copy"):
        assert (told[index].legacy, told[index].others) == (("alma",), ("bruno",))


def test_a_copy_into_what_held_something_or_of_several_owners_is_nobodys(database: Database) -> None:
    job_id = a_job(database, copied("alma", "mixed"), copied("bruno", "both"), copied("carl", "both"), new=COPY)
    a_job(database, given("alma", "ana"), given("bruno", "bob"), given("carl", "ana", "carl"))
    with database.begin() as connection:
        held = {"job_id": job_id, "namespace": "mixed", "held_before": 3}
        connection.execute(sa.insert(t.target).values(**held))

    assert known(database)[COPY] == Here()


def test_an_index_of_another_account_is_another_index_whatever_its_name(database: Database) -> None:
    # Given a namespace of ana's, and one of the same names in another account, which was copied
    a_job(database, given("alma", "ana", "alma"))
    theirs = a_job(database, copied("alma"), new=COPY, account="pinecone@eu")

    told = known(database)

    # Then neither it nor its copy is hers, and an erasure leaves the job's rows as they are
    assert told[INDEX.name].legacy == ("alma", "creator_ana_twin_alma")
    assert told[COPY] == Here()
    assert told[f"pinecone@eu:{INDEX.name}"] == Here()
    with database.begin() as connection:
        anonymise.forget(connection, Traces(ANA, ownership.places_of(connection, ANA), 1), [])
        moved = dict(connection.execute(sa.select(t.move.c.job_id, t.move.c.source)).all())
    assert moved[theirs] == "alma"


def test_the_younger_job_is_believed_and_a_cancelled_one_only_if_it_is_alone(database: Database) -> None:
    a_job(database, given("alma", "bob"), given("bruno", "bob"))
    a_job(database, given("alma", "ana"))
    a_job(database, given("bruno", "ana"), given("carl", "ana"), state=JobState.CANCELLED)

    told = known(database)[INDEX.name]

    assert {"alma", "carl"} <= set(told.legacy) and "bruno" in told.others


def test_a_creators_own_namespace_may_hold_records_of_any_of_its_twins(database: Database) -> None:
    a_job(database, given("all", "ana"), given("alma", "ana", "alma"), given("his", "bob"))

    told = known(database, Tenant("ana", "coach"))[INDEX.name]

    assert "alma" in told.others and "his" in told.others and "all" not in told.others


def test_an_id_is_whose_the_look_up_of_its_own_index_said(database: Database) -> None:
    """Two databases count their twins from one: the same id is ana's here and bob's there."""
    a_job(database, given("x", "ana", "x"), twins={"7": Owner("ana", "seven"), "8": Owner("ana", "eight")}, new=COPY)
    a_job(database, given("y", "bob", "y"), old=DELPHI, twins={"7": Owner("bob", "his")}, sources={"s": Owner("bob")})

    told = known(database)

    assert told[INDEX.name].twins == told[COPY].twins == {"7": "seven", "8": "eight"}
    assert told[DELPHI].twins == {}
    assert known(database, BOB)[DELPHI] == Here({"7": "his"}, {"s": None}, ("creator_bob_twin_y", "y"), ())
    # And where no job ever was, only what is one tenant's everywhere counts
    with database.begin() as connection:
        assert ownership.anywhere(connection, ANA) == Here({"8": "eight"})


def test_an_index_that_two_jobs_joined_believes_the_one_that_read_it(database: Database) -> None:
    a_job(database, given("y", "bob", "y"), old=DELPHI, twins={"7": Owner("bob", "his")})
    a_job(database, given("x", "ana", "x"), new=DELPHI, twins={"7": Owner("ana", "seven")})

    assert known(database)[DELPHI].twins == {}
    assert known(database)[INDEX.name].twins == {"7": "seven"}


def test_who_is_forgotten_leaves_another_ones_rows_of_the_same_name_as_they_are(database: Database) -> None:
    hers = a_job(database, given("alma", "ana", "alma"))
    his = a_job(database, given("alma", "bob", "alma"), old=DELPHI)
    with database.begin() as connection:
        before = jobs.get(connection, his).plan

        anonymise.forget(connection, Traces(ANA, ownership.places_of(connection, ANA), 1), [])

        moved = dict(connection.execute(sa.select(t.move.c.job_id, t.move.c.source)).all())
        assert moved[his] == "alma" and moved[hers].startswith("erased-1-")
        plans = dict(connection.execute(sa.select(t.job.c.id, t.job.c.plan)).all())
        assert plans[his] == before.model_dump(mode="json")
        assert "alma" not in str(plans[hers])


def test_a_move_of_the_whole_default_namespace_reads_it_no_more_and_other_jobs_do(database: Database) -> None:
    """Else what is written there later would go to a tenant called by a pseudonym."""
    a_job(database, given("__default__", "ana", "default"), given("public", "ana", "public"), given("b", "bob"))
    split = PlannedMove(source="__default__", records=0)
    a_job(database, split, old=DELPHI)
    with database.begin() as connection:
        anonymise.forget(connection, Traces(ANA, ownership.places_of(connection, ANA), 1), [])

        sources = connection.execute(sa.select(t.move.c.source).order_by(t.move.c.id)).scalars().all()

    assert sources == ["erased-1-__default__", "erased-1-public", "b", "__default__"]


def test_a_twin_is_erased_under_the_name_that_its_namespace_has(database: Database) -> None:
    # Given a look-up that calls a twin by another name than its id
    a_job(database, given("s", "ana", "coach"), twins={"7f3a": Owner("ana", "coach"), "9c": Owner("ana", "9c")})
    books = JobTableBooks(database, Settings())
    # When somebody erases it by its id, then it is refused: nothing would be found, and yet be certified
    with pytest.raises(Refused, match="namespaces call that twin 'coach'") as refused:
        books.begin(Tenant("ana", "7f3a"), "ben")
    assert "--creator ana --twin coach" in (refused.value.next_step or "")
    assert not books.fenced(Tenant("ana", "7f3a"))
    # And every name that a namespace may have is taken
    for twin in ("coach", "9c", "unknown", None):
        books.begin(Tenant("ana", twin), "ben")
