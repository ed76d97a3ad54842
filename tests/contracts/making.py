"""Stores and indexes for the contract tests."""

from dataclasses import replace
from typing import Protocol

from pydantic import SecretStr

from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

DIMENSION = 4


EMPTY_KEY = "empty_key"
"""The name in a document index of the metadata key without characters, which none may have there."""


class NewIndex(Protocol):
    def __call__(self, kind: Kind = Kind.DENSE) -> Index: ...


class Like(Protocol):
    """Describes an index of this kind to create one like: small, cosine where that can be."""

    def __call__(self, kind: Kind) -> IndexInfo: ...


def like(kind: Kind) -> IndexInfo:
    """An index of this kind to create one like: small, cosine where that can be."""
    metric = "cosine" if kind is Kind.DENSE else "dotproduct"
    fields: dict[str, object] = {}
    if kind is not Kind.SPARSE:
        fields["_values"] = {"type": "dense_vector", "dimension": DIMENSION, "metric": metric}
    if kind is not Kind.DENSE:
        fields["_sparse_values"] = {"type": "sparse_vector"}
    return IndexInfo(
        name="like",
        kind=kind,
        dimension=None if kind is Kind.SPARSE else DIMENSION,
        metric=None if kind is Kind.SPARSE else metric,
        host="",
        cloud="aws",
        region="us-east-1",
        tags={"team": "migration"},
        schema={"fields": fields},
    )


def documents_like(kind: Kind) -> IndexInfo:
    """The same as a document index, whose vectors have fields of their own names."""
    vectors = like(kind)
    fields = {_OWN_NAMES[name]: described for name, described in vectors.schema["fields"].items()}
    return replace(vectors, schema={"fields": fields}, names={"": EMPTY_KEY})


_OWN_NAMES = {"_values": "embedding", "_sparse_values": "terms"}


def pinecone_store(address: str, **settings: object) -> PineconeStore:
    given = {"pinecone_api_key": SecretStr("a key"), "pinecone_controller_host": address, **settings}
    return PineconeStore(Settings.model_validate(given))
