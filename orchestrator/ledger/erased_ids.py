"""Remove erased ids from the accounts: manifests, tallies, parked records and counts, where they become `erased`."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from orchestrator.core import manifests
from orchestrator.core.states import BatchState
from orchestrator.ledger import batches, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from vecfleet.digests import Tally

_B, _M, _TALLY, _P = t.batch.c, t.move.c, t.batch_tally.c, t.parked_record.c
_MODULUS = 2**128
# Counts that may hold an id that no tally or parked record names; a scan found it, so hardly `gone`.
_UNNAMED = ("identical", "left_behind", "gone", "parked")


def remove_ids(
    connection: sa.Connection, copy_id: int, to_remove: Mapping[str, int | None], *, counted: bool = True
) -> set[int]:
    """Remove these ids from one copy batch. Return the targets whose digest is unknown from now on.

    `to_remove`: id at the source → the digest of its record at its target, if known. `counted` False: the batch's
    counts leave these ids out already. Works in the caller's transaction; the batch's row stays locked. A worker on the
    batch loses its lease, because it would record positions in the old list of ids.
    """
    row = connection.execute(sa.select(t.batch).where(_B.id == copy_id).with_for_update()).one()
    ids = manifests.unpack(row.manifest)
    gone = [record_id for record_id in ids if record_id in to_remove]
    if not gone:
        return set()
    rest = [record_id for record_id in ids if record_id not in to_remove]
    connection.execute(
        sa.update(t.batch)
        .where(_B.id == copy_id)
        .values(manifest=manifests.pack(rest), size=len(rest), first_id=rest[0] if rest else None)
    )
    if row.state == BatchState.LEASED:
        batches.note_last_landings(connection, [row])
        connection.execute(transitions.batch_to(BatchState.READY).where(_B.id == copy_id))
    if row.state == BatchState.SPLIT:
        return set()  # the two batches that replaced this one account for these ids
    prefix = connection.execute(sa.select(_M.prefix).where(_M.id == row.move_id)).scalar_one()
    unknown, written = set[int](), 0
    for tally in connection.execute(sa.select(t.batch_tally).where(_TALLY.batch_id == copy_id)).all():
        exact, count = _shrink(connection, tally, ids, rest, to_remove, prefix)
        written += count
        if not exact:
            unknown.add(tally.target_id)
    changes = _recount(connection, row, gone, written) if counted else {}
    connection.execute(
        sa.update(t.move)
        .where(_M.id == row.move_id)
        .values(erased=_M.erased + len(gone), **{name: _M[name] - count for name, count in changes.items()})
    )
    return unknown


def _shrink(
    connection: sa.Connection,
    tally: sa.Row[Any],
    ids: list[str],
    rest: list[str],
    to_remove: Mapping[str, int | None],
    prefix: str,
) -> tuple[bool, int]:
    """Remove the ids from one tally. Return whether its digest is still exact, and how many ids it lost.

    If it is not, only the sum of the short digests is known, and the next check of the target completes it.
    """
    members = manifests.select(ids, tally.members)
    lost = [record_id for record_id in members if record_id in to_remove]
    kept = [record_id for record_id in members if record_id not in to_remove]
    key = sa.and_(_TALLY.batch_id == tally.batch_id, _TALLY.target_id == tally.target_id)
    if not kept:
        connection.execute(sa.delete(t.batch_tally).where(key))
        return True, len(lost)
    recorded = manifests.select_digests(ids, tally.members, tally.record_digests)
    digests = [to_remove[record_id] for record_id in lost]
    is_complete = int(tally.digest) != manifests.short(sum(recorded.values())) or not recorded
    exact = is_complete and all(
        digest is not None and recorded.get(record_id, manifests.short(digest)) == manifests.short(digest)
        for record_id, digest in zip(lost, digests, strict=True)
    )
    left = int(tally.digest) - sum(digest or 0 for digest in digests)
    ids_digest = int(tally.ids_digest) - Tally.of_ids(prefix + record_id for record_id in lost).digest
    connection.execute(
        sa.update(t.batch_tally)
        .where(key)
        .values(
            records=len(kept),
            digest=left % _MODULUS if exact else manifests.short(sum(recorded.get(id_, 0) for id_ in kept)),
            ids_digest=ids_digest % _MODULUS,
            members=manifests.members_of(rest, set(kept)),
            record_digests=manifests.pack_digests(rest, {id_: recorded[id_] for id_ in kept}) if recorded else None,
        )
    )
    return exact, len(lost)


def _recount(connection: sa.Connection, row: sa.Row[Any], gone: list[str], written: int) -> dict[str, int]:
    """Lower the counts of a batch. Return by how much, to lower the move's counts too."""
    results = dict(row.found or {})
    parked = connection.execute(
        sa.delete(t.parked_record)
        .where(_P.batch_id == row.id, among(_P.record_id, gone))
        .returning(_P.accepted_at.is_not(None).label("accepted"))
    ).all()
    accepted = sum(record.accepted for record in parked)
    changes = {"written": written, "parked": len(parked) - accepted, "left_behind": accepted}
    left = len(gone) - written - len(parked)
    counted = results.get("before", results)
    for name in _UNNAMED:
        count = min(left, max(0, counted.get(name, 0) - changes.get(name, 0)))
        changes[name] = changes.get(name, 0) + count
        left -= count
    if "before" in results:  # a parked batch: all its ids count as parked until it is retried, then as `before`
        results["before"] = results["before"] | _less(results["before"], changes)
        changes = {"parked": len(gone)}
    results |= _less(results, changes)
    connection.execute(sa.update(t.batch).where(_B.id == row.id).values(found=results or None))
    return changes


def _less(counts: Mapping[str, int], changes: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] - count for name, count in changes.items() if name in counts}
