"""Routes: the place where readers find each twin. A route keeps both places; a cut-over or reversal sets its side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.core.following import WITHOUT_CLIENTS
from orchestrator.core.model import Job
from orchestrator.ledger import route_table
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from vecfleet import names
from vecfleet.connections import full_name
from vecfleet.tenancy.routes import Route

_R, _T, _M = t.route.c, t.target.c, t.move.c


@dataclass(frozen=True, slots=True)
class JobRoute:
    id: int
    creator: str
    twin: str | None
    old_index: str
    old_namespaces: tuple[str, ...]
    new_index: str
    new_namespace: str
    side: str
    aliases: Mapping[str, str]


def ensure(connection: sa.Connection, job: Job) -> list[JobRoute]:
    """Create a route for each target; its old places are the sources that wrote to it. Safe to repeat.

    Where a plan names no tenants, namespaces that keep a tenant's name take the tenant along that a route led there.
    """
    known = {row.new_namespace for row in connection.execute(sa.select(_R.new_namespace).where(_R.job_id == job.id))}
    rows = connection.execute(
        sa.select(_T.namespace, _T.creator, _T.twin, sa.func.array_agg(_M.source).label("sources"))
        .join(t.move_target, t.move_target.c.target_id == _T.id)
        .join(t.move, _M.id == t.move_target.c.move_id)
        .where(_T.job_id == job.id)
        .group_by(_T.namespace, _T.creator, _T.twin)
    ).all()
    new = [row for row in rows if row.namespace not in known]
    led = _led_to_sources(connection, job) if any(row.creator is None for row in new) else {}
    missing = [
        {
            "job_id": job.id,
            **_tenant_of(row, led),
            "old_index": full_name(job.plan.source.store, job.source.name),
            "old_namespaces": sorted(row.sources),
            "new_index": full_name(job.plan.target.store, job.target.name),
            "new_namespace": row.namespace,
        }
        for row in new
    ]
    if missing:
        connection.execute(sa.insert(t.route), missing)
    return of_job(connection, job.id)


def _led_to_sources(connection: sa.Connection, job: Job) -> dict[str, Route]:
    """Return each tenant's own name → the youngest route by which the tenant is led to sources of this job."""
    if job.plan.takes_back or job.plan.target.store in WITHOUT_CLIENTS:
        return {}
    index, sources = full_name(job.plan.source.store, job.source.name), [move.source for move in job.plan.moves]
    leading = route_table.leading_to(connection, job.source.host, index, sources, but=job)
    return {names.build(route.creator, route.twin): route for route in reversed(leading)}


def _tenant_of(row: sa.Row[Any], led: Mapping[str, Route]) -> dict[str, str | None]:
    """Return creator and twin of a target: by its plan, or those that were led to its sources and nowhere else."""
    route = led.get(row.namespace)
    if row.creator is not None or route is None:
        return {"creator": row.creator or "", "twin": row.twin}
    alone = {place.namespace for place in route_table.places_of(route)} <= set(row.sources)
    return {"creator": route.creator, "twin": route.twin} if alone else {"creator": "", "twin": None}


def of_job(connection: sa.Connection, job_id: int) -> list[JobRoute]:
    rows = connection.execute(sa.select(t.route).where(_R.job_id == job_id).order_by(_R.new_namespace))
    return [_route(row) for row in rows]


def any_moved(connection: sa.Connection, job_id: int) -> bool:
    """Say whether readers of this job were ever moved, even if they are back: the first move creates its routes."""
    return bool(connection.execute(sa.select(sa.select(_R.id).where(_R.job_id == job_id).exists())).scalar_one())


def _route(row: sa.Row[Any]) -> JobRoute:
    return JobRoute(
        row.id,
        row.creator,
        row.twin,
        row.old_index,
        tuple(row.old_namespaces),
        row.new_index,
        row.new_namespace,
        row.side,
        row.aliases or {},
    )


def note_aliases(connection: sa.Connection, job_id: int, aliases: Mapping[str, str]) -> None:
    """Note the aliases of old places (alias → namespace). Aliases of a route's only old place follow the route."""
    alone = sa.select(_M.to, _M.source).where(_M.job_id == job_id, _M.to.is_not(None))
    for new, old in connection.execute(alone).all():
        leading = {name: place for name, place in aliases.items() if place == old}
        if leading:
            own = sa.and_(_R.job_id == job_id, _R.new_namespace == new)
            noted = sa.func.coalesce(_R.aliases, sa.cast({}, JSONB)).concat(sa.cast(leading, JSONB))
            connection.execute(sa.update(t.route).where(own).values(aliases=noted))


def set_sides(connection: sa.Connection, new: list[int], old: list[int]) -> None:
    """Point the routes `new` to the new side and the routes `old` to the old side."""
    for side, ids in (("new", new), ("old", old)):
        moved = sa.update(t.route).where(among(_R.id, ids), _R.side != side)
        connection.execute(moved.values(side=side, changed_at=NOW))
