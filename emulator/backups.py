"""Backups of whole indexes, and the jobs that make new indexes from them.

A backup takes a while and lacks the writes shortly before it. It never overwrites: it is restored into a new index.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

from emulator.errors import Refusal, not_found
from emulator.index import Index
from emulator.keeper import Disk
from emulator.namespaces import Namespace
from emulator.project import Project, timestamp
from emulator.records import Record
from emulator.shapes import read_capacity, read_name, read_protection, read_tags

Document = dict[str, object]
BACKUPS_PER_PROJECT = 500


@dataclass
class Backup:
    answer: Document  # the service's answer, except `status`
    description: Document  # of the backed-up index
    ready_at: float  # Unix time
    namespaces: dict[str, Namespace]

    @property
    def id(self) -> str:
        return str(self.answer["backup_id"])


@dataclass
class Vault:
    project: Project
    delay_s: float  # duration of a backup, and of a restore
    misses_s: float  # writes younger than this are not in a backup; Pinecone: about 15 minutes

    def __post_init__(self) -> None:
        self._backups: dict[str, Backup] = {}
        self._jobs: dict[str, Document] = {}

    def load(self, disk: Disk) -> None:
        """Load the backups and jobs that a former process kept."""
        for body in disk.documents("backup"):
            answer, description = cast(Document, body["answer"]), cast(Document, body["description"])
            backup = Backup(answer, description, cast(float, body["ready_at"]), {})
            backup.namespaces = {n: Namespace(n, schema) for n, schema, _ in disk.namespaces(backup.id)}
            for name, record in disk.records(backup.id):
                backup.namespaces[name].load(record)
            self._backups[backup.id] = backup
        self._jobs = {str(job["restore_job_id"]): job for job in disk.documents("restore_job")}

    def clear(self) -> None:
        self._backups.clear()
        self._jobs.clear()

    def create(self, index: Index, body: Mapping[str, object]) -> Document:
        if index.shape.kind == "pod":
            raise Refusal(400, "Backups are not supported for pod indexes")
        if len(self._backups) >= BACKUPS_PER_PROJECT:
            raise Refusal(403, f"The project has reached its {BACKUPS_PER_PROJECT} backups", word="QUOTA_EXCEEDED")
        namespaces = {name: self._copy(namespace) for name, namespace in index.namespaces.items()}
        deployment = cast(Document, index.description["deployment"])
        answer: Document = {
            "backup_id": str(uuid4()),
            "source_index_name": index.name,
            "source_index_id": index.id,
            "cloud": deployment["cloud"],
            "region": deployment["region"],
            "schema": index.description["schema"],
            "tags": index.description["tags"],
            "record_count": sum(len(namespace.records) for namespace in namespaces.values()),
            "namespace_count": len(namespaces),
            "size_bytes": sum(namespace.size_bytes for namespace in namespaces.values()),
            "created_at": timestamp(),
        }
        answer |= {key: body[key] for key in ("name", "description") if body.get(key) is not None}
        backup = Backup(answer, dict(index.description), time.time() + self.delay_s, namespaces)
        self._backups[backup.id] = backup
        self._keep(backup)
        return self.answer(backup)

    def _copy(self, namespace: Namespace) -> Namespace:
        copy = Namespace(namespace.name, namespace.filterable)
        for record in namespace.seen(self.misses_s).values():
            copy.load(record)
        return copy

    def _keep(self, backup: Backup) -> None:
        keeper = self.project.keeper
        body: Document = {"answer": backup.answer, "description": backup.description, "ready_at": backup.ready_at}
        keeper.save_document("backup", backup.id, body)
        for namespace in backup.namespaces.values():
            keeper.save_namespace(backup.id, namespace.name, namespace.filterable, 0)
            keeper.save_records(backup.id, namespace.name, namespace.records.values())

    def find(self, id: str) -> Backup:
        backup = self._backups.get(id)
        if backup is None:
            raise not_found(f"Backup {id[:80]} not found")
        return backup

    def answer(self, backup: Backup) -> Document:
        return backup.answer | {"status": "Ready" if backup.ready_at <= time.time() else "Initializing"}

    def backups(self, index: str | None = None) -> list[Document]:
        """Return the backups, newest first."""
        chosen = [b for b in self._backups.values() if index in (None, b.answer["source_index_name"])]
        return [self.answer(backup) for backup in reversed(chosen)]

    def delete(self, id: str) -> None:
        backup = self.find(id)
        if any(job["backup_id"] == id and self.job_answer(job)["status"] == "Pending" for job in self._jobs.values()):
            raise Refusal(412, "The backup is being restored; delete it when the restore job is done")
        del self._backups[backup.id]
        self.project.keeper.drop_document("backup", id)
        self.project.keeper.drop_owner(id)

    def restore(self, id: str, body: Mapping[str, object]) -> Document:
        """Start a restore job and make the new index, which is ready when the job is done."""
        backup = self.find(id)
        if backup.ready_at > time.time():
            raise Refusal(412, "The backup is not complete yet")
        description = backup.description | {
            "name": read_name(body.get("name")),
            "deletion_protection": read_protection(body.get("deletion_protection")),
            "tags": read_tags(body.get("tags")) or backup.description["tags"],
            "read_capacity": read_capacity(body.get("read_capacity")),
        }
        index = self.project.create(description, ready_at=time.time() + self.delay_s)
        for name, namespace in backup.namespaces.items():
            index.restore_namespace(name, namespace.filterable, list[Record](namespace.records.values()))
        job: Document = {
            "restore_job_id": str(uuid4()),
            "backup_id": id,
            "target_index_name": index.name,
            "target_index_id": index.id,
            "created_at": timestamp(),
            "completed_at": timestamp(index.ready_at),
            "ready_at": index.ready_at,
        }
        self._jobs[str(job["restore_job_id"])] = job
        self.project.keeper.save_document("restore_job", str(job["restore_job_id"]), job)
        return {"restore_job_id": job["restore_job_id"], "index_id": index.id}

    def job(self, id: str) -> Document:
        job = self._jobs.get(id)
        if job is None:
            raise not_found(f"Restore job {id[:80]} not found")
        return self.job_answer(job)

    def jobs(self) -> list[Document]:
        return [self.job_answer(job) for job in reversed(self._jobs.values())]

    @staticmethod
    def job_answer(job: Document) -> Document:
        """Describe a restore job. As in the service, the percentage appears at the end only."""
        answer = {key: value for key, value in job.items() if key not in ("ready_at", "completed_at")}
        if cast(float, job["ready_at"]) > time.time():
            return answer | {"status": "Pending"}
        return answer | {"status": "Completed", "completed_at": job["completed_at"], "percent_complete": 100.0}
