"""Providers of the routes: a file, Redis, or HTTP (`vecfleet serve` gives the job table's there); and the cache.

A provider answers with the table's bytes, or None if they are those it gave last. It may fail; the cache remembers.
Routes have an age: it counts from when they were asked for. They are read again after half of ROUTES_CACHE_SECONDS. A
write may rest on them for ROUTES_STALE_SECONDS, and the fleet deletes nothing sooner after a cut-over. A read may rest
on them for an hour.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol

import httpx

from vecfleet import logs
from vecfleet.clock import now
from vecfleet.errors import BadInput, Unreachable, VecfleetError
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.tenancy.routes import Resolved, read_table

log = logs.get_logger("vecfleet.tenancy")

CACHE_S = 5.0
STALE_S = 60.0
# Readers of a cleaned-up old side find nothing there; readers of a new side that is not filled find as little.
READ_FOR_S = 3_600.0
REDIS_KEY = "vecfleet:routes"
AGE = "Vecfleet-Routes-Age"  # seconds since the table in the answer was read
# Names the asking process. A client that sends it refuses writes to namespaces that the table calls frozen.
CLIENT = "Vecfleet-Client"
# The routes are read again halfway through the cache time; the other half is the longest wait for an answer.
_AHEAD = 0.5


class RouteProvider(Protocol):
    """Gives the routes as JSON, or None if they have not changed since its last answer. Raises when it cannot.

    One that answers from a cache gives its last answer's age in `age_s`; a missing age counts as 0.
    """

    def read(self) -> bytes | None: ...


class FileRoutes:
    """A JSON file. Replace it by renaming another over it, so that no reader sees half a table."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> bytes | None:
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if version == self._seen:
                return None
            text = self._path.read_bytes()
        except OSError as error:
            raise Unreachable(
                f"the routes file cannot be read: {error.strerror}", next_step="check VECFLEET_ROUTES"
            ) from error
        self._seen = version
        return text


class RedisRoutes:
    """A key of Redis. Needs the package `redis`; `client` is any of its clients."""

    def __init__(self, client: Any, key: str = REDIS_KEY) -> None:
        self._client, self._key = client, key
        self._seen: bytes | None = None

    @classmethod
    def at(cls, url: str, timeout_s: float = CACHE_S * _AHEAD) -> "RedisRoutes":
        from redis import Redis

        return cls(Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s))

    def read(self) -> bytes | None:
        try:
            text = self._client.get(self._key)
        except OSError as error:  # redis-py's ConnectionError and TimeoutError are not OSErrors: see below
            raise _no_redis(error) from error
        except Exception as error:
            if type(error).__module__.split(".")[0] != "redis":
                raise
            raise _no_redis(error) from error
        if text is None:
            raise Unreachable(f"Redis holds no routes under {self._key!r}", next_step="write them there")
        text = text.encode() if isinstance(text, str) else bytes(text)
        if text == self._seen:
            return None
        self._seen = text
        return text


def _no_redis(error: Exception) -> Unreachable:
    return Unreachable(
        f"Redis does not give the routes: {type(error).__name__}", next_step="check VECFLEET_ROUTES and that Redis runs"
    )


class HttpRoutes:
    """An address that answers with the table, such as `/delphi/routes` of `vecfleet serve`."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = CACHE_S * _AHEAD) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._clients = PerProcess(lambda: httpx.Client(headers=headers | {CLIENT: _this_process()}, timeout=timeout_s))
        self._tag: str | None = None
        self.age_s = 0.0

    def read(self) -> bytes | None:
        try:
            answer = self._clients.get().get(self._url, headers={"If-None-Match": self._tag} if self._tag else {})
            if answer.status_code != 304:
                answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise Unreachable(
                f"the routes were refused with status {error.response.status_code}",
                next_step="check VECFLEET_ROUTES and VECFLEET_ROUTES_TOKEN",
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the routes cannot be read: {type(error).__name__}", next_step="check VECFLEET_ROUTES"
            ) from error
        self.age_s = _age(answer.headers.get(AGE, "0"))
        if answer.status_code == 304:
            return None
        self._tag = answer.headers.get("ETag")
        return answer.content


def _this_process() -> str:
    return f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(4)}"


def _age(said: str) -> float:
    try:
        age_s = float(said)
    except ValueError:
        age_s = -1.0
    if not 0 <= age_s < inf:
        raise Unreachable("the routes do not say how old they are", next_step="check VECFLEET_ROUTES")
    return age_s


@dataclass(frozen=True, slots=True)
class Told:
    """The routes as they were at a moment, by the cache's clock: no later than they were asked for."""

    resolved: Resolved
    at: float


class CachedRoutes:
    """The routes as last read, for as long as they may be believed. Shared by threads.

    After `stale_s` no write may rest on them any more, after `read_for_s` no read.
    """

    def __init__(
        self,
        provider: RouteProvider,
        cache_s: float = CACHE_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = now,
        read_for_s: float = READ_FOR_S,
    ) -> None:
        self._provider = provider
        self.clock, self.stale_s, self._read_for_s = clock, stale_s, read_for_s
        self._every_s = min(cache_s, stale_s) * _AHEAD
        self._told: Told | None = None
        self._next = float("-inf")
        self._failing = False
        self._unusable: BadInput | None = None  # why the table that the provider gave last cannot be read
        self._locks = PerProcess(threading.Lock)  # a lock that another thread holds at a fork is never released

    @property
    def due(self) -> bool:
        """Say whether the next look reads the provider."""
        return self.clock() >= self._next

    def current(self, *, to_write: bool = False) -> Told | None:
        """Return the routes, or None if they were never read, or last too long ago for the purpose."""
        if self.due:
            self.refresh(to_write=to_write)
        return None if self._too_old(to_write) else self._told

    def refresh(self, *, to_write: bool = False) -> None:
        """Read the provider if it is time. Others go on meanwhile; callers whose routes are too old wait."""
        lock = self._locks.get()
        if not lock.acquire(blocking=self._too_old(to_write)):
            return
        try:
            if self.due:
                self._read()
        finally:
            lock.release()

    def _too_old(self, to_write: bool) -> bool:
        told = self._told
        return told is None or self.clock() - told.at >= (self.stale_s if to_write else self._read_for_s)

    def _read(self) -> None:
        asked_at = self.clock()
        try:
            text = self._provider.read()
            at = asked_at - getattr(self._provider, "age_s", 0.0)
            if text is not None:
                self._unusable = None
                self._told = Told(Resolved(read_table(text)), at)
            elif self._unusable is not None:
                raise self._unusable
            elif self._told is not None:
                self._told = Told(self._told.resolved, at)
        except VecfleetError as error:
            self._unusable = error if isinstance(error, BadInput) else self._unusable
            if not self._failing:
                log.warning("the routes cannot be read", why=error.message, known=self._told is not None)
            self._failing = True
        else:
            self._failing = False
        self._next = self.clock() + self._every_s


def provider_of(settings: Settings) -> RouteProvider | None:
    """Return the provider that VECFLEET_ROUTES names: a file, redis://… or http(s)://…; None if it is empty."""
    address = settings.vecfleet_routes.get_secret_value() if settings.vecfleet_routes is not None else ""
    if not address:
        return None
    timeout_s = settings.routes_cache_seconds * _AHEAD
    if address.startswith(("redis://", "rediss://")):
        return RedisRoutes.at(address, timeout_s)
    if address.startswith(("http://", "https://")):
        token = settings.vecfleet_routes_token
        return HttpRoutes(address, token.get_secret_value() if token is not None else None, timeout_s)
    if "://" in address:
        raise BadInput("VECFLEET_ROUTES names no known kind of provider", next_step="a file, redis://… or http://…")
    return FileRoutes(address)
