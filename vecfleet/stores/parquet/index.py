"""One folder as an index: its namespaces are folders in it, its records rows of the files in those."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from vecfleet.errors import BadInput, BadRequest, StoreError, TooLarge, WrongKind
from vecfleet.names import DEFAULT, canonical
from vecfleet.records import Record
from vecfleet.stores import paging, rules
from vecfleet.stores.base import Fetched, IdPage, IndexInfo, Limits, Matches, NamespaceInfo, Usage, Written
from vecfleet.stores.documents import Layout
from vecfleet.stores.parquet import files
from vecfleet.stores.parquet.folders import DELETED, NAMESPACE_FILE, encoded_folder, own_folder
from vecfleet.stores.parquet.lines import Lines
from vecfleet.stores.parquet.parts import Form, Parts, looking_again
from vecfleet.stores.parquet.tables import Tables

ONE_CALL = Usage(requests=1)  # files cost nothing


class ParquetIndex:
    """One open folder. Several processes may read and write it at once, also over a shared file system with locks."""

    # A part of 1,000 records reads and writes fast, and at 3,072 dimensions takes 12 MB.
    limits = Limits(upsert_bytes=24_000_000, fetch_ids=1_000, list_ids=1_000, reads_lag=False, ascii_ids=False)

    def __init__(self, info: IndexInfo, folder: Path, layout: Layout | None) -> None:
        """`layout`: of the documents that its files hold a line each; None where they are Parquet."""
        self.info, self.layout = info, layout
        self._folder = folder
        self._form: Form = Tables(info.kind) if layout is None else Lines(layout)
        if layout is not None:
            self.limits = replace(self.limits, metadata_bytes=layout.metadata_bytes, ascii_ids=True)

    @property
    def fetch_room(self) -> int:
        return self.limits.fetch_ids

    def namespaces(self) -> Iterator[NamespaceInfo]:
        with suppress(StoreError):  # who may only read here goes on
            self._finish_deletions()
        with files.translated(f"list the namespaces in {self.info.name!r}"):
            paths = sorted(self._folder.glob(f"[!.]*/{NAMESPACE_FILE}"))
        described = [(file.parent, self._described(file.parent)) for file in paths]
        for folder, info in described:
            if info is not None and folder != self._path(info.name):
                raise BadInput(
                    f"the folder {folder.name!r} in {self.info.name!r} says that it is the namespace {info.name!r}, "
                    f"which lies in {self._path(info.name).name!r}",
                    next_step="give the folder the name that it had, or move it out",
                )
        yield from sorted((info for _, info in described if info is not None), key=lambda info: info.name)

    def misnamed(self) -> list[str]:
        """Return the namespaces whose folders have other names, by which a bulk import would call them."""
        return [info.name for info in self.namespaces() if self._path(info.name).name != info.name]

    def namespace(self, name: str) -> NamespaceInfo | None:
        return self._described(self._path(name))

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        rules.check_name("a namespace name", canonical(name))
        return canonical(name) != DEFAULT and self._create(name, schema)  # that one counts as always there

    def delete_namespace(self, name: str) -> Usage:
        path = self._path(name)
        with suppress(files.Replaced), files.translated(f"delete the namespace {name!r}"):
            with files.locked(path / NAMESPACE_FILE, exclusive=True):
                path.rename(path.with_name(f"{DELETED}{uuid4().hex}"))
            files.sync_folder(self._folder)
        self._finish_deletions()
        return ONE_CALL

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        limit = self.limits.list_ids if limit is None else limit
        if not 1 <= limit <= self.limits.list_ids:
            raise BadRequest(f"a page holds 1 to {self.limits.list_ids} ids, not {limit}")
        after = paging.last_id(token) if token is not None else ""
        ids = looking_again(lambda: self._parts(namespace).ids_after(after, limit + 1, prefix or ""))
        return IdPage(ids[:limit], paging.token_after(ids[limit - 1]) if len(ids) > limit else None, ONE_CALL)

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        """Return the records. Raises BadRequest for a record that is not what was written."""
        if not ids:
            return Fetched({})
        requests = -(-len(ids) // self.limits.fetch_ids)
        return Fetched(looking_again(lambda: self._parts(namespace).read(ids)), Usage(requests))

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        if not records:
            return Written(0)
        if len(records) > self.limits.upsert_records:
            raise TooLarge(f"an upsert takes {self.limits.upsert_records:,} records, not {len(records):,}")
        size = sum(map(self.request_bytes, records))
        if size > self.limits.upsert_bytes:
            raise TooLarge(f"an upsert takes {self.limits.upsert_bytes:,} bytes, not {size:,}")
        rules.check_name("a namespace name", canonical(namespace))
        for record in records:
            self._form.check(record)
            rules.check_record(record, self.info, self.limits)
        normal = {record.id: self.normalise(record) for record in records}
        sequence = looking_again(lambda: self._write(namespace, [normal[id] for id in sorted(normal)]))
        return Written(len(records), sequence, ONE_CALL)

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        if not ids:
            return Usage()
        if len(ids) > self.limits.delete_ids:
            raise TooLarge(f"a delete takes {self.limits.delete_ids:,} ids, not {len(ids):,}")
        looking_again(lambda: self._remove(namespace, ids))
        return ONE_CALL

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        raise WrongKind(
            f"{self.info.name!r} is a folder of files, which answers no queries",
            next_step="verify its content: that reads every record",
        )

    def request_bytes(self, record: Record) -> int:
        return rules.billed_bytes(record)

    def normalise(self, record: Record) -> Record:
        return rules.normalise(record)

    def _finish_deletions(self) -> None:
        """Delete what is left of deleted namespaces, also by a dead process: readers of files would find it there."""
        for gone in self._folder.glob(f"{DELETED}*"):
            with files.translated(f"delete {gone.name}, which is left of a deleted namespace, in {self.info.name!r}"):
                while gone.exists():
                    with suppress(FileNotFoundError):  # another process deletes it, too
                        shutil.rmtree(gone)

    def _create(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        path = self._path(name)
        with files.translated(f"create the namespace {name!r}"):
            body = {"name": canonical(name), "schema": schema}
            return not path.exists() and files.create_folder(path, NAMESPACE_FILE, body)

    def _write(self, namespace: str, records: Sequence[Record]) -> int:
        self._create(namespace, None)
        return self._parts(namespace).write(records)

    def _remove(self, namespace: str, ids: Sequence[str]) -> None:
        if (self._path(namespace) / NAMESPACE_FILE).exists():
            self._parts(namespace).remove(ids)

    def _described(self, path: Path) -> NamespaceInfo | None:
        body = _description(path)
        if body is None:
            return None
        return NamespaceInfo(body["name"], looking_again(Parts(path, self._form).count), body["schema"])

    def _parts(self, namespace: str) -> Parts:
        return Parts(self._path(namespace), self._form)

    def _path(self, namespace: str) -> Path:
        """Return the namespace's folder: of its own name, unless it has an encoded one.

        Where a file system does not tell capitals apart, the folder of that name may be another namespace's.
        """
        name = canonical(namespace)
        encoded, own = self._folder / encoded_folder(name), own_folder(name)
        if own is None or encoded.exists():
            return encoded
        there = _description(self._folder / own)
        return encoded if there is not None and there["name"] != name else self._folder / own


def _description(path: Path) -> Mapping[str, Any] | None:
    try:
        with files.translated(f"read the description of {path.name}"):
            text = (path / NAMESPACE_FILE).read_bytes()
    except files.Replaced:
        return None
    try:
        body: Mapping[str, Any] = orjson.loads(text)
        if isinstance(body["name"], str) and isinstance(body["schema"], dict | None):
            return body
    except (ValueError, KeyError, TypeError):
        pass
    raise BadInput(f"the {NAMESPACE_FILE} of {path.name!r} does not describe a namespace", next_step="export again")
