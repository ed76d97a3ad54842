"""The erasure fence: digests of the erased tenants, and the certificates of their erasures."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.core.states import JOB_ENDED, BatchKind, BatchState
from orchestrator.ledger import audit, index_acts
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among_pairs
from vecfleet.errors import NotFound, Refused
from vecfleet.settings import CALL_LASTS_DEADLINES

_E, _B, _T, _J = t.erasure.c, t.batch.c, t.target.c, t.job.c
FENCED = sa.select(_E.subject).where(
    _E.subject == sa.any_(sa.bindparam("wanted", type_=ARRAY(sa.Text))), _E.lifted_at.is_(None)
)
# Erasures take seconds; a thousand namespaces take ten. An erasure without a certificate for this long was given up.
_GIVEN_UP_AFTER = sa.text("interval '15 minutes'")


def begin(connection: sa.Connection, subject: str, who: str) -> int:
    """Raise the erasure fence. The fence stands once this is committed. Call `note_leases` in a later transaction.

    The indexes that the service filled before are known from the commit on; what it fills later is no erasure's that
    began before: `index_acts.require_no_filling_since`.
    """
    index_acts.wait_for_changes(connection)
    number: int = connection.execute(
        sa.insert(t.erasure).values(subject=subject, who=who).returning(_E.id)
    ).scalar_one()
    audit.note(connection, who, audit.ERASURE_BEGUN, None, erasure=number, subject=subject)
    return number


def note_leases(connection: sa.Connection, number: int, deadline_s: float) -> None:
    """Note the copies that may have asked for the fence before it stood, and the end of the last earlier write.

    Safe to repeat: the first answer counts. A request lasts at most `deadline_s`.
    """
    copying = sa.select(_B.id, _B.generation).where(_B.kind == BatchKind.COPY, _B.state == BatchState.LEASED)
    leases = [[row.id, row.generation] for row in connection.execute(copying)]
    connection.execute(
        sa.update(t.erasure)
        .where(_E.id == number, _E.leases.is_(None))
        .values(leases=leases, last_write_at=_last_landing(connection, deadline_s))
    )


def _last_landing(connection: sa.Connection, deadline_s: float) -> datetime | None:
    """Return by when the newest write of any job, live or ended, was carried out. None if nothing was written.

    Only indexes whose reads lag count, and those that the service filled. A write is on record before it is sent. It
    was answered unless a worker lost its lease meanwhile; then it may take as long as a request may last.
    """
    written = (
        sa.select(_T.job_id, sa.func.max(_T.last_write_at).label("at"))
        .join(t.job, _J.id == _T.job_id)
        .where(_J.target_lag_s > 0)  # other targets show a write at once
        .group_by(_T.job_id)
        .subquery()
    )
    unanswered = (
        sa.select(_B.id)
        .where(_B.job_id == written.c.job_id, _B.kind == BatchKind.COPY, _B.attempts > 0)
        .where(_B.state.in_((BatchState.READY, BatchState.DISPATCHED, BatchState.PARKED)))
        .exists()
    )
    answered_by = written.c.at + sa.func.make_interval(0, 0, 0, 0, 0, 0, deadline_s)
    landed = sa.case((unanswered, answered_by), else_=sa.func.least(answered_by, NOW))
    filled_at = index_acts.last_filled_at(connection)
    at: datetime | None = connection.execute(
        sa.select(sa.func.greatest(sa.select(sa.func.max(landed)).scalar_subquery(), filled_at))
    ).scalar_one()
    return at


def last_write_at(connection: sa.Connection, number: int) -> datetime | None:
    """Return when the last job's write that could concern the tenant was carried out; None if there was none."""
    at: datetime | None = connection.execute(sa.select(_E.last_write_at).where(_E.id == number)).scalar_one()
    return at


def wait_s(connection: sa.Connection, number: int, deadline_s: float, freshness_s: float) -> float:
    """Return how many seconds a write from before the fence may still be unseen; 0 once every read shows it.

    Waits for the latest of three: a request and a freshness wait after the end of the leases that the fence found; a
    freshness wait after the last write of any job; the end of a write to both sides. Raises NotFound.
    """
    left = sa.func.extract("epoch", _E.last_write_at - NOW)
    seconds: float | None = connection.execute(sa.select(left).where(_E.id == number)).scalar_one_or_none()
    unseen_s = 0.0 if seconds is None else max(0.0, float(seconds) + freshness_s)
    both_s = _both_sides_wait_s(connection, number, CALL_LASTS_DEADLINES * deadline_s)
    return max(unseen_s, both_s, _leases_wait_s(connection, number, deadline_s + freshness_s))


def _both_sides_wait_s(connection: sa.Connection, number: int, lasts_s: float) -> float:
    """Return how long an application's write to both sides, from before the fence, may still be unseen on one side.

    The application's client does not ask for the fence, and writes to the second side after the first one answered. It
    writes to both sides if a job's plan says so, and as long as it may use a route that it read before the job ended.
    """
    may_be_used = sa.or_(
        _J.state.not_in(sorted(JOB_ENDED)),
        _J.ended_at + sa.func.make_interval(0, 0, 0, 0, 0, 0, _J.routes_stale_s) > _E.at,
    )
    unseen_s = lasts_s + sa.func.greatest(_J.source_lag_s, _J.target_lag_s)
    left = sa.func.max(sa.func.extract("epoch", _E.at - NOW) + unseen_s)
    seconds = connection.execute(
        sa.select(left)
        .select_from(t.erasure.join(t.job, may_be_used))
        .where(_E.id == number, _J.plan["policies"]["writers"].astext == "dual", _J.created_at <= _E.at)
    ).scalar_one()
    return 0.0 if seconds is None else max(0.0, float(seconds))


def _leases_wait_s(connection: sa.Connection, number: int, quiet_s: float) -> float:
    """Return how long the leases that the fence found may still lead to writes; 0 if none may. Raises NotFound.

    A worker sends nothing after its lease has expired, and `quiet_s` is longer than the worker's last request.
    """
    row = connection.execute(sa.select(_E.leases, _E.quiet_at).where(_E.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no erasure {number}", next_step="begin it: `vecfleet forget`")
    if not row.leases:
        return 0.0
    if row.quiet_at is None:
        held = among_pairs(_B.id, _B.generation, row.leases)
        left = connection.execute(
            sa.select(sa.func.max(sa.func.extract("epoch", _B.lease_until - NOW))).where(
                held, _B.state == BatchState.LEASED, _B.lease_until > NOW
            )
        ).scalar_one()
        if left is not None:
            return float(left) + quiet_s
        connection.execute(sa.update(t.erasure).where(_E.id == number).values(quiet_at=NOW))
        return quiet_s
    since = sa.func.extract("epoch", NOW - _E.quiet_at)
    waited = float(connection.execute(sa.select(since).where(_E.id == number)).scalar_one())
    return max(0.0, quiet_s - waited)


def under_way(connection: sa.Connection) -> bool:
    """Say whether an erasure is under way: its fence stands, and it has no certificate yet."""
    later = t.erasure.alias("later")
    done = (
        sa.select(later.c.id)
        .where(later.c.subject == _E.subject, later.c.id > _E.id, later.c.certificate.is_not(None))
        .correlate(t.erasure)
        .exists()
    )
    begun = sa.and_(_E.certificate.is_(None), _E.lifted_at.is_(None), _E.at > NOW - _GIVEN_UP_AFTER, ~done)
    return bool(connection.execute(sa.select(sa.select(_E.id).where(begun).exists())).scalar_one())


def last_certified_at(connection: sa.Connection) -> datetime | None:
    """Return when the newest certificate was given, by the database's clock; None if there is none."""
    at: datetime | None = connection.execute(sa.select(sa.func.max(_E.certified_at))).scalar_one()
    return at


def fenced(connection: sa.Connection, subjects: Collection[str]) -> set[str]:
    """Return the tenants among `subjects` that were erased and did not come back."""
    if not subjects:
        return set()
    return set(connection.execute(FENCED, {"wanted": sorted(subjects)}).scalars())


def require_begun(connection: sa.Connection, number: int, subject: str) -> sa.Row[Any]:
    """Return when this erasure was begun (`at`), and who asked for it (`who`).

    Its row is locked until the transaction ends. Raises NotFound if there is no such erasure, and Refused if it is
    another tenant's, is finished, or its fence fell.
    """
    row = connection.execute(sa.select(t.erasure).where(_E.id == number).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no erasure {number}", next_step="begin it: `vecfleet forget`")
    against = {
        "it was begun for another tenant": row.subject != subject,
        "it is finished, and has its certificate": row.certificate is not None,
        "its fence fell: the tenant came back": row.lifted_at is not None,
    }
    for why, holds in against.items():
        if holds:
            raise Refused(
                f"erasure {number} cannot be finished: {why}",
                code="erasure-unfinished",
                next_step="begin a new one: `vecfleet forget`",
            )
    return row


def certify(connection: sa.Connection, number: int, who: str, certificate: Mapping[str, Any]) -> None:
    """Record the certificate, also in the audit trail."""
    given = {"certificate": certificate, "certified_at": NOW}
    connection.execute(sa.update(t.erasure).where(_E.id == number).values(given))
    audit.note(connection, who, "erased", None, **certificate)


def certificate_of(connection: sa.Connection, number: int) -> dict[str, Any] | None:
    """Return the certificate of an erasure; None while it is not over. Raises NotFound."""
    row = connection.execute(sa.select(_E.certificate).where(_E.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no erasure {number}", next_step="begin it: `vecfleet forget`")
    certificate: dict[str, Any] | None = row.certificate
    return certificate


def asked_by(connection: sa.Connection, number: int) -> str:
    who: str = connection.execute(sa.select(_E.who).where(_E.id == number)).scalar_one()
    return who


def lift(connection: sa.Connection, subject: str, who: str) -> int:
    """Lift the fences of a tenant that came back: its records may be written again. Return the number of fences."""
    lifted = connection.execute(
        sa.update(t.erasure).where(_E.subject == subject, _E.lifted_at.is_(None)).values(lifted_at=NOW)
    ).rowcount
    if lifted:
        audit.note(connection, who, "readmit", None, subject=subject)
    return lifted
