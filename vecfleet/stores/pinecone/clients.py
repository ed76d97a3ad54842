"""The SDK's clients: built per process and when first needed, with our deadline and without their own retries.

A client made before a fork shares its sockets with the child, and a gRPC one hangs there forever. So none is made at
import or handed across.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Generic, TypeVar

import httpx
import msgspec
from pinecone import AsyncIndex, Index, Pinecone, PineconeValueError, RetryConfig
from pinecone._internal.adapters import (
    backups_adapter,
    documents_adapter,
    imports_adapter,
    indexes_adapter,
    restore_jobs_adapter,
    vectors_adapter,
)
from pinecone.client.inference import Inference

from vecfleet.bounded_transport import BoundedTransport
from vecfleet.errors import BadInput
from vecfleet.settings import JOIN, Settings
from vecfleet.stores.base import IndexInfo

T = TypeVar("T")

API_VERSION = "2026-07"  # the first that has documents and aliases
NO_RETRIES = RetryConfig(max_retries=0)
# The SDK keeps half of its pool open between requests: twice the threads keep one connection each.
CONNECTIONS_PER_THREAD = 2

# The SDK reads each of its answers into a class that one of these modules names.
ADAPTERS = (
    backups_adapter,
    documents_adapter,
    imports_adapter,
    indexes_adapter,
    restore_jobs_adapter,
    vectors_adapter,
)


def meet(adapter: ModuleType) -> None:
    """Let msgspec meet each class of an answer while one thread, the importing one, runs.

    msgspec (0.22), with which the SDK reads its answers, learns a class when it first meets it, and crashes the process
    if two threads do so at once.
    """
    for answer in vars(adapter).values():
        if isinstance(answer, type) and issubclass(answer, msgspec.Struct):
            with suppress(TypeError):  # it can read no such class: what it cannot read is no answer, but a request
                msgspec.json.Decoder(answer)


for _adapter in ADAPTERS:
    meet(_adapter)


class PerProcess(Generic[T]):
    """A value made once in each process that asks for it. No lock: one held during a fork is never released."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        process = os.getpid()
        made = self._made.get(process)
        return made if made is not None else self._made.setdefault(process, self._make())


def api_key(settings: Settings) -> str:
    """Return the API key. Raises BadInput if it is not set."""
    if settings.pinecone_api_key is None:
        raise BadInput("PINECONE_API_KEY is not set", next_step=JOIN)
    return settings.pinecone_api_key.get_secret_value()


def control_plane(settings: Settings) -> Pinecone:
    """Return the client of the control plane. Raises BadInput if the API key is not set or not a key."""
    try:
        control = Pinecone(
            api_key=api_key(settings),
            host=settings.pinecone_controller_host,
            timeout=settings.request_deadline_seconds,
            connection_pool_maxsize=CONNECTIONS_PER_THREAD * settings.worker_threads,
            retry_config=NO_RETRIES,
        )
    except PineconeValueError as error:
        raise BadInput(error.message, next_step="check PINECONE_API_KEY and PINECONE_CONTROLLER_HOST") from error
    bound_calls(control, settings.request_deadline_seconds)
    return control


def data_plane(control: Pinecone, host: str, settings: Settings) -> Index:
    """Return the client of a data plane. Raises BadInput if the SDK refuses the host."""
    try:
        index = control.index(host=host)
    except PineconeValueError as error:
        raise BadInput(error.message, next_step="check the host that the control plane names for this index") from error
    switch_retries_off(index)
    bound_calls(index, settings.request_deadline_seconds)
    return index


def rest_client(host: str, settings: Settings) -> httpx.Client:
    """Return a client for the calls of an index that the SDK does not make, or not as we need them."""
    limits = httpx.Limits(max_keepalive_connections=CONNECTIONS_PER_THREAD * settings.worker_threads)
    transport = httpx.HTTPTransport(limits=limits)
    return httpx.Client(
        base_url=host if "://" in host else f"https://{host}",
        timeout=settings.request_deadline_seconds,
        transport=BoundedTransport(transport, settings.request_deadline_seconds),
        headers={"Api-Key": api_key(settings), "X-Pinecone-Api-Version": API_VERSION},
    )


def dialed(info: IndexInfo, settings: Settings) -> str:
    """Return the address by which this process reaches the index.

    The service's host name stays its identity: jobs, claims and the pace go by that, however each machine dials.
    """
    own = settings.pinecone_host if info.name == settings.pinecone_index_name else None
    return own or info.host


def switch_retries_off(index: Index | AsyncIndex) -> None:
    """Switch the SDK's own retries off. From here on its internals are touched: over REST it has no setting (10.2)."""
    try:
        client = index._http._ensure_client() if isinstance(index, AsyncIndex) else index._http._client
        transport: Any = client._transport
        if transport._config.max_retries != NO_RETRIES.max_retries:
            transport._config = NO_RETRIES
    except AttributeError as error:
        raise BadInput(
            "the installed pinecone SDK retries on its own and cannot be told not to",
            next_step="install the version named in requirements.lock",
        ) from error


def bound_calls(client: Pinecone | Index | Inference, seconds: float) -> None:
    """End each call of this client after so many seconds: the SDK bounds only each wait of a call (10.2)."""
    try:
        transport: Any = client._http._client._transport
        transport._transport = BoundedTransport(transport._transport, seconds)
    except AttributeError as error:
        raise BadInput(
            "the calls of the installed pinecone SDK cannot be given an end",
            next_step="install the version named in requirements.lock",
        ) from error
