"""The part that all kinds of index share: namespaces, their aliases, and the bill for records."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from pinecone import Index
from pinecone.models.namespaces.models import NamespaceDescription

from vecfleet.errors import Conflict, NameIsAlias, TooLarge
from vecfleet.names import DEFAULT, canonical
from vecfleet.records import Record
from vecfleet.stores import rules
from vecfleet.stores.base import IndexInfo, Kind, NamespaceInfo, Usage
from vecfleet.stores.pinecone.aliases import NamespaceAliases
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import AbsentNamespace, translated

NAMESPACES_PER_PAGE = 100  # the most that the service gives at once


class NamespacedIndex:
    """The part of an open index that does not touch its records."""

    def __init__(self, info: IndexInfo, client: PerProcess[Index], aliases: NamespaceAliases | None) -> None:
        self.info = info
        self._client = client
        self._aliases = aliases
        self._seen_records = 0
        self._seen_bytes = 0

    def namespaces(self) -> Iterator[NamespaceInfo]:
        if self.info.kind is Kind.POD:
            yield from self._counted()
            return
        token: str | None = None
        while True:
            with translated(f"list the namespaces of {self.info.name!r}"):
                page = self._client.get().list_namespaces_paginated(limit=NAMESPACES_PER_PAGE, pagination_token=token)
            yield from map(_namespace, page.namespaces)
            token = page.pagination.next if page.pagination is not None else None
            if not token:
                return

    def namespace(self, name: str) -> NamespaceInfo | None:
        if self.info.kind is Kind.POD:
            return next((info for info in self._counted() if info.name == canonical(name)), None)
        try:
            with translated(f"describe the namespace {name!r}"):
                return _namespace(self._client.get().describe_namespace(name=canonical(name)))
        except AbsentNamespace:
            return None

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        if canonical(name) == DEFAULT:
            return False  # always there, and refused
        filterable = {"fields": dict(schema["fields"])} if schema and schema.get("fields") else None
        try:
            with translated(f"create the namespace {name!r}"):
                self._client.get().create_namespace(name=name, schema=filterable)
        except Conflict as error:
            to = self.alias(name)
            if to is not None:
                raise NameIsAlias(
                    f"{name!r} is the name of an alias, which leads to {to!r}: no namespace of this name can be made",
                    next_step=f"remove the alias {name!r}, and try again",
                ) from error
            return False
        return True

    def delete_namespace(self, name: str) -> Usage:
        try:
            with translated(f"delete the namespace {name!r}"):
                self._client.get().delete_namespace(name=canonical(name))
        except AbsentNamespace:
            return Usage(requests=1)
        return Usage(requests=1, write_units=rules.MIN_WRITE_UNITS)

    def aliases(self) -> dict[str, str]:
        return self._aliases.every() if self._aliases is not None and self.info.kind is not Kind.POD else {}

    def alias(self, name: str) -> str | None:
        return self._aliases.one(name) if self._aliases is not None and self.info.kind is not Kind.POD else None

    def point_alias(self, name: str, to: str | None) -> None:
        if self._aliases is not None:
            self._aliases.point(name, to)

    def _counted(self) -> list[NamespaceInfo]:
        """Return the namespaces of a pod index from its statistics: it has no namespaces API."""
        with translated(f"count the namespaces of {self.info.name!r}"):
            stats = self._client.get().describe_index_stats()
        counts = {canonical(name): summary.vector_count for name, summary in stats.namespaces.items()}
        return [NamespaceInfo(name, counts[name]) for name in sorted(counts)]

    def _billed(self, records: Sequence[Record]) -> int:
        size = sum(map(rules.billed_bytes, records))
        self._seen_records += len(records)
        self._seen_bytes += size
        return size

    def _deletion(self, count: int) -> Usage:
        """Return the likely cost of deleting so many records of the mean size seen."""
        mean = self._seen_bytes / self._seen_records if self._seen_records else 0.0
        return Usage(requests=1, write_units=rules.write_units(count * mean))

    @staticmethod
    def _check_count(doing: str, count: int, most: int) -> None:
        if count > most:
            raise TooLarge(f"will not {doing}: a request takes {most:,}")


def _namespace(described: NamespaceDescription) -> NamespaceInfo:
    schema = msgspec.to_builtins(described.schema) if described.schema is not None else None
    return NamespaceInfo(canonical(described.name), described.record_count, schema)
