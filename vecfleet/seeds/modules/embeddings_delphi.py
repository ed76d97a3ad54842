"""The client as the seeds' application calls it, over the client of `vecfleet.tenancy`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

from pydantic import SecretStr

from vecfleet.errors import StoreError
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import clients
from vecfleet.stores.serving import Filter, Hit, Keyed
from vecfleet.tenancy import DelphiPineconeClient, client, finding, requests
from vecfleet.tenancy.requests import Answer, QueryOptions
from vecfleet.tenancy.rollout import Rollout, shared_rollout

__all__ = ["DelphiPineconeClient", "PineconeDelphiClient", "get_delphi_client", "reset_delphi_client"]


@dataclass(frozen=True, slots=True)
class Upserted(Keyed):
    """The number of vectors that the index took."""

    upserted_count: int


class PineconeDelphiClient:
    """Reads, writes and erases a creator's and a twin's vectors. Nothing is sent before the first call.

    What the seeds' client lacks (deletion of single records, erasure with a certificate, replays) is at `tenancy`.
    `api_key` takes the place of PINECONE_API_KEY. May be shared by threads and carried over a fork.
    """

    def __init__(
        self, index_name: str | None = None, api_key: str | None = None, *, rollout: Rollout | None = None
    ) -> None:
        settings = Settings.load()
        if api_key is not None:
            settings = settings.model_copy(update={"pinecone_api_key": SecretStr(api_key)})
        self.tenancy = client.PineconeDelphiClient(index_name, settings=settings, rollout=rollout)
        self.index_name = self.tenancy.index_name

    @cached_property
    def pc(self) -> Any:
        """The SDK's own client. It guards nothing."""
        return clients.control_plane(self.tenancy.settings)

    @cached_property
    def index(self) -> Any:
        """The SDK's own index, of every tenant: for statistics. It guards nothing, and follows no route."""
        host = clients.dialed(self.tenancy.data.info, self.tenancy.settings)
        return clients.data_plane(self.pc, host, self.tenancy.settings)

    # Names

    def get_namespace(self, creator_id: str, twin_id: str | None = None) -> str:
        """Return the tenant's own namespace. Raises BadName for ids that can have none."""
        return self.tenancy.get_namespace(creator_id, twin_id)

    _get_namespace = get_namespace

    def list_creator_twins(self, creator_id: str) -> list[dict[str, Any]]:
        """Return `twin_id`, `namespace` and `vector_count` of each of the creator's twins, sorted."""
        twins = self.list_twins_for_creator(creator_id)
        stats = finding.in_parallel(lambda twin: self.get_twin_stats(creator_id, twin), twins)
        return [
            {"twin_id": twin, "namespace": held["namespace"], "vector_count": held["vector_count"]}
            for twin, held in zip(twins, stats, strict=True)
        ]

    def list_twins_for_creator(self, creator_id: str) -> list[str]:
        """Return the ids of the creator's twins, sorted."""
        return self.tenancy.list_creator_twins(creator_id)

    def list_namespaces_for_creator(self, creator_id: str) -> list[str]:
        """Return the names of the creator's own namespaces, sorted."""
        return sorted(info.name for info in finding.namespaces_of(self.tenancy.data, creator_id))

    def get_twin_stats(self, creator_id: str, twin_id: str) -> dict[str, Any]:
        """Return `namespace`, `vector_count` (as the index counts, which lags) and `exists`."""
        held = self.tenancy.held(creator_id, requests.twin_of(twin_id))
        return {
            "namespace": held[0].name if held else self.get_namespace(creator_id, twin_id),
            "vector_count": sum(info.count for info in held),
            "exists": bool(held),
        }

    # Writing and reading

    def upsert_vectors(self, vectors: Iterable[Any], creator_id: str, twin_id: str | None = None) -> Upserted:
        """Write vectors, each with its owner in its metadata. The arguments are not changed."""
        return Upserted(self.tenancy.upsert_vectors(vectors, creator_id, twin_id))

    def query(
        self,
        vector: Any = None,
        creator_id: str | None = None,
        twin_id: str | None = None,
        top_k: int = 10,
        filter: Filter | None = None,
        include_metadata: bool = True,
        **options: Unpack[QueryOptions],
    ) -> Answer:
        """Return the nearest vectors of one twin, best first; without `twin_id`, of the creator-wide namespace."""
        return self.tenancy.query(vector, creator_id, twin_id, top_k, filter, include_metadata, **options)

    def query_text(self, query_vector: Any, creator_id: str, twin_id: str, top_k: int = 10) -> Answer:
        """Return the same for a text that the caller has embedded."""
        return self.query(query_vector, creator_id, twin_id, top_k)

    def query_across_twins(
        self,
        vector: Any = None,
        creator_id: str | None = None,
        twin_ids: Sequence[str] | None = None,
        top_k: int = 10,
        include_metadata: bool = True,
        **options: Unpack[QueryOptions],
    ) -> list[Hit]:
        """Return the nearest vectors of several twins (None: of all). A twin that cannot be asked is an error."""
        return self.tenancy.query_across_twins(
            vector, creator_id, twin_ids, top_k, include_metadata=include_metadata, **options
        )

    # Erasing

    def delete_twin(self, creator_id: str, twin_id: str) -> bool:
        """Erase a twin. True when its absence was confirmed."""
        return self.tenancy.delete_twin(creator_id, twin_id)

    def delete_creator_data(self, creator_id: str) -> bool:
        """Erase a creator with all twins. True when their absence was confirmed."""
        return self.tenancy.delete_creator_data(creator_id)

    def delete_creator(self, creator_id: str) -> int:
        """Erase a creator with all twins. Return how many namespaces went; raise StoreError if anything is left."""
        erased = self.tenancy.erase(creator_id)
        if not erased.confirmed:
            raise StoreError(
                f"not all of the creator {creator_id!r} is gone: {'; '.join(erased.left)}",
                next_step="ask again to erase the rest",
            )
        return len(erased.deleted)

    def verify_deletion(self, creator_id: str) -> bool:
        """Say whether nothing of this creator is there."""
        return self.tenancy.verify_deletion(creator_id)

    verify_gdpr_deletion = verify_deletion


_made: dict[str | None, PineconeDelphiClient] = {}


def get_delphi_client(index_name: str | None = None) -> PineconeDelphiClient:
    """Return the one client of this index in this process (None: the environment's), made when first asked for."""
    made = _made.get(index_name)
    if made is None:
        made = _made.setdefault(index_name, PineconeDelphiClient(index_name, rollout=shared_rollout()))
    return made


def reset_delphi_client() -> None:
    """Forget the clients of this process, so that the next one reads the environment again: for tests."""
    _made.clear()
