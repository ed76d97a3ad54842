"""The audit trail: acts of people and deletions, chained so that a changed or missing row shows.

A row's seal covers the digest of its payload, not the payload: erasing a person's payload leaves the chain valid. One
sealer (the dispatcher) chains committed rows in id order. The fleet's role adds and reads rows; two functions of the
database seal and empty them, and refuse everything else. With a key (AUDIT_KEY), which is never in the database,
nobody else can make a valid chain. Without a key, anybody who writes to the job table can.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.ledger import request_keys
from orchestrator.ledger import tables as t
from vecfleet.errors import Refused

_A, _H = t.audit.c, t.audit_head.c
# An arbitrary number, the same everywhere: this lock lets one sealer work at a time.
_SEAL_LOCK = 7_305_001
COMMENT = "comment"
"""The act that only adds a remark about a job."""
EMPTIED = "emptied"
"""The act that records which payloads an erasure emptied."""
APPLIED, ERASURE_BEGUN = "apply", "erase"
"""The acts that begin a job and an erasure."""
_BEFORE_THAT = "vecfleet migrate"  # the author of that act for payloads emptied before erasures recorded it


class Seals:
    """Keys of the chain: the first key seals, every key verifies. Without a key, a seal is a plain digest."""

    def __init__(self, *keys: str) -> None:
        self._keys = {hashlib.sha256(f"vecfleet audit\0{key}".encode()).hexdigest()[:8]: key for key in keys}

    @classmethod
    def of(cls, keys: SecretStr | None) -> "Seals":
        """Return the seals of AUDIT_KEY: one key, or several with commas between them, the newest first."""
        told = keys.get_secret_value() if keys is not None else ""
        return cls(*(key for part in told.split(",") if (key := part.strip())))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def make(self, text: str) -> str:
        if not self._keys:
            return hashlib.sha256(text.encode()).hexdigest()
        name, key = next(iter(self._keys.items()))
        return f"k{name}-{hmac.digest(key.encode(), text.encode(), 'sha256').hex()}"

    def objection(self, seal: str, text: str) -> str | None:
        """Say why this is not the seal of this text; None if it is the seal."""
        name, _, _ = seal.removeprefix("k").partition("-")
        if not with_key(seal):
            made = Seals().make(text)
        elif name in self._keys:
            made = Seals(self._keys[name]).make(text)
        else:
            return f"is sealed with a key ({name}) that AUDIT_KEY does not hold here"
        return None if hmac.compare_digest(made, seal) else "is not the one that was recorded"


def with_key(seal: str) -> bool:
    """Say whether a seal was made with a key. Older seals are plain digests."""
    return seal.startswith("k")


def note(connection: sa.Connection, who: str, action: str, job_id: int | None, **payload: Any) -> None:
    """Record an act in the transaction of the act itself; so is the key of the request that asked for it."""
    request_keys.keep(connection, note_of_leave(connection, who, action, job_id, **payload))


def note_of_leave(connection: sa.Connection, who: str, action: str, job_id: int | None, **payload: Any) -> int:
    """Record a question for leave to act, or leave that was given; return its number. It answers no request."""
    values = {"who": who, "action": action, "job_id": job_id}
    row = sa.insert(t.audit).values(**values, payload=payload, payload_digest=_payload_digest(payload))
    return int(connection.execute(row.returning(_A.id)).scalar_one())


def empty_payloads(connection: sa.Connection, row_ids: list[int], who: str, erasure: int) -> None:
    """Empty the payloads of these rows, and record that this erasure did it."""
    connection.execute(sa.select(sa.func.audit_empty(sa.cast(row_ids, ARRAY(sa.BigInteger)), erasure)))
    note(connection, who, EMPTIED, None, erasure=erasure, rows=row_ids)


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a person or the fleet. `payload` is None if it was erased."""

    at: datetime
    who: str
    action: str
    payload: dict[str, Any] | None
    sealed: bool


def of_job(connection: sa.Connection, job_id: int, limit: int, *, action: str | None = None) -> list[Act]:
    """Return the last acts on a job (those of one kind), the newest first."""
    query = sa.select(_A.at, _A.who, _A.action, _A.payload, _A.hash.is_not(None)).where(_A.job_id == job_id)
    if action is not None:
        query = query.where(_A.action == action)
    return [Act(*row) for row in connection.execute(query.order_by(_A.id.desc()).limit(limit))]


def _payload_digest(payload: Any) -> str:
    return hashlib.sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest()


def waits(connection: sa.Connection) -> bool:
    """Say whether an act is not sealed yet."""
    return bool(connection.execute(sa.select(sa.select(_A.id).where(_A.hash.is_(None)).exists())).scalar_one())


def seal(connection: sa.Connection, seals: Seals, *, locking: bool = False) -> int:
    """Chain the rows that are not chained yet. Return their number. Safe to repeat and to race.

    Raises Refused if the chain's end differs from its record, because a new seal would make the chain look whole.
    Raises Refused too if the chain has no key yet, unless `locking`.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SEAL_LOCK)))
    rows = connection.execute(sa.select(t.audit).where(_A.hash.is_(None)).order_by(_A.id)).all()
    if not rows:
        return 0
    kept = connection.execute(sa.select(t.audit_head)).one_or_none()
    counted = connection.execute(
        sa.select(sa.func.count(), sa.func.count().filter(_A.hash == (kept.head if kept else ""))).where(
            _A.hash.is_not(None)
        )
    ).one()
    broken = _objection_to_end(seals, kept, counted[0], kept.head if kept and counted[1] == 1 else "")
    if broken is None and kept is not None and seals and not with_key(kept.head) and not locking:
        broken = "its rows were sealed without a key so far, and AUDIT_KEY names one: `vecfleet audit-log lock`"
    if broken is not None:
        raise Refused(
            f"the audit trail is not added to: {broken}", code="audit-broken", next_step="`vecfleet audit-log verify`"
        )
    previous, count = (kept.head, kept.rows) if kept is not None else ("", 0)
    hashes: list[str] = []
    for row in rows:
        hashes.append(seals.make(_text(hashes[-1] if hashes else previous, row)))
    end_seal = seals.make(_text_of_end(count + len(rows), hashes[-1]))
    columns = sa.cast([row.id for row in rows], ARRAY(sa.BigInteger)), sa.cast(hashes, ARRAY(sa.Text))
    connection.execute(sa.select(sa.func.audit_seal(*columns, end_seal)))
    return len(rows)


def lock(connection: sa.Connection, seals: Seals, who: str) -> int:
    """Seal the end of a chain without a key with a key, and record this act. Return the number of rows it covers.

    Safe to repeat: a chain that has a key, or has no row yet, stays as it is.
    """
    if with_key(head(connection)):
        return 0
    chain = walk(connection, Seals())
    if chain.broken is not None:
        raise Refused(
            f"the audit trail is broken after {chain.sealed} rows: {chain.broken}",
            code="audit-broken",
            next_step="look into it",
        )
    if not chain.sealed:
        return 0
    note(connection, who, "lock the audit", None, rows=chain.sealed)
    return seal(connection, seals, locking=True) + chain.sealed


def head(connection: sa.Connection) -> str:
    """Return the last seal, to which every sealed row contributes; empty if nothing is sealed."""
    return connection.execute(sa.select(_H.head)).scalar_one_or_none() or ""


@dataclass(frozen=True, slots=True)
class Chain:
    """Result of a walk along the chain: the number of valid rows, and the objection to the first invalid one."""

    sealed: int
    unsealed: int
    head: str
    broken: str | None


def walk(connection: sa.Connection, seals: Seals, known_head: str | None = None) -> Chain:
    """Follow the chain from its first row to its recorded end. Read-only.

    A payload that a recorded erasure emptied breaks nothing. `known_head`, from a report, must be a seal of the chain,
    and so must the head in each certificate. Each job and each erasure must have the act that began it.
    """
    begun = _begun(connection)
    unsealed = connection.execute(sa.select(t.audit).where(_A.hash.is_(None))).all()
    sealed = connection.execute(sa.select(t.audit).where(_A.hash.is_not(None))).all()
    emptied = _emptied(connection, (*sealed, *unsealed))
    rows = {row.previous_hash: row for row in sealed}
    previous, walked = "", 0

    def broken(why: str) -> Chain:
        return Chain(walked, len(unsealed), previous, why)

    seen = {""}
    while (row := rows.pop(previous, None)) is not None:
        if row.payload is None and row.id not in emptied:
            return broken(f"the payload of row {row.id} is gone, and no erasure is on record that emptied it")
        if row.payload is not None and _payload_digest(row.payload) != row.payload_digest:
            return broken(f"the payload of row {row.id} is not the one that was recorded")
        if with_key(previous) and not with_key(row.hash):
            return broken(f"row {row.id} is sealed without a key, and those before it with one")
        objection = seals.objection(row.hash, _text(previous, row))
        if objection is not None:
            return broken(f"row {row.id} {objection}")
        previous, walked = row.hash, walked + 1
        seen.add(previous)
    if rows:
        return broken(f"{len(rows)} rows do not hang on the chain: one before them is missing")
    kept = connection.execute(sa.select(t.audit_head)).one_or_none()
    objection = _objection_to_end(seals, kept, len(sealed), previous)
    if objection is None and seals and previous and not with_key(previous):
        objection = "no row is sealed with AUDIT_KEY: whoever writes to the job table could have made all of it"
    if objection is None:
        objection = begun.objection((*sealed, *unsealed), seen)
    if objection is None and known_head is not None and known_head not in seen - {""}:
        objection = "the given head is none of its seals: rows were removed or replaced since"
    return Chain(walked, len(unsealed), previous, objection)


def _objection_to_end(seals: Seals, kept: Any, sealed: int, end: str) -> str | None:
    """Say what is wrong with the end of the chain: a record keeps its number of rows and its last seal."""
    if kept is None:
        return f"{sealed} rows are sealed, and its end is not on record" if sealed else None
    objection = seals.objection(kept.seal, _text_of_end(kept.rows, kept.head))
    if objection is not None:
        return f"the record of its end {objection}"
    if with_key(kept.head) != with_key(kept.seal):
        return "the record of its end is not sealed as its last row was"
    if kept.rows != sealed or kept.head != end:
        return (
            f"{kept.rows} rows were sealed up to {kept.head[:16]}…, and {sealed} are there, up to {end[:16] or 'none'}…"
        )
    return None


def _emptied(connection: sa.Connection, rows: Iterable[Any]) -> set[int]:
    """Return the rows whose payloads erasures emptied, by the acts that record it."""
    erasures = set(connection.execute(sa.select(t.erasure.c.id)).scalars())
    told: set[int] = set()
    for row in rows:
        payload = row.payload if row.action == EMPTIED else None
        if payload is not None and (row.who == _BEFORE_THAT or payload.get("erasure") in erasures):
            told.update(payload.get("rows", ()))
    return told


@dataclass(frozen=True, slots=True)
class _Begun:
    """Facts in other tables that the trail must name: the jobs, the erasures, and the heads in certificates.

    If somebody empties the trail together with its recorded end, the next act makes the trail look whole. These facts
    then show that rows are missing.
    """

    jobs: tuple[int, ...]
    erasures: int
    heads: frozenset[str]

    def objection(self, rows: Collection[Any], seals: Collection[str]) -> str | None:
        """Say what is missing in the trail."""
        applied = {row.job_id for row in rows if row.action == APPLIED}
        missing = [job_id for job_id in self.jobs if job_id not in applied]
        if missing:
            return f"job {missing[0]} is there, and the act that began it is not: rows at its beginning are missing"
        if sum(row.action == ERASURE_BEGUN for row in rows) < self.erasures:
            return "an erasure is there, and the act that began it is not: rows at its beginning are missing"
        if not self.heads <= set(seals):
            return "the head in a certificate of an erasure is none of its seals: rows were removed or replaced since"
        return None


def _begun(connection: sa.Connection) -> _Begun:
    """Read these facts. Call this before reading the trail: an act is committed together with the job it begins."""
    heads = connection.execute(sa.select(t.erasure.c.certificate["audit_head"].astext).distinct()).scalars()
    return _Begun(
        tuple(connection.execute(sa.select(t.job.c.id).order_by(t.job.c.id)).scalars()),
        connection.execute(sa.select(sa.func.count()).select_from(t.erasure)).scalar_one(),
        frozenset(head for head in heads if head),
    )


def _text_of_end(rows: int, head: str) -> str:
    return f"end\0{rows}\0{head}"


def _text(previous: str, row: Any) -> str:
    at = row.at.astimezone(UTC).isoformat()  # whatever the session's time zone
    return "\0".join([previous, str(row.id), at, row.who, row.action, str(row.job_id), row.payload_digest])
