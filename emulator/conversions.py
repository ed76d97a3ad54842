"""Conversions of vector indexes to document indexes: a new index is filled from a snapshot, while the source serves.

As in the service, what is written after the request is not converted; a record that the schema cannot hold fails the
job, or is counted and never named; namespaces without records are left out; a target that is not whole is of no use.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import cast
from uuid import uuid4

import numpy as np

from emulator.documents import fields_of, read_document
from emulator.errors import Refusal, invalid, not_found
from emulator.index import Index
from emulator.keeper import Disk
from emulator.project import Project, timestamp
from emulator.records import Record
from emulator.shapes import converted_index

_log = logging.getLogger(__name__)
Document = dict[str, object]  # a job as the service answers it
RECORDS_AT_ONCE = 500
CUT_SHORT = "The emulator was stopped during this conversion, and it does not go on by itself"


class Conversions:
    def __init__(self, project: Project, delay_s: float, misses_s: float) -> None:
        """`delay_s`: the time of a conversion beside its work; `misses_s`: younger writes are not in its snapshot."""
        self._project, self._delay_s, self._misses_s = project, delay_s, misses_s
        self._jobs: dict[str, Document] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def load(self, disk: Disk) -> None:
        """Load the jobs that a former process kept; one under way has failed with it."""
        self._jobs = {str(job["conversion_job_id"]): job for job in disk.documents("conversion")}
        for job in self._jobs.values():
            if job["status"] == "InProgress":
                _log.warning("conversion of %s: %s", job["source_index_name"], CUT_SHORT)
                self._end(job, self._project.indexes.get(str(job["target_index_name"])), "Failed")

    def clear(self) -> None:
        self._jobs.clear()

    def start(self, source: Index, body: Mapping[str, object]) -> Document:
        """Make the new index and return its job."""
        if source.shape.kind not in ("vector", "integrated"):
            raise invalid(f"A {source.shape.kind} index cannot be converted")
        if source.state() != "Ready":
            raise Refusal(412, f"Index {source.name} is not ready")
        mode = body.get("error_mode")
        on_error = (mode.get("on_error") or "abort") if isinstance(mode, dict) else mode or "abort"
        if on_error not in ("abort", "continue"):
            raise invalid("error_mode.on_error must be 'abort' or 'continue'")
        snapshot = {
            name: list(namespace.seen(self._misses_s).values()) for name, namespace in source.namespaces.items()
        }
        target = self._project.create(converted_index(body, source), ready_at=float("inf"))
        job: Document = {
            "conversion_job_id": str(uuid4()),
            "status": "InProgress",
            "error_mode": {"on_error": on_error},
            "source_index_id": source.id,
            "source_index_name": source.name,
            "target_index_id": target.id,
            "target_index_name": target.name,
            "records_converted": 0,
            "records_skipped": 0,
            "percent_complete": 0.0,
            "created_at": timestamp(),
            "completed_at": None,
        }
        self._jobs[str(job["conversion_job_id"])] = job
        self._keep(job)
        task = asyncio.get_running_loop().create_task(self._run(job, snapshot, target))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def all(self) -> list[Document]:
        """Return the jobs, newest first."""
        return list(reversed(self._jobs.values()))

    def find(self, id: str) -> Document:
        job = self._jobs.get(id)
        if job is None:
            raise not_found(f"Conversion job {id[:80]} not found")
        return job

    def cancel(self, id: str) -> None:
        """Cancel a conversion; has no effect on one that is over."""
        job = self.find(id)
        if job["status"] == "InProgress":
            self._end(job, self._project.indexes.get(str(job["target_index_name"])), "Cancelled")

    async def _run(self, job: Document, snapshot: Mapping[str, list[Record]], target: Index) -> None:
        try:
            await self._convert(job, snapshot, target)
        except Refusal:
            self._end(job, target, "Failed")
        except Exception:  # noqa: BLE001 - nobody awaits this task: the job's answer must report the error
            _log.exception("conversion of %s failed", job["source_index_name"])
            self._end(job, target, "Failed")
        self._project.keeper.commit()

    async def _convert(self, job: Document, snapshot: Mapping[str, list[Record]], target: Index) -> None:
        total = max(1, sum(map(len, snapshot.values())))
        lenient = job["error_mode"] == {"on_error": "continue"}
        done = 0
        await asyncio.sleep(self._delay_s / 2)
        for namespace, part in _parts(snapshot):
            converted = [record for record in (_convert(target, it, lenient) for it in part) if record is not None]
            if job["status"] != "InProgress" or target.deleted:
                return
            if converted:
                target.upsert(namespace, converted)
            done += len(part)
            job["records_converted"] = cast(int, job["records_converted"]) + len(converted)
            job["records_skipped"] = cast(int, job["records_skipped"]) + len(part) - len(converted)
            job["percent_complete"] = round(100 * done / total, 1)
            self._keep(job)
            self._project.keeper.commit()
            await asyncio.sleep(0)
        await asyncio.sleep(self._delay_s / 2)
        self._end(job, target, "Completed")

    def _end(self, job: Document, target: Index | None, status: str) -> None:
        """End a job once, and with it the waiting for its index."""
        if job["status"] != "InProgress":
            return
        job |= {"status": status, "completed_at": timestamp()}
        if status == "Completed":
            job["percent_complete"] = 100.0
        self._keep(job)
        if target is not None and not target.deleted:
            target.ready_at, target.failed = (0.0, False) if status == "Completed" else (float("inf"), True)
            self._project.save(target)

    def _keep(self, job: Document) -> None:
        self._project.keeper.save_document("conversion", str(job["conversion_job_id"]), job)


def _parts(snapshot: Mapping[str, list[Record]]) -> Iterator[tuple[str, list[Record]]]:
    for name, records in snapshot.items():
        for start in range(0, len(records), RECORDS_AT_ONCE):
            yield name, records[start : start + RECORDS_AT_ONCE]


def _convert(target: Index, record: Record, lenient: bool) -> Record | None:
    """Return the record as a document of the target; None for one that is skipped."""
    try:
        return read_document(target, _document(target, record))[0]
    except Refusal:
        if not lenient:
            raise
        return None


def _document(target: Index, record: Record) -> dict[str, object]:
    """Return the document that the service makes of a record: its fields are filled by name."""
    fields, body = fields_of(target), record.fields()
    if target.contested.converted_names == "drop":
        body = {name: value for name, value in body.items() if not name.startswith("_")}
    taken = [name for name in ("_id", fields.dense, fields.sparse) if name in body]
    if taken:
        raise invalid(f"Record '{record.id}' has metadata under '{taken[0]}'")
    body["_id"] = record.id
    if fields.dense is not None and record.values:
        body[fields.dense] = np.frombuffer(record.values, "<f4").tolist()
    if record.sparse is not None:
        if fields.sparse is not None:
            indices = np.frombuffer(record.sparse.indices, "<u4").tolist()
            body[fields.sparse] = {"indices": indices, "values": np.frombuffer(record.sparse.weights, "<f4").tolist()}
        elif target.contested.converted_sparse == "skip":
            raise invalid(f"Record '{record.id}' has sparse values, and the schema has no field for them")
    return body
