"""Where the routes are read: a file, Redis, or HTTP (`vecfleet serve` gives the job table's there); and the cache.

A provider answers with the table's bytes, or None where they are those it gave last. It may fail; the cache remembers.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import structlog

from vecfleet.errors import BadInput, Unreachable, VecfleetError
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.tenancy.routes import Resolved, read_table

log = structlog.get_logger("vecfleet.tenancy")

CACHE_S = 5.0
# A table that could not be read again for so long may hide a clean-up: this must stay below the soak time (a day).
STALE_S = 3_600.0
REDIS_KEY = "vecfleet:routes"
# The routes are read again halfway through the cache time, and an answer is waited for as long as the other half.
_AHEAD = 0.5


class RouteProvider(Protocol):
    """Gives the routes as JSON, or None where they have not changed since its last answer. Raises when it cannot."""

    def read(self) -> bytes | None: ...


class FileRoutes:
    """A JSON file. Replace it by renaming another over it, and no reader sees half a table."""

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
        self._clients = PerProcess(lambda: httpx.Client(headers=headers, timeout=timeout_s))
        self._tag: str | None = None

    def read(self) -> bytes | None:
        try:
            answer = self._clients.get().get(self._url, headers={"If-None-Match": self._tag} if self._tag else {})
            if answer.status_code == 304:
                return None
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
        self._tag = answer.headers.get("ETag")
        return answer.content


class CachedRoutes:
    """The routes as last read, for as long as they may be believed. Shared by threads."""

    def __init__(
        self,
        provider: RouteProvider,
        cache_s: float = CACHE_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._every_s, self._stale_s, self._clock = cache_s * _AHEAD, stale_s, clock
        self._resolved: Resolved | None = None
        self._read_at = 0.0
        self._next = float("-inf")
        self._failing = False
        self._locks = PerProcess(threading.Lock)  # one that another thread has at a fork is never given back

    @property
    def due(self) -> bool:
        """Whether the next look reads the provider."""
        return self._clock() >= self._next

    def current(self) -> Resolved | None:
        """The routes, or None where they were never read, or last so long ago that they may hide a clean-up."""
        if self.due:
            self.refresh()
        if self._resolved is None or (self._failing and self._clock() - self._read_at > self._stale_s):
            return None
        return self._resolved

    def refresh(self) -> None:
        """Read the provider if it is time. Others go on with what is known meanwhile; the first ones wait."""
        lock = self._locks.get()
        if not lock.acquire(blocking=self._resolved is None):
            return
        try:
            if self.due:
                self._read()
        finally:
            lock.release()

    def _read(self) -> None:
        asked_at = self._clock()
        try:
            text = self._provider.read()
            if text is not None:
                self._resolved = Resolved(read_table(text))
        except VecfleetError as error:
            if not self._failing:
                log.warning("the routes cannot be read", why=error.message, known=self._resolved is not None)
            self._failing = True
        else:
            self._failing, self._read_at = False, asked_at
        self._next = self._clock() + self._every_s


def provider_of(settings: Settings) -> RouteProvider | None:
    """The provider that VECFLEET_ROUTES names: a file, redis://… or http(s)://…; None where it is empty."""
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
