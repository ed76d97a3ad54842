"""Bulk imports into one index: Pending, InProgress, then Completed, Failed or Cancelled.

As in the service, namespaces must be new. Of Parquet rows with equal vectors only the first is kept: in mode `continue`
without a message; in mode `abort` the import fails. Records that landed before a failure or a cancellation stay.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from emulator.errors import Refusal, invalid, not_found
from emulator.import_documents import JSON_LINES
from emulator.import_files import Format, ImportFailed, Sources, find_files, name_file
from emulator.index import Index
from emulator.project import timestamp
from emulator.records import DEFAULT_NAMESPACE, Record, check_id

_log = logging.getLogger(__name__)
Document = dict[str, object]  # an import as the service answers it
URI_LENGTH = 1_500
CUT_SHORT = "The emulator was stopped during this import; what had landed stays, and it does not go on by itself"
_UNDER_WAY = ("Pending", "InProgress")


def _parquet() -> Format:
    """Return the format that needs pyarrow, which is loaded for the first import only."""
    try:
        from emulator.import_parquet import PARQUET
    except ImportError:
        raise Refusal(
            501, "Imports of Parquet files need pyarrow, which is not installed beside this emulator"
        ) from None
    return PARQUET


class Imports:
    def __init__(self, index: Index, sources: Sources, delay_s: float, kept: Mapping[str, object]) -> None:
        """`delay_s`: an import's time beside its work, half of it pending; `kept`: by id, from a former process."""
        self._index, self._sources, self._delay_s = index, sources, delay_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._imports = {id: cast(Document, job) for id, job in kept.items()}
        for job in self._imports.values():
            if job["status"] in _UNDER_WAY:
                self._change(job, status="Failed", error=CUT_SHORT)
                _log.warning("import %s of %s: %s", job["id"], job["uri"], CUT_SHORT)

    def start(self, body: Mapping[str, object]) -> str:
        """Return the id of a new import; its files are looked for later."""
        document = self._index.shape.document
        if self._index.shape.kind == "integrated" or (document and document.embeds()):
            raise invalid("Bulk import is not supported for indexes with integrated embedding")
        uri, mode = body.get("uri"), body.get("errorMode")
        if not isinstance(uri, str) or not 1 <= len(uri) <= URI_LENGTH:
            raise invalid(f"uri must be a string of 1 to {URI_LENGTH} characters")
        if not isinstance(body.get("integrationId", ""), str | None):
            raise invalid("integrationId must be a string")
        on_error = (mode.get("onError") or "abort") if isinstance(mode, dict) else mode or "abort"
        if on_error not in ("abort", "continue"):
            raise invalid("errorMode.onError must be 'abort' or 'continue'")
        form = JSON_LINES if document else _parquet()
        deployment = cast(Document, self._index.description["deployment"])
        folder = self._sources.folder(uri, deployment.get("cloud"))
        id = str(len(self._imports) + 1)
        job: Document = {"id": id, "uri": uri, "createdAt": timestamp(), "percentComplete": 0.0, "recordsImported": 0}
        self._imports[id] = job
        self._change(job, status="Pending")
        task = asyncio.get_running_loop().create_task(self._run(job, form, folder, on_error == "continue"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return id

    def all(self) -> list[Document]:
        """Return the imports, newest first."""
        return list(reversed(self._imports.values()))

    def find(self, id: str) -> Document:
        job = self._imports.get(id)
        if job is None:
            raise not_found(f"Import {id[:80]} not found")
        return job

    def cancel(self, id: str) -> None:
        """Cancel an import; has no effect on one that is over."""
        job = self.find(id)
        if job["status"] in _UNDER_WAY:
            self._change(job, status="Cancelled")

    def _change(self, job: Document, **changes: object) -> None:
        job |= changes
        if job["status"] not in _UNDER_WAY:
            job["finishedAt"] = timestamp()
        self._index.keeper.save_document("imports", self._index.id, dict(self._imports))

    def _goes_on(self, job: Document) -> bool:
        return job["status"] in _UNDER_WAY and not self._index.deleted

    async def _run(self, job: Document, form: Format, folder: Path, lenient: bool) -> None:
        await asyncio.sleep(self._delay_s / 2)
        if not self._goes_on(job):
            return
        self._change(job, status="InProgress")
        self._index.keeper.commit()
        try:
            await self._import(job, form, folder, lenient)
            ending: Document = {"status": "Completed", "percentComplete": 100.0}
        except ImportFailed as failure:
            ending = {"status": "Failed", "error": str(failure)}
        except Refusal as refusal:
            ending = {"status": "Failed", "error": refusal.message}
        except Exception:  # noqa: BLE001 - nobody awaits this task: the import's answer must report the error
            _log.exception("import %s of %s failed", job["id"], job["uri"])
            ending = {"status": "Failed", "error": "Internal error; the emulator's log says more"}
        if self._goes_on(job):
            self._change(job, **ending)
            self._index.keeper.commit()

    async def _import(self, job: Document, form: Format, folder: Path, lenient: bool) -> None:
        files = await asyncio.to_thread(find_files, folder, form)
        for namespace in dict(files):
            self._check_new(namespace)
        counts = [await asyncio.to_thread(form.count_rows, self._index, path) for _, path in files]
        done, total = 0, max(1, sum(counts))
        vectors: dict[str, set[object]] = {}
        for namespace, path in files:
            await asyncio.sleep(self._delay_s / 2 / len(files))
            batches = form.read_batches(path)
            while rows := await asyncio.to_thread(next, batches, None):
                seen = vectors.setdefault(namespace, set())
                records = self._records(rows, form, name_file(path), seen, lenient)
                if not self._goes_on(job):
                    return
                if records:
                    self._index.upsert(namespace, records)
                done += len(rows)
                landed = cast(int, job["recordsImported"]) + len(records)
                self._change(job, recordsImported=landed, percentComplete=round(100 * done / total, 1))
                self._index.keeper.commit()

    def _check_new(self, name: str) -> None:
        check_id(name, "Namespace")
        self._index.aliases.refuse_name(name)
        present = self._index.namespaces.get(name)
        if present and (name != DEFAULT_NAMESPACE or present.records):
            raise ImportFailed(f"Namespace '{name}' already exists; an import needs namespaces that do not")

    def _records(self, rows: list[Any], form: Format, file: str, vectors: set[object], lenient: bool) -> list[Record]:
        """Return the records to keep of some rows; `vectors` are those the namespace has had already."""
        records: list[Record] = []
        drops_twins = form is not JSON_LINES or self._index.contested.equal_vectors == "drop"
        for row in rows:
            try:
                record = form.read_row(self._index, row)
                vector = hash((record.values, record.sparse))
                has_vector = bool(record.values or record.sparse)
                if drops_twins and has_vector and vector in vectors:
                    raise invalid(f"Vector ID {record.id} has the same values as another record")
            except Refusal as refusal:
                if not lenient:
                    raise ImportFailed(f"{file}: {refusal.message}") from None
                continue
            vectors.add(vector)
            records.append(record)
        return records
