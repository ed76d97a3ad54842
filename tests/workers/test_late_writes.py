"""A worker that goes on after its lease is over, while its tenant was erased: nothing of the tenant comes back."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import sqlalchemy as sa
from in_one_process import TARGET, One

from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import erasures
from orchestrator.services import late_writes
from vecfleet.errors import Unreachable
from vecfleet.names import Tenant
from vecfleet.stores.memory import MemoryIndex
from vecfleet.tenancy.fences import subject_of


def frozen_at(
    one: One, monkeypatch: pytest.MonkeyPatch, call: str, meanwhile: Callable[[], None] = lambda: None
) -> list[str]:
    """At its first such call a worker is held up until its lease is over and its tenant, ana, was erased."""
    original: Callable[..., Any] = getattr(MemoryIndex, call)
    held_up: list[str] = []

    def late(index: MemoryIndex, namespace: str, *arguments: object) -> Any:
        if not held_up:
            held_up.append(namespace)
            with one.table.begin() as connection:
                erasures.begin(connection, subject_of(Tenant("ana")), "a person")
            for held in one.process.holder._held.values():
                held.lose()
                one.table.set_batch(
                    held.lease.id, state="ready", generation=held.lease.generation + 1, lease_owner=None
                )
            index.delete_namespace("s")
            index.delete_namespace(TARGET)
            meanwhile()
        return original(index, namespace, *arguments)

    monkeypatch.setattr(MemoryIndex, call, late)
    return held_up


@pytest.mark.parametrize("call", ["create_namespace", "upsert"])
def test_a_write_that_comes_after_the_erasure_of_its_tenant_is_taken_away_again(
    one: One, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    held_up = frozen_at(one, monkeypatch, call)
    one.work_until(lambda: held_up)
    assert held_up == [TARGET] and one.table.rows(BatchKind.COPY)
    assert one.index.namespace(TARGET) is None


def test_a_late_write_of_a_job_that_an_older_job_table_does_not_know_is_taken_away_again(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that is held up at its write while Postgres is replaced by a copy from before its job was applied
    held_up = frozen_at(one, monkeypatch, "upsert", meanwhile=lambda: forget_the_job(one))
    one.table.advance()
    # When it goes on, and its tenant was erased meanwhile
    while not held_up:
        one.deliver()
    # Then nothing of the tenant comes back, and the worker goes on to other work
    assert held_up == [TARGET] and one.index.namespace(TARGET) is None


def forget_the_job(one: One) -> None:
    with one.table.begin() as connection:
        connection.execute(sa.text("TRUNCATE job CASCADE"))


def test_a_source_that_empties_while_somebody_is_erased_waits_for_the_end_of_it(one: One) -> None:
    # Given a source that is gone once it was listed, while a tenant is being erased
    one.table.advance()
    one.deliver()
    with one.table.begin() as connection:
        number = erasures.begin(connection, subject_of(Tenant("bob")), "a person")
    one.index.delete_namespace("s")

    def at_once() -> None:
        for row in one.table.rows(BatchKind.COPY):
            one.table.set_batch(row.id, run_after=None)

    def waits() -> bool:
        at_once()
        said = one.table.rows(BatchKind.COPY)[0].error_text or ""
        return "a tenant is being erased: records missing from s may be the tenant's" in said

    # When its batches look, past every lag, then they wait, and the job goes on
    one.work_until(waits)
    assert one.table.job.state is JobState.RUNNING
    # And when the erasure has ended, and none of it was theirs, then a person is asked
    with one.table.begin() as connection:
        erasures.certify(connection, number, "a person", {})
    at_once()
    one.until(JobState.PAUSED)
    assert "s lists no ids any more" in (one.table.job.reason or "")


def test_what_came_too_late_is_taken_away_although_it_could_not_be_put_on_record(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job table that does not answer just when a late write is to be noted
    held_up = frozen_at(one, monkeypatch, "upsert")
    monkeypatch.setattr(late_writes, "note_late_write", Mock(side_effect=Unreachable("it does not answer")))
    one.work_until(lambda: held_up)
    assert one.index.namespace(TARGET) is None
