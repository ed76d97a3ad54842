"""The kind of an index, told from its description, and the request that creates its like.

Facts: the SDK's schema models (API 2026-07). An index of vectors has the fields `_values` and `_sparse_values`; one of
documents has fields for them of any other name. One made by `create_for_model` has a semantic text field.
"""

from collections.abc import Mapping
from typing import Any

from pinecone.models.indexes.deployment import ManagedDeployment, PodDeployment
from pinecone.models.indexes.index import IndexModel
from pinecone.models.indexes.read_capacity import ReadCapacityDedicatedResponse

from vecfleet.stores.base import IndexInfo, Kind, ReadNodes
from vecfleet.stores.documents import DENSE_TYPE, EMBEDDINGS, FULL_TEXT, SPARSE_TYPE

_VECTORS = frozenset({"_values", "_sparse_values"})
_VECTOR_TYPES = frozenset({DENSE_TYPE, SPARSE_TYPE})
_SEMANTIC_TYPE = "semantic_text"
_BY_VECTORS: Mapping[frozenset[str], Kind] = {
    frozenset({DENSE_TYPE}): Kind.DENSE,
    frozenset({SPARSE_TYPE}): Kind.SPARSE,
    frozenset({DENSE_TYPE, SPARSE_TYPE}): Kind.HYBRID,
}


def info_of(model: IndexModel) -> IndexInfo:
    """Return our description of an index from the SDK's."""
    fields = _fields(model)
    vectors = next((field for field in fields.values() if field.get("type") in (DENSE_TYPE, _SEMANTIC_TYPE)), {})
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


def declared(source: IndexInfo) -> dict[str, Any]:
    """Return the schema to create its like. A field cannot be added later, so each is declared at once.

    Fields of metadata are not declared: the service says in an answer by which it filters, and takes none. Nor does it
    take that word for a text that is searched, of which an answer has it.
    """
    fields: Mapping[str, Mapping[str, Any]] = source.schema["fields"]
    kept = {name: field for name, field in fields.items() if field.get("type") in _VECTOR_TYPES or FULL_TEXT in field}
    return {"fields": {name: _without(field, "filterable") for name, field in kept.items()}}


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
    fields: dict[str, dict[str, Any]] = _told(model.schema.to_dict()["fields"])
    return fields


def _without(field: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {name: value for name, value in field.items() if name != part}


def _told(described: Any) -> Any:
    """Return a description without what it leaves open."""
    if not isinstance(described, Mapping):
        return described
    return {name: _told(value) for name, value in described.items() if value is not None}


def _kind(fields: Mapping[str, Mapping[str, Any]]) -> Kind:
    """Return the kind by the fields that hold vectors, whatever their names; metadata fields may stand beside them."""
    types = {field.get("type") for field in fields.values()}
    if _SEMANTIC_TYPE in types:
        return Kind.INTEGRATED
    texts = any(FULL_TEXT in field for field in fields.values())
    if any(part in field for field in fields.values() for part in EMBEDDINGS) or (texts and _VECTORS & fields.keys()):
        return Kind.DOCUMENT
    return _BY_VECTORS.get(frozenset(_VECTOR_TYPES & types), Kind.DOCUMENT)
