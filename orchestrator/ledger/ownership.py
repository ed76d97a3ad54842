"""Owners of namespaces and of the ids that look-ups named, as the job table knows them, index by index.

A name or an id of a look-up may belong to one tenant in one index and to another tenant in another index.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from orchestrator.core import manifests
from orchestrator.core.states import JobState
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from orchestrator.ledger.sides import encodes, index_of
from vecfleet import names
from vecfleet.names import Tenant
from vecfleet.owners import Owner
from vecfleet.stores.encoded_ids import encode
from vecfleet.tenancy.fences import Here

_B, _M, _T, _O, _J, _TALLY = t.batch.c, t.move.c, t.target.c, t.ownership.c, t.job.c, t.batch_tally.c


_OLD, _NEW = index_of("source").label("old"), index_of("target").label("new")
# If two jobs name different owners, one that was neither cancelled nor rolled back wins, and then the younger one.
_GIVEN_UP = (JobState.CANCELLING, JobState.CANCELLED, JobState.ROLLING_BACK, JobState.ROLLED_BACK)
_WEIGHTIEST_LAST = (_J.state.in_(_GIVEN_UP).desc(), _J.id)

Place = tuple[str, str]
"""The names of an index and of a namespace in it."""


@dataclass(slots=True)
class _Told:
    """Facts in plans: owners of places, places copied whole into another, places that held records before the job."""

    owners: dict[Place, Owner] = field(default_factory=dict)
    sources: dict[Place, set[Place]] = field(default_factory=lambda: defaultdict(set))
    mixed: set[Place] = field(default_factory=set)


def of_tenant(connection: sa.Connection, tenant: Tenant) -> dict[str, Here]:
    """Return what is known of a tenant in each index that a job ever read or wrote."""
    mine, theirs = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for (index, name), owner in owners(connection).items():
        if is_of(owner, tenant):
            mine[index].add(name)
        elif owner.creator != tenant.creator or owner.twin is not None:  # a creator's place may hold its twins' records
            theirs[index].add(name)
    jobs = connection.execute(sa.select(_J.id, _OLD, _NEW).order_by(*_WEIGHTIEST_LAST)).all()
    answers = _answers(connection, tenant)
    known = {}
    for index in {side for job in jobs for side in (job.old, job.new)}:
        told = _owned(tenant, (answers.get(job, {}) for job in _nearest_last(index, jobs)))
        known[index] = Here(told["twin"], told["source"], tuple(sorted(mine[index])), tuple(sorted(theirs[index])))
    return known


def anywhere(connection: sa.Connection, tenant: Tenant) -> Here:
    """Return the ids that every look-up gives to this tenant: the answers for an index that no job knows."""
    answers = _answers(connection, tenant).values()
    told = _owned(tenant, answers)
    others = {asked for answer in answers for asked, owner in answer.items() if owner.creator != tenant.creator}
    sure = {kind: {id: twin for id, twin in ids.items() if (kind, id) not in others} for kind, ids in told.items()}
    return Here(sure["twin"], sure["source"])


def places_of(connection: sa.Connection, tenant: Tenant) -> set[Place]:
    """Return the places that belong to this tenant alone: by name, by a plan, or by a look-up of its twin."""
    known = of_tenant(connection, tenant)
    return _named(connection, tenant) | {
        (index, name) for index, here in known.items() for name in (*here.legacy, *here.twins)
    }


def other_names(connection: sa.Connection, tenant: Tenant) -> list[str]:
    """Return what look-ups call the twin with this id, if no namespace is called by the id itself."""
    answers = sa.select(_O.twin).where(_O.kind == "twin", _O.creator == tenant.creator, _O.key == tenant.twin)
    called = set(connection.execute(answers.where(_O.twin.is_not(None))).scalars())
    return [] if tenant.twin in called or _named(connection, tenant) else sorted(called)


def copied_ids(connection: sa.Connection, tenant: Tenant, places: Collection[Place]) -> dict[Place, set[str]]:
    """Return the ids in these places whose other copy lies in a place of the tenant's alone."""
    own = places_of(connection, tenant)
    wanted = sorted({name for _, name in places})
    copies = (
        sa.select(
            *(_B.manifest, _TALLY.members, _M.prefix, _M.source, _OLD, _T.namespace, _NEW),
            *(encodes("source").label("encoded_old"), encodes("target").label("encoded_new")),
        )
        .join(t.batch, _B.id == _TALLY.batch_id)
        .join(t.move, _M.id == _B.move_id)
        .join(t.target, _T.id == _TALLY.target_id)
        .join(t.job, _J.id == _B.job_id)
        .where(sa.or_(among(_M.source, wanted), among(_T.namespace, wanted)))
    )
    tied = defaultdict[Place, set[str]](set)
    for row in connection.execute(copies):
        ids = manifests.select(manifests.unpack(row.manifest), row.members)
        source, target = (row.old, row.source), (row.new, row.namespace)
        if source in places and target in own:
            tied[source].update(map(encode, ids) if row.encoded_old else ids)
        if target in places and source in own:
            there = [row.prefix + record_id for record_id in ids]
            tied[target].update(map(encode, there) if row.encoded_new else there)
    return tied


def _named(connection: sa.Connection, tenant: Tenant) -> set[Place]:
    moved = sa.select(_OLD.label("at"), _M.source.label("name")).join(t.job, _J.id == _M.job_id)
    wanted = sa.select(_NEW, _M.to).join(t.job, _J.id == _M.job_id).where(_M.to.is_not(None))
    written = sa.select(_NEW, _T.namespace).join(t.job, _J.id == _T.job_id)
    rows = connection.execute(moved.union(wanted, written))
    return {(at, name) for at, name in rows if names.belongs_to(name, tenant.creator, tenant.twin)}


def owners(connection: sa.Connection) -> dict[Place, Owner]:
    """Return the owners of places that hold one owner's records only. A place copied whole has its copy's owner."""
    told = _told(connection)
    while more := dict(_by_copies(told)):
        told.owners |= more
    return told.owners


def _told(connection: sa.Connection) -> _Told:
    told = _Told()
    targets = sa.select(_NEW, _T.namespace, _T.creator, _T.twin, _T.held_before).join(t.job, _J.id == _T.job_id)
    row: Any
    for row in connection.execute(targets.order_by(*_WEIGHTIEST_LAST)):
        place = (row.new, row.namespace)
        if row.creator is not None:
            told.owners[place] = Owner(row.creator, row.twin)
        if row.held_before:
            told.mixed.add(place)
    fixed = sa.select(_OLD, _NEW, _M.source, _M.to, _M.creator, _M.twin).join(t.job, _J.id == _M.job_id)
    for row in connection.execute(fixed.where(_M.to.is_not(None)).order_by(*_WEIGHTIEST_LAST)):
        source, target = (row.old, row.source), (row.new, row.to)
        if row.creator is not None:
            told.owners[source] = told.owners[target] = Owner(row.creator, row.twin)
        else:
            told.sources[target].add(source)
    return told


def _by_copies(told: _Told) -> Iterable[tuple[Place, Owner]]:
    """Yield owners of places that no plan names, by the other side of a copy."""
    for target, sources in told.sources.items():
        owner = told.owners.get(target)
        if owner is not None:
            yield from ((source, owner) for source in sources if source not in told.owners)
        elif target not in told.mixed:
            among = {told.owners.get(source) for source in sources}
            only = among.pop()
            if only is not None and not among:
                yield target, only


def is_of(owner: Owner, tenant: Tenant) -> bool:
    return owner.creator == tenant.creator and tenant.twin in (None, owner.twin)


def _answers(connection: sa.Connection, tenant: Tenant) -> dict[int, dict[tuple[str, str], Owner]]:
    """Return each job's look-up answers for the ids that some look-up gave to this creator."""
    asked = sa.select(_O.kind, _O.key).where(_O.creator == tenant.creator).distinct().subquery()
    rows = sa.select(t.ownership).join(asked, sa.and_(asked.c.kind == _O.kind, asked.c.key == _O.key))
    by_job: dict[int, dict[tuple[str, str], Owner]] = defaultdict(dict)
    for row in connection.execute(rows):
        by_job[row.job_id][row.kind, row.key] = Owner(row.creator, row.twin)
    return by_job


def _owned(tenant: Tenant, answers: Iterable[Mapping[tuple[str, str], Owner]]) -> dict[str, dict[str, str | None]]:
    """Return the tenant's ids by kind (`twin`, `source`), each with its twin. The last answer about an id counts."""
    told: dict[tuple[str, str], Owner] = {}
    for answer in answers:
        told |= answer
    owned: dict[str, dict[str, str | None]] = {"twin": {}, "source": {}}
    for (kind, key), owner in told.items():
        if is_of(owner, tenant):
            owned[kind][key] = owner.twin
    return owned


def _nearest_last(index: str, jobs: Sequence[Any]) -> list[int]:
    """Return the jobs whose look-ups concern an index, the weightiest last.

    Jobs that read it weigh most, then jobs that wrote it. Then come jobs that moved its records, or copies of them,
    from or to other indexes.
    """
    distances = {job.id: 0 for job in jobs if job.old == index}
    reached, distance = {index}, 1
    while near := {job.id: distance for job in jobs if job.id not in distances and reached & {job.old, job.new}}:
        distances |= near
        reached |= {side for job in jobs if job.id in near for side in (job.old, job.new)}
        distance += 1
    order = {job.id: place for place, job in enumerate(jobs)}
    return sorted(distances, key=lambda id: (-distances[id], order[id]))
