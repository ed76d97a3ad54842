"""The one grpcio server behind every index's port."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from emulator.calls import Call
from emulator.errors import Hang, Refusal, Reset
from emulator.front import Backend
from emulator.gate import Gate, Job, Outcome
from emulator.index import Index
from emulator.records import too_large
from emulator.rpc import RPCS, Prepare
from emulator.versions import Versions

MESSAGE_BYTES = 128 * 1024 * 1024
Handler = Callable[[bytes, Any], Awaitable[bytes]]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RpcServer:
    def __init__(
        self,
        gate: Gate,
        request_bytes: int,
        check_key: Callable[[Mapping[str, str]], None],
        versions: Versions,
    ) -> None:
        self._gate, self._request_bytes, self._check_key, self._versions = gate, request_bytes, check_key, versions
        self._under_way: set[asyncio.Task[Outcome]] = set()

    async def start(self) -> Backend:
        limits = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        self._server = grpc.aio.server(options=[*limits, ("grpc.so_reuseport", 0)])
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(operation, request, prepare))
            for name, (operation, request, prepare) in RPCS.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("VectorService", handlers),))
        self._backend = Backend(self._server.add_insecure_port("127.0.0.1:0"))
        await self._server.start()
        return self._backend

    async def stop(self) -> None:
        await self._server.stop(None)

    def _handler(
        self, operation: str, request_class: Any, prepare: Prepare
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(body: bytes, context: Any) -> bytes:
            local_port = int(context.peer().rpartition(":")[2])
            passage = self._backend.passages.get(local_port)
            try:
                if passage is None:
                    raise Reset
                index, headers = passage.index, dict(context.invocation_metadata())
                version = self._versions.read(headers)

                def read(call: Call) -> Job:
                    self._check(index, call, headers)
                    return prepare(index, request_class.FromString(body), call, version)

                work = self._gate.serve(Call(operation, index.name, transport="grpc", bytes_in=len(body)), read)
                return (await self._to_its_end(work)).body
            except Refusal as refusal:
                trailers = () if refusal.retry_after is None else (("retry-after", f"{refusal.retry_after:g}"),)
                await context.abort(_CODES[refusal.grpc_code], refusal.message, trailers)
            except Reset:
                if passage:
                    passage.transport.abort()
            except Hang:
                pass
            await asyncio.Event().wait()  # until the client gives up
            return b""

        return handle

    def _check(self, index: Index, call: Call, headers: Mapping[str, str]) -> None:
        self._check_key(headers)
        if self._request_bytes and call.bytes_in > self._request_bytes:
            raise too_large(call.bytes_in, self._request_bytes)
        index.check_operation(call.operation)

    async def _to_its_end(self, work: Any) -> Outcome:
        """Carry the work out even if the client gives up, which cancels its call."""
        task: asyncio.Task[Outcome] = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: "asyncio.Task[Outcome]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain of it
