"""The script that a good engineer writes with the official SDK in an afternoon: list, then fetch and upsert in threads.

Each record passes as the SDK's own object, enriched in place; batches are as large as a request takes. Nothing is
verified, nothing is kept for a restart, and values are Python floats on the way, as the SDK has them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.loops import REQUEST_BYTES, Order
from vecfleet import names

THREADS = 16  # as many calls in flight as the fleet's two workers have threads
_FETCH_IDS = 100  # over REST they stand in the URL
_PAGE = 100


def rest(order: Order) -> Callable[[str], int]:
    batch = min(_FETCH_IDS, int(REQUEST_BYTES / order.record_bytes))
    return Loop(order.client.index(order.index), order.creator, batch).migrate


def grpc(order: Order) -> Callable[[str], int]:
    host = order.client.indexes.describe(order.index).host
    assert host, "an index that is ready has a host"
    # 100 of 3,072 dimensions are 1.3 MB here, where a float takes 4 bytes and not the 20 of JSON.
    return Loop(order.client.index(host=host, grpc=True), order.creator, _FETCH_IDS).migrate


class Loop:
    def __init__(self, index: Any, creator: str, batch: int) -> None:
        self._index, self._creator, self._batch = index, creator, batch

    def migrate(self, source: str) -> int:
        with ThreadPoolExecutor(THREADS) as threads:
            return sum(threads.map(lambda ids: self._copy(source, ids), self._batches(source)))

    def _copy(self, source: str, ids: Sequence[str]) -> int:
        fetched = self._index.fetch(ids=ids, namespace=source).vectors
        added = {"creator_id": self._creator, "twin_id": source, "migrated_from": source}
        vectors = [
            {"id": record_id, "values": vector.values, "metadata": {**(vector.metadata or {}), **added}}
            for record_id, vector in fetched.items()
        ]
        self._index.upsert(vectors=vectors, namespace=names.build(self._creator, source))
        return len(vectors)

    def _batches(self, source: str) -> Iterator[list[str]]:
        waiting: list[str] = []
        token = None
        while True:
            page = self._index.list_paginated(namespace=source, limit=_PAGE, pagination_token=token)
            waiting += [item.id for item in page.vectors if item.id is not None]
            while len(waiting) >= self._batch:
                yield waiting[: self._batch]
                waiting = waiting[self._batch :]
            token = page.pagination.next if page.pagination else None
            if not token:
                break
        if waiting:
            yield waiting
