"""Indexes and backups as the API versions before 2026-07 have them: dimension, metric and spec, without a schema."""

from collections.abc import Mapping
from typing import cast

from emulator.errors import Refusal, invalid
from emulator.text import MODELS

Document = dict[str, object]
_SPARSE = {"type": "sparse_vector"}


def described(index: Mapping[str, object], version: str) -> Document:
    """Return an index's description; refuse one whose kind the version does not have."""
    fields = _fields(index)
    embedded = next((name for name, config in fields.items() if config.get("type") == "semantic_text"), None)
    if embedded is None and not {"_values", "_sparse_values"}.issuperset(fields):
        raise _too_old(index, "2026-07")
    dimension, metric = _dense(fields, embedded)
    if dimension is None and version < "2025-01":
        raise _too_old(index, "2025-01")
    answer: Document = {key: index[key] for key in ("name", "host", "status", "deletion_protection")}
    answer |= {"metric": metric, "spec": _spec(index, version)}
    if dimension is not None:
        answer["dimension"] = dimension
    if version >= "2024-10":
        answer["tags"] = index["tags"] or None
    if version >= "2025-01":
        answer["vector_type"] = "sparse" if dimension is None else "dense"
        if embedded is not None:
            answer["embed"] = _embed(embedded, fields[embedded], dimension, metric)
    return answer


def can_show(index: Mapping[str, object], version: str) -> bool:
    try:
        described(index, version)
    except Refusal:
        return False
    return True


def backup(answer: Mapping[str, object]) -> Document:
    """Return a backup's description, which names the dimension and the metric in the place of the schema."""
    dimension, metric = _dense(_fields(answer), None)
    kept: Document = {key: value for key, value in answer.items() if key != "schema"}
    return kept | {"metric": metric} | ({} if dimension is None else {"dimension": dimension})


def creation(body: Mapping[str, object], version: str) -> Document:
    """Return a request to create an index in the words of 2026-07."""
    spec = body.get("spec")
    if not isinstance(spec, dict):
        raise _missing("spec")
    dimension, metric = body.get("dimension"), body.get("metric")
    if dimension is None and version < "2025-01":
        raise _missing("dimension")
    if body.get("vector_type", "dense") == "sparse":
        if dimension is not None or metric not in (None, "dotproduct"):
            raise invalid("A sparse index has no dimension, and its metric is dotproduct")
        fields: Document = {"_sparse_values": _SPARSE}
    else:
        fields = {"_values": {"type": "dense_vector", "dimension": dimension, "metric": metric or "cosine"}}
        if metric == "dotproduct":  # such an index takes sparse values, too
            fields["_sparse_values"] = _SPARSE
    kept = {key: body[key] for key in ("name", "deletion_protection", "tags") if key in body}
    return kept | {"schema": {"fields": fields}, "deployment": _deployment(spec)}


def _deployment(spec: Mapping[str, object]) -> Document:
    kinds = [kind for kind in ("serverless", "pod", "byoc") if isinstance(spec.get(kind), dict)]
    if len(kinds) != 1:
        raise invalid("spec must have exactly one of serverless, pod and byoc")
    given = cast(Document, spec[kinds[0]])
    return {"deployment_type": {"serverless": "managed"}.get(kinds[0], kinds[0])} | given


def _spec(index: Mapping[str, object], version: str) -> Document:
    deployment = cast(Document, index["deployment"])
    if deployment["deployment_type"] == "pod":
        pod = {key: deployment[key] for key in ("environment", "pod_type", "replicas", "shards")}
        return {"pod": pod | {"pods": cast(int, pod["replicas"]) * cast(int, pod["shards"])}}
    serverless: Document = {"cloud": deployment["cloud"], "region": deployment["region"]}
    if version >= "2025-10":
        serverless["read_capacity"] = index["read_capacity"]
    return {"serverless": serverless}


def _dense(fields: Mapping[str, Document], embedded: str | None) -> tuple[int | None, object]:
    if embedded is not None:
        dimension = MODELS[str(fields[embedded]["model"])]
        return dimension, fields[embedded].get("metric") or ("dotproduct" if dimension is None else "cosine")
    dense = next((config for config in fields.values() if config.get("type") == "dense_vector"), None)
    return (None, "dotproduct") if dense is None else (cast(int, dense["dimension"]), dense.get("metric", "cosine"))


def _embed(name: str, config: Document, dimension: int | None, metric: object) -> Document:
    answer: Document = {"model": config["model"], "field_map": {"text": name}, "metric": metric}
    answer |= {"vector_type": "sparse" if dimension is None else "dense", "dimension": dimension}
    return answer | {key: config.get(key) or {} for key in ("read_parameters", "write_parameters")}


def _fields(described: Mapping[str, object]) -> dict[str, Document]:
    return cast(dict[str, Document], cast(Document, described["schema"])["fields"])


def _too_old(index: Mapping[str, object], needed: str) -> Refusal:
    return Refusal(
        400,
        f"Index {index['name']} can be described by API version {needed} or later only",
        word="API_VERSION_TOO_OLD",
        reason="API_VERSION_TOO_OLD",
    )


def _missing(field: str) -> Refusal:
    return Refusal(422, f"Failed to deserialize the JSON body into the target type: missing field `{field}`")
