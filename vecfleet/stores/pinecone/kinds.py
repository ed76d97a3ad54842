"""The kind of an index, told from its description, and the request that creates its like.

Facts: the SDK's schema models (API 2026-07). An index of vectors has no fields but `_values` and `_sparse_values`. One
made by `create_for_model` has a semantic text field. Any other named field makes it an index of documents.
"""

from collections.abc import Mapping
from typing import Any

from pinecone.models.indexes.deployment import ManagedDeployment, PodDeployment
from pinecone.models.indexes.index import IndexModel
from pinecone.models.indexes.read_capacity import ReadCapacityDedicatedResponse

from vecfleet.stores.base import IndexInfo, Kind, ReadNodes

DENSE = "_values"
SPARSE = "_sparse_values"

_DENSE_TYPE = "dense_vector"
_SPARSE_TYPE = "sparse_vector"
_SEMANTIC_TYPE = "semantic_text"
_BY_VECTORS: Mapping[frozenset[str], Kind] = {
    frozenset({DENSE}): Kind.DENSE,
    frozenset({SPARSE}): Kind.SPARSE,
    frozenset({DENSE, SPARSE}): Kind.HYBRID,
}


def info_of(model: IndexModel) -> IndexInfo:
    """Return our description of an index from the SDK's."""
    fields = _fields(model)
    vectors = next((field for field in fields.values() if field.get("type") in (_DENSE_TYPE, _SEMANTIC_TYPE)), {})
    managed = model.deployment if isinstance(model.deployment, ManagedDeployment) else None
    return IndexInfo(
        name=model.name,
        kind=Kind.POD if isinstance(model.deployment, PodDeployment) else _kind(fields),
        dimension=vectors.get("dimension"),
        metric=vectors.get("metric"),
        host=model.host or "",
        ready=model.status.ready,
        cloud=managed.cloud if managed else None,
        region=managed.region if managed else None,
        tags=dict(model.tags or {}),
        schema={"fields": fields},
        deletion_protection=model.deletion_protection == "enabled",
        read_capacity=_read_nodes(model),
    )


def vector_schema(source: IndexInfo) -> dict[str, Any]:
    """Return the schema for a vector index. A sparse field cannot be added later, so it is declared at once."""
    vectors = {name: field for name, field in source.schema["fields"].items() if name in (DENSE, SPARSE)}
    return {"fields": vectors}


def embedding(source: IndexInfo) -> dict[str, Any]:
    """Return the `embed` argument for creating an integrated index like this one."""
    name, field = next(item for item in source.schema["fields"].items() if item[1].get("type") == _SEMANTIC_TYPE)
    settings = {key: value for key, value in field.items() if key not in ("type", "description")}
    return {**settings, "field_map": {"text": name}}


def read_capacity(nodes: ReadNodes) -> dict[str, Any]:
    """Return the argument that creates an index with these nodes."""
    manual = {"shards": nodes.shards, "replicas": nodes.replicas}
    return {"mode": "Dedicated", "dedicated": {"node_type": nodes.type, "scaling": "Manual", "manual": manual}}


def _read_nodes(model: IndexModel) -> ReadNodes | None:
    """Return its own read capacity; None where it has none, or one that is not scaled by hand."""
    if not isinstance(model.read_capacity, ReadCapacityDedicatedResponse):
        return None
    dedicated = model.read_capacity.dedicated
    if dedicated.manual is None:
        return None
    return ReadNodes(dedicated.node_type, dedicated.manual.shards, dedicated.manual.replicas)


def _fields(model: IndexModel) -> dict[str, dict[str, Any]]:
    described = model.schema.to_dict()["fields"]
    return {
        name: {key: value for key, value in field.items() if value is not None} for name, field in described.items()
    }


def _kind(fields: Mapping[str, Mapping[str, Any]]) -> Kind:
    typed = {name: field["type"] for name, field in fields.items() if "type" in field}
    if _SEMANTIC_TYPE in typed.values():
        return Kind.INTEGRATED
    vectors = frozenset(name for name, type in typed.items() if type in (_DENSE_TYPE, _SPARSE_TYPE))
    # Filterable metadata fields may stand beside the vectors; text that is searched or embedded may not.
    others = {type for type in typed.values() if type not in (_DENSE_TYPE, _SPARSE_TYPE)}
    return _BY_VECTORS.get(vectors, Kind.DOCUMENT) if not others else Kind.DOCUMENT
