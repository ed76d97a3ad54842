"""TLS before an emulator, for clients that cannot do without: each index's port, at an address of its own."""

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ADDRESS = "127.0.0.2"  # the emulator tells it as its host, and listens at another
BEHIND = "127.0.0.1"
_LOOK_EVERY_S = 0.05
# Some clients trust the certificates of `certifi`, and let nobody name others: this module stands in for it.
_CERTIFI = "import os\n\n\ndef where():\n    return os.environ['TRUSTED']\n"


class Front:
    """Listens with TLS for every index that the emulator has, also later ones. `certificate`: whom clients trust."""

    def __init__(self, control: str, folder: Path) -> None:
        self._control = control
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        _certify(self.certificate, key)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(self.certificate, key)
        self._tls.set_alpn_protocols(["h2", "http/1.1"])
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def trusted(self) -> dict[str, str]:
        """Return the environment in which a client of Python trusts it."""
        module = self.certificate.parent / "trust" / "certifi.py"
        module.parent.mkdir()
        module.write_text(_CERTIFI)
        return {"PYTHONPATH": str(module.parent), "TRUSTED": str(self.certificate)}

    async def _serve(self) -> None:
        servers: dict[int, asyncio.Server] = {}
        async with httpx.AsyncClient(headers={"X-Pinecone-Api-Version": "2026-07", "Api-Key": "any"}) as client:
            while not self._over.is_set():
                answer = (await client.get(f"{self._control}/indexes")).raise_for_status().json()
                for index in answer["indexes"]:
                    port = int(index["host"].rpartition(":")[2])
                    if port not in servers:
                        servers[port] = await asyncio.start_server(_pass_to(port), ADDRESS, port, ssl=self._tls)
                await asyncio.sleep(_LOOK_EVERY_S)
        for server in servers.values():
            server.close()


def _pass_to(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(BEHIND, port)
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))

    return serve


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()
    writer.close()


def _certify(certificate: Path, key: Path) -> None:
    """Write a certificate for the address, which vouches for itself, and its key."""
    made = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ADDRESS)]), datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(made, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
