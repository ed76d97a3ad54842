"""Vectors of texts, shared by the fleet: each text is asked for by one batch at a time, and kept once answered.

A row without a vector reserves its text for a batch, for a time that the batch extends right before its request. Once
that time or that attempt of the batch is over, whoever wants the text reserves it anew. The earlier request may have
been billed: its tokens count as unanswered. Rows are locked in the order of their keys.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from migrations.embedding import Embedding
from orchestrator.core.model import Lease
from orchestrator.ledger import batches
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW

_E, _C = t.embedding.c, t.embedding_cost.c
# Which vectors go first depends on when they were used last: to the hour is enough.
_AN_HOUR = sa.text("interval '1 hour'")
# Nobody works any more on the batch of a reservation that ended so long ago.
_LONG_OVER = sa.text("interval '1 day'")
_BETWEEN = ","  # no digest of a tenant has one


@dataclass(frozen=True, slots=True)
class Wanted:
    """A text to be embedded: its tokens as counted, and the digests of the tenants whose text it is."""

    tokens: int
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True)
class Spent:
    """The requests, texts and tokens that a job was billed for. `unanswered` tokens may have been billed as well."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    unanswered: int = 0


def find(connection: sa.Connection, wanted: Mapping[bytes, Wanted]) -> dict[bytes, bytes]:
    """Return the vectors that are kept, by their keys. Note that they are used, and whose texts they are as well."""
    asked = _rows(wanted)
    news = (
        sa.select(_E.key, asked.c.subjects)
        .join(asked, asked.c.key == _E.key)
        .where(_E.vector.is_not(None), sa.or_(~_E.subjects.contains(asked.c.subjects), _E.used_at < NOW - _AN_HOUR))
        .order_by(_E.key)
        .with_for_update(of=t.embedding)
        .cte("news")
    )
    subject = sa.func.unnest(_E.subjects.concat(news.c.subjects)).column_valued("subject")
    both = sa.func.array(sa.select(subject).distinct().order_by(subject).scalar_subquery())
    connection.execute(
        sa.update(t.embedding).where(_E.key == news.c.key).values(used_at=NOW, subjects=both).add_cte(news)
    )
    rows = connection.execute(sa.select(_E.key, _E.vector).where(_among(wanted), _E.vector.is_not(None)))
    return {row.key: row.vector for row in rows}


def reserve(connection: sa.Connection, lease: Lease, wanted: Mapping[bytes, Wanted], seconds: float) -> set[bytes]:
    """Reserve the texts that are neither kept nor reserved by another batch. Return their keys."""
    _end(connection, _among(wanted), sa.or_(_E.reserved_until < NOW, _E.batch_id == lease.id))
    asked = _rows(wanted)
    rows = insert(t.embedding).from_select(
        ["key", "tokens", "subjects", "job_id", "batch_id", "generation", "reserved_until"],
        sa.select(
            asked.c.key,
            asked.c.tokens,
            asked.c.subjects,
            sa.literal(lease.job_id, sa.BigInteger),
            sa.literal(lease.id, sa.BigInteger),
            sa.literal(lease.generation, sa.Integer),
            _in(seconds),
        ).order_by(asked.c.key),
    )
    return set(connection.execute(rows.on_conflict_do_nothing(index_elements=[_E.key]).returning(_E.key)).scalars())


def billed_at_most(connection: sa.Connection, job_id: int) -> int:
    """Return the most tokens that the job may be billed for, texts that are reserved for it included.

    Lock the job's costs: two batches that reserved texts before they ask see each other's.
    """
    connection.execute(insert(t.embedding_cost).values(job_id=job_id).on_conflict_do_nothing())
    spent = sa.select(_C.tokens + _C.unanswered).where(_C.job_id == job_id).with_for_update()
    billed: int = connection.execute(spent).scalar_one()
    reserved = sa.select(sa.func.coalesce(sa.func.sum(_E.tokens), 0)).where(_E.job_id == job_id, _E.vector.is_(None))
    return billed + int(connection.execute(reserved).scalar_one())


def begin_request(connection: sa.Connection, lease: Lease, keys: Collection[bytes], seconds: float) -> bool:
    """Reserve the texts of a request for so many seconds more. False if one is no longer ours: make no request then."""
    ours = sa.select(_E.key).where(_among(keys), _mine(lease)).order_by(_E.key).with_for_update().cte("ours")
    begun = connection.execute(
        sa.update(t.embedding).where(_E.key == ours.c.key).values(reserved_until=_in(seconds), asked_at=NOW)
    )
    return begun.rowcount == len(keys)


def keep(connection: sa.Connection, lease: Lease, vectors: Mapping[bytes, bytes]) -> None:
    """Keep the answer to a request. Raises LeaseLost.

    Behind the fence: an erasure that this transaction does not see waits for the end of the lease.
    """
    batches.require(connection, lease)
    connection.execute(sa.select(_E.key).where(_among(vectors), _mine(lease)).order_by(_E.key).with_for_update())
    answered = _unnested(key=(list(vectors), sa.LargeBinary), vector=(list(vectors.values()), sa.LargeBinary))
    connection.execute(
        sa.update(t.embedding)
        .where(_E.key == answered.c.key, _mine(lease))
        .values(vector=answered.c.vector, reserved_until=None, asked_at=None, used_at=NOW)
    )


def release(connection: sa.Connection, lease: Lease, keys: Collection[bytes]) -> None:
    """Drop reservations of ours whose request failed; the caller counts what may have been billed. Safe to repeat."""
    ours = sa.select(_E.key).where(_among(keys), _mine(lease)).order_by(_E.key).with_for_update().cte("ours")
    connection.execute(sa.delete(t.embedding).where(_E.key == ours.c.key))


def count(connection: sa.Connection, job_id: int, spent: Spent) -> None:
    """Add to what the job was billed for."""
    added = {name: getattr(spent, name) for name in Spent.__dataclass_fields__}
    row = insert(t.embedding_cost).values(job_id=job_id, **added)
    sums = {name: _C[name] + row.excluded[name] for name in added}
    connection.execute(row.on_conflict_do_update(index_elements=[_C.job_id], set_=sums))


def spent(connection: sa.Connection, job_id: int) -> Spent:
    """Return what the job's texts have cost so far."""
    columns = [_C[name] for name in Spent.__dataclass_fields__]
    row = connection.execute(sa.select(*columns).where(_C.job_id == job_id)).one_or_none()
    return Spent() if row is None else Spent(**row._mapping)


def forget(connection: sa.Connection, subject: str) -> int:
    """Delete the vectors of an erased tenant's texts, those that others have as well included. Return their number.

    What they cost stays on the account, which names no text.
    """
    theirs = _E.subjects.contains([subject])
    reserved = _end(connection, theirs)
    which = sa.select(_E.key).where(theirs).order_by(_E.key).with_for_update().cte("which")
    return reserved + connection.execute(sa.delete(t.embedding).where(_E.key == which.c.key)).rowcount


def residual(connection: sa.Connection) -> list[str]:
    """Return a certificate's sentences about texts that the jobs on record sent or read, and no erasure reaches."""
    asked = t.job.c.plan["policies"]["embedding"]
    rows = connection.execute(
        sa.select(t.job.c.id, asked.label("asked")).where(asked.astext.is_not(None)).order_by(t.job.c.id)
    )
    jobs: dict[str, list[int]] = {}
    for job_id, told in rows:
        for sentence in _left_by(Embedding.model_validate(told)):
            jobs.setdefault(sentence, []).append(job_id)
    return [
        sentence.format(jobs=f"job{'s' * (len(of) > 1)} {', '.join(map(str, of))}") for sentence, of in jobs.items()
    ]


def _left_by(embedding: Embedding) -> Iterator[str]:
    """Yield where texts of a job's records may remain, and what to do about it."""
    card, rows, gate = embedding.card, embedding.rows, embedding.gate
    if not card.is_local:
        at = f" at {card.endpoint}" if card.endpoint else ""
        told = "{jobs} sent it texts of records, perhaps of this tenant: its own terms say what it keeps, and how long"
        yield f"{_plain(card.name + at)}: {told}"
    if rows is not None:
        yield f"{_plain(rows.name)}: {{jobs}} read texts of it, perhaps of this tenant: delete them there"
    if gate.file is not None:
        told = "{jobs} asked the questions in it, which may quote this tenant: take them out by hand"
        yield f"{_plain(gate.file)}: {told}"


def _plain(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")


def trim(connection: sa.Connection, most_bytes: int) -> int:
    """Delete the vectors that were not used for longest, down to `most_bytes`, and reservations that nobody ended.

    Return the number deleted.
    """
    _end(connection, _E.reserved_until < NOW - _LONG_OVER)
    size = sa.func.sum(sa.func.length(_E.vector)).over(order_by=(_E.used_at.desc(), _E.key)).label("size")
    sizes = sa.select(_E.key, size).where(_E.vector.is_not(None)).subquery()
    old = sa.select(sizes.c.key).where(sizes.c.size > sa.literal(most_bytes, sa.BigInteger))
    rows = sa.select(_E.key).where(_E.key.in_(old)).order_by(_E.key).with_for_update(skip_locked=True)
    return connection.execute(sa.delete(t.embedding).where(_E.key.in_(rows))).rowcount


def _end(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> int:
    """Delete reservations; what was asked for counts as unanswered. Return their number."""
    gone = sa.select(_E.key).where(_E.vector.is_(None), *which).order_by(_E.key).with_for_update().cte("gone")
    ended = sa.delete(t.embedding).where(_E.key == gone.c.key).returning(_E.job_id, _E.tokens, _E.asked_at)
    unanswered: dict[int, int] = {}
    rows = connection.execute(ended).all()
    for row in rows:
        if row.asked_at is not None:
            unanswered[row.job_id] = unanswered.get(row.job_id, 0) + row.tokens
    for job_id in sorted(unanswered):
        count(connection, job_id, Spent(unanswered=unanswered[job_id]))
    return len(rows)


def _mine(lease: Lease) -> sa.ColumnElement[bool]:
    return sa.and_(_E.vector.is_(None), _E.batch_id == lease.id, _E.generation == lease.generation)


def _in(seconds: float) -> Any:
    return NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _among(keys: Collection[bytes]) -> sa.ColumnElement[bool]:
    condition: sa.ColumnElement[bool] = _E.key == sa.any_(sa.cast(sorted(keys), ARRAY(sa.LargeBinary)))
    return condition


def _rows(wanted: Mapping[bytes, Wanted]) -> sa.CTE:
    rows = _unnested(
        key=(list(wanted), sa.LargeBinary),
        tokens=([text.tokens for text in wanted.values()], sa.Integer),
        joined=([_BETWEEN.join(sorted(text.subjects)) for text in wanted.values()], sa.Text),
    )
    subjects = sa.func.string_to_array(rows.c.joined, _BETWEEN, type_=ARRAY(sa.Text)).label("subjects")
    return sa.select(rows.c.key, rows.c.tokens, subjects).cte("wanted")


def _unnested(**columns: tuple[list[Any], Any]) -> Any:
    """Return columns of values as rows; each column is one parameter."""
    arrays = [sa.cast(values, ARRAY(type_)) for values, type_ in columns.values()]
    names = [sa.column(name, type_) for name, (_, type_) in columns.items()]
    return sa.func.unnest(*arrays).table_valued(*names).render_derived()
