"""Jobs: made with their claims and moves in one transaction, changed by compare-and-set along the edges of `states`."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import IntegrityError

from migrations.plan import Plan
from migrations.routing import Owner, Ownership
from orchestrator.core.freshness import Waits
from orchestrator.core.hooks import holding
from orchestrator.core.late_calls import kept
from orchestrator.core.model import Job, index_from_json, index_to_json
from orchestrator.core.states import JOB_EDGES, JOB_ENDED, BatchState, JobState
from orchestrator.core.windows import closes_at, waits_until
from orchestrator.ledger import index_acts, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW
from vecfleet import __version__, names
from vecfleet.errors import BadPlan, NotFound, Refused
from vecfleet.stores.base import IndexInfo


def insert_job(
    connection: sa.Connection,
    plan: Plan,
    *,
    source: IndexInfo,
    target: IndexInfo,
    way_back: str,
    ownership: Ownership,
    created_by: str,
    batch_window: int,
    pace_share: float,
    waits: Waits,
    traceparent: str | None = None,
) -> int:
    """Insert the job, its claims, its moves and the ownership snapshot. Raises Refused if a live job is in the way."""
    try:
        job_id: int = connection.execute(
            sa.insert(t.job)
            .values(
                plan=plan.model_dump(mode="json"),
                plan_digest=plan.digest,
                source=index_to_json(source),
                target=index_to_json(target),
                way_back=way_back,
                salt=secrets.token_hex(8),
                created_by=created_by,
                batch_window=batch_window,
                pace_share=pace_share,
                budget_factor=plan.policies.budget_factor,
                passes_allowed=plan.policies.max_passes,
                begins_until=NOW if plan.policies.window else None,
                traceparent=traceparent,
                **asdict(waits),
            )
            .returning(t.job.c.id)
        ).scalar_one()
    except IntegrityError as error:
        raise Refused(
            "a job with this very plan is still live",
            code="plan-live",
            next_step="see it with `vecfleet jobs`; a plan runs once at a time",
        ) from error
    claim(connection, job_id, source.host, [move.source for move in plan.moves], "source")
    claim(connection, job_id, target.host, sorted({move.to for move in plan.moves if move.to is not None}), "target")
    connection.execute(
        sa.insert(t.move).returning(t.move.c.id),  # hundreds of rows a statement; without it a statement each
        [
            {
                "job_id": job_id,
                "seq": seq,
                "source": move.source,
                "to": move.to,
                "creator": move.creator,
                "twin": move.twin,
                "prefix": f"{move.source}:" if plan.policies.collisions == "prefix" else "",
                "planned": move.records,
            }
            for seq, move in enumerate(plan.moves, start=1)
        ],
    )
    _insert_ownership(connection, job_id, ownership)
    change(connection, job_id, created_at=NOW)  # once it has its claims: nobody empties its namespaces from then on
    return job_id


def claim(connection: sa.Connection, job_id: int, host: str, namespaces: Sequence[str], role: str) -> None:
    """Claim namespaces for this job: one live job per target, and a source is no live job's target (or the reverse).

    What another job cleans up is no source either: routes of this job could lead tenants there.
    Safe to repeat. The table lock makes the two checks and the insert one step for concurrent jobs.
    """
    namespaces = sorted({names.canonical(namespace) for namespace in namespaces})
    if not namespaces:
        return
    lock_claims(connection)
    index_acts.require_not_wiped(connection, host)
    other = t.claim.alias()
    in_the_way = connection.execute(
        sa.select(other.c.namespace, other.c.role, other.c.job_id, t.job.c.state)
        .join(t.job, t.job.c.id == other.c.job_id)
        .where(other.c.index_host == host)
        # The same job counts too: no record routed by its owner may go to a namespace that the job will empty.
        .where(sa.or_(other.c.job_id != job_id, other.c.role != role))
        .where(other.c.namespace == sa.any_(sa.cast(namespaces, ARRAY(sa.Text))))
        .where(sa.or_(other.c.role == "target", sa.literal(role) == "target", _cleans_up()))
        .order_by(other.c.namespace)
        .limit(5)
    ).all()
    if in_the_way:
        listed = "; ".join(f"{row.namespace} is a {row.role} of job {row.job_id}" for row in in_the_way)
        end = _ending(in_the_way[0].job_id, in_the_way[0].state)
        raise Refused(f"namespaces of this plan are taken: {listed}", code="namespaces-taken", next_step=end)
    each = sa.func.unnest(sa.cast(namespaces, ARRAY(sa.Text))).column_valued("namespace")
    claims = sa.select(sa.literal(job_id), sa.literal(host), each, sa.literal(role))
    columns = ["job_id", "index_host", "namespace", "role"]
    connection.execute(insert(t.claim).from_select(columns, claims).on_conflict_do_nothing())


def _cleans_up() -> sa.ColumnElement[bool]:
    """Say whether a job deletes its sources, or goes on with that once it is resumed."""
    return sa.or_(t.job.c.state == JobState.CLEANING, t.job.c.resume_to == JobState.CLEANING)


def lock_claims(connection: sa.Connection) -> None:
    """Lock all claims until this transaction ends: no other job claims a namespace, new or with new owners."""
    connection.execute(sa.text("LOCK TABLE claim IN SHARE ROW EXCLUSIVE MODE"))


def namesakes(connection: sa.Connection, job: Job) -> list[tuple[int, str]]:
    """Return jobs (id, source) that moved a namespace of the same name from another index to a target of this job.

    The records of both name the same origin, so nobody can tell them apart.
    """
    mine, theirs = t.move.alias("mine"), t.move.alias("theirs")
    into, beside = t.target.alias("into"), t.target.alias("beside")
    rows = connection.execute(
        sa.select(theirs.c.job_id, theirs.c.source)
        .distinct()
        .join(t.job, t.job.c.id == theirs.c.job_id)
        .join(mine, sa.and_(mine.c.source == theirs.c.source, mine.c.job_id == job.id))
        .join(beside, beside.c.job_id == theirs.c.job_id)
        .join(into, sa.and_(into.c.namespace == beside.c.namespace, into.c.job_id == job.id))
        .where(t.job.c.id != job.id, t.job.c.state != JobState.ROLLED_BACK)
        .where(t.job.c.target["host"].astext == job.target.host, t.job.c.source["host"].astext != job.source.host)
        .order_by(theirs.c.job_id, theirs.c.source)
    )
    return [(row.job_id, row.source) for row in rows]


def require_alone(connection: sa.Connection, digest: str, *, but: int | None = None) -> None:
    """Raise Refused if a live job other than `but` runs the plan of this digest."""
    other = connection.execute(
        sa.select(t.job.c.id, t.job.c.state)
        .where(t.job.c.plan_digest == digest, t.job.c.id.is_distinct_from(but), t.job.c.state.not_in(JOB_ENDED))
        .limit(1)
    ).one_or_none()
    if other is not None:
        raise Refused(
            f"job {other.id} runs this very plan now", code="plan-live", next_step=f"`vecfleet status {other.id}`"
        )


def _ending(job_id: int, state: str) -> str:
    """Say how a live job ends that is in the way of another one."""
    if state in (JobState.VERIFIED, JobState.CUT_OVER):
        return f"`vecfleet finish {job_id}` ends it and keeps both sides"
    return f"wait for it or end it: `vecfleet status {job_id}`"


def require_not_done(connection: sa.Connection, digest: str) -> None:
    """Raise Refused if a job ran the plan of this digest to its end and deleted the sources.

    Records left in these sources were meant to stay, or came later.
    """
    done = connection.execute(
        sa.select(sa.func.max(t.job.c.id)).where(t.job.c.plan_digest == digest, t.job.c.state == JobState.CLEANED)
    ).scalar_one()
    if done is not None:
        raise Refused(
            f"job {done} ran this very plan and cleaned up after it",
            code="plan-done",
            next_step="if there are more records to move, make the plan again",
        )


def claimed_elsewhere(connection: sa.Connection, job: Job) -> dict[str, int]:
    """Return the sources of this job that other live jobs read or write, each with the oldest of these jobs."""
    other = t.claim.alias()
    rows = connection.execute(
        sa.select(other.c.namespace, sa.func.min(other.c.job_id).label("job_id"))
        .join(t.claim, sa.and_(t.claim.c.namespace == other.c.namespace, t.claim.c.index_host == other.c.index_host))
        .where(t.claim.c.job_id == job.id, t.claim.c.role == "source")
        .where(other.c.job_id != job.id)
        .group_by(other.c.namespace)
        .order_by(other.c.namespace)
    )
    return {row.namespace: row.job_id for row in rows}


def _insert_ownership(connection: sa.Connection, job_id: int, ownership: Ownership) -> None:
    rows = [
        {"job_id": job_id, "kind": kind, "key": key, "creator": owner.creator, "twin": owner.twin}
        for kind, answers in (("twin", ownership.twins), ("source", ownership.sources))
        for key, owner in answers.items()
    ]
    if rows:
        connection.execute(sa.insert(t.ownership), rows)


def ownership(connection: sa.Connection, job_id: int) -> Ownership:
    """Return the answers that the look-up gave when the job was made."""
    answers: dict[str, dict[str, Owner]] = {"twin": {}, "source": {}}
    for row in connection.execute(sa.select(t.ownership).where(t.ownership.c.job_id == job_id)):
        answers[row.kind][row.key] = Owner(row.creator, row.twin)
    return Ownership(twins=answers["twin"], sources=answers["source"])


_COLUMNS = [column for column in t.job.c if column.name not in ("plan", "traceparent", "filled_by")]
# A plan never changes and may have 12,000 moves, so a process reads and checks it once.
_PLANS_KEPT = 32
_plans: OrderedDict[str, Plan] = OrderedDict()
_plans_lock = threading.Lock()


def get(connection: sa.Connection, job_id: int, *, lock: bool = False) -> Job:
    """Return the job. `lock` locks its row until the transaction ends: decisions on it happen one at a time.

    Raises NotFound, and BadPlan if another version made its plan.
    """
    query = sa.select(*_COLUMNS).where(t.job.c.id == job_id)
    row = connection.execute(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if row is None:
        raise absent(connection, job_id)
    return _job(connection, row)


def absent(connection: sa.Connection, job_id: int) -> NotFound:
    """Return the error about a job that does not exist; it names the newest one."""
    newest = connection.execute(sa.select(sa.func.max(t.job.c.id))).scalar_one()
    there = "; there are none yet" if newest is None else f"; the newest is job {newest}"
    return NotFound(f"there is no job {job_id}{there}", next_step="`vecfleet jobs` lists them")


def lock(connection: sa.Connection, job_id: int) -> None:
    """Lock the job's row as `get` does, and read nothing of it."""
    connection.execute(sa.select(t.job.c.id).where(t.job.c.id == job_id).with_for_update(key_share=True))


def every(connection: sa.Connection, states: Iterable[JobState] | None = None) -> list[Job]:
    query = sa.select(*_COLUMNS).order_by(t.job.c.id)
    if states is not None:
        query = query.where(t.job.c.state.in_(list(states)))
    return [_job(connection, row) for row in connection.execute(query).all()]


def live(connection: sa.Connection) -> list[int]:
    """Return the jobs that have not ended."""
    return list(
        connection.execute(sa.select(t.job.c.id).where(t.job.c.state.not_in(JOB_ENDED)).order_by(t.job.c.id)).scalars()
    )


def _job(connection: sa.Connection, row: sa.Row[Any]) -> Job:
    body = dict(row._mapping)
    digest = body.pop("plan_digest")
    body["plan"] = _plan(connection, body["id"], digest)
    body["state"] = JobState(body["state"])
    body["resume_to"] = JobState(body["resume_to"]) if body["resume_to"] else None
    body["source"] = index_from_json(body["source"])
    body["target"] = index_from_json(body["target"])
    return Job(**body)


def _plan(connection: sa.Connection, job_id: int, digest: str) -> Plan:
    with _plans_lock:
        if digest in _plans:
            _plans.move_to_end(digest)
            return _plans[digest]
    body = connection.execute(sa.select(t.job.c.plan).where(t.job.c.id == job_id)).scalar_one()
    try:
        plan = Plan.model_validate(body)
    except ValidationError as error:
        raise BadPlan(
            f"this version of vecfleet ({__version__}) cannot read the plan of job {job_id}",
            next_step="another version made it: install that version here",
        ) from error
    with _plans_lock:
        _plans[digest] = plan
        while len(_plans) > _PLANS_KEPT:
            _plans.popitem(last=False)
    return plan


def advance(
    connection: sa.Connection,
    job_id: int,
    from_: JobState,
    to: JobState,
    *,
    reason: str | None = None,
    resume_to: JobState | None = None,
) -> bool:
    """Move the job along an edge; return False if its state has changed. What its reason says of late calls stays."""
    if to not in JOB_EDGES[from_]:
        raise Refused(
            f"a job that is {from_} cannot become {to}",
            code="no-such-edge",
            next_step=f"see `vecfleet status {job_id}`",
        )
    stamped: dict[JobState, dict[str, Any]] = {
        JobState.VERIFIED: {"verified_at": sa.func.coalesce(t.job.c.verified_at, NOW)},
        JobState.CUT_OVER: {"cut_over_at": sa.func.coalesce(t.job.c.cut_over_at, NOW)},
        JobState.CLEANING: {"cleaning_at": NOW},
    }
    stamps = stamped.get(to, {})
    if from_ is JobState.PLANNED and to is JobState.RUNNING:
        stamps["started_at"] = NOW
    if to in JOB_ENDED:
        stamps["ended_at"] = NOW
    changed = connection.execute(
        transitions.job_to(to, reason=kept(reason, reason_of(connection, job_id)), resume_to=resume_to, **stamps).where(
            t.job.c.id == job_id, t.job.c.state == from_
        )
    ).rowcount
    if changed and to in JOB_ENDED:
        connection.execute(sa.delete(t.claim).where(t.claim.c.job_id == job_id))
    if changed and to in (JobState.PAUSING, JobState.CANCELLING):
        recall(connection, job_id)
    return bool(changed)


def recall(connection: sa.Connection, job_id: int) -> None:
    """Return batches to ready whose wake-ups no worker has answered yet."""
    connection.execute(
        transitions.batch_to(BatchState.READY).where(
            t.batch.c.job_id == job_id, t.batch.c.state == BatchState.DISPATCHED
        )
    )


def set_reason(connection: sa.Connection, job_id: int, reason: str | None) -> None:
    """Replace the reason, but not what it says of late calls. Others are told of one that says that the job is held."""
    before, held = reason_of(connection, job_id), holding(reason)
    if held is not None and held not in (before or ""):
        connection.execute(transitions.held(job_id))
    if (new := kept(reason, before)) != before:
        change(connection, job_id, reason=new)


def add_reason(connection: sa.Connection, job_id: int, why: str) -> None:
    """Add a sentence behind the present reason, because next steps depend on its beginning. Safe to repeat."""
    before = reason_of(connection, job_id)
    if before is None or why not in before:
        set_reason(connection, job_id, f"{before}; {why}" if before else why)


def reason_of(connection: sa.Connection, job_id: int) -> str | None:
    """Return the reason alone, even if this version cannot read the rest of the row."""
    reason: str | None = connection.execute(sa.select(t.job.c.reason).where(t.job.c.id == job_id)).scalar_one()
    return reason


def may_begin(connection: sa.Connection, job: Job) -> bool:
    """Say whether batches of the job may begin now; while its window is open, let workers begin them until it closes.

    Safe to repeat: it only puts the moment on record off. Dies before its commit: the next tick opens the window.
    """
    window = job.plan.policies.window
    if window is None:
        return True
    now: datetime = connection.execute(sa.select(NOW)).scalar_one()
    closes = closes_at(window, now)
    if closes is not None:
        sooner = t.job.c.begins_until < closes
        connection.execute(sa.update(t.job).where(t.job.c.id == job.id, sooner).values(begins_until=closes))
    return waits_until(window, job.begins_until, now) is None


def change(connection: sa.Connection, job_id: int, **values: Any) -> None:
    """Set columns of the job's row."""
    connection.execute(sa.update(t.job).where(t.job.c.id == job_id).values(**values))
