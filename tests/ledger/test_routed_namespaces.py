"""Nothing is deleted to which a published route leads a tenant, whichever job asks, and however its own job ended."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from job_table import ELSEWHERE, INDEX, JobTable, plan_of, planned
from stages import PATIENCE_S, soaked, somebody_waits, target_of

from migrations.plan import PlannedMove
from orchestrator.core.states import JobState
from orchestrator.ledger import erasures, jobs, route_table, whole_indexes
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, late_writes, readers
from vecfleet.errors import Refused

LEADS = "routes of job 1 lead 1 tenant to what would be deleted: creator_ana_twin_s"


def of_nobody(source: str, to: str) -> PlannedMove:
    return PlannedMove(source=source, records=2, to=to)


def copied_without_tenants(
    database: Database, move: PlannedMove, takes_back: tuple[str, ...] = (), **policies: object
) -> JobTable:
    """A verified copy whose plan names no tenant, and that moves no readers."""
    table = JobTable(database)
    table.apply(plan_of(move, cut_over="none", **policies).model_copy(update={"takes_back": takes_back}).sealed())
    table.verified()
    belongs(table, None, None)
    return table


def belongs(table: JobTable, creator: str | None, twin: str | None) -> None:
    """Give the job's targets to this tenant: a copy by this table gives each to a twin called as its source."""
    with table.by_hand() as connection:
        own = t.target.c.job_id == table.job_id
        connection.execute(sa.update(t.target).where(own).values(creator=creator, twin=twin))


def led_from(database: Database, source: str, to: str) -> JobTable:
    """A verified copy whose readers were moved: a job that leads the tenant `s` of ana from there to there."""
    table = JobTable(database)
    table.apply(plan_of(PlannedMove(source=source, records=2, to=to, creator="ana", twin="s")))
    table.verified()
    belongs(table, "ana", "s")
    acts.cut_over(database, table.job_id, "ana", 100)
    return table


@pytest.fixture
def routed(database: Database) -> JobTable:
    """A job that is over, and whose route leads the tenant `s` of ana to `t-s`."""
    table = led_from(database, "s", "t-s")
    acts.finish(database, table.job_id, "ana")
    return table


def clean_up(table: JobTable) -> None:
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)


def led_to(database: Database) -> dict[str | None, str]:
    """Return twin → the namespace where it is read."""
    with database.begin() as connection:
        table = route_table.read(connection)
    return {
        route.twin: (route.new if route.cleaned or route.side == "new" else route.old[0]).namespace
        for route in table.routes
    }


def test_what_a_route_leads_to_is_not_cleaned_up_by_a_job_without_tenants(database: Database, routed: JobTable) -> None:
    later = copied_without_tenants(database, of_nobody("t-s", "copy"))

    with pytest.raises(Refused, match=LEADS) as refusal:
        clean_up(later)

    assert (refusal.value.code, later.job.state) == ("tenants-routed", JobState.VERIFIED)
    # And the way on is shown: to lead them elsewhere, or to keep both sides
    assert "`vecfleet cutover 2 --percent 100`" in str(refusal.value.next_step)
    assert "--list FILE" in str(refusal.value.next_step) and "vecfleet finish 2" in str(refusal.value.next_step)


def test_a_policy_is_refused_as_a_person_is(database: Database, routed: JobTable) -> None:
    table = copied_without_tenants(database, of_nobody("t-s", "copy"), clean_up="auto", soak_seconds=0)

    table.advance()

    assert table.job.state is JobState.VERIFIED and LEADS in (table.job.reason or "")


def test_a_tenant_that_a_younger_job_leads_on_is_in_nobodys_way(database: Database, routed: JobTable) -> None:
    # Given a second regrouping of the same tenant, which is over too
    onward = led_from(database, "t-s", "u-s")
    soaked(onward)
    # Then it cleans up after itself
    clean_up(onward)
    assert onward.job.state is JobState.CLEANING
    onward.put(state=JobState.FINISHED)
    with onward.by_hand() as connection:
        connection.execute(sa.delete(t.claim))
    # And any other job may clean up where the tenant was before, and none where it is now
    clean_up(copied_without_tenants(database, of_nobody("t-s", "copy")))
    with pytest.raises(Refused, match="routes of job 2 lead 1 tenant"):
        clean_up(copied_without_tenants(database, of_nobody("u-s", "another copy")))


def test_a_tenant_whose_namespace_keeps_its_name_in_another_index_is_led_there_by_the_cut_over(
    database: Database,
) -> None:
    # Given tenants that one job has moved, and another that takes their namespaces elsewhere and names no tenant
    own = "creator_ana_twin_s"
    acts.finish(database, led_from(database, "s", own).job_id, "ana")
    elsewhere = JobTable(database)
    elsewhere.apply(plan_of(of_nobody(own, own), target=ELSEWHERE), target=ELSEWHERE)
    elsewhere.verified()
    belongs(elsewhere, None, None)
    # When its readers are moved
    acts.cut_over(database, elsewhere.job_id, "ana", 100)
    # Then the tenant's are, and what was there before may go
    with database.begin() as connection:
        [route] = route_table.read(connection).routes
    assert (route.job, route.twin, route.side) == (elsewhere.job_id, "s", "new")
    assert (route.new.index, route.new.namespace) == (ELSEWHERE.name, own)
    soaked(elsewhere)
    clean_up(elsewhere)
    assert elsewhere.job.state is JobState.CLEANING


def test_a_route_counts_again_if_the_live_job_that_outdoes_it_may_be_given_up(
    database: Database, routed: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a live job that has moved the tenant's readers from somewhere else, as former versions allowed
    monkeypatch.setattr(readers, "require_no_detour", lambda *_: None)
    led_from(database, "elsewhere", "v-s")
    # Then the older route still keeps its namespace: after a cancellation it would lead there again
    with pytest.raises(Refused, match=LEADS):
        clean_up(copied_without_tenants(database, of_nobody("t-s", "copy")))


def test_no_job_takes_a_source_that_is_being_cleaned_up_not_even_at_the_same_moment(database: Database) -> None:
    """A second job on it could lead tenants there."""
    first = copied_without_tenants(database, of_nobody("s", "copy"))
    second = JobTable(database)
    with ThreadPoolExecutor(1) as pool:
        with first.begin() as connection:
            acts.clean_up_in(connection, jobs.get(connection, first.job_id, lock=True), by_ids=False, who="ana")
            applied = pool.submit(second.apply, plan_of(planned("s", "t-s"), writers="dual"))
            somebody_waits(first)
        with pytest.raises(Refused, match="s is a source of job 1"):
            applied.result(PATIENCE_S)


def test_what_a_younger_job_leads_tenants_to_is_not_rolled_back(database: Database) -> None:
    # Given a copy into a namespace to which a younger job then led a tenant
    older = copied_without_tenants(database, of_nobody("x", "t-s"))
    acts.finish(database, older.job_id, "ana")
    younger = led_from(database, "s", "t-s")
    acts.finish(database, younger.job_id, "ana")

    with pytest.raises(Refused, match="routes of job 2 lead 1 tenant to what would be deleted"):
        acts.roll_back(database, older.job_id, "ana", None)

    assert older.job.state is JobState.FINISHED


def test_a_late_write_is_not_taken_back_where_a_younger_job_leads_tenants_by_now(database: Database) -> None:
    # Given a worker that was frozen when its job was rolled back
    older = JobTable(database)
    older.apply(plan_of(of_nobody("x", "t-s")))
    older.listed({"x": [["a"]]})
    [late] = older.take()
    older.copy(late, "t-s")
    written = target_of(older).id
    older.put(state=JobState.ROLLED_BACK)
    with older.by_hand() as connection:
        connection.execute(sa.delete(t.claim))
    younger = led_from(database, "s", "t-s")
    acts.finish(database, younger.job_id, "ana")
    # When it wakes up
    with pytest.raises(Refused, match="routes of job 2 lead 1 tenant"):
        late_writes.note_late_write(database, late, [written])
    # Then nothing is removed where the tenant is read
    assert older.job.state is JobState.ROLLED_BACK


def test_what_a_job_merged_into_a_namespace_that_was_routed_before_may_be_rolled_back(
    database: Database, routed: JobTable
) -> None:
    merging = copied_without_tenants(database, of_nobody("x", "t-s"))

    acts.roll_back(database, merging.job_id, "ana", None)

    assert merging.job.state is JobState.ROLLING_BACK


@pytest.mark.parametrize("door", ["wipe", "decommission"])
def test_an_index_to_which_a_route_leads_is_neither_emptied_nor_deleted(
    database: Database, routed: JobTable, door: str
) -> None:
    with database.begin() as connection, pytest.raises(Refused, match=LEADS) as refusal:
        if door == "wipe":
            whole_indexes.note_wipe(connection, "ana", INDEX.name, INDEX.host, 2, 1, 60.0)
        else:
            whole_indexes.note_decommission(connection, "ana", INDEX.name, INDEX.host, [1])
    assert "--list FILE" in str(refusal.value.next_step)
    # And once the tenant is erased, nobody is led there
    with database.begin() as connection:
        number = erasures.begin(connection, "a digest", "ana")
        connection.execute(sa.update(t.route).values(creator=f"erased-{number}", twin="1"))
        whole_indexes.note_wipe(connection, "ana", INDEX.name, INDEX.host, 2, 1, 60.0)


def test_a_reverse_job_deletes_what_it_takes_back_and_tenants_go_back_with_it(
    database: Database, routed: JobTable
) -> None:
    back = copied_without_tenants(database, of_nobody("t-s", "s"), takes_back=("s",))
    assert led_to(database) == {"s": "t-s"}

    clean_up(back)

    assert led_to(database) == {"s": "s"}
    # And there it stays, also while the clean-up waits for a person, who then keeps what is left
    back.put(state=JobState.NEEDS_ATTENTION, resume_to=JobState.CLEANING)
    assert led_to(database) == {"s": "s"}
    acts.finish(database, back.job_id, "ana")
    assert led_to(database) == {"s": "s"}
    # And nobody deletes it there
    with pytest.raises(Refused, match=LEADS):
        clean_up(copied_without_tenants(database, of_nobody("s", "copy")))


def test_a_reverse_job_leaves_what_another_job_brought_to_the_same_namespace(
    database: Database, routed: JobTable
) -> None:
    # Given a second job that brought records of the tenant there, from another place
    merging = led_from(database, "z", "t-s")
    acts.finish(database, merging.job_id, "ana")
    # When the first one is reversed, then what the second one's route leads to is not deleted
    back = copied_without_tenants(database, of_nobody("t-s", "s"), takes_back=("s",))
    with pytest.raises(Refused, match="routes of job 2 lead 1 tenant"):
        clean_up(back)
    # And even with its readers moved, tenants of the second one are not sent to its sources
    acts.cut_over(database, back.job_id, "ana", 100)
    assert led_to(database) == {"s": "t-s"}


def test_a_job_that_is_given_up_within_its_clean_up_leads_nobody_to_what_it_deleted(database: Database) -> None:
    table = led_from(database, "s", "t-s")
    soaked(table)
    clean_up(table)
    acts.pause(database, table.job_id, "ana")

    acts.cancel(database, table.job_id, "ana")
    table.advance()

    assert table.job.state is JobState.CANCELLED
    assert led_to(database) == {"s": "t-s"}


def test_a_route_whose_old_places_nobody_knows_any_more_is_taken_back_by_no_reverse_job(
    database: Database, routed: JobTable
) -> None:
    with routed.by_hand() as connection:
        connection.execute(sa.delete(t.move_target))
        connection.execute(sa.update(t.move).values(to=None))

    with pytest.raises(Refused, match=LEADS):
        clean_up(copied_without_tenants(database, of_nobody("t-s", "s-again"), takes_back=("s-again",)))


def test_no_tenant_is_led_away_from_what_was_written_since_an_older_job_moved_it(
    database: Database, routed: JobTable
) -> None:
    """Both sides stayed. A second job reads the old one, where nothing is written any more."""
    second = JobTable(database)
    second.apply(plan_of(PlannedMove(source="s", records=2, to="u-s", creator="ana", twin="s")))
    second.verified()
    belongs(second, "ana", "s")

    with pytest.raises(Refused, match="routes of job 1 lead 1 tenant of this job to t-s") as refused:
        acts.cut_over(database, second.job_id, "ana", 100)

    assert refused.value.code == "tenants-elsewhere" and led_to(database) == {"s": "t-s"}
    # But one that brings more records to the same place may
    led_from(database, "elsewhere", "t-s")
    assert led_to(database) == {"s": "t-s"}
