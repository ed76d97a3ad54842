"""What people did and what was destroyed, chained so that a changed or missing row shows.

A row's hash covers the digest of its payload, not the payload: erasing a person's payload leaves the chain valid. One
sealer (the dispatcher) chains rows after their commit, in id order among those committed.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from orchestrator import tables as t

_A = t.audit.c
# Any number, the same everywhere: the lock under which rows are sealed one sealer at a time.
_SEAL_LOCK = 7_305_001


def note(connection: sa.Connection, who: str, action: str, job_id: int | None, **payload: Any) -> None:
    """Record an act in the transaction of the act itself."""
    connection.execute(
        sa.insert(t.audit).values(
            who=who, action=action, job_id=job_id, payload=payload, payload_digest=_payload_digest(payload)
        )
    )


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did. `payload` is None where it was erased."""

    at: datetime
    who: str
    action: str
    payload: dict[str, Any] | None
    sealed: bool


def of_job(connection: sa.Connection, job_id: int, limit: int) -> list[Act]:
    """The last acts on a job, the newest first."""
    rows = connection.execute(
        sa.select(_A.at, _A.who, _A.action, _A.payload, _A.hash.is_not(None))
        .where(_A.job_id == job_id)
        .order_by(_A.id.desc())
        .limit(limit)
    )
    return [Act(*row) for row in rows]


def _payload_digest(payload: Any) -> str:
    return hashlib.sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest()


def seal(connection: sa.Connection) -> int:
    """Chain the rows that are not chained yet. Safe to repeat and to race. Returns how many were sealed."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SEAL_LOCK)))
    rows = connection.execute(sa.select(t.audit).where(_A.hash.is_(None)).order_by(_A.id)).all()
    if not rows:
        return 0
    previous = head(connection)
    for row in rows:
        sealed = _hash(previous, row)
        connection.execute(sa.update(t.audit).where(_A.id == row.id).values(previous_hash=previous, hash=sealed))
        previous = sealed
    return len(rows)


def head(connection: sa.Connection) -> str:
    """The hash that every sealed row contributes to. Empty where nothing is sealed."""
    sealed = sa.select(_A.hash).where(_A.hash.is_not(None))
    followed = sa.select(_A.previous_hash).where(_A.previous_hash.is_not(None))
    return connection.execute(sealed.where(_A.hash.not_in(followed))).scalar_one_or_none() or ""


@dataclass(frozen=True, slots=True)
class Chain:
    """What walking the chain found: how many rows hang together, and what is wrong with the first that does not."""

    sealed: int
    unsealed: int
    head: str
    broken: str | None


def walk(connection: sa.Connection) -> Chain:
    """Follow the chain from its first row. Read-only. An erased payload (NULL) breaks nothing; a changed one does."""
    unsealed: int = connection.execute(sa.select(sa.func.count()).where(_A.hash.is_(None))).scalar_one()
    rows = {row.previous_hash: row for row in connection.execute(sa.select(t.audit).where(_A.hash.is_not(None)))}
    previous, walked = "", 0
    while (row := rows.pop(previous, None)) is not None:
        if row.payload is not None and _payload_digest(row.payload) != row.payload_digest:
            return Chain(walked, unsealed, previous, f"the payload of row {row.id} is not the one that was recorded")
        if _hash(previous, row) != row.hash:
            return Chain(walked, unsealed, previous, f"row {row.id} is not the one that was recorded")
        previous, walked = row.hash, walked + 1
    broken = f"{len(rows)} rows do not hang on the chain: one before them is missing" if rows else None
    return Chain(walked, unsealed, previous, broken)


def _hash(previous: str, row: Any) -> str:
    at = row.at.astimezone(UTC).isoformat()  # whatever the session's time zone
    fields = [previous, str(row.id), at, row.who, row.action, str(row.job_id), row.payload_digest]
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()
