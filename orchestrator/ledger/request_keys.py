"""Keys of requests over HTTP: what a program asks for twice under one key is done once.

While a request is carried, `audit.note` keeps its key in the transaction of the act that it records: a key is there if
and only if its act is. The act's row of the audit trail is the answer, so a key's row says nothing of a tenant.
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW
from vecfleet.errors import Busy

LASTS = timedelta(days=7)
_DROPPED_AT_ONCE = 100
_K, _A = t.request_key.c, t.audit.c


class KeyTaken(Busy):
    """The same request is answered by another process at this moment; asked again, it gets that answer."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request as the job table keeps it: digests, and a word of chance that tells two attempts apart."""

    key: str
    request: str
    attempt: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def of(cls, holder: str, key: str, asked: str) -> "KeyedRequest":
        """Build it from the token's name, the key its holder chose, and the text of what is asked."""
        return cls(_digest(holder, key), _digest(key, asked))


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The first answer to a request: its act. No `act`: there was nothing to change. No `facts`: an erasure's doing."""

    request: str
    attempt: str
    act: int | None
    job_id: int | None
    action: str | None
    who: str | None
    at: datetime
    facts: dict[str, Any] | None


_carried: ContextVar[KeyedRequest | None] = ContextVar("carried_request", default=None)


@contextmanager
def carried(request: KeyedRequest) -> Iterator[None]:
    """Keep the key of this request with the first act that this thread records inside."""
    token = _carried.set(request)
    try:
        yield
    finally:
        _carried.reset(token)


def keep(connection: sa.Connection, act: int | None) -> None:
    """Keep the carried request's key with its act; nothing where no request is carried.

    Its first act counts. Waits for a transaction that keeps the same key, and raises KeyTaken if that one commits:
    this whole transaction is then undone.
    """
    request = _carried.get()
    if request is None:
        return
    old = NOW - LASTS
    expired = sa.select(_K.key).where(_K.at < old).limit(_DROPPED_AT_ONCE).with_for_update(skip_locked=True)
    connection.execute(sa.delete(t.request_key).where(_K.key.in_(expired)))
    new = insert(t.request_key).values(key=request.key, request=request.request, attempt=request.attempt, act=act)
    mine = _K.attempt == request.attempt
    kept = new.on_conflict_do_update(
        index_elements=[_K.key],
        set_={
            "act": sa.case((mine, _K.act), else_=new.excluded.act),
            "request": new.excluded.request,
            "attempt": new.excluded.attempt,
            "at": NOW,
        },
        where=sa.or_(mine, _K.at < old),
    ).returning(_K.key)
    if connection.execute(kept).one_or_none() is None:
        raise KeyTaken(next_step="send the same request again")


def answer(connection: sa.Connection, request: KeyedRequest) -> KeptAnswer | None:
    """Return the first answer under this request's key, whatever it asked; None for a new or an expired key."""
    row = connection.execute(
        sa.select(
            _K.request,
            _K.attempt,
            _K.act,
            _A.job_id,
            _A.action,
            _A.who,
            sa.func.coalesce(_A.at, _K.at).label("at"),
            _A.payload,
        )
        .outerjoin(t.audit, _A.id == _K.act)
        .where(_K.key == request.key, _K.at >= NOW - LASTS)
    ).one_or_none()
    return None if row is None else KeptAnswer(*row)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
