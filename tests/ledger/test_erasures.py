"""The fence of an erasure in the job table: whom it waits for, and how erased ids leave the accounts."""

from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from job_table import INDEX, JobTable, accounted_for, digest_of, plan_of, planned

from migrations.plan import Plan
from orchestrator.core import manifests
from orchestrator.core.model import Wakeup, index_from_json
from orchestrator.core.redaction import Traces
from orchestrator.core.states import BatchKind
from orchestrator.ledger import anonymise, audit, batches, checks, erased_ids, erasures, routes
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.queue import task_id
from orchestrator.services import acts, erase, fillings, refusals
from orchestrator.services.erase import JobTableBooks
from tests.ledger.stages import a_job, verified
from vecfleet.digests import Tally
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.settings import CALL_LASTS_DEADLINES, Settings
from vecfleet.stores.parquet.folders import encoded_folder
from vecfleet.tenancy.erasing import RESIDUAL
from vecfleet.tenancy.fences import subject_of
from vecfleet.tenancy.finding import TenantPlace

DEADLINE_S, FRESHNESS_S = 10.0, 20.0
QUIET_S = DEADLINE_S + FRESHNESS_S
MOST_PARAMETERS = 65_535
ALIKE = "a.10 and creator_a.10_twin_x and ba.1 and creator_a.1x"


def begin(table: JobTable) -> int:
    with table.begin() as connection:
        number = erasures.begin(connection, "sha256:x", "ana")
    with table.begin() as connection:
        erasures.note_leases(connection, number, DEADLINE_S)
    return number


def wait_s(table: JobTable, number: int) -> float:
    with table.begin() as connection:
        return erasures.wait_s(connection, number, DEADLINE_S, FRESHNESS_S)


def test_nothing_under_way_is_waited_for_by_nobody(database: Database) -> None:
    table = a_job(database)
    assert wait_s(table, begin(table)) == 0


def test_a_copy_under_way_is_waited_for_until_its_lease_and_its_last_request_are_over(database: Database) -> None:
    table = a_job(database)
    table.listed({"s": [["a", "b"]]})
    (lease,) = table.take()
    number = begin(table)
    assert wait_s(table, number) > QUIET_S
    table.copy(lease, "t-s")
    assert QUIET_S / 2 < wait_s(table, number) <= QUIET_S
    with table.begin() as connection:
        connection.execute(sa.update(t.erasure).values(quiet_at=sa.text("clock_timestamp() - interval '31 s'")))
    assert wait_s(table, number) == 0


def written(table: JobTable, seconds_ago: float) -> None:
    with table.begin() as connection:
        ago = sa.func.clock_timestamp() - timedelta(seconds=seconds_ago)
        connection.execute(sa.update(t.target).values(last_write_at=ago))


def a_copied_job(database: Database, lag_s: float = FRESHNESS_S) -> JobTable:
    """Every lease of it is over: who wrote has recorded it."""
    table = a_job(database)
    table.listed({"s": [["a", "b"]]})
    for lease in table.take():
        table.copy(lease, "t-s")
    table.put(target_lag_s=lag_s)
    return table


def test_the_last_write_of_any_job_is_waited_for_until_every_read_shows_it(database: Database) -> None:
    table = a_copied_job(database)
    assert FRESHNESS_S / 2 < wait_s(table, begin(table)) <= FRESHNESS_S
    written(table, FRESHNESS_S + DEADLINE_S + 1)
    assert wait_s(table, begin(table)) == 0


def test_a_job_that_ended_may_have_copied_the_tenant_too(database: Database) -> None:
    table = a_copied_job(database)
    table.put(state="cancelled")
    assert wait_s(table, begin(table)) > FRESHNESS_S / 2


def test_a_write_that_was_never_answered_may_land_as_long_as_a_request_lasts(database: Database) -> None:
    """Its worker died: the batch is due again, and nobody knows what became of its last request."""
    table = a_copied_job(database)
    (row,) = table.rows(BatchKind.COPY)
    table.set_batch(row.id, state="ready")
    assert FRESHNESS_S < wait_s(table, begin(table)) <= QUIET_S


def test_a_store_whose_reads_do_not_lag_is_not_waited_for(database: Database) -> None:
    table = a_copied_job(database, lag_s=0)
    assert wait_s(table, begin(table)) == 0


@pytest.mark.parametrize(
    ("writers", "ended_ago_s", "waits"),
    [("dual", None, True), ("dual", 5, True), ("dual", 99, False), ("delta", None, False)],
)
def test_a_write_of_an_application_to_both_sides_is_waited_for_while_a_job_lets_it_write_so(
    database: Database, writers: str, ended_ago_s: int | None, waits: bool
) -> None:
    """Its client asks no fence, and writes to the second side after the first."""
    table = a_job(database, writers=writers)
    table.put(source_lag_s=FRESHNESS_S, target_lag_s=FRESHNESS_S, routes_stale_s=30)
    if ended_ago_s is not None:
        ago = sa.func.clock_timestamp() - timedelta(seconds=ended_ago_s)
        table.put(state="cancelled", ended_at=ago)
    lasts_s = CALL_LASTS_DEADLINES * DEADLINE_S + FRESHNESS_S
    left = wait_s(table, begin(table))
    assert lasts_s - DEADLINE_S < left <= lasts_s if waits else left == 0


def test_what_jobs_write_after_the_fence_puts_no_certificate_off(database: Database) -> None:
    """It is of other tenants: whoever writes asks the fence."""
    table = a_copied_job(database)
    written(table, FRESHNESS_S + DEADLINE_S + 1)
    number = begin(table)
    written(table, 0)
    assert wait_s(table, number) == 0


def test_names_that_led_to_an_erased_namespace_are_forgotten_and_those_of_others_are_not(database: Database) -> None:
    table = verified(database, "s", "u")
    acts.cut_over(database, table.job_id, "a person", 100)
    with table.begin() as connection:
        routes.note_aliases(connection, table.job_id, {"live-s": "s", "live-u": "u", "other": "x"})
        assert [one.aliases for one in routes.of_job(connection, table.job_id)] == [{"live-s": "s"}, {"live-u": "u"}]

        anonymise.forget(connection, Traces(Tenant("ana", "s"), {(INDEX.name, "s"), (INDEX.name, "t-s")}, 1), [])

        assert {str(one.aliases) for one in routes.of_job(connection, table.job_id)} == {"{}", "{'live-u': 'u'}"}


@pytest.mark.parametrize("called", ["creator", "moves", "keep", "dense", "pinecone", "creators", "id", INDEX.name, "s"])
def test_a_tenant_called_as_a_word_of_ours_is_forgotten_and_the_jobs_go_on(database: Database, called: str) -> None:
    # Given a live job, and a tenant that is called as one of our own words, as is a namespace of it
    table, other = JobTable(database), "s" if called != "s" else "other"
    table.apply(plan_of(planned(other, "t-other"), planned(called, f"t-{called}"), conflicts="keep"))
    before = table.job
    # When it is forgotten
    with table.begin() as connection:
        anonymise.forget(connection, Traces(Tenant(called, None), {(INDEX.name, called)}, 1), [])
        row = connection.execute(sa.select(t.job.c.plan, t.job.c.source, t.job.c.target)).one()
    # Then a process that never saw the plan can read it, it steers the job as before, and it names the tenant no more
    plan = Plan.model_validate(row.plan)
    assert (plan.recipe, plan.policies, plan.source) == (before.plan.recipe, before.plan.policies, before.plan.source)
    assert (index_from_json(row.source), index_from_json(row.target)) == (before.source, before.target)
    assert {move.source for move in plan.moves} == {other, "erased-1-1"}


@pytest.mark.parametrize("called", ["plan", "erasure", "subject", "residual", "exports", "content", "twin", "listing"])
def test_a_tenant_called_as_a_word_of_ours_empties_no_act_of_others(database: Database, called: str) -> None:
    # Given acts on others, in which this word is a field's name, or stands in a sentence of ours
    table = a_job(database)
    with table.begin() as connection:
        audit.note(connection, "mira", "apply", table.job_id, plan="sha256:x", moves=1)
        audit.note(connection, "mira", "verify", table.job_id, level="content")
        told = {"scope": "twin", "subject": "sha256:y", "residual": list(RESIDUAL), "confirmed_by": ["listing"]}
        audit.note(connection, "mira", "erased", None, erasure=7, **told)
        # And one in which it is the tenant's
        audit.note(connection, "mira", "clean up", table.job_id, sources=[called])
    # When the tenant is forgotten
    number = begin(table)
    with table.begin() as connection:
        anonymise.forget(connection, Traces(Tenant(called), [], number), [])
        payloads = {row.action: row.payload for row in connection.execute(sa.select(t.audit))}
    # Then that one is empty, and no other
    assert [action for action, payload in payloads.items() if payload is None] == ["clean up"]


def test_ids_that_are_struck_leave_manifest_and_tally_and_count_as_erased(database: Database) -> None:
    table = a_job(database)
    table.listed({"s": [["a", "b"], ["c", "d"]]})
    lease, other = table.take()
    table.copy(lease, "t-s")
    table.copy(other, None, wrote=[], parked=["c"], gone=1)

    known = Tally.of_ids(["the content of a"]).digest
    with table.begin() as connection:
        unknown = erased_ids.remove_ids(connection, lease.id, {"a": known, "elsewhere": None})
        unknown |= erased_ids.remove_ids(connection, other.id, {"c": None})

    assert unknown == set()
    move = table.move
    assert (move.listed, move.written, move.parked, move.gone, move.erased) == (4, 1, 0, 1, 2)
    assert accounted_for(move)
    left = [manifests.unpack(table.row(one.id).manifest) for one in (lease, other)]
    assert left == [["b"], ["d"]]
    expected = table.expected("t-s")
    assert expected is not None
    assert (expected.count, expected.ids_digest) == (1, Tally.of_ids(["b"]).digest)
    assert expected.digest == digest_of(["b"])
    assert table.parked_ids() == []


def test_a_worker_whose_batch_loses_ids_meanwhile_records_nothing_and_the_next_one_knows_the_rest(
    database: Database,
) -> None:
    """Its members would have been places among the ids of before: a check then read others, or none."""
    table = a_job(database)
    table.listed({"s": [["a", "b", "c"]]})
    (lease,) = table.take()
    target = table.target(lease, "t-s")
    until = table.row(lease.id).lease_until
    with table.begin() as connection:
        erased_ids.remove_ids(connection, lease.id, {"a": None})

    # Then what it may have on its way is waited for, if it dies now
    assert target.lands_by is None and table.targets["t-s"].lands_by == until

    # When the worker comes to its record
    with pytest.raises(batches.LeaseLost):
        table.copy(lease, "t-s", parked=["b"], wrote=["a", "c"])

    # Then the batch is another worker's, with the ids that are left
    (again,) = table.take()
    assert (again.id, table.ids(again), again.generation) == (lease.id, ["b", "c"], lease.generation + 1)
    table.copy(again, "t-s", wrote=["c"], parked=["b"])
    assert (table.move.written, table.move.parked, table.move.erased) == (1, 1, 1)
    assert accounted_for(table.move)


def test_a_digest_that_is_not_known_makes_the_target_unknown_and_never_wrong(database: Database) -> None:
    table = a_job(database)
    table.listed({"s": [["a", "b"]]})
    (lease,) = table.take()
    table.copy(lease, "t-s")
    with table.begin() as connection:
        assert erased_ids.remove_ids(connection, lease.id, {"a": None}) == {table.targets["t-s"].id}
        assert checks.expected_ids_of(connection, table.targets["t-s"].id) == Tally.of_ids(["b"])


@pytest.mark.parametrize("encoded", [True, False])
def test_ids_found_encoded_among_others_are_struck_from_the_jobs_that_know_them_decoded(
    database: Database, encoded: bool
) -> None:
    # Given ids copied into a namespace of Pinecone that tenants share, one of which looks like another one encoded
    table = a_job(database, encoded_ids=encoded)
    plan = sa.func.jsonb_set(t.job.c.plan, sa.text("'{target,store}'"), sa.text("'\"pinecone\"'"))
    table.put(plan=plan)
    table.listed({"s": [["a", "zo~0000eb", "zoë"]]})
    (lease,) = table.take()
    table.copy(lease, "t-s")

    # When an erasure has found one there, under the id that Pinecone knows
    found = TenantPlace(INDEX.name, "t-s", False, 1, 0, ("zo~0000eb",), {"zo~0000eb": 1})
    with table.begin() as connection:
        anonymise.forget(connection, Traces(Tenant("ana", "coach"), [], 1), [found])

    # Then the accounts have lost that very record, and no other
    left = ["a", "zo~0000eb"] if encoded else ["a", "zoë"]
    assert manifests.unpack(table.row(lease.id).manifest) == left
    expected = table.expected("t-s")
    assert expected is not None and expected.ids_digest == Tally.of_ids(left).digest


def test_a_tenant_of_more_records_among_others_than_a_statement_takes_parameters_is_forgotten(
    database: Database,
) -> None:
    # Given a record that is the tenant's and one that is not, in a namespace that tenants share
    table = a_job(database)
    table.listed({"s": [["theirs-1", "z"]]})
    (lease,) = table.take()
    table.copy(lease, "t-s")

    # When an erasure has found many more of the tenant's records there
    ids = [f"theirs-{number}" for number in range(MOST_PARAMETERS + 1)]
    found = TenantPlace(INDEX.name, "t-s", False, len(ids), 0, (), dict.fromkeys(ids, 1))
    with table.begin() as connection:
        anonymise.forget(connection, Traces(Tenant("ana", "coach"), [], 1), [found])

    # Then the other record is the only one on record
    assert manifests.unpack(table.row(lease.id).manifest) == ["z"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("creator_a.1_twin_coach failed", "erased-7 failed"),
        ("creator_a.1_twin_{value}", "erased-7"),
        ('{"creator": "a.1"}', '{"creator": "erased-7"}'),
        (ALIKE, ALIKE),
        ("done with a.1.", "done with erased-7."),
        ("old-ns", "erased-7-1"),
    ],
)
def test_a_name_is_replaced_where_it_stands_and_nowhere_in_another(text: str, left: str) -> None:
    assert Traces(Tenant("a.1"), {("brain", "old-ns")}, 7).words("brain").replaced(text) == left


def test_a_name_leaves_the_path_of_an_export_as_errors_quote_it_and_others_stay_in_theirs() -> None:
    def line(folder: str) -> str:
        return f"[error] cannot read exports/brain/{folder}/part-0.parquet"

    words = Traces(Tenant("Ana.1", "x"), {("brain", "Old.ns")}, 7).words()
    for namespace in ("creator_Ana.1_twin_x", "Old.ns"):
        assert words.replaced(line(namespace)) == line("erased-7")
        assert words.replaced(line(encoded_folder(namespace))) == line("namespace=erased-7")
    for namespace in ("creator_Ana.1_twin_xy", "Old.nsx"):
        for folder in (namespace, encoded_folder(namespace)):
            assert words.replaced(line(folder)) == line(folder)


@pytest.mark.parametrize("kind", BatchKind)
def test_a_name_leaves_the_id_of_a_task_as_celery_logs_it_and_others_stay_in_theirs(kind: BatchKind) -> None:
    def line(namespace: str) -> str:
        name = task_id(Wakeup(79, 0, kind, 1, namespace, 12, 40))
        return f"[info] Task vecfleet.a_task[{name}] received data={{'id': '{name}', 'args': '(79,)'}}"

    creator = Traces(Tenant("a.1"), {("brain", "old-ns")}, 7).words()
    twin = Traces(Tenant("a.1", "x"), {("brain", "old-ns")}, 7).words()
    for namespace in ("creator_a.1_twin_x", "old-ns"):
        for words in (creator, twin):
            assert namespace not in words.replaced(line(namespace))
            blackened = [line(namespace)[start:end] for start, end in words.spans(line(namespace).encode())]
            assert [namespace in one for one in blackened] == [True, True]
    for namespace in ("creator_a.10_twin_x", "ba.1", "old-ns.1", "older.old-ns", "__default__"):
        assert creator.replaced(line(namespace)) == line(namespace)
    for namespace in ("creator_a.1_twin_x.1", "creator_a.1_twin_y"):
        assert twin.replaced(line(namespace)) == line(namespace)


@given(st.text("ab.1_-", min_size=1, max_size=6), st.text("ab.1_-", min_size=1, max_size=6))
def test_no_other_creators_namespace_is_taken_for_the_tenants(creator: str, other: str) -> None:
    if "_twin" in creator + other or creator == other:
        return
    name = f"creator_{other}_twin_x"
    assert Traces(Tenant(creator), [], 1).is_own("brain", name) is False


def test_vectors_of_an_erased_tenants_texts_are_deleted_and_the_certificate_says_how_many(
    database: Database, tmp_path: Path
) -> None:
    # Given vectors of two texts of Ana's, one of which Ben has as well, and of one of Ben's
    ana, ben = subject_of(Tenant("ana")), subject_of(Tenant("ben"))
    with database.begin() as connection:
        for key, subjects in (b"1", [ana]), (b"2", [ana, ben]), (b"3", [ben]):
            row = {"key": key, "vector": b"vector", "tokens": 1, "subjects": subjects}
            connection.execute(sa.insert(t.embedding).values(**row, job_id=1, batch_id=1, generation=0))
    # When Ana is erased
    books = JobTableBooks(database, Settings(vecfleet_home=tmp_path, redis_url=None))
    number = books.begin(Tenant("ana"), "olga").number
    certificate = books.finish(number, Tenant("ana"), [], {"subject": "digest", "where": [], "residual": []})
    # Then only what is Ben's alone is kept
    with database.begin() as connection:
        assert connection.execute(sa.select(t.embedding.c.key)).scalars().all() == [b"3"]
    assert certificate["our_tables"]["embeddings"] == 2


@pytest.mark.parametrize("fast_by", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_certificate_was_given_when_the_database_says_so_however_wrong_the_clock_of_its_process(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_by: timedelta
) -> None:
    # Given a process whose clock is wrong, and that looked for the last time a moment ago
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Wrong":
            return cls.fromtimestamp((datetime.now(UTC) + fast_by).timestamp(), tz)

    monkeypatch.setattr(erase, "datetime", Wrong)
    looked = {name: Wrong.now(UTC).isoformat() for name in ("began", "last_look", "ended")}
    # When it has the certificate of an erasure
    books = JobTableBooks(database, Settings(vecfleet_home=tmp_path, redis_url=None))
    number = books.begin(Tenant("ana"), "olga").number
    assert number is not None
    told = {"subject": "digest", "where": [], "residual": [], **looked}
    certificate = books.finish(number, Tenant("ana"), [], told)
    # Then its moments can be compared with those of jobs, and no snapshot is converted that may be older
    with database.begin() as connection:
        now = refusals.now(connection)
        for name in looked:
            assert abs(datetime.fromisoformat(certificate[name]) - now) < timedelta(minutes=5)
        with pytest.raises(Refused, match="the snapshot that the service converts may be older") as refused:
            fillings._require_in_every_snapshot(connection)
    assert refused.value.code == "erasure-recent"
    # And soon it is, though the certificate was given by a process whose clock is fast
    with database.begin() as connection:
        connection.execute(sa.update(t.erasure).values(certified_at=t.erasure.c.certified_at - timedelta(minutes=15)))
    with database.begin() as connection:
        fillings._require_in_every_snapshot(connection)
