"""Carries TCP from one address to another: `python -m tests.stories.forwarding LISTEN CONNECT PORT…`.

Two of them, one on each side of a virtual cable, lead from one machine's loopback address to another's.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

CHUNK = 65_536
Carrier = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve(listen: str, connect: str, ports: list[int]) -> None:
    servers = [await asyncio.start_server(_carrier(connect, port), listen, port) for port in ports]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _carrier(connect: str, port: int) -> Carrier:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(connect, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    return carry


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]))
