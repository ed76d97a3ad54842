"""Imports that Pinecone makes of files in a bucket, into one index.

The service documents: each folder under the URI is a namespace, which must be new; of records with equal values it
keeps one; in mode `continue` it leaves out what it cannot store, and names it nowhere. It takes ten minutes or longer.
What an import wrote before it failed or was cancelled stays.
"""

import time
from collections.abc import Callable

from pinecone import Index
from pinecone.models.imports.model import ImportModel

from vecfleet.errors import StoreError
from vecfleet.stores.base import BulkFiles, BulkImport
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import instant, readable, translated

_POLL_S = 1.0
_UNREADABLE = "apply again, which begins nothing twice; if this stays so, plan without `--via bulk`"


class PineconeImports:
    def __init__(self, index: str, client: PerProcess[Index]) -> None:
        self._index, self._client = index, client

    def of(self, uri: str) -> list[BulkImport]:
        """Return the imports of these files into this index, also those that have ended."""
        return [begun for begun in self._every() if begun.uri.rstrip("/") == uri.rstrip("/")]

    def under_way(self) -> list[BulkImport]:
        """Return the imports into this index that are not known to have ended."""
        return [begun for begun in self._every() if not (begun.complete or begun.failed)]

    def begin(self, files: BulkFiles) -> BulkImport:
        """Ask for it once. What cannot be stored is left out. Raises what the service refuses with."""
        with translated(f"import {files.uri} into {self._index!r}"):
            started = self._client.get().start_import(
                files.uri, error_mode="continue", integration_id=files.integration
            )
        return self._look(started.id)

    def finish(self, begun: BulkImport, on_wait: Callable[[BulkImport], None]) -> BulkImport:
        """Wait until it is complete; `on_wait` is called at each look. Raises StoreError if it has failed.

        Stopped while it waits: the import goes on.
        """
        while not (begun.complete or begun.failed):
            on_wait(begun)
            time.sleep(_POLL_S)
            begun = self._look(begun.id)
        if begun.failed:
            raise StoreError(
                f"the import {begun.id} of {begun.uri} into {begun.index!r} ended {begun.status}, after "
                f"{begun.records:,} records" + (f": {begun.error}" if begun.error else ""),
                next_step="delete the namespaces that it made, correct what it names, and apply again; or plan without "
                "`--via bulk`",
            )
        return begun

    def _every(self) -> list[BulkImport]:
        doing = f"list the imports into {self._index!r}"
        with translated(doing), readable(doing, _UNREADABLE):
            return [self._read(model) for model in self._client.get().list_imports()]

    def _look(self, id: str) -> BulkImport:
        doing = f"look at the import {id} into {self._index!r}"
        with translated(doing), readable(doing, _UNREADABLE):
            return self._read(self._client.get().describe_import(id))

    def _read(self, model: ImportModel) -> BulkImport:
        return BulkImport(
            id=model.id,
            uri=model.uri,
            index=self._index,
            status=model.status,
            percent=model.percent_complete or 0.0,
            records=model.records_imported or 0,
            created_at=instant(model.created_at),
            error=model.error,
        )
