"""Pinecone's control plane: lists indexes, describes them, and creates one like another."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
from pinecone import Index

from vecfleet.errors import KeyRefused, Missing, WrongKind
from vecfleet.names import meant
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.documents import Layout
from vecfleet.stores.pinecone import kinds
from vecfleet.stores.pinecone.aliases import NamespaceAliases
from vecfleet.stores.pinecone.backups import PineconeBackups
from vecfleet.stores.pinecone.bulk_imports import PineconeImports
from vecfleet.stores.pinecone.bytes_lane import BytesLane
from vecfleet.stores.pinecone.clients import PerProcess, control_plane, data_plane, dialed, rest_client
from vecfleet.stores.pinecone.conversions import PineconeConversions
from vecfleet.stores.pinecone.document_index import DocumentIndex
from vecfleet.stores.pinecone.errors import translated
from vecfleet.stores.pinecone.index import PineconeIndex
from vecfleet.stores.pinecone.texts_in import TextIndex
from vecfleet.stores.rules import DOCUMENTS_REMEDY

AnyIndex = TypeVar("AnyIndex", bound=PineconeIndex)

READY_SECONDS = 300  # an index is usable in seconds; past this something is wrong
GONE_SECONDS = 300  # as long as for creating one
CONTROLLER = "https://api.pinecone.io"
DEFAULT_CLOUD = "aws"  # the service's own choice for an index without a place
DEFAULT_REGION = "us-east-1"


class PineconeStore:
    """The indexes of one project. Nothing is sent, and no key is needed, before the first call.

    `hosts`: how to dial an index, where that is not the host by which the service knows it.
    """

    def __init__(
        self, settings: Settings, name: str = "pinecone", hosts: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.name = name
        self.settings = settings
        self._hosts = hosts
        self._client = PerProcess(lambda: control_plane(settings))

    def indexes(self) -> list[IndexInfo]:
        with translated("list the indexes"):
            infos = sorted(map(kinds.info_of, self._client.get().indexes.list()), key=lambda info: info.name)
        for info in infos:
            self._require_project(info)
        return infos

    def describe(self, index: str) -> IndexInfo:
        try:
            with translated(f"describe the index {index!r}"):
                info = kinds.info_of(self._client.get().indexes.describe(index))
        except Missing as error:
            existing = [info.name for info in self.indexes()]
            raise Missing(
                f"there is no index {index!r} in this project; there are: {', '.join(existing) or 'none'}"
                + meant(index, existing),
                next_step="name one of them, or check that PINECONE_API_KEY belongs to the project you mean",
            ) from error
        self._require_project(info)
        return info

    def create_like(self, name: str, source: IndexInfo, cloud: str | None, region: str | None) -> IndexInfo:
        if source.kind is Kind.DOCUMENT:
            raise WrongKind(_documents(source), next_step=DOCUMENTS_REMEDY)
        cloud = cloud or source.cloud or DEFAULT_CLOUD
        region = region or source.region or DEFAULT_REGION
        wanted: dict[str, Any] = {"tags": dict(source.tags) or None, "timeout": READY_SECONDS}
        if source.deletion_protection:
            wanted["deletion_protection"] = "enabled"
        if source.read_capacity is not None:
            wanted["read_capacity"] = kinds.read_capacity(source.read_capacity)
        indexes = self._client.get().indexes
        with translated(f"create the index {name!r}"):
            if source.kind is Kind.INTEGRATED:
                created = indexes.create_for_model(
                    name=name, cloud=cloud, region=region, embed=kinds.embedding(source), **wanted
                )
            else:
                place = {"deployment_type": "managed", "cloud": cloud, "region": region}
                created = indexes.create(name=name, schema=kinds.declared(source), deployment=place, **wanted)
        return kinds.info_of(created)

    def protected(self, index: str) -> bool:
        with translated(f"describe the index {index!r}"):
            return self._client.get().indexes.describe(index).deletion_protection == "enabled"

    def remove(self, index: str) -> None:
        with translated(f"delete the index {index!r}"):
            self._client.get().indexes.delete(index, timeout=GONE_SECONDS)

    def backups(self) -> PineconeBackups:
        return PineconeBackups(self._client)

    def host(self, info: IndexInfo) -> str:
        """Return the address by which this process reaches the index."""
        return self._hosts.get(info.name) or dialed(info, self.settings)

    def conversions(self) -> PineconeConversions:
        controller = self.settings.pinecone_controller_host or CONTROLLER
        return PineconeConversions(PerProcess(lambda: rest_client(controller, self.settings)))

    def imports(self, info: IndexInfo) -> PineconeImports:
        return PineconeImports(info.name, self._clients(info)[0])

    def open(self, info: IndexInfo) -> PineconeIndex | DocumentIndex:
        """Open the index. Raises WrongKind for documents that cannot be copied, KeyRefused for another project's."""
        layout = Layout.of(info)
        if layout is None:
            return self._open(info, PineconeIndex)
        self._require_copyable(info)
        client, http = self._clients(info)
        return DocumentIndex(info, layout, client, http, NamespaceAliases(http), self.settings.fetch_bytes)

    def open_for_texts(self, info: IndexInfo) -> TextIndex:
        """Open an index that embeds texts itself, to be written with them. Raises as `open` does."""
        return self._open(info, TextIndex)

    def _open(self, info: IndexInfo, kind: type[AnyIndex]) -> AnyIndex:
        self._require_copyable(info)
        client, http = self._clients(info)
        lane = self._lane(info, self.host(info))
        return kind(info, client, lane, NamespaceAliases(http), self.settings.fetch_bytes)

    def _clients(self, info: IndexInfo) -> tuple[PerProcess[Index], PerProcess[httpx.Client]]:
        host = self.host(info)
        client = PerProcess(lambda: data_plane(self._client.get(), host, self.settings))
        return client, PerProcess(lambda: rest_client(host, self.settings))

    def _require_copyable(self, info: IndexInfo) -> None:
        self._require_project(info)
        if info.kind is Kind.DOCUMENT:
            raise WrongKind(_documents(info), next_step=DOCUMENTS_REMEDY)

    def _require_project(self, info: IndexInfo) -> None:
        """Raise KeyRefused for an index of another project than the settings name: keys or accounts are crossed."""
        wanted = self.settings.pinecone_project
        if wanted is not None and info.project not in (None, wanted):
            raise KeyRefused(
                f"{self.name} is to be the project {wanted!r}, and the index {info.name!r} is of the project "
                f"{info.project!r}",
                next_step=f"give {self.name} the key of its own project; `vecfleet doctor` lists the accounts",
            )

    def _lane(self, info: IndexInfo, host: str) -> BytesLane | None:
        key = self.settings.pinecone_api_key
        if self.settings.pinecone_transport == "rest" or info.kind is Kind.POD or key is None:
            return None
        return BytesLane(replace(info, host=host), key.get_secret_value(), self.settings.request_deadline_seconds)


def _documents(info: IndexInfo) -> str:
    return (
        f"the index {info.name!r} holds documents that it embeds again on every write, or does not give back whole, so "
        "they cannot be copied unchanged"
    )
