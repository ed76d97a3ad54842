"""Backups that Pinecone takes of a whole index, and new indexes made from them.

The service documents these limits. A backup lacks all namespace aliases, and records written in the about 15 minutes
before it. It is restored into a new index only. It takes about 10 minutes below a million vectors in a namespace, and
up to 5 hours for a hundred million. The Starter plan has none.
"""

import time
from collections.abc import Callable

from pinecone import Pinecone
from pinecone.models.backups.model import BackupModel

from vecfleet.errors import KeyRefused, Missing, QuotaExhausted, StoreError
from vecfleet.stores.base import Backup
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import translated

_POLL_S = 1.0
NONE_IN_THIS_PLAN = "take the way back with `vecfleet plan export` instead, or go on with `--no-backup`"


class PineconeBackups:
    """The backups of one project."""

    def __init__(self, client: PerProcess[Pinecone]) -> None:
        self._client = client

    def create(self, index: str, name: str, on_wait: Callable[[Backup], None]) -> Backup:
        """Take a backup and wait until it is there; `on_wait` is called at each look at it.

        Raises StoreError if the service takes none or gives up. Stopped while it waits: the backup goes on.
        """
        try:
            with translated(f"back up the index {index!r}"):
                taken = _backup(self._client.get().backups.create(index_name=index, name=name))
        except (KeyRefused, QuotaExhausted) as error:
            raise type(error)(f"no backup was taken: {error.message}", next_step=NONE_IN_THIS_PLAN) from error
        while not (taken.complete or taken.failed):
            on_wait(taken)
            time.sleep(_POLL_S)
            with translated(f"look at the backup {taken.id}"):
                taken = _backup(self._client.get().backups.describe(backup_id=taken.id))
        if taken.failed:
            raise StoreError(f"the backup {taken.id} of {index!r} ended {taken.status}", next_step=NONE_IN_THIS_PLAN)
        return taken

    def every(self, index: str | None = None) -> list[Backup]:
        """Return the backups of one index, or of all, page by page."""
        backups: list[Backup] = []
        token: str | None = None
        while True:
            with translated("list the backups"):
                page = self._client.get().backups.list(index_name=index, pagination_token=token)
            backups += [_backup(model) for model in page]
            token = page.pagination.next if page.pagination is not None else None
            if token is None:
                return backups

    def restore(self, backup_id: str, name: str) -> None:
        """Make the index `name` from a backup. Returns when it is ready."""
        try:
            with translated(f"restore the backup {backup_id} as {name!r}"):
                self._client.get().create_index_from_backup(backup_id=backup_id, name=name)
        except Missing as error:
            raise Missing(error.message, next_step="list the backups there are with `vecfleet backup list`") from error


def _backup(model: BackupModel) -> Backup:
    return Backup(
        id=model.backup_id,
        index=model.source_index_name,
        status=model.status,
        name=model.name,
        records=model.record_count,
        namespaces=model.namespace_count,
        created_at=model.created_at,
    )
