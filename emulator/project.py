"""The project: its indexes, how they are made from a request, and the ports they live on."""

import re
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from emulator.errors import Refusal, invalid, not_found
from emulator.index import Index, Shape
from emulator.keeper import Disk, Keeper
from emulator.namespaces import Namespace

INDEXES_PER_PROJECT = 200
MAX_DIMENSION = 20_000
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")
_METRICS = ("cosine", "dotproduct", "euclidean")


class Ports:
    """Hands out listening sockets, round the range, so that a deleted index's port is not reused at once."""

    def __init__(self, bind: str, first: int, last: int) -> None:
        """`first` 0: any free port."""
        self._bind, self._first, self._last, self._next = bind, first, last, first

    def open(self, wanted: int | None = None) -> socket.socket:
        if wanted is not None:
            return listen(self._bind, wanted)
        if not self._first:
            return listen(self._bind, 0)
        for _ in range(self._last - self._first + 1):
            port = self._next
            self._next = self._first if port == self._last else port + 1
            try:
                return listen(self._bind, port)
            except OSError:
                continue
        raise Refusal(
            403, f"No port from {self._first} to {self._last} is free for another index", word="QUOTA_EXCEEDED"
        )


def listen(bind: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bind, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


class Project:
    """`serve` starts, and `unserve` stops, an index's data plane on a listening socket."""

    def __init__(
        self,
        keeper: Keeper,
        ports: Ports,
        remember_s: Callable[[], float],
        serve: Callable[[Index, socket.socket], None],
        unserve: Callable[[Index], None],
    ) -> None:
        self.keeper = keeper
        self.indexes: dict[str, Index] = {}
        self._ports, self._remember_s, self._serve, self._unserve = ports, remember_s, serve, unserve

    def restore(self, disk: Disk) -> None:
        """What a former process kept."""
        for body in disk.documents("index"):
            index = self._open(dict(body), int(str(body["port"])))
            for name, filterable, lsn in disk.namespaces(index.id):
                index.namespaces[name] = Namespace(name, filterable, lsn)
            for name, record in disk.records(index.id):
                index.namespaces[name].load(record)

    def find(self, name: str) -> Index:
        index = self.indexes.get(name)
        if index is None:
            raise not_found(f"Resource {name} not found")
        return index

    def create(self, body: Mapping[str, object]) -> Index:
        name = check_index_name(body.get("name"))
        if name in self.indexes:
            raise Refusal(409, "Resource already exists")
        if len(self.indexes) >= INDEXES_PER_PROJECT:
            raise Refusal(403, f"The project has reached its {INDEXES_PER_PROJECT} indexes", word="QUOTA_EXCEEDED")
        description = {
            "name": name,
            "schema": body.get("schema"),
            "deployment": read_deployment(body.get("deployment")),
            "deletion_protection": read_protection(body.get("deletion_protection")),
            "tags": read_tags(body.get("tags")),
            "read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}},
            "created_at": datetime.now(UTC).isoformat(),
        }
        shape_of(description["schema"])
        return self._open({"description": description}, None)

    def _open(self, kept: dict[str, object], port: int | None) -> Index:
        description = kept["description"]
        assert isinstance(description, dict)
        try:
            listener = self._ports.open(port)
        except OSError as error:
            raise SystemExit(f"Index '{description['name']}' lives on port {port}, which is taken: {error}") from None
        port = listener.getsockname()[1]
        shape = shape_of(description["schema"])
        index = Index(str(description["name"]), description, shape, port, self.keeper, self._remember_s)
        if "id" in kept:
            index.id = str(kept["id"])
        self.indexes[index.name] = index
        self.save(index)
        self._serve(index, listener)
        return index

    def save(self, index: Index) -> None:
        body: dict[str, object] = {"description": index.description, "port": index.port, "id": index.id}
        self.keeper.save_document("index", index.name, body)

    def delete(self, name: str) -> None:
        index = self.find(name)
        if index.description["deletion_protection"] == "enabled":
            raise Refusal(
                403,
                "Deletion protection is enabled for this index. Disable deletion protection before retrying.",
            )
        self._close(index)

    def _close(self, index: Index) -> None:
        del self.indexes[index.name]
        self.keeper.drop_document("index", index.name)
        self.keeper.drop_owner(index.id)
        self._unserve(index)

    def clear(self) -> None:
        """Everything goes, protected or not."""
        for index in list(self.indexes.values()):
            self._close(index)
        self.keeper.drop_all()


def check_index_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid(
            "The index name must have 1 to 45 lower-case letters, digits and hyphens, "
            f"and may not start or end with a hyphen; got {str(name)[:80]!r}"
        )
    return name


def shape_of(schema: object) -> Shape:
    """What an index with this schema accepts; 400 when it is none."""
    fields = schema.get("fields") if isinstance(schema, Mapping) else None
    if not isinstance(fields, Mapping) or not fields:
        raise invalid("schema.fields is required and must name at least one field")
    if not all(isinstance(item, Mapping) for item in fields.values()):
        raise invalid("Each field of the schema must be an object")
    dense, sparse = fields.get("_values"), fields.get("_sparse_values")
    if not dense and not sparse:
        raise invalid("The schema must declare '_values' or '_sparse_values'")
    if not dense:
        return Shape("vector", None, "dotproduct", True)
    dimension, metric = dense.get("dimension"), dense.get("metric", "cosine")
    if type(dimension) is not int or not 1 <= dimension <= MAX_DIMENSION:
        raise invalid(f"dimension must be an integer between 1 and {MAX_DIMENSION}, got {dimension!r}")
    if metric not in _METRICS:
        raise invalid(f"metric must be one of {', '.join(_METRICS)}, got {metric!r}")
    return Shape("vector", dimension, str(metric), bool(sparse))


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
    return {"deployment_type": "managed", "cloud": cloud, "region": region}


def read_protection(value: object) -> str:
    if value not in (None, "enabled", "disabled"):
        raise invalid(f"deletion_protection must be 'enabled' or 'disabled', got {value!r}")
    return str(value or "disabled")


def read_tags(tags: object) -> dict[str, str]:
    """At most 20 short strings; an empty value removes a tag."""
    if tags is None:
        return {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise invalid("tags must be an object of strings")
    if len(tags) > 20 or any(len(key) > 80 or len(value) > 120 for key, value in tags.items()):
        raise invalid("An index may have at most 20 tags, with keys up to 80 and values up to 120 characters")
    return {key: value for key, value in tags.items() if value}
