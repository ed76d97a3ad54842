"""The loop of seed 000 (`NamespaceMigrator.migrate_namespace`), in our words: what the fleet is compared with.

One thread, the official SDK over REST with its defaults: list every id, then for each 100 ids fetch them, add
`creator_id`, `twin_id` and `migrated_from`, and upsert them. Nothing is verified. Two faults are fixed, because the
loop does not run with them: the missing `import os`, and the end of the listing, where `pagination` is None. Its
progress bar and log lines are left out.

At 3,072 dimensions 100 records exceed the 2 MB of a request, and the seed's loop ends there with an error. So it is
given the largest batch that fits, which is more than it would do by itself.
"""

from collections.abc import Callable
from typing import Any

from pinecone import Pinecone

from benchmarks.loops import REQUEST_BYTES, Order

SEED_BATCH = 100


def peer(order: Order) -> Callable[[str], int]:
    loop = SeedLoop(order.client, order.index, min(SEED_BATCH, int(REQUEST_BYTES / order.record_bytes)))
    return lambda source: loop.migrate(source, order.creator, source)


class SeedLoop:
    def __init__(self, client: Pinecone, index: str, batch: int) -> None:
        self._index = client.index(index)
        self._batch = batch

    def migrate(self, namespace: str, creator: str, twin: str) -> int:
        """Copy one namespace to the twin's. Returns how many records were sent."""
        target = f"creator_{creator}_twin_{twin}"
        ids = self._ids(namespace)
        sent = 0
        for start in range(0, len(ids), self._batch):
            fetched = self._index.fetch(ids=ids[start : start + self._batch], namespace=namespace)
            if not fetched.vectors:
                continue
            vectors: list[dict[str, Any]] = []
            for record_id, vector in fetched.vectors.items():
                metadata = dict(vector.metadata or {})
                metadata |= {"creator_id": creator, "twin_id": twin, "migrated_from": namespace}
                vectors.append({"id": record_id, "values": vector.values, "metadata": metadata})
            self._index.upsert(vectors=vectors, namespace=target)
            sent += len(vectors)
        return sent

    def _ids(self, namespace: str) -> list[str]:
        ids: list[str] = []
        token = None
        while True:
            page = self._index.list_paginated(namespace=namespace, limit=100, pagination_token=token)
            ids += [item.id for item in page.vectors if item.id is not None]
            token = page.pagination.next if page.pagination else None
            if not token:
                return ids
