"""Conversions, imports and backups of the service: statuses that nobody knows, and answers that cannot be read."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.ledger import index_acts
from orchestrator.services import fillings
from tests.contracts.answering import Answer, Answering, Asked
from tests.contracts.making import like, pinecone_store
from vecfleet.errors import StoreError, Transient
from vecfleet.stores.base import Kind
from vecfleet.stores.pinecone import backups, bulk_imports, conversions

Start = Callable[[Callable[[Asked], Answer]], Answering]
EARLIER = datetime(2026, 11, 20, tzinfo=UTC)
JOB: dict[str, Any] = {
    "conversion_job_id": "7",
    "source_index_name": "old",
    "target_index_name": "new",
    "created_at": "2026-11-20T10:00:00.000Z",
    "percent_complete": 43.2,
    "records_converted": 12_000,
}
IMPORT: dict[str, Any] = {
    "id": "3",
    "uri": "s3://bucket/brain",
    "createdAt": "2026-11-20T10:00:00.000Z",
    "percentComplete": 43.2,
    "recordsImported": 12_000,
}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversions, "_POLL_S", 0.0)
    monkeypatch.setattr(bulk_imports, "_POLL_S", 0.0)
    monkeypatch.setattr(backups, "_POLL_S", 0.0)


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(Answering(answer))


def one_after_the_other(*statuses: str) -> Callable[[], str]:
    """The statuses in turn, and the last for ever."""
    left = list(statuses)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("unknown", ["Queued", "COMPLETED_SOON", ""])
def test_a_conversion_of_a_status_that_nobody_knows_goes_on(start: Start, unknown: str) -> None:
    # Given a conversion whose status this version has never heard of, until it is complete
    status = one_after_the_other(unknown, unknown, "InProgress", "Completed")

    def answer(asked: Asked) -> Answer:
        job = JOB | {"status": status()}
        return Answer(200, {"data": [job]} if "?" in asked.path else job)

    of_project = pinecone_store(start(answer).address).conversions()
    # When it is waited for
    begun, said = of_project.find("old", "new"), list[str]()
    assert begun is not None
    ended = of_project.finish(begun, lambda conversion: said.append(conversion.so_far))
    # Then it is waited for to its end, and who waits is told how far it is and where to look
    assert ended.complete
    assert said[0].startswith("43 %, 12,000 records; ") and f"{unknown!r}" in said[0] and "console" in said[0]
    assert said[-1] == "43 %, 12,000 records"


def test_an_import_of_a_status_that_nobody_knows_goes_on_and_no_other_is_begun(start: Start) -> None:
    # Given an import whose status this version has never heard of
    status = one_after_the_other("Queued", "Queued", "Pending", "Completed")

    def answer(asked: Asked) -> Answer:
        job = IMPORT | {"status": status()}
        return Answer(200, job if asked.path.endswith("/3") else {"data": [job]})

    server = start(answer)
    store = pinecone_store(server.address)
    into = store.imports(replace(like(Kind.DENSE), host=server.address))
    # When the next apply looks for it, then it is found, and waited for to its end
    [begun], said = into.of("s3://bucket/brain/"), list[str]()
    assert into.finish(begun, lambda one: said.append(one.so_far)).complete
    assert "'Queued' is not known here" in said[0] and said[-1] == "43 %, 12,000 records"
    assert {asked.method for asked in server.asked} == {"GET"}


def test_only_an_end_that_is_known_leads_to_a_deletion_by_hand(start: Start) -> None:
    for status in ("Failed", "Cancelled", "Canceled"):
        job = JOB | {"status": status}
        server = start(lambda asked, job=job: Answer(200, {"data": [job]} if "?" in asked.path else job))  # type: ignore[misc]
        of_project = pinecone_store(server.address).conversions()
        begun = of_project.find("old", "new")
        assert begun is not None
        with pytest.raises(StoreError, match=f"ended {status}") as raised:
            of_project.finish(begun, lambda _: None)
        assert "delete the index 'new'" in str(raised.value.next_step)


BACKUP: dict[str, Any] = {
    "backup_id": "b-1",
    "source_index_name": "brain",
    "source_index_id": "i-1",
    "cloud": "aws",
    "region": "us-east-1",
    "created_at": "2026-11-20T10:00:00Z",
}


@pytest.mark.parametrize("unknown", ["Queued", "Copying", ""])
def test_a_backup_of_a_status_that_nobody_knows_is_waited_for(start: Start, unknown: str) -> None:
    # Given a backup whose status this version has never heard of, until it is ready
    status = one_after_the_other("Initializing", unknown, unknown, "Ready")
    store = pinecone_store(start(lambda asked: Answer(200, BACKUP | {"status": status()})).address)
    said = list[str]()
    # When it is taken
    taken = store.backups().create("brain", "before", lambda backup: said.append(backup.so_far))
    # Then it is waited for to its end, and who waits is told where to look
    assert taken.complete
    assert said[0] == "Initializing" and f"its status {unknown!r} is not known here" in said[1]


@pytest.mark.parametrize("end", ["Failed", "InitializationFailed"])
def test_a_backup_that_failed_is_none(start: Start, end: str) -> None:
    status = one_after_the_other("Initializing", end)
    store = pinecone_store(start(lambda asked: Answer(200, BACKUP | {"status": status()})).address)
    with pytest.raises(StoreError, match=f"the backup b-1 of 'brain' ended {end}"):
        store.backups().create("brain", "before", lambda _: None)


UNREADABLE = [
    Answer(200, b"<html>"),
    Answer(200, []),
    Answer(200, {}),
    Answer(200, {"data": None}),
    Answer(200, {"data": [JOB]}),
    Answer(200, {"data": [JOB | {"status": None}]}),
    Answer(200, {"data": [JOB | {"status": "InProgress", "created_at": "soon"}]}),
    Answer(200, {"data": [JOB | {"status": "InProgress", "created_at": None}]}),
    Answer(200, {"data": [JOB | {"status": "InProgress", "percent_complete": "half"}]}),
    Answer(200, {"data": [], "pagination": "more"}),
]


@pytest.mark.parametrize("answer", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_answer_about_conversions_that_cannot_be_read_is_an_error_with_a_next_step(
    start: Start, answer: Answer
) -> None:
    of_project = pinecone_store(start(lambda _: answer).address).conversions()

    with pytest.raises(StoreError, match="list the conversions: its answer cannot be read") as raised:
        of_project.find("old", "new")

    assert "begins nothing twice" in str(raised.value.next_step)


def test_a_conversion_of_others_that_cannot_be_read_is_none_of_ours(start: Start) -> None:
    jobs = [{"conversion_job_id": "8"}, JOB | {"status": "InProgress", "created_at": "2026-11-20T10:00:00"}]
    of_project = pinecone_store(start(lambda _: Answer(200, {"data": jobs})).address).conversions()

    found = of_project.find("old", "new")

    assert found is not None and found.id == "7"
    assert found.created_at > EARLIER  # a time without a zone is UTC


@pytest.mark.parametrize("told", [{"createdAt": "soon"}, {"createdAt": ""}, {"createdAt": None}, {"uri": 7}])
def test_an_answer_about_imports_that_cannot_be_read_is_an_error_with_a_next_step(
    start: Start, told: dict[str, Any]
) -> None:
    job = IMPORT | {"status": "InProgress"} | told
    server = start(lambda _: Answer(200, {"data": [job]}))
    into = pinecone_store(server.address).imports(replace(like(Kind.DENSE), host=server.address))

    with pytest.raises(StoreError, match="list the imports into 'like': its answer cannot be read") as raised:
        into.of("s3://bucket/brain")

    assert "begins nothing twice" in str(raised.value.next_step)


INDEX: dict[str, Any] = {
    "name": "new",
    "host": "new.local",
    "deletion_protection": "disabled",
    "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
    "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": 4, "metric": "cosine"}}},
}


class _Accounts:
    def __init__(self, address: str) -> None:
        self.of_this = pinecone_store(address)

    def store(self, _: str) -> Any:
        return self.of_this


LISTED = {"status": {"ready": True, "state": "Ready"}}
UNREADY = {"status": {"ready": False, "state": "InitializationFailed"}}
BEGUN_AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
OVER, GOES_ON, STUCK = "is over", "goes on", "nobody can tell"


@pytest.mark.parametrize(
    ("described", "jobs", "after_minutes", "standing"),
    [
        (LISTED, [JOB | {"status": "Completed"}], 1, OVER),
        (LISTED, [JOB | {"status": "InProgress"}], 600, GOES_ON),
        (UNREADY, [JOB | {"status": "Failed"}], 600, GOES_ON),  # until a person deletes the index
        (UNREADY, [JOB | {"status": "Queued"}], 600, STUCK),
        (LISTED, [], 1, GOES_ON),  # the request may be on its way
        (LISTED, [], 16, OVER),
        (UNREADY, [], 16, STUCK),
        (None, [], 1, GOES_ON),
        (None, [], 16, OVER),
    ],
)
def test_a_filling_is_over_goes_on_or_is_one_that_nobody_can_tell_of(
    start: Start, described: dict[str, Any] | None, jobs: list[dict[str, Any]], after_minutes: int, standing: str
) -> None:
    listed = [INDEX | described] if described is not None else []

    def answer(asked: Asked) -> Answer:
        return Answer(200, {"indexes": listed} if asked.path.startswith("/indexes") else {"data": jobs})

    accounts = _Accounts(start(answer).address)
    filling = index_acts.Filling(1, index_acts.CONVERSION, "new", "old", "sha256:1", "ana", BEGUN_AT)
    seen = fillings._look(accounts, filling, BEGUN_AT + timedelta(minutes=after_minutes))  # type: ignore[arg-type]
    assert (OVER if seen.is_over else GOES_ON if seen.stuck is None else STUCK) == standing


@pytest.mark.parametrize(("status", "stuck"), [(401, True), (403, True), (503, False)])
def test_a_key_that_is_refused_tells_nothing_of_a_filling_and_a_service_that_is_away_is_asked_again(
    start: Start, status: int, stuck: bool
) -> None:
    accounts = _Accounts(start(lambda _: Answer(status, {"error": {"message": "no"}, "status": status})).address)
    filling = index_acts.Filling(1, index_acts.CONVERSION, "new", "old", "sha256:1", "ana", BEGUN_AT)
    later = BEGUN_AT + timedelta(days=1)
    if not stuck:
        with pytest.raises(Transient):
            fillings._look(accounts, filling, later)  # type: ignore[arg-type]
        return
    seen = fillings._look(accounts, filling, later)  # type: ignore[arg-type]
    assert not seen.is_over and seen.stuck is not None
