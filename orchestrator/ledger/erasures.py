"""The fence: which tenants were erased, by digest; and the certificates of their erasures."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator import tables as t
from orchestrator.ledger import audit
from orchestrator.states import BatchKind, BatchState
from vecfleet.errors import NotFound

_NOW = sa.func.clock_timestamp()
_E, _B = t.erasure.c, t.batch.c
FENCED = sa.select(_E.subject).where(
    _E.subject == sa.any_(sa.bindparam("wanted", type_=ARRAY(sa.Text))), _E.lifted_at.is_(None)
)
# Erasures take seconds, a thousand namespaces ten. One without a certificate for so long ended without one.
_GIVEN_UP_AFTER = sa.text("interval '15 minutes'")


def begin(connection: sa.Connection, subject: str, who: str) -> int:
    """Raise the fence. It stands once this is committed; what leases are out is asked in a transaction after it."""
    number: int = connection.execute(
        sa.insert(t.erasure).values(subject=subject, who=who).returning(_E.id)
    ).scalar_one()
    audit.note(connection, who, "erase", None, erasure=number, subject=subject)
    return number


def note_leases(connection: sa.Connection, number: int) -> None:
    """The copies that may have asked the fence before it stood. Safe to repeat: the first answer counts."""
    copying = sa.select(_B.id, _B.generation).where(_B.kind == BatchKind.COPY, _B.state == BatchState.LEASED)
    leases = [[row.id, row.generation] for row in connection.execute(copying)]
    connection.execute(sa.update(t.erasure).where(_E.id == number, _E.leases.is_(None)).values(leases=leases))


def wait_s(connection: sa.Connection, number: int, quiet_s: float) -> float:
    """For how long a write from before the fence may still land: until the leases it found are over, and `quiet_s`.

    A lease that ran out counts as over: its worker asks nothing after its end, and `quiet_s` is longer than what it
    asked last takes. Raises NotFound.
    """
    row = connection.execute(sa.select(_E.leases, _E.quiet_at).where(_E.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no erasure {number}", next_step="begin it: `vecfleet forget`")
    if not row.leases:
        return 0.0
    if row.quiet_at is None:
        held = sa.tuple_(_B.id, _B.generation).in_([tuple(lease) for lease in row.leases])
        left = connection.execute(
            sa.select(sa.func.max(sa.func.extract("epoch", _B.lease_until - _NOW))).where(
                held, _B.state == BatchState.LEASED, _B.lease_until > _NOW
            )
        ).scalar_one()
        if left is not None:
            return float(left) + quiet_s
        connection.execute(sa.update(t.erasure).where(_E.id == number).values(quiet_at=_NOW))
        return quiet_s
    since = sa.func.extract("epoch", _NOW - _E.quiet_at)
    waited = float(connection.execute(sa.select(since).where(_E.id == number)).scalar_one())
    return max(0.0, quiet_s - waited)


def under_way(connection: sa.Connection) -> bool:
    """Whether a tenant is being erased: the fence stands, and no certificate says yet that its ids left the books."""
    later = t.erasure.alias("later")
    done = (
        sa.select(later.c.id)
        .where(later.c.subject == _E.subject, later.c.id > _E.id, later.c.certificate.is_not(None))
        .correlate(t.erasure)
        .exists()
    )
    begun = sa.and_(_E.certificate.is_(None), _E.lifted_at.is_(None), _E.at > _NOW - _GIVEN_UP_AFTER, ~done)
    return bool(connection.execute(sa.select(sa.select(_E.id).where(begun).exists())).scalar_one())


def fenced(connection: sa.Connection, subjects: Collection[str]) -> set[str]:
    """Which of these tenants were erased and did not come back."""
    if not subjects:
        return set()
    return set(connection.execute(FENCED, {"wanted": sorted(subjects)}).scalars())


def certify(connection: sa.Connection, number: int, who: str, certificate: Mapping[str, Any]) -> None:
    """Put the certificate on record, and into the chain of the audit."""
    connection.execute(sa.update(t.erasure).where(_E.id == number).values(certificate=certificate))
    audit.note(connection, who, "erased", None, **certificate)


def asked_by(connection: sa.Connection, number: int) -> str:
    who: str = connection.execute(sa.select(_E.who).where(_E.id == number)).scalar_one()
    return who


def lift(connection: sa.Connection, subject: str, who: str) -> int:
    """The tenant came back: its records may be written again. Returns how many fences fell."""
    lifted = connection.execute(
        sa.update(t.erasure).where(_E.subject == subject, _E.lifted_at.is_(None)).values(lifted_at=_NOW)
    ).rowcount
    if lifted:
        audit.note(connection, who, "readmit", None, subject=subject)
    return lifted
