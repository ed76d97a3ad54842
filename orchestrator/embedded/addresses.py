"""Addresses in a shell: those of servers that run, those that this folder gives out, and those that lead nowhere.

A shell keeps what it took from `vecfleet up` longer than the stack lives. Nothing here changes anything.
"""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from orchestrator.embedded.ports import remembered_port
from orchestrator.embedded.postgres import ADMINISTRATOR, FLEET, VECTORS, Postgres
from orchestrator.embedded.record import StackRecord, running
from orchestrator.embedded.redis import Redis
from vecfleet.errors import Refused
from vecfleet.settings import Settings

EMULATOR_KEY = "emulator"
"""The emulator takes any key but an empty one."""

SUITS_EMULATOR = ("FRESHNESS_WAIT_SECONDS", "ROUTES_CACHE_SECONDS", "ROUTES_STALE_SECONDS")
"""Given out with the address of a stack's own emulator: waits that are too short beside Pinecone."""

_ADDRESSES = ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "PGVECTOR_URL", "PINECONE_CONTROLLER_HOST")
_OF_SOME_JOBS = "PGVECTOR_URL"
_GIVEN_WITH = {
    "DATABASE_URL": ("AUDIT_KEY",),
    "PINECONE_CONTROLLER_HOST": ("PINECONE_API_KEY", *SUITS_EMULATOR),
    "FLOWER_URL": ("FLOWER_USER", "FLOWER_PASSWORD"),
    "WEB_URL": ("OPERATOR_TOKEN",),
}
"""Values that are useless, and mislead, without the address that they were given out with."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_USUAL_PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379, "amqp": 5672, "http": 80}
_CONNECTS_WITHIN_S = 1.0  # on this machine; a refusal comes at once

JOIN_IT = 'eval "$(vecfleet up --print)"'
START_AND_JOIN = 'eval "$(vecfleet up --detach)"'


def told(address: str) -> str:
    """Return `host:port` of an address, without account and password; the scheme's usual port where none is named."""
    place = _place(address)
    return f"{place[0]}:{place[1]}" if place else "an address that names no host and port"


def is_here(address: str) -> bool:
    """Say whether an address is on this machine."""
    place = _place(address)
    return place is not None and place[0] in _LOOPBACK


def nowhere(settings: Settings) -> tuple[str, ...]:
    """Return the variables that lead to a port of this machine on which nothing listens."""
    named = {name: _value(settings, name) for name in _ADDRESSES}
    return tuple(name for name, address in named.items() if address and is_here(address) and not _listens(address))


def without_own(settings: Settings, state_dir: Path) -> Settings:
    """Return the settings without what this folder's servers gave out: those start again, at the same addresses."""
    own: dict[str, None] = {}
    postgres = Postgres(state_dir)
    last: dict[str, set[str | None]] = {"redis_url": {Redis(state_dir).last_url()}}
    if superusers := postgres.last_url():  # an address given out before there were roles
        last["database_url"] = {superusers, postgres.client_url}
        last["pgvector_url"] = {postgres.url_of(VECTORS, role) for role in (ADMINISTRATOR, FLEET)}
    for field, addresses in last.items():
        if (address := _secret(getattr(settings, field))) and address in addresses:
            own[field] = None
    port = remembered_port(state_dir, "emulator")
    emulator, record = f"http://127.0.0.1:{port}", StackRecord.read(state_dir)
    left_over = record is not None and any(process.port == port for process in record.processes)
    named = settings.pinecone_controller_host == emulator and _secret(settings.pinecone_api_key) == EMULATOR_KEY
    if named and (left_over or not _listens(emulator)):  # otherwise the user started it there meanwhile
        own |= {"pinecone_api_key": None, "pinecone_controller_host": None}
    return settings.model_copy(update=own)


def require_answering(settings: Settings) -> str | None:
    """Refuse to build a stack on addresses of this machine where nothing listens.

    Return a warning where only an address is dead that some jobs need, and None if all is well.
    """
    lost = nowhere(settings)
    if lost == (_OF_SOME_JOBS,):
        return (
            f"nothing listens at {told(_value(settings, _OF_SOME_JOBS))}, where {_OF_SOME_JOBS} leads: jobs with "
            "tables in Postgres will wait for it, and say so; all others run"
        )
    if lost:
        raise Refused(
            f"{', '.join(lost)} of this shell lead to this machine, where nothing listens at "
            f"{', '.join(sorted({told(_value(settings, name)) for name in lost}))}: they are left of a stack that was "
            "stopped, or name servers of your own that do not run",
            code="stale-addresses",
            next_step=f"{let_go(lost)}, then {START_AND_JOIN}; or start your own servers",
        )
    return None


def short_wait(settings: Settings) -> str | None:
    """Return a warning where a short wait, such as one given out with an emulator, is used beside Pinecone."""
    usual_s = float(Settings.model_fields["freshness_wait_seconds"].default)
    host = settings.pinecone_controller_host
    if settings.pinecone_api_key is None or (host and is_here(host)) or settings.freshness_wait_seconds >= usual_s:
        return None
    return (
        f"FRESHNESS_WAIT_SECONDS is {settings.freshness_wait_seconds:g}: deletions would rest on reads that Pinecone "
        f"may answer with an older state. Unless you know its reads to lag less, unset it: then it is {usual_s:g}"
    )


def way_out(settings: Settings, state_dir: Path) -> str:
    """Tell what to type in a shell whose addresses lead nowhere, so that they lead to a stack that runs."""
    if running(state_dir) is not None:
        return f"this shell has the addresses of a stack that is gone; those of the one that runs: {JOIN_IT}"
    lost = nowhere(without_own(settings, state_dir))
    if not lost:
        return f"the stack of this folder is stopped; start it again, at the same addresses: {START_AND_JOIN}"
    left = f"where it is left of a stack that was stopped: {let_go(lost)}, then {START_AND_JOIN}"
    return f"start your own server; or, {left}"


def let_go(names: Iterable[str]) -> str:
    """Return the line that removes these variables, and what was given out with them, from this shell."""
    every = [variable for name in names for variable in (name, *_GIVEN_WITH.get(name, ()))]
    exported = [name for name in every if name in os.environ]
    elsewhere = [name for name in names if name not in os.environ]
    lines = [f"unset {' '.join(exported)}"] if exported else []
    return ", and ".join([*lines, *([f"take {', '.join(elsewhere)} out of .env"] if elsewhere else [])])


def given_out(record: StackRecord) -> tuple[str, ...]:
    """Return the variables that name what this stack started itself: useless once it is stopped."""
    ports = {process.port for process in record.processes if process.port}
    ours = [name for name, value in record.environment.items() if is_here(value) and _port(value) in ports]
    return tuple(
        variable for name in ours for variable in (name, *_GIVEN_WITH.get(name, ())) if variable in record.environment
    )


def _value(settings: Settings, name: str) -> str:
    value = getattr(settings, name.lower())
    return (value.get_secret_value() if isinstance(value, SecretStr) else value) or ""


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None


def _place(address: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(address)
        if "@" in parts.path + parts.query + parts.fragment:
            return None  # the password has a `/`, `?` or `#` in it, so the port here is the beginning of the password
        port = parts.port or _USUAL_PORTS.get(parts.scheme.partition("+")[0])
    except ValueError:  # several hosts, or no number
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def _port(address: str) -> int | None:
    place = _place(address)
    return place[1] if place else None


def _listens(address: str) -> bool:
    place = _place(address)
    assert place is not None
    try:
        socket.create_connection(place, timeout=_CONNECTS_WITHIN_S).close()
    except OSError:
        return False
    return True
