"""Remove a tenant from the job table: its ids from the accounts, its names from every row. Running jobs go on.

A row that other rows need stays under another name: a move whose source is gone lists nothing, copies nothing and
cleans nothing up. A row about this tenant alone is deleted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator.core import manifests
from orchestrator.core.redaction import Traces, Words
from orchestrator.core.states import CHECKING, BatchKind, CheckState
from orchestrator.ledger import (
    audit,
    batches,
    checks,
    database,
    differences,
    erased_ids,
    erasures,
    index_acts,
    moves,
    transitions,
)
from orchestrator.ledger import tables as t
from orchestrator.ledger.sides import encodes, index_of
from vecfleet import names
from vecfleet.connections import PINECONE
from vecfleet.digests import Tally
from vecfleet.names import Tenant
from vecfleet.owners import LOOKUP_KEY
from vecfleet.stores.encoded_ids import decoded
from vecfleet.tenancy.finding import TenantPlace

_B, _M, _T, _TALLY, _O, _R = t.batch.c, t.move.c, t.target.c, t.batch_tally.c, t.ownership.c, t.route.c
# Parts of a plan that may name a tenant. The other parts steer the job and stay, even if a tenant is called `keep`.
_PLAN_NAMES = ("moves", "takes_back", "left_alone", "warnings", "schema_from", "command")
# Parts of an act's payload that hold our own words and sentences. The other parts may name a tenant.
_OWN_WORDS = frozenset(
    {"confirmed_by", "counted_by", "fence", "level", "lever", "our_tables", "residual", "scope", "what"}
)
# Columns with texts for people, or JSON, that may hold a name.
_TEXTS = (
    (t.move, ("reason",)),
    (t.batch, ("error_text", "found")),
    (t.target, ("verdict",)),
    (t.parked_record, ("reason",)),
    (t.hook_call, ("words",)),
)
_J = t.job.c
_OLD, _NEW = index_of("source").label("old"), index_of("target").label("new")
_OLD_ENCODED, _NEW_ENCODED = encodes("source").label("old_encoded"), encodes("target").label("new_encoded")

_Among = Mapping[tuple[str, str, bool], Mapping[str, int | None]]
"""The tenant's ids among others', with their digests: by index, namespace, and whether a job knows them decoded."""


def forget(connection: sa.Connection, traces: Traces, found: Sequence[TenantPlace]) -> dict[str, int]:
    """Remove the tenant from every table, in one transaction. Return the number of touched rows by kind.

    Call this once no index holds anything of the tenant and no worker that saw its records is still at work. Locks in
    the common order: jobs, then batches that hold the tenant's ids, then targets and moves.
    """
    connection.execute(sa.select(t.job.c.id).order_by(t.job.c.id).with_for_update(key_share=True))
    touched = {"records": _remove_all_ids(connection, traces, found)}
    touched["ownership"] = connection.execute(sa.delete(t.ownership).where(_owned(traces.tenant))).rowcount
    touched["names"] = _rename(connection, traces)
    touched["texts"] = _rewrite_jobs(connection, traces)
    touched["texts"] += sum(_rewrite(connection, traces, table, columns) for table, columns in _TEXTS)
    touched["audit payloads"] = _blank_audit(connection, traces)
    return touched


def _owned(tenant: Tenant) -> Any:
    own = _O.creator == tenant.creator
    return own if tenant.twin is None else sa.and_(own, _O.twin == tenant.twin)


def _remove_all_ids(connection: sa.Connection, traces: Traces, places: Sequence[TenantPlace]) -> int:
    """Remove the tenant's ids from all batches. Return their number."""
    moved = sa.select(_M.id, _M.source, _M.to, _OLD, _NEW).join(t.job, _J.id == _M.job_id)
    whole_moves = {
        row.id
        for row in connection.execute(moved)
        if traces.is_own(row.old, row.source) or (row.to is not None and traces.is_own(row.new, row.to))
    }
    written = sa.select(_T.id, _T.namespace, _NEW).join(t.job, _J.id == _T.job_id)
    whole_targets = [row.id for row in connection.execute(written) if traces.is_own(row.new, row.namespace)]
    among = _among(places)
    count, unknown, written_ids = 0, set[int](), defaultdict[int, set[str]](set)
    for batch in list(_concerned(connection, whole_moves, whole_targets, among)):
        tallies = _members(connection, batch)
        to_remove = _ids_to_remove(batch, tallies, batch.move_id in whole_moves, whole_targets, among)
        if not to_remove:
            continue
        unknown |= erased_ids.remove_ids(connection, batch.id, to_remove)
        count += len(to_remove)
        for tally in tallies:
            if tally.target_id not in whole_targets:
                written_ids[tally.target_id].update(
                    batch.prefix + record_id for record_id in tally.members if record_id in to_remove
                )
    _expect_less(connection, whole_moves, among)
    _empty(connection, whole_targets)
    for target_id in sorted(unknown - set(whole_targets)):
        moves.raise_sequence(connection, [target_id])  # the expected content is unknown, so the verdict is void
    _strike_ids(connection, among, written_ids)
    connection.execute(sa.delete(t.parked_record).where(database.among(t.parked_record.c.move_id, whole_moves)))
    connection.execute(sa.update(t.move).where(_M.listed_all).values(last_id=None, page_token=None))
    return count


def _among(places: Sequence[TenantPlace]) -> _Among:
    shared = {(place.index, place.name): place.records for place in places if not place.whole}
    # The digest of a record holds its id, so that of one that is known by another id is not known.
    seen = {(*place, True): dict.fromkeys(decoded(ids)) for place, ids in shared.items()}
    return {(*place, False): dict(ids) for place, ids in shared.items()} | seen


def _concerned(
    connection: sa.Connection,
    whole_moves: set[int],
    whole_targets: Sequence[int],
    among: _Among,
) -> Iterator[Any]:
    """Yield the copy batches that may name the tenant's ids; lock all of them before the first one."""
    shared = sorted({name for _, name, _ in among})
    tallied = sa.select(_TALLY.batch_id).join(t.target, _T.id == _TALLY.target_id)
    tallied = tallied.where(sa.or_(database.among(_T.id, whole_targets), database.among(_T.namespace, shared)))
    query = (
        sa.select(_B.id, _B.manifest, _B.move_id, _M.source, _M.prefix, _OLD, _NEW, _OLD_ENCODED, _NEW_ENCODED)
        .join(t.move, _M.id == _B.move_id)
        .join(t.job, t.job.c.id == _B.job_id)
        .where(_B.kind == BatchKind.COPY)
        .where(sa.or_(database.among(_B.move_id, whole_moves), database.among(_M.source, shared), _B.id.in_(tallied)))
        .order_by(_B.id)
        .with_for_update(of=t.batch)
    )
    yield from connection.execute(query)


@dataclass(frozen=True, slots=True)
class _Members:
    """The ids that one copy batch wrote to one target."""

    target_id: int
    namespace: str
    members: list[str]


def _members(connection: sa.Connection, batch: Any) -> list[_Members]:
    ids = manifests.unpack(batch.manifest)
    query = sa.select(_TALLY.target_id, _T.namespace, _TALLY.members).join(t.target, _T.id == _TALLY.target_id)
    return [
        _Members(row.target_id, row.namespace, manifests.select(ids, row.members))
        for row in connection.execute(query.where(_TALLY.batch_id == batch.id))
    ]


def _ids_to_remove(
    batch: Any,
    tallies: Sequence[_Members],
    whole: bool,
    whole_targets: Sequence[int],
    among: _Among,
) -> dict[str, int | None]:
    ids = manifests.unpack(batch.manifest)
    if whole:
        return dict.fromkeys(ids)
    at_source = among.get((batch.old, batch.source, batch.old_encoded), {})
    to_remove: dict[str, int | None] = {record_id: None for record_id in ids if record_id in at_source}
    for tally in tallies:
        if tally.target_id in whole_targets:
            to_remove |= dict.fromkeys(tally.members)
        at_target = among.get((batch.new, tally.namespace, batch.new_encoded), {})
        to_remove |= {
            record_id: at_target[batch.prefix + record_id]
            for record_id in tally.members
            if batch.prefix + record_id in at_target
        }
    return to_remove


def _expect_less(connection: sa.Connection, whole_moves: set[int], among: _Among) -> None:
    """Lower the planned counts: the absence of erased records must not look like a listing that lags."""
    connection.execute(sa.update(t.move).where(database.among(_M.id, whole_moves)).values(planned=0))
    for (index, namespace, encoded), ids in among.items():
        jobs = sa.select(t.job.c.id).where(index_of("source") == index, encodes("source").is_(encoded))
        connection.execute(
            sa.update(t.move)
            .where(_M.source == namespace, _M.job_id.in_(jobs))
            .values(planned=sa.func.greatest(0, _M.planned - len(ids)))
        )


def _empty(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    """Expect no record in targets that were the tenant's alone: nothing is left to prove there.

    A check under way loses its lease. A difference that was found there, a stranger's record too, is void: the erasure
    has deleted the namespace whole. Moves that differed there alone are settled again by the dispatcher.
    """
    if not target_ids:
        return
    connection.execute(sa.delete(t.target_id).where(database.among(t.target_id.c.target_id, target_ids)))
    differences.forget(connection, target_ids)
    batches.discard(connection, database.among(_B.target_id, target_ids), _B.kind.in_(CHECKING))
    judged = sa.and_(database.among(_T.id, target_ids), _T.check_state != CheckState.WAITING)
    verdict = {"verified": False, "reason": "erased: nothing of it is to be proven", "expected": 0}
    connection.execute(
        transitions.target_to(
            CheckState.EMPTY, open_checks=0, verdict=verdict, verdict_at=database.NOW, check_sequence=_T.sequence
        ).where(judged)
    )
    connection.execute(
        sa.update(t.target)
        .where(database.among(_T.id, target_ids))
        .values(held_before=0, held_before_digest=0, created_by_us=False)
    )
    checks.release_moves(connection, target_ids)


def _strike_ids(connection: sa.Connection, among: _Among, written_ids: Mapping[int, Set[str]]) -> None:
    """Remove the tenant's ids from shared targets. Restart a check that may have missed them, under way or ended.

    `written_ids`: target → ids of the tenant that a job wrote there. The store may lack some of them, so `among` may.
    """
    targets = sa.select(_T.id, _T.namespace, _T.check_state, _NEW, _NEW_ENCODED).join(t.job, _J.id == _T.job_id)
    for row in connection.execute(targets).all():
        ids = written_ids.get(row.id, set()) | among.get((row.new, row.namespace, row.new_encoded), {}).keys()
        if not ids:
            continue
        gone = connection.execute(
            sa.delete(t.target_id)
            .where(t.target_id.c.target_id == row.id, database.among(t.target_id.c.record_id, ids))
            .returning(t.target_id.c.record_id, t.target_id.c.move_id)
        ).all()
        before = Tally.of_ids(held_id.record_id for held_id in gone if held_id.move_id is None)
        if before.count:
            held = Tally(*connection.execute(_held(row.id)).one()) - before
            values = {"held_before": held.count, "held_before_digest": held.digest}
            connection.execute(sa.update(t.target).where(_T.id == row.id).values(**values))
        differences.remove_ids(connection, row.id, ids)
        if row.check_state in (CheckState.CHECKING, CheckState.MISMATCHED):
            checks.restart(connection, [row.id])


def _held(target_id: int) -> Any:
    return sa.select(_T.held_before, sa.cast(_T.held_before_digest, sa.Numeric(39, 0, asdecimal=True))).where(
        _T.id == target_id
    )


def _rename(connection: sa.Connection, traces: Traces) -> int:
    """Rename namespaces, creators and twins to pseudonyms. Return the number of renamed rows."""
    count = _take_from_shared(connection, traces)
    claimed = sa.case((t.claim.c.role == "source", _OLD), else_=_NEW)
    of_jobs = ((t.move, "source", _OLD), (t.move, "to", _NEW), (t.target, "namespace", _NEW))
    for table, column, index in (*of_jobs, (t.claim, "namespace", claimed)):
        query = sa.select(table.c.id, table.c[column].label("name"), index.label("at")).join(t.job)
        count += _put_names(connection, traces, table, column, connection.execute(query).all())
    routes = connection.execute(sa.select(_R.id, _R.new_namespace.label("name"), _R.new_index.label("at"))).all()
    count += _put_names(connection, traces, t.route, "new_namespace", routes)
    for row in connection.execute(sa.select(_R.id, _R.old_index, _R.old_namespaces)).all():
        old = [traces.name(row.old_index, name) for name in row.old_namespaces]
        if old != list(row.old_namespaces):
            connection.execute(sa.update(t.route).where(_R.id == row.id).values(old_namespaces=old))
    for table in (t.move, t.target, t.route):
        twin = sa.case((table.c.twin.is_not(None), sa.cast(table.c.id, sa.Text)))
        more = {"aliases": sa.null()} if table is t.route else {}
        own = _of_tenant(table, traces)
        renamed = sa.update(table).where(own).values(creator=traces.pseudonym, twin=twin, **more)
        count += connection.execute(renamed).rowcount
    return count


def _of_tenant(table: sa.Table, traces: Traces) -> Any:
    own = table.c.creator == traces.tenant.creator
    return own if traces.tenant.twin is None else sa.and_(own, table.c.twin == traces.tenant.twin)


def _take_from_shared(connection: sa.Connection, traces: Traces) -> int:
    """Rename the source of a move that gives the tenant all of a shared namespace, so that the move reads it no more.

    Other records in the namespace would go to a tenant that no longer exists.
    """
    everybodys = sa.and_(_M.source.in_((names.DEFAULT, names.PUBLIC)), _M.to.is_not(None))
    given = sa.update(t.move).where(everybodys, _of_tenant(t.move, traces))
    return connection.execute(given.values(source=sa.literal(f"{traces.pseudonym}-") + _M.source)).rowcount


def _put_names(connection: sa.Connection, traces: Traces, table: sa.Table, column: str, rows: Sequence[Any]) -> int:
    new = [
        {"of_row": row.id, "called": name}
        for row in rows
        if row.name is not None and (name := traces.name(row.at, row.name)) != row.name
    ]
    if new:
        query = sa.update(table).where(table.c.id == sa.bindparam("of_row")).values({column: sa.bindparam("called")})
        connection.execute(query, new)
    return len(new)


def _rewrite_jobs(connection: sa.Connection, traces: Traces) -> int:
    count = 0
    query = sa.select(_J.id, _OLD, _NEW, _J.reason, _J.way_back, _J.plan, _J.source, _J.target)
    for row in connection.execute(query).all():
        words = traces.words(row.old, row.new)
        new = {
            "reason": words.replaced(row.reason),
            "way_back": words.replaced(row.way_back),
            "plan": _forget_in_plan(words, row.plan),
            "source": _forget_in_place(words, row.plan["source"]["store"], row.source),
            "target": _forget_in_place(words, row.plan["target"]["store"], row.target),
        }
        changed = {name: value for name, value in new.items() if value != row._mapping[name]}
        if changed:
            connection.execute(sa.update(t.job).where(_J.id == row.id).values(**changed))
            count += 1
    return count


def _forget_in_plan(words: Words, plan: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: words.replaced(plan[key]) for key in _PLAN_NAMES if key in plan}
    places = {side: _forget_in_place(words, plan[side]["store"], plan[side]) for side in ("source", "target")}
    return {**plan, **named, **places}


def _forget_in_place(words: Words, store: str, index: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the tenant's name in the folder of an export. Names of other indexes stay: the operator chose them."""
    named = ("index", "name", "host") if store == "parquet" else ()
    return {**index, **{key: words.replaced(index[key]) for key in named if key in index}}


def _rewrite(connection: sa.Connection, traces: Traces, table: sa.Table, columns: Sequence[str]) -> int:
    count = 0
    query = sa.select(
        table.c.id, _OLD.label("old_index"), _NEW.label("new_index"), *(table.c[name] for name in columns)
    )
    for row in connection.execute(query.select_from(table.join(t.job))).all():
        words = traces.words(row.old_index, row.new_index)
        old = {name: value for name in columns if (value := row._mapping[name]) is not None}
        new = {name: words.replaced(value) for name, value in old.items()}
        changed = {name: value for name, value in new.items() if value != old[name]}
        if changed:
            connection.execute(sa.update(table).where(table.c.id == row.id).values(**changed))
            count += 1
    return count


def _blank_audit(connection: sa.Connection, traces: Traces) -> int:
    """Empty the payloads that name the tenant. Their digests stay, so the chain stays valid."""
    A = t.audit.c
    query = sa.select(A.id, A.payload, _OLD, _NEW).outerjoin(t.job, _J.id == A.job_id).where(A.payload.is_not(None))
    naming = []
    for row in connection.execute(query):
        words = traces.words(*(index for index in (row.old, row.new) if index is not None))
        if words.named_in({key: value for key, value in row.payload.items() if key not in _OWN_WORDS}):
            naming.append(row.id)
    if naming:
        audit.empty_payloads(connection, naming, erasures.asked_by(connection, traces.number), traces.number)
    return len(naming)


def lookup_keys(connection: sa.Connection) -> set[str]:
    """Return the metadata keys that plans use to look up the owner of a record."""
    told = connection.execute(sa.select(t.job.c.plan["lookup_key"].astext).distinct()).scalars()
    return {LOOKUP_KEY, *(key for key in told if key)}


def indexes(connection: sa.Connection) -> set[str]:
    """Return the full names of all indexes of the vector database, in any account, that a job ever read or wrote.

    Those too that the service filled for a plan that became no job.
    """
    of_jobs = {
        name
        for side in ("source", "target")
        for name in connection.execute(
            sa.select(index_of(side)).where(_J.plan[side]["store"].astext.startswith(PINECONE)).distinct()
        ).scalars()
    }
    return of_jobs | index_acts.filled(connection)
