"""The shape of an index, read from the request that creates it."""

import re
from collections.abc import Mapping
from typing import cast

from emulator.document_schema import MAX_DIMENSION, METRICS, dense_slot, read_fields, resolve
from emulator.errors import Refusal, invalid
from emulator.index import Index
from emulator.kinds import Shape
from emulator.text import MODELS

VECTOR_FIELDS = frozenset(("_values", "_sparse_values"))
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")
_TAG_KEY, _TAG_VALUE = re.compile(r"[A-Za-z0-9_-]{1,80}"), re.compile(r"[ -~]{0,120}")
_REGIONS = {
    "aws": ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1"),
    "gcp": ("us-central1", "europe-west4"),
    "azure": ("eastus2", "germanywestcentral"),
}
_NODE_TYPES = ("b1", "t1")


def shape_of(schema: object, deployment: object = None) -> Shape:
    """Return what an index with this schema accepts; 400 when it is none."""
    fields = schema.get("fields") if isinstance(schema, Mapping) else None
    if not isinstance(fields, Mapping) or not fields:
        raise invalid("schema.fields is required and must name at least one field")
    if not all(isinstance(item, Mapping) for item in fields.values()):
        raise invalid("Each field of the schema must be an object")
    for name, config in fields.items():
        if config.get("type") == "semantic_text":
            return _integrated(name, config)
    if not VECTOR_FIELDS.issuperset(fields):
        document = read_fields(fields)
        dimension, metric = dense_slot(fields)
        return Shape("document", dimension, metric, document.has_sparse(), document=document)
    is_pod = isinstance(deployment, Mapping) and deployment.get("deployment_type") == "pod"
    return _vector("pod" if is_pod else "vector", fields.get("_values"), "_sparse_values" in fields)


def _vector(kind: str, dense: Mapping[str, object] | None, sparse: bool) -> Shape:
    if dense is None:
        return Shape(kind, None, "dotproduct", True)
    dimension, metric = dense.get("dimension"), str(dense.get("metric", "cosine"))
    if type(dimension) is not int or not 1 <= dimension <= MAX_DIMENSION:
        raise invalid(f"dimension must be an integer between 1 and {MAX_DIMENSION}, got {dimension!r}")
    if metric not in METRICS:
        raise invalid(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    return Shape(kind, dimension, metric, sparse)


def _integrated(name: str, config: Mapping[str, object]) -> Shape:
    dimension = MODELS[str(config["model"])]
    if dimension is None:
        return Shape("integrated", None, "dotproduct", True, name)
    return Shape("integrated", dimension, str(config.get("metric") or "cosine"), False, name)


def plain_index(body: Mapping[str, object]) -> dict[str, object]:
    """Return a description from `POST /indexes`."""
    if body.get("source_collection") or body.get("source_backup_id"):
        raise invalid("Creating an index from collection or backup is not yet supported")
    schema = body.get("schema")
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if isinstance(fields, dict) and any(
        isinstance(f, dict) and f.get("type") == "semantic_text" for f in fields.values()
    ):
        raise invalid("A semantic_text field cannot be declared; create the index for its model")
    if isinstance(fields, dict) and _is_document(fields):
        resolved = resolve(fields)
        _refuse_encryption(body, resolved)
        schema = {"fields": resolved}
    shape_of(schema)
    return _description(body, schema, read_deployment(body.get("deployment")))


def _is_document(fields: Mapping[str, object]) -> bool:
    """Say whether these are fields of documents; what is no field at all is refused later."""
    return all(isinstance(config, dict) for config in fields.values()) and not VECTOR_FIELDS.issuperset(fields)


def _refuse_encryption(body: Mapping[str, object], fields: Mapping[str, Mapping[str, object]]) -> None:
    if not body.get("cmek_id"):
        return
    if any("full_text_search" in config for config in fields.values()):
        raise Refusal(412, "Full-text search fields are not supported with customer-managed encryption keys")
    raise Refusal(501, "The emulator does not serve customer-managed encryption keys")


def converted_index(body: Mapping[str, object], source: Index) -> dict[str, object]:
    """Return the description of the document index that a vector index is converted to."""
    schema = body.get("schema")
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, dict) or not fields or not _is_document(fields):
        raise invalid("schema.fields must name the fields of a document index")
    resolved = resolve(fields)
    given = read_fields(resolved).dense is not None
    if given and dense_slot(resolved)[0] != source.shape.dimension:
        raise invalid(f"The dense_vector field must have the dimension of the source index, {source.shape.dimension}")
    asked = {"name": body.get("name"), "tags": body.get("tags")}
    return _description(asked, {"fields": resolved}, dict(cast(Mapping[str, object], source.description["deployment"])))


def with_both_fields(schema: object) -> dict[str, object]:
    """Return a dense vector index's schema with its sparse field, declared or not."""
    fields = schema["fields"] if isinstance(schema, dict) else {}
    return {"fields": {"_sparse_values": {"type": "sparse_vector"}} | fields}


def model_index(body: Mapping[str, object]) -> dict[str, object]:
    """Return a description from `POST /indexes/create-for-model`."""
    embed = body.get("embed")
    field_map = embed.get("field_map") if isinstance(embed, dict) else None
    text_field = field_map.get("text") if isinstance(field_map, dict) else None
    if not isinstance(embed, dict) or not isinstance(text_field, str) or not text_field:
        raise invalid("embed must have a model and a field_map that names the text field")
    if embed.get("model") not in MODELS:
        raise invalid(f"embed.model must be one of {', '.join(MODELS)}, got {embed.get('model')!r}")
    kept = ("model", "metric", "read_parameters", "write_parameters")
    config = {"type": "semantic_text"} | {key: embed[key] for key in kept if embed.get(key) is not None}
    deployment = {"deployment_type": "managed", "cloud": body.get("cloud"), "region": body.get("region")}
    return _description(body, {"fields": {text_field: config}}, read_deployment(deployment))


def pod_index(body: Mapping[str, object]) -> dict[str, object]:
    """Return a legacy pod index, as an old project still has; the service itself makes no new ones."""
    field = {"type": "dense_vector", "dimension": body.get("dimension"), "metric": body.get("metric", "cosine")}
    deployment: dict[str, object] = {
        "deployment_type": "pod",
        "environment": "us-east1-gcp",
        "pod_type": "p1.x1",
        "replicas": 1,
        "shards": 1,
    }
    schema = {"fields": {"_values": field}}
    shape_of(schema, deployment)
    return _description(body, schema, deployment)


def _description(body: Mapping[str, object], schema: object, deployment: dict[str, object]) -> dict[str, object]:
    return {
        "name": read_name(body.get("name")),
        "schema": schema,
        "deployment": deployment,
        "deletion_protection": read_protection(body.get("deletion_protection")),
        "tags": read_tags(body.get("tags")),
        "read_capacity": read_capacity(body.get("read_capacity")),
    }


def read_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid(
            "The index name must have 1 to 45 lower-case letters, digits and hyphens, "
            f"and may not start or end with a hyphen; got {str(name)[:80]!r}"
        )
    return name


def read_deployment(deployment: object) -> dict[str, object]:
    if deployment is None:
        return {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
    if not isinstance(deployment, dict):
        raise invalid("deployment must be an object")
    kind = deployment.get("deployment_type")
    if kind != "managed":
        raise invalid(f"deployment_type '{kind}' is not supported on this API version")
    cloud, region = deployment.get("cloud"), deployment.get("region")
    if not isinstance(cloud, str) or not isinstance(region, str):
        raise invalid("deployment needs a cloud and a region")
    if region not in _REGIONS.get(cloud, ()):
        raise Refusal(404, f"Resource cloud: {cloud[:40]} region: {region[:40]} not found.")
    return {"deployment_type": "managed", "cloud": cloud, "region": region}


def read_protection(value: object) -> str:
    if value not in (None, "enabled", "disabled"):
        raise invalid(f"deletion_protection must be 'enabled' or 'disabled', got {value!r}")
    return str(value or "disabled")


def read_capacity(asked: object) -> dict[str, object]:
    """Return the description of the read capacity that a request asks for: on demand, or nodes of its own."""
    if asked is None:
        return {"mode": "OnDemand", "status": {"state": "Ready"}}
    if not isinstance(asked, dict) or asked.get("mode") not in ("OnDemand", "Dedicated"):
        raise invalid("read_capacity.mode must be 'OnDemand' or 'Dedicated'")
    if asked["mode"] == "OnDemand":
        return read_capacity(None)
    dedicated = asked.get("dedicated")
    if not isinstance(dedicated, dict) or dedicated.get("node_type") not in _NODE_TYPES:
        raise invalid(f"read_capacity.dedicated.node_type must be one of {', '.join(_NODE_TYPES)}")
    manual = dedicated.get("manual")
    if dedicated.get("scaling") != "Manual" or not isinstance(manual, dict):
        raise invalid("read_capacity.dedicated.scaling must be 'Manual', with its shards and replicas")
    shards, replicas = manual.get("shards"), manual.get("replicas")
    if type(shards) is not int or shards < 1 or type(replicas) is not int or replicas < 0:
        raise invalid("read_capacity.dedicated.manual needs at least 1 shard, and 0 replicas or more")
    kept = {
        "node_type": dedicated["node_type"],
        "scaling": "Manual",
        "manual": {"shards": shards, "replicas": replicas},
    }
    status = {"state": "Ready", "current_shards": shards, "current_replicas": replicas}
    return {"mode": "Dedicated", "dedicated": kept, "status": status}


def read_tags(tags: object) -> dict[str, str]:
    """Return the tags: at most 20 short strings; an empty value removes a tag."""
    if tags is None:
        return {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise invalid("tags must be an object of strings")
    if len(tags) > 20 or not all(_TAG_KEY.fullmatch(k) and _TAG_VALUE.fullmatch(v) for k, v in tags.items()):
        raise invalid(
            "An index may have at most 20 tags, with keys of up to 80 letters, digits, '_' or '-', and values of up to "
            "120 printable ASCII characters"
        )
    return {key: value for key, value in tags.items() if value}
