"""A job lets go of what it needed while it ran once nobody can ask for it; what people ask for later stays."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from stages import a_job, rolling_back, verified

from orchestrator.core.model import Lease
from orchestrator.core.reading import Since
from orchestrator.core.states import BatchKind, JobState, MoveState
from orchestrator.ledger import audit, check_results, retention, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, late_writes, purge, report
from vecfleet.errors import Refused

WHO = "ana"
MONTH = 30.0


def aged(table: JobTable, days: float = 31.0) -> None:
    """So long ago the job ended."""
    table.put(ended_at=sa.func.clock_timestamp() - timedelta(days=days))


def cleaned(database: Database, *sources: str) -> JobTable:
    """A job that ended in clean-up just now."""
    table = verified(database, *sources, cut_over="none")
    acts.clean_up(table.database, table.job_id, WHO, by_ids=False)
    for _ in range(4):
        table.advance()
        for lease in table.take():
            table.finish(lease, deleted=2) if lease.kind is BatchKind.CLEAR else table.finish(lease)
    assert table.job.state is JobState.CLEANED
    return table


def cancelled(table: JobTable) -> JobTable:
    acts.cancel(table.database, table.job_id, WHO)
    table.advance()
    assert table.job.state is JobState.CANCELLED
    return table


def ended(table: JobTable, days: float = MONTH) -> list[retention.Ended]:
    with table.begin() as connection:
        return retention.ended(connection, days)


def rows(table: JobTable, name: str) -> int:
    with table.begin() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one())


def told(table: JobTable) -> tuple[report.Verdicts, Since]:
    """Return what a report says of the targets."""
    with table.begin() as connection:
        since = status.reading(connection, table.job_id, namespaces=0).since
    return report.verdicts(table.targets.values()), since


def test_a_cleaned_up_job_keeps_what_people_ask_for_and_nothing_of_its_ids(database: Database) -> None:
    # Given a job that was cleaned up a month ago
    table = cleaned(database, "a", "b", "c")
    aged(table)
    with table.begin() as connection:
        spent, totals = status.spent(connection, table.job_id), status.reading(connection, table.job_id, namespaces=9)
    [one] = ended(table)
    assert (one.job_id, one.state, one.stays) == (table.job_id, JobState.CLEANED, None)
    assert one.batches == len(table.rows()) and one.bytes > 0

    # When it is purged
    assert purge.purge(database, table.job_id, WHO) == one.batches

    # Then no batch, no id and no digest of a record is left
    assert [rows(table, name) for name in ("batch", "batch_tally", "target_id")] == [0, 0, 0]
    assert all(move.last_id is None for move in table.moves.values())
    assert ended(table) == []

    # And what it cost, what it moved, its verdicts and who did what stand as before
    with table.begin() as connection:
        assert status.spent(connection, table.job_id) == spent
        after = status.reading(connection, table.job_id, namespaces=9)
        assert (after.totals, after.targets) == (totals.totals, totals.targets)
        audit.note(connection, WHO, audit.APPLIED, table.job_id)
        audit.seal(connection, audit.Seals())
        assert audit.walk(connection, audit.Seals()).broken is None
        assert audit.of_job(connection, table.job_id, 2)[1].action == "purge"
    assert {move.state for move in table.moves.values()} == {MoveState.CLEANED}


def test_a_verdict_keeps_what_it_says_and_says_it_once(database: Database) -> None:
    # Given a job that was cleaned up a month ago: one target equal, one where readers changed something since
    table = cleaned(database, "a", "b")
    aged(table)
    with table.begin() as connection:
        changed_since = {"authority": "target", "verdict": {**(table.targets["t-b"].verdict or {}), "different": 2}}
        connection.execute(sa.update(t.target).where(t.target.c.namespace == "t-b").values(**changed_since))
    before = told(table)

    # When it is purged, twice
    purge.purge(database, table.job_id, WHO)
    purge.purge(database, table.job_id, WHO)

    # Then each says how far it was proven, how much, and what it was; and the report is the same
    equal, changed = (table.targets[name].verdict for name in ("t-a", "t-b"))
    assert equal is not None and changed is not None
    assert equal.keys() == {"level", "expected", "digest", "reason"}
    assert (equal["level"], equal["expected"], equal["reason"]) == ("content", 2, "2 records read back and equal")
    assert changed.keys() == equal.keys() | {"different"} and changed["different"] == 2
    assert told(table) == before


def test_a_verdict_that_something_differs_is_kept_whole(database: Database) -> None:
    table = cleaned(database, "a")
    aged(table)
    with table.by_hand() as connection:
        connection.execute(sa.update(t.target).values(check_state="mismatched"))
    whole = table.targets["t-a"].verdict
    purge.purge(database, table.job_id, WHO)
    assert table.targets["t-a"].verdict == whole


def test_a_purge_that_was_cut_short_goes_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a purge of which only the first batches are gone
    table = cleaned(database, "a", "b")
    aged(table)
    with table.begin() as connection:
        spent = status.spent(connection, table.job_id)
        assert retention.drop_batches(connection, table.job_id, 3) == 3

    # When it is asked for again, three batches at a time
    monkeypatch.setattr(purge, "_AT_ONCE", 3)
    left = len(table.rows())
    assert purge.purge(database, table.job_id, WHO) == left

    # Then everything is gone, and every cost counted once
    assert table.rows() == []
    with table.begin() as connection:
        assert status.spent(connection, table.job_id) == spent


def test_what_was_parked_stays_with_its_batch_and_the_answers_of_queries_stay(database: Database) -> None:
    # Given a job one of whose records was left behind, and that asked both sides
    table = a_job(database, verify="content+query", query_sample=1, cut_over="none")
    table.listed({"s": [["a", "b"], ["c"]]})
    first, second = table.take()
    table.copy(first, "t-s", wrote=["a"], parked=["b"])
    table.copy(second, "t-s")
    table.advance(2)
    for lease in table.take():
        if lease.kind is BatchKind.QUERY:
            answer = {"overlap": 1.0, "drift": 0.0, "old_ms": 3.0, "new_ms": 2.0}
            table.check(lease, queries=[answer])  # type: ignore[arg-type]
        else:
            table.check(lease)
    table.put(state="cleaned")
    aged(table)
    with table.begin() as connection:
        asked = check_results.asked(connection, table.job_id)
        assert asked is not None

    # When
    purge.purge(database, table.job_id, WHO)

    # Then
    assert table.parked_ids() == ["b"]
    assert [(row.kind, row.size) for row in table.rows()] == [("copy", 2), ("query", 1)]
    with table.begin() as connection:
        assert check_results.asked(connection, table.job_id) == asked


def test_what_was_found_different_is_still_told_though_its_batch_is_gone(database: Database) -> None:
    table = cleaned(database)
    aged(table)
    [copy] = table.rows(BatchKind.COPY)
    [target] = table.targets.values()
    with table.begin() as connection:
        connection.execute(
            sa.insert(t.finding).values(target_id=target.id, copy_id=copy.id, kind="different", record_id="s-1")
        )
    purge.purge(database, table.job_id, WHO)
    assert rows(table, "finding") == 1


def test_a_job_that_may_still_be_rolled_back_keeps_what_that_needs(database: Database) -> None:
    # Given a job that was cancelled after it had written, and one before
    table = verified(database)
    cancelled(table)
    aged(table)
    wrote = table.job_id
    table.apply(plan_of(planned("x", "t-x")))
    table.start()
    cancelled(table)
    aged(table)

    # Then the first one stays, and says why
    first, second = ended(table)
    assert (first.job_id, second.job_id) == (wrote, table.job_id)
    assert first.stays == f"it wrote records, and `vecfleet rollback {wrote}` needs to know which"
    assert second.stays is None
    with pytest.raises(Refused, match="rollback"):
        purge.purge(database, wrote, WHO)
    assert purge.purge(database, table.job_id, WHO) == 1


def test_jobs_that_live_or_ended_just_now_keep_everything(database: Database) -> None:
    table = verified(database)
    with pytest.raises(Refused, match="it is verified"):
        purge.purge(database, table.job_id, WHO)
    done = cleaned(database, "other")
    assert ended(done) == []
    with pytest.raises(Refused, match="ended less than 1 day ago"):
        purge.purge(database, done.job_id, WHO)


def test_a_late_write_of_a_purged_job_is_refused_in_words(database: Database) -> None:
    # Given a job that was rolled back and purged long after
    table = rolling_back(database)
    late: Lease | None = None
    for _ in range(6):
        table.advance()
        for lease in table.take():
            late = late or lease
            table.finish(lease, changed=0)
    assert table.job.state is JobState.ROLLED_BACK
    aged(table)
    purge.purge(database, table.job_id, WHO)

    # When a worker that was frozen all the while finds that it wrote, then it is told that nobody knows what
    assert late is not None
    with pytest.raises(Refused, match="was purged"):
        late_writes.note_late_write(database, late, [])
    assert table.job.state is JobState.ROLLED_BACK
