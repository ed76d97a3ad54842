"""The project: its indexes, their making from a request, and their ports."""

import math
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

from emulator.aliases import Alias
from emulator.contested import DEFAULTS, Contested
from emulator.errors import Refusal, not_found
from emulator.index import Index
from emulator.keeper import Disk, Keeper
from emulator.namespaces import Namespace
from emulator.shapes import shape_of

INDEXES_PER_PROJECT = 200


def timestamp(at: float | None = None) -> str:
    """Write Unix time, or now, in the service's spelling."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Ports:
    """Hands out listening sockets, round the range, so that a deleted index's port is not reused at once."""

    def __init__(self, bind: str, first: int, last: int) -> None:
        """Take the range; `first` 0 means any free port."""
        self._bind, self._first, self._last, self._next = bind, first, last, first

    def open(self, wanted: int | None = None) -> socket.socket:
        """Listen on the wanted port; on another only where any will do. Raises Refusal if none is to be had."""
        if wanted is not None:
            try:
                return listen(self._bind, wanted)
            except OSError as error:
                if self._first:
                    raise Refusal(
                        403,
                        f"Port {wanted}, the address of an index that was kept, cannot be had: {error.strerror}. End "
                        "the program that listens there (`ss -ltnp` names it), then start again",
                    ) from error
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
    """The indexes. `serve` starts, and `unserve` stops, an index's data plane on a listening socket."""

    def __init__(
        self,
        keeper: Keeper,
        ports: Ports,
        remember_s: Callable[[], float],
        serve: Callable[[Index, socket.socket], None],
        unserve: Callable[[Index], None],
        contested: Contested = DEFAULTS,
    ) -> None:
        self.keeper, self._contested = keeper, contested
        self.indexes: dict[str, Index] = {}
        self._ports, self._remember_s, self._serve, self._unserve = ports, remember_s, serve, unserve

    def restore(self, disk: Disk) -> None:
        """Load the indexes that a former process kept."""
        for body in disk.documents("index"):
            description = cast(dict[str, object], body["description"])
            ready_at = math.inf if body["ready_at"] is None else cast(float, body["ready_at"])
            index = self._open(description, str(body["id"]), cast(int, body["port"]), ready_at)
            index.failed = body.get("failed") is True
            self.save(index)
            for name, filterable, lsn in disk.namespaces(index.id):
                index.namespaces[name] = Namespace(name, filterable, lsn)
            for name, record in disk.records(index.id):
                index.namespaces[name].load(record)
            aliases = disk.document("aliases", index.id)
            if aliases:
                index.aliases.by_name = cast(dict[str, Alias], aliases)

    def find(self, name: str) -> Index:
        index = self.indexes.get(name)
        if index is None:
            raise not_found(f"Resource {name} not found")
        return index

    def create(self, description: dict[str, object], ready_at: float = 0.0) -> Index:
        """Make an index from a description of `emulator.shapes`."""
        if description["name"] in self.indexes:
            raise Refusal(409, "Resource already exists")
        if len(self.indexes) >= INDEXES_PER_PROJECT:
            raise Refusal(403, f"The project has reached its {INDEXES_PER_PROJECT} indexes", word="QUOTA_EXCEEDED")
        description |= {"created_at": timestamp()}
        return self._open(description, str(uuid4()), None, ready_at)

    def _open(self, description: dict[str, object], id: str, port: int | None, ready_at: float) -> Index:
        name = str(description["name"])
        try:
            listener = self._ports.open(port)
        except OSError as error:
            raise SystemExit(f"Index '{name}' lives on port {port}, which is taken: {error}") from None
        shape = shape_of(description["schema"], description["deployment"])
        port = listener.getsockname()[1]
        index = Index(name, description, shape, port, self.keeper, self._remember_s, id, ready_at=ready_at)
        index.contested = self._contested
        self.indexes[name] = index
        self.save(index)
        self._serve(index, listener)
        return index

    def save(self, index: Index) -> None:
        body: dict[str, object] = {
            "description": index.description,
            "id": index.id,
            "port": index.port,
            "ready_at": None if math.isinf(index.ready_at) else index.ready_at,
            "failed": index.failed,
        }
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
        index.deleted = True
        del self.indexes[index.name]
        self.keeper.drop_document("index", index.name)
        for kind in ("aliases", "imports"):
            self.keeper.drop_document(kind, index.id)
        self.keeper.drop_owner(index.id)
        self._unserve(index)

    def clear(self) -> None:
        """Delete everything, protected or not."""
        for index in list(self.indexes.values()):
            self._close(index)
        self.keeper.drop_all()
