"""The routes of all jobs for applications: `vecfleet.tenancy.routes.RouteTable`, made from the job table.

The same routes say what may not be deleted: a namespace to which a tenant is led (`leading_to`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace

from migrations.renaming import parsed
from orchestrator.core.following import WITHOUT_CLIENTS
from orchestrator.core.model import Job
from orchestrator.core.redaction import pseudonym_of
from orchestrator.core.states import CLEANING, JOB_ENDED, JobState, MoveState
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from orchestrator.ledger.sides import index_of
from vecfleet import names
from vecfleet.tenancy.routes import Frozen, Route, RoutePlace, RouteTable

_J, _R, _T, _M = t.job.c, t.route.c, t.target.c, t.move.c

# Jobs in these states have no routes: their records are removed or were never proven. One that was given up within its
# clean-up keeps its routes: a deletion of the old side was sent, or a worker may yet send it, and what applications
# wrote since the cut-over is on the new side alone.
_WITHOUT_ROUTES = (JobState.ROLLING_BACK, JobState.ROLLED_BACK, JobState.CANCELLED, JobState.CANCELLING)
_CARDS = ("old", "card")
_Known = tuple[str | None, int | None, dict[str, str]]
"""The model of a side with its dimension, and the names of metadata keys in its documents."""


@dataclass(frozen=True, slots=True)
class _WayBack:
    """A reverse job whose readers are all back, and the namespaces to which its records went back."""

    job: int
    to: frozenset[str]


def read(connection: sa.Connection) -> RouteTable:
    """Return one snapshot. If a tenant has routes of several jobs, the youngest job counts.

    A job has routes from its first cut-over on: from then on the place of each tenant's records is proven. If the
    application writes to both sides, the job has routes from the beginning until it is finished, at first all on the
    old side. If a plan stops the writers, its sources are frozen while its job lives. The switch to
    tenants' namespaces is made once a job with routes of tenants is cut over.
    """
    jobs = _with_routes(connection)
    by_tenant = {(route.creator, route.twin): route for route in _published(connection, jobs)}
    moving = set(connection.execute(sa.select(_R.job_id).where(_R.creator != "").distinct()).scalars())
    waiting = any(job.id not in moving and job.state not in _WITHOUT_ROUTES and _regroups(job.plan) for job in jobs)
    begun = any(job.cut_over_percent and job.id in moving for job in jobs) and not waiting
    return RouteTable(
        routes=tuple(by_tenant[tenant] for tenant in sorted(by_tenant, key=lambda pair: (pair[0], pair[1] or ""))),
        # While another job still has tenants to move, a tenant without a route is not surely a new one.
        unlisted="new" if begun else "legacy",
        kept=tuple(sorted({name for job in jobs for name in job.plan.get("left_alone", ())})),
        frozen=_frozen(connection),
        shadow_share=max((job.plan["policies"].get("shadow_share", 0.0) for job in jobs), default=0.0),
    )


def leading_to(
    connection: sa.Connection,
    host: str,
    index: str,
    namespaces: Collection[str] | None = None,
    *,
    but: Job | None = None,
) -> list[Route]:
    """Return the routes that lead tenants to these namespaces of an index; None: to any of its namespaces.

    Of a tenant's routes the youngest job's counts, and beside it each that would count again if a live job was given
    up. `but`: its own routes and those that it takes back move with it, so they outdo older ones and are no answer.
    Clients know an index by its full name, jobs by its host: either one means it.
    """
    jobs = _with_routes(connection)
    hosts = {job.id: (job.old_host, job.new_host) for job in jobs}
    outdo = {job.id for job in jobs if job.state in JOB_ENDED}
    erased = {pseudonym_of(number) for number in connection.execute(sa.select(t.erasure.c.id)).scalars()}
    wanted = None if namespaces is None else {names.canonical(name) for name in namespaces}

    def is_meant(place: RoutePlace, at: str) -> bool:
        is_there = host == at or index == place.index
        return is_there and (wanted is None or names.canonical(place.namespace) in wanted)

    leading, outdone = [], set[tuple[str, str | None]]()
    for route in reversed(_published(connection, jobs)):
        tenant, (old_host, new_host) = (route.creator, route.twin), hosts[route.job or 0]
        if tenant in outdone or route.creator in erased:
            continue
        both = route.dual and not route.cleaned
        places = (route.new, *route.old) if both else places_of(route)
        leads = any(is_meant(place, new_host if place == route.new else old_host) for place in places)
        own = but is not None and (route.job == but.id or (leads and _goes_back(route, but.plan.takes_back)))
        if own or route.job in outdo:
            outdone.add(tenant)
        if leads and not own:
            leading.append(route)
    return leading


def leading_past(connection: sa.Connection, job: Job) -> list[Route]:
    """Return the routes by which older jobs moved tenants of this job to what is neither a source nor a target of it.

    What was written there since is in no source of this job, so its readers would miss that. Of a tenant's routes the
    youngest job's counts.
    """
    jobs = [other for other in _with_routes(connection) if other.id != job.id]
    if not any(other.id < job.id for other in jobs):
        return []
    youngest = {(route.creator, route.twin): route for route in _published(connection, jobs)}
    hosts = {other.id: other.new_host for other in jobs}
    targets = connection.execute(sa.select(_T.creator, _T.twin, _T.namespace).where(_T.job_id == job.id)).all()
    own = {(job.source.host, names.canonical(move.source)) for move in job.plan.moves}
    own |= {(job.target.host, row.namespace) for row in targets}
    past = []
    for tenant in sorted({(row.creator, row.twin) for row in targets} & youngest.keys(), key=str):
        route = youngest[tenant]
        number, moved = route.job or 0, route.cleaned or route.side == "new"
        if moved and number < job.id and (hosts[number], names.canonical(route.new.namespace)) not in own:
            past.append(route)
    return past


def places_of(route: Route) -> tuple[RoutePlace, ...]:
    """Return the places to which a route leads readers."""
    moved = route.cleaned or route.side == "new" or not route.old
    return (route.new,) if moved else route.old


def _goes_back(route: Route, to: Collection[str]) -> bool:
    """Say whether a reverse job takes this route's records back, and not only others that came to the same place."""
    return bool(route.old) and {place.namespace for place in route.old} <= set(to)


def _with_routes(connection: sa.Connection) -> Sequence[Any]:
    """Return the jobs that have routes, oldest first."""
    hosts = (_J.source["host"].astext.label("old_host"), _J.target["host"].astext.label("new_host"))
    given_up = _J.state.in_((JobState.CANCELLED, JobState.CANCELLING))
    return connection.execute(
        sa.select(_J.id, _J.state, _J.plan, _J.cut_over_percent, _cleaned().label("cleaned"), *hosts)
        .where(sa.or_(_J.state.not_in(_WITHOUT_ROUTES), sa.and_(given_up, _within_clean_up())))
        .where(sa.or_(_J.state != JobState.FINISHED, _J.cut_over_percent > 0))
        .order_by(_J.id)
    ).all()


def _published(connection: sa.Connection, jobs: Sequence[Any]) -> list[Route]:
    """Return the routes of these jobs, the oldest job's first: of a tenant's routes the last one counts."""
    live = {job.id: job for job in jobs}
    cleaned = {job.id for job in jobs if job.cleaned}
    places, back = _old_places(connection), _taken_back(connection)
    rows = [row for row in _routes(connection) if row.job_id in live and row.creator]
    dual = {job.id for job in jobs if job.plan["policies"].get("writers") == "dual" and job.state != JobState.FINISHED}
    planned = [row for row in _planned(connection, dual) if row.job_id in live]
    known = {job.id: _known(job.plan) for job in jobs}
    return [
        _route(row, places.get((row.job_id, row.new_namespace), ()), cleaned, back, dual, known[row.job_id])
        for row in sorted([*planned, *rows], key=lambda row: row.job_id)  # a job's own routes after its planned ones
    ]


def _known(plan: dict[str, Any]) -> tuple[_Known, _Known]:
    """Return what the plan says of the old and of the new side: models if it embeds, names if documents have others."""
    embedding = plan["policies"].get("embedding") or {}
    old, new = ((card["name"], card["dimension"]) if card else (None, None) for card in map(embedding.get, _CARDS))
    return (*old, plan["source"].get("names", {})), (*new, plan["target"].get("names", {}))


def _frozen(connection: sa.Connection) -> tuple[Frozen, ...]:
    """Return the sources of live jobs whose plans stop the writers; of several jobs on one source, the oldest.

    The change of state that ends a job or takes it back ends its freeze in the same transaction: no other row says that
    a source is frozen. A job that goes back deletes nothing of its sources, so they are free by then. One that is being
    cancelled within its clean-up may have sent a deletion that takes effect yet.
    A source in a named account is frozen under its bare name too: its application may know no other account.
    """
    back = sa.and_(
        _J.state.in_((JobState.PAUSING, JobState.PAUSED, JobState.NEEDS_ATTENTION)),
        _J.resume_to == JobState.ROLLING_BACK,
    )
    stopping = _named(
        _J.state.not_in((*JOB_ENDED, JobState.ROLLING_BACK)),
        sa.func.coalesce(~back, True),
        _J.plan["policies"]["writers"].astext == "freeze",
        _J.plan["source"]["store"].astext.not_in(WITHOUT_CLIENTS),
    )
    rows = connection.execute(
        sa.select(stopping.c.id, stopping.c.old_index, stopping.c.bare, _M.source)
        .join(t.move, _M.job_id == stopping.c.id)
        .order_by(stopping.c.id.desc(), _M.source)
    )
    frozen = {(index, row.source): row.id for row in rows for index in (row.old_index, row.bare)}
    return tuple(Frozen(namespace, index, job) for (index, namespace), job in sorted(frozen.items()))


def _named(*conditions: Any) -> sa.CTE:
    """Return the ids of these jobs with the full names of their indexes, read once a job: a plan may be megabytes."""
    names = sa.select(
        _J.id,
        _J.source["name"].astext.label("bare"),
        index_of("source").label("old_index"),
        index_of("target").label("new_index"),
    )
    return names.where(*conditions).cte("named").prefix_with("MATERIALIZED")


def _regroups(plan: dict[str, Any]) -> bool:
    """Say whether a plan gives namespaces to tenants, or may; a rename of nobody's namespaces does not."""
    return any(move.get("creator") or _may_go_to_tenants(move) for move in plan["moves"])


def _may_go_to_tenants(move: dict[str, Any]) -> bool:
    """Say whether only the records themselves tell whether they go to tenants' namespaces."""
    template = move.get("template")
    return parsed(template).may_name_tenants if template else not move.get("to")


def _cleaned() -> Any:
    """Return the condition that a source of the job is deleted, or that a deletion was sent and may take effect."""
    moved = sa.exists().where(_M.job_id == _J.id, _M.state.in_((MoveState.CLEANING, MoveState.CLEANED)))
    asked = sa.exists().where(t.batch.c.job_id == _J.id, t.batch.c.kind.in_(CLEANING), t.batch.c.intent_at.is_not(None))
    return sa.or_(moved, asked)


def _within_clean_up() -> Any:
    """Return the condition that a clean-up of the job was asked for, with its readers on the new side, or has begun."""
    return sa.or_(_cleaned(), sa.and_(_J.cut_over_percent == 100, _J.cleaning_at.is_not(None)))


def _routes(connection: sa.Connection) -> list[Any]:
    columns = (_R.job_id, _R.creator, _R.twin, _R.old_index, _R.new_index, _R.new_namespace, _R.side)
    return list(connection.execute(sa.select(*columns).order_by(_R.job_id, _R.new_namespace)))


def _planned(connection: sa.Connection, jobs: set[int]) -> list[Any]:
    """Return the planned and the begun targets of these jobs as routes on the old side."""
    named = _named(among(_J.id, jobs))
    begun = sa.select(_T.job_id, _T.creator, _T.twin, _T.namespace.label("new_namespace"))
    planned = sa.select(_M.job_id, _M.creator, _M.twin, _M.to.label("new_namespace")).where(_M.to.is_not(None))
    every = sa.union(begun, planned).subquery()
    sides = (named.c.old_index, named.c.new_index, sa.literal("old").label("side"))
    query = sa.select(every, *sides).join(named, named.c.id == every.c.job_id)
    return list(connection.execute(query.where(among(every.c.job_id, jobs), every.c.creator.is_not(None))))


def _old_places(connection: sa.Connection) -> dict[tuple[int, str], tuple[tuple[str, bool], ...]]:
    """Return (job, new namespace) → its sources, each with whether its records go to several owners."""
    written = (
        sa.select(_T.job_id, _T.namespace, _M.source, _M.to.is_(None).label("shared"))
        .join(t.move_target, t.move_target.c.target_id == _T.id)
        .join(t.move, _M.id == t.move_target.c.move_id)
    )
    planned = sa.select(_M.job_id, _M.to, _M.source, sa.false()).where(_M.to.is_not(None))
    rows = connection.execute(sa.union(written, planned).order_by("source"))
    places: dict[tuple[int, str], tuple[tuple[str, bool], ...]] = {}
    for row in rows:
        key = (row.job_id, row.namespace)
        places[key] = (*places.get(key, ()), (row.source, row.shared))
    return places


def _taken_back(connection: sa.Connection) -> dict[tuple[str, str], list[_WayBack]]:
    """Return (index, namespace) → the reverse jobs that took its records back, once all their readers are back.

    They are once they were moved, and once a deletion was sent: they stay there, however the job ends.
    """
    moved = sa.and_(_J.cut_over_percent == 100, _J.state.not_in(_WITHOUT_ROUTES))
    named = _named(sa.func.jsonb_array_length(_J.plan["takes_back"]) > 0, sa.or_(moved, _cleaned()))
    reverse = connection.execute(sa.select(_J.id, _J.plan["takes_back"].label("to")).join(named, named.c.id == _J.id))
    ways = {row.id: _WayBack(row.id, frozenset(row.to)) for row in reverse}
    rows = connection.execute(sa.select(named.c.id, named.c.old_index, _M.source).join(t.move, _M.job_id == named.c.id))
    back: dict[tuple[str, str], list[_WayBack]] = {}
    for row in rows:
        back.setdefault((row.old_index, row.source), []).append(ways[row.id])
    return back


def _route(
    row: sa.Row[Any],
    old: Sequence[tuple[str, bool]],
    cleaned: set[int],
    back: dict[tuple[str, str], list[_WayBack]],
    dual: set[int],
    known: tuple[_Known, _Known],
) -> Route:
    route = Route(
        creator=row.creator,
        twin=row.twin,
        old=tuple(RoutePlace(source, row.old_index, shared, *known[0]) for source, shared in old),
        new=RoutePlace(row.new_namespace, row.new_index, False, *known[1]),
        side=row.side,
        cleaned=row.job_id in cleaned,
        dual=row.job_id in dual,
        job=row.job_id,
    )
    ways = back.get((row.new_index, row.new_namespace), ())
    returned = any(way.job > row.job_id and _goes_back(route, way.to) for way in ways)
    return replace(route, side="old", cleaned=False, dual=False) if returned else route
