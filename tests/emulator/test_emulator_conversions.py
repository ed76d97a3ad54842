"""Conversion of a vector index to a document index: from a snapshot, with skips that are counted and never named."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pinecone import Pinecone

from emulator.contested import Contested
from emulator.server import Running, start
from tests.emulator.conftest import HTTP

AN_HOUR_S = 3_600.0
FIELDS = {
    "embedding": {"type": "dense_vector", "dimension": 3, "metric": "cosine"},
    "body": {"type": "string", "full_text_search": {}},
}
GOOD = [{"id": f"r{n}", "values": [1.0, float(n), 0.4], "metadata": {"body": f"text {n}", "n": n}} for n in range(3)]
BAD = {"id": "bad", "values": [1.0, 2.0, 3.0], "metadata": {"body": 7}}
UNDERSCORE = {"id": "underscore", "values": [1.0, 2.0, 3.0], "metadata": {"_node_content": "x", "body": "y"}}


class Project:
    """An emulator with a vector index `old` of three good records in the namespace `n`."""

    def __init__(self, control: str) -> None:
        self.control = control
        self.pc = Pinecone(api_key="test", host=control)
        self.pc.create_index(name="old", dimension=3, metric="cosine")
        self.old: Any = self.pc.index("old")
        self.old.upsert(vectors=GOOD, namespace="n")

    def convert(self, **more: object) -> Any:
        body = {"name": "new", "schema": {"fields": FIELDS}, **more}
        return HTTP.post(f"{self.control}/indexes/old/convert", json=body)

    def job(self, id: str) -> dict[str, Any]:
        return dict(HTTP.get(f"{self.control}/conversion-jobs/{id}").raise_for_status().json())

    def ended(self, id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while (job := self.job(id))["status"] == "InProgress":
            assert time.monotonic() < deadline, job
        return job

    def converted(self, **more: object) -> dict[str, Any]:
        return self.ended(self.convert(**more).raise_for_status().json()["conversion_job_id"])

    def state(self) -> str:
        return str(HTTP.get(f"{self.control}/indexes/new").raise_for_status().json()["status"]["state"])

    def ids(self, namespace: str = "n") -> list[str]:
        return [item.id for item in self.pc.index("new").documents.list(namespace=namespace)]


@pytest.fixture
def project(control: str) -> Project:
    return Project(control)


@pytest.fixture
def started() -> Iterator[Callable[..., Project]]:
    """Starts emulators with options."""
    running: list[Running] = []

    def open_project(**options: Any) -> Project:
        running.append(start(port=0, **options))
        return Project(running[-1].control)

    yield open_project
    for emulator in running:
        emulator.stop()


def test_every_record_becomes_a_document_of_the_same_namespace(project: Project) -> None:
    project.old.create_namespace(name="never used")
    job = project.converted()
    assert (job["status"], job["records_converted"], job["records_skipped"]) == ("Completed", 3, 0)
    assert (job["percent_complete"], job["source_index_name"], job["target_index_name"]) == (100.0, "old", "new")
    assert project.state() == "Ready"
    read = project.pc.index("new").documents.fetch(namespace="n", ids=["r1"]).documents["r1"].to_dict()
    assert read == {"_id": "r1", "embedding": [1.0, 1.0, 0.4000000059604645], "body": "text 1", "n": 1.0}
    (page,) = project.pc.index("new").list_namespaces()
    assert [namespace.name for namespace in page.namespaces] == ["n"]
    assert sorted(project.old.fetch(ids=["r0", "r1"], namespace="n").vectors) == ["r0", "r1"]


def test_writes_after_the_request_are_not_converted(project: Project) -> None:
    id = project.convert().json()["conversion_job_id"]
    project.old.upsert(vectors=[GOOD[0] | {"id": "late"}], namespace="n")
    assert project.ended(id)["status"] == "Completed"
    assert project.ids() == ["r0", "r1", "r2"]


def test_a_record_that_the_schema_cannot_hold_fails_the_job_or_is_counted(project: Project) -> None:
    project.old.upsert(vectors=[BAD], namespace="n")
    failed = project.converted()
    assert (failed["status"], project.state()) == ("Failed", "InitializationFailed")
    project.pc.indexes.delete("new")
    lenient = project.converted(error_mode={"on_error": "continue"})
    assert (lenient["status"], lenient["records_converted"], lenient["records_skipped"]) == ("Completed", 3, 1)
    assert project.ids() == ["r0", "r1", "r2"]


def test_jobs_are_listed_newest_first_and_paged(project: Project) -> None:
    first, second = project.converted(), project.converted(name="newer")
    page = HTTP.get(f"{project.control}/conversion-jobs?limit=1").json()
    assert [job["conversion_job_id"] for job in page["data"]] == [second["conversion_job_id"]]
    token = page["pagination"]["next"]
    rest = HTTP.get(f"{project.control}/conversion-jobs?limit=1&paginationToken={token}").json()
    assert rest["data"] == [first]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "old"}, 409),
        ({"schema": {"fields": {}}}, 400),
        ({"schema": {"fields": {"_values": FIELDS["embedding"]}}}, 400),
        ({"schema": {"fields": {"v": {"type": "dense_vector", "dimension": 4, "metric": "cosine"}}}}, 400),
        ({"error_mode": {"on_error": "hope"}}, 400),
    ],
)
def test_a_conversion_that_cannot_be_is_refused_and_makes_nothing(
    project: Project, body: dict[str, object], status: int
) -> None:
    assert project.convert(**body).status_code == status
    assert [index.name for index in project.pc.indexes.list()] == ["old"]
    assert HTTP.get(f"{project.control}/conversion-jobs").json() == {"data": []}


def test_document_and_pod_indexes_are_not_converted(project: Project) -> None:
    HTTP.post(f"{project.control}/_emulator/indexes", json={"name": "pod", "dimension": 3}).raise_for_status()
    project.converted()
    for name in ("pod", "new"):
        refused = HTTP.post(
            f"{project.control}/indexes/{name}/convert", json={"name": "again", "schema": {"fields": FIELDS}}
        )
        assert refused.status_code == 400


def test_a_conversion_is_waited_for_and_can_be_cancelled(started: Callable[..., Project]) -> None:
    project = started(conversion_delay_s=AN_HOUR_S)
    id = project.convert().json()["conversion_job_id"]
    assert (project.job(id)["status"], project.state()) == ("InProgress", "Initializing")
    HTTP.delete(f"{project.control}/conversion-jobs/{id}").raise_for_status()
    assert (project.job(id)["status"], project.state()) == ("Cancelled", "InitializationFailed")


def test_a_conversion_that_the_end_of_the_process_cuts_short_has_failed(
    tmp_path: Path, started: Callable[..., Project]
) -> None:
    first = start(port=0, data=tmp_path, conversion_delay_s=AN_HOUR_S)
    id = Project(first.control).convert().json()["conversion_job_id"]
    first.stop()
    again = start(port=0, data=tmp_path)
    try:
        job = HTTP.get(f"{again.control}/conversion-jobs/{id}").json()
        new = HTTP.get(f"{again.control}/indexes/new").json()
        assert (job["status"], new["status"]) == ("Failed", {"ready": False, "state": "InitializationFailed"})
    finally:
        again.stop()


def test_names_that_documents_refuse_cost_the_record_or_the_key(started: Callable[..., Project]) -> None:
    for switch, ids in (("skip", ["r0", "r1", "r2"]), ("drop", ["r0", "r1", "r2", "underscore"])):
        project = started(contested=Contested(converted_names=switch))
        project.old.upsert(vectors=[UNDERSCORE], namespace="n")
        project.converted(error_mode={"on_error": "continue"})
        assert project.ids() == ids
