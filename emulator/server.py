"""The running emulator: one asyncio loop, a port for the control plane and one for each index."""

import asyncio
import functools
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path
from weakref import WeakSet

import uvloop

from emulator.backups import Vault
from emulator.calls import DEFAULT_CALLS, CallLog
from emulator.contested import DEFAULTS, Contested
from emulator.conversions import Conversions
from emulator.errors import Refusal
from emulator.faults import Fault, Faults
from emulator.front import Front
from emulator.gate import Gate
from emulator.http import HttpConnection, Request, Response
from emulator.import_files import Sources
from emulator.imports import Imports
from emulator.index import Index
from emulator.keeper import Disk, Keeper, Nowhere
from emulator.limits import URL_BYTES, Limits
from emulator.project import Ports, Project, listen
from emulator.rest_admin import Admin
from emulator.rest_control import ControlPlane
from emulator.rest_data import DataPlane
from emulator.rpc_server import RpcServer
from emulator.seeds import load_seeds
from emulator.sites import THIS_MACHINE, refuse_forms, refuse_other_sites
from emulator.versions import NEWEST, Versions


@dataclass(frozen=True)
class Options:
    port: int = 5080  # of the control plane; 0: any free one
    index_ports: tuple[int, int] | None = None  # first and last; None: the hundred that follow `port`
    bind: str = "127.0.0.1"
    host_name: str = "127.0.0.1"  # the host in the addresses of indexes
    data: Path | None = None
    api_keys: Sequence[str] = ()  # empty: any key, or none, is let in
    own_key: str | None = None  # the key that /_emulator requires in the header emulator-key; None: no key
    request_bytes: int = 2 * 1024 * 1024  # of a request's body; 0: unlimited
    limits: str = "off"  # off | documented | x0.1 (any factor)
    limit_shape: str = "window"  # window | bucket
    url_bytes: int | None = None  # None: 16 KB when limits are on, unlimited when they are off
    backup_delay_s: float = 0.5  # duration of a backup, and of a restore
    backup_misses_s: float = 0.0  # writes younger than this are not in a backup; Pinecone: about 15 minutes
    conversion_delay_s: float = 0.5  # time of a conversion beside its work
    imports: Path | None = None  # holds a folder for each bucket that bulk imports read
    import_delay_s: float = 0.5  # time of a bulk import beside its work
    max_calls: int = DEFAULT_CALLS
    seeds: bool = False
    reads_lag_s: float = 0.0  # every read shows the state of so long ago; a rule may make some lag longer
    absent_version: str = NEWEST  # of the API, for requests without its header; the service takes its oldest
    bare_hosts: bool = False  # indexes are described with a host without http://, as the service's are
    contested: Contested = DEFAULTS
    faults: Sequence[Mapping[str, object]] = ()  # rules in force from the start, and again after a reset


@dataclass
class Emulator:
    options: Options
    calls: CallLog = field(init=False)
    project: Project = field(init=False)

    def __post_init__(self) -> None:
        options = self.options
        self._servers: dict[str, asyncio.Server] = {}
        self._connections: defaultdict[int, WeakSet[asyncio.Transport]] = defaultdict(WeakSet)  # by the index's port
        self._tasks: set[asyncio.Task[None]] = set()
        self._names = {*THIS_MACHINE, options.host_name}
        self.calls = CallLog(options.max_calls)
        self._faults = Faults(options.reads_lag_s)
        self._faults.rules = [Fault.parse(rule) for rule in options.faults]
        self._keeper: Keeper = Disk(options.data) if options.data else Nowhere()
        self._limits = Limits(options.limits, options.limit_shape)
        self._versions = Versions(options.absent_version)
        self._gate = Gate(self.calls, self._faults, self._limits, self._keeper)

    @property
    def control(self) -> str:
        """Return the control plane's address."""
        return f"http://{self.options.host_name}:{self._control_port}"

    async def start(self) -> None:
        options = self.options
        listener = listen(options.bind, options.port)
        self._rpc = RpcServer(self._gate, options.request_bytes, self._check_key, self._versions)
        self._backend = await self._rpc.start()
        self._control_port = listener.getsockname()[1]
        first, last = options.index_ports or (options.port and options.port + 1, options.port + 100)
        ports = Ports(options.bind, first, last)
        self.project = Project(self._keeper, ports, self._remember_s, self._serve, self._unserve, options.contested)
        self._vault = Vault(self.project, options.backup_delay_s, options.backup_misses_s)
        self._conversions = Conversions(self.project, options.conversion_delay_s, options.backup_misses_s)
        if isinstance(self._keeper, Disk):
            self.project.restore(self._keeper)
            self._vault.load(self._keeper)
            self._conversions.load(self._keeper)
        if options.seeds:
            load_seeds(self.project)
        self._keeper.commit()
        described = self._bare_host_of if options.bare_hosts else self.host_of
        control = ControlPlane(
            self.project, self._vault, self._conversions, self._gate, described, self._check_key, self._versions
        )
        admin = Admin(self.project, self._gate, self._reset, self._check_own_key)

        async def handle(request: Request) -> Response:
            own = request.segments[:1] == ["_emulator"]
            return await (admin.handle(request) if own else control.handle(request))

        await self._listen("", listener, lambda: HttpConnection(handle))

    async def stop(self) -> None:
        for server in self._servers.values():
            server.close()
        await self._rpc.stop()
        self._keeper.commit()
        self._keeper.close()

    def host_of(self, index: Index) -> str:
        return f"http://{self.options.host_name}:{index.port}"

    def _bare_host_of(self, index: Index) -> str:
        return f"{self.options.host_name}:{index.port}"

    def _serve(self, index: Index, listener: socket.socket) -> None:
        sources = Sources(self.options.imports)
        kept = self._keeper.document("imports", index.id) if isinstance(self._keeper, Disk) else None
        imports = Imports(index, sources, self.options.import_delay_s, kept or {})
        size, url = self.options.request_bytes, self._url_bytes
        plane = DataPlane(index, imports, self._gate, size, url, self._check_key, self._versions)
        # An old connection would still reach the deleted index, not the port's new one.
        for transport in self._connections.pop(index.port, ()):
            transport.abort()
        # The socket listens already, so a client that comes before the task has run waits in its backlog.
        front = functools.partial(Front, plane.handle, self._backend, index, self._connections[index.port])
        task = asyncio.get_running_loop().create_task(self._listen(index.id, listener, front))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, key: str, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._servers[key] = await asyncio.get_running_loop().create_server(protocol, sock=listener)

    def _unserve(self, index: Index) -> None:
        server = self._servers.pop(index.id, None)
        if server:
            server.close()

    def _reset(self) -> None:
        self._faults.rules = [Fault.parse(rule) for rule in self.options.faults]
        self._limits.set(self.options.limits, self.options.limit_shape)
        self._vault.clear()
        self._conversions.clear()
        self.project.clear()
        self._keeper.commit()

    def _remember_s(self) -> float:
        """Return how far back any reader, or a backup, may look."""
        return max(self._faults.longest_lag_s(), self.options.backup_misses_s)

    def _url_bytes(self) -> int:
        """Return the longest URL that is accepted; 0 means any."""
        if self.options.url_bytes is not None:
            return self.options.url_bytes
        return URL_BYTES if self._limits.factor else 0

    def _check_own_key(self, headers: Mapping[str, str]) -> None:
        refuse_other_sites(headers, self._names)
        refuse_forms(headers)
        wanted = self.options.own_key
        if wanted is not None and not compare_digest(headers.get("emulator-key", "").encode(), wanted.encode()):
            raise Refusal(401, "The header emulator-key is missing, or not the --own-key that this emulator was given")

    def _check_key(self, headers: Mapping[str, str]) -> None:
        refuse_other_sites(headers, self._names)
        if not self.options.api_keys:
            return
        key = headers.get("api-key")
        if not key:
            raise Refusal(401, "Missing API key")
        if key not in self.options.api_keys:
            raise Refusal(401, "Invalid API key")


class Running:
    """An emulator in a thread of this process."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=uvloop.run, args=(self._main(),), name="emulator", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        emulator = Emulator(self._options)
        try:
            await emulator.start()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that started us
            self._failure = error
            return
        finally:
            self._ready.set()
        self.control = emulator.control
        await self._end.wait()
        await emulator.stop()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


def start(port: int = 0, **options: object) -> Running:
    """Start an emulator in this process; the options are those of `Options`."""
    return Running(Options(port=port, **options))  # type: ignore[arg-type]
