"""Pinecone's control plane: lists indexes, describes them, and creates one like another."""

from dataclasses import replace

from vecfleet.errors import Missing, WrongKind
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import kinds
from vecfleet.stores.pinecone.aliases import NamespaceAliases
from vecfleet.stores.pinecone.backups import PineconeBackups
from vecfleet.stores.pinecone.bytes_lane import BytesLane
from vecfleet.stores.pinecone.clients import PerProcess, control_plane, data_plane, dialed
from vecfleet.stores.pinecone.errors import translated
from vecfleet.stores.pinecone.index import PineconeIndex
from vecfleet.stores.rules import DOCUMENTS_REMEDY

READY_SECONDS = 300  # an index is usable in seconds; past this something is wrong
GONE_SECONDS = 300  # as long as for creating one
DEFAULT_CLOUD = "aws"  # the service's own choice for an index without a place
DEFAULT_REGION = "us-east-1"


class PineconeStore:
    """The indexes of one project. Nothing is sent, and no key is needed, before the first call."""

    name = "pinecone"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = PerProcess(lambda: control_plane(settings))

    def indexes(self) -> list[IndexInfo]:
        with translated("list the indexes"):
            return sorted(map(kinds.info_of, self._client.get().indexes.list()), key=lambda info: info.name)

    def describe(self, index: str) -> IndexInfo:
        try:
            with translated(f"describe the index {index!r}"):
                return kinds.info_of(self._client.get().indexes.describe(index))
        except Missing as error:
            existing = ", ".join(info.name for info in self.indexes()) or "none"
            raise Missing(
                f"there is no index {index!r} in this project; there are: {existing}",
                next_step="name one of them, or check that PINECONE_API_KEY belongs to the project you mean",
            ) from error

    def create_like(self, name: str, source: IndexInfo, cloud: str | None, region: str | None) -> IndexInfo:
        if source.kind is Kind.DOCUMENT:
            raise WrongKind(_documents(source), next_step=DOCUMENTS_REMEDY)
        cloud = cloud or source.cloud or DEFAULT_CLOUD
        region = region or source.region or DEFAULT_REGION
        tags = dict(source.tags) or None
        indexes = self._client.get().indexes
        with translated(f"create the index {name!r}"):
            if source.kind is Kind.INTEGRATED:
                created = indexes.create_for_model(
                    name=name,
                    cloud=cloud,
                    region=region,
                    embed=kinds.embedding(source),
                    tags=tags,
                    timeout=READY_SECONDS,
                )
            else:
                created = indexes.create(
                    name=name,
                    schema=kinds.vector_schema(source),
                    deployment={"deployment_type": "managed", "cloud": cloud, "region": region},
                    tags=tags,
                    timeout=READY_SECONDS,
                )
        return kinds.info_of(created)

    def protected(self, index: str) -> bool:
        with translated(f"describe the index {index!r}"):
            return self._client.get().indexes.describe(index).deletion_protection == "enabled"

    def remove(self, index: str) -> None:
        with translated(f"delete the index {index!r}"):
            self._client.get().indexes.delete(index, timeout=GONE_SECONDS)

    def backups(self) -> PineconeBackups:
        return PineconeBackups(self._client)

    def open(self, info: IndexInfo) -> PineconeIndex:
        """Open the index. Raises WrongKind for an index of documents."""
        if info.kind is Kind.DOCUMENT:
            raise WrongKind(_documents(info), next_step=DOCUMENTS_REMEDY)
        host = dialed(info, self._settings)
        client = PerProcess(lambda: data_plane(self._client.get(), host, self._settings))
        return PineconeIndex(info, client, self._lane(info, host), NamespaceAliases(host, self._settings))

    def _lane(self, info: IndexInfo, host: str) -> BytesLane | None:
        key = self._settings.pinecone_api_key
        if self._settings.pinecone_transport == "rest" or info.kind is Kind.POD or key is None:
            return None
        return BytesLane(replace(info, host=host), key.get_secret_value(), self._settings.request_deadline_seconds)


def _documents(info: IndexInfo) -> str:
    return (
        f"the index {info.name!r} holds documents: it embeds text again on every write and does not give all of it "
        "back, so its records cannot be copied unchanged"
    )
