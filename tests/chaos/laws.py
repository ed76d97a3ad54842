"""What must be true of every seed when it is over. Each law gives sentences on what is wrong; none is good."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.states import BATCH_EDGES, JOB_EDGES, MOVE_EDGES
from tests.chaos.fleet import ChaosFleet
from tests.chaos.small_index import Case
from tests.chaos.witness import Contents

PROVEN = ("verified", "cut_over", "cleaned")
SHOWN = 5
SETTLED = "written + identical + gone + parked + left_behind"


@dataclass(frozen=True)
class Evidence:
    """What the laws judge: the index before and after, the log of calls, and the end of the job."""

    case: Case
    before: Contents
    after: Contents
    calls: Sequence[Mapping[str, Any]]
    state: str
    excused: frozenset[tuple[str, str]] = frozenset()  # records the service itself lost


def broken(evidence: Evidence) -> list[str]:
    """Everything about the index that is not as it must be."""
    return [
        *_lost(evidence),
        *_extra(evidence),
        *_foreign_touched(evidence),
        *_unproven_deletions(evidence),
        *_not_as_the_state_says(evidence),
    ]


def _lost(evidence: Evidence) -> Iterator[str]:
    """Every original record is equal in its source, or in its target, or in both."""
    lost = []
    for namespace, rows in evidence.before.items():
        if namespace not in evidence.case.sources:
            continue
        for id, stored in rows.items():
            there = evidence.after.get(namespace, {}).get(id)
            if there is not None and there.face() == stored.face():
                continue
            fate = evidence.case.fate(namespace, stored)
            twin = evidence.after.get(fate[0], {}).get(fate[1].id) if fate else None
            arrived = twin is not None and fate is not None and twin.face() == fate[1].face()
            if not arrived and (namespace, id) not in evidence.excused:
                lost.append(f"{namespace}/{id[:20]}")
    if lost:
        yield f"{len(lost)} records are neither in their source nor in their target: {lost[:SHOWN]}"


def _extra(evidence: Evidence) -> Iterator[str]:
    """Nothing is there that was not there before, or does not belong there."""
    candidates = evidence.case.candidates(evidence.before)
    extra = []
    for namespace, rows in evidence.after.items():
        for id, stored in rows.items():
            was = evidence.before.get(namespace, {}).get(id)
            if was is not None and was.face() == stored.face():
                continue
            if stored.face() not in candidates.get((namespace, id), set()):
                extra.append(f"{namespace}/{id[:20]}: {str(dict(stored.metadata))[:200]}")
    if extra:
        yield f"{len(extra)} records are there that nobody asked for: {extra[:SHOWN]}"


def _foreign_touched(evidence: Evidence) -> Iterator[str]:
    """What a target held before is neither replaced nor removed, not even for a moment."""
    for namespace in {*evidence.case.foreign, *evidence.case.left_alone}:
        held = evidence.before.get(namespace, {})
        for id, stored in held.items():
            there = evidence.after.get(namespace, {}).get(id)
            if (namespace, id) in evidence.excused:
                continue
            if there is None or there.face() != stored.face():
                yield f"what {namespace} held before was touched: {id!r}"
        for call in _carried_out(evidence, "upsert", "delete", "delete_namespace"):
            touched = set(held) & set(call["ids"])
            if call["namespace"] == namespace and (touched or (held and call["operation"] == "delete_namespace")):
                yield f"{call['operation']} in {namespace} named what it held before: {sorted(touched)[:SHOWN]}"


def _carried_out(evidence: Evidence, *operations: str) -> Iterator[Mapping[str, Any]]:
    return (call for call in evidence.calls if call["applied"] and call["operation"] in operations)


def _unproven_deletions(evidence: Evidence) -> Iterator[str]:
    """Each record deleted from a source had been read back at its target since it was last written there.

    That what was read was equal, `_lost` shows: it is equal at the end, and nothing wrote to it in between.
    """
    case, proven = evidence.case, set()
    for call in evidence.calls:
        namespace, operation = call["namespace"], call["operation"]
        if not call["applied"]:
            continue
        if operation == "fetch":
            proven |= {(namespace, id) for id in call["ids"]}
        elif operation == "upsert":
            proven -= {(namespace, id) for id in call["ids"]}
            if namespace in case.sources:
                yield f"a source was written to: {namespace}"
        elif operation in ("delete", "delete_namespace") and namespace in case.sources:
            held = evidence.before[namespace]
            ids = set(call["ids"]) if operation == "delete" else set(held)
            for id in ids & set(held):
                fate = case.fate(namespace, held[id])
                if fate is None:
                    if (namespace, id) not in evidence.excused:
                        yield f"{operation} of {namespace}/{id[:20]}, which had to stay"
                elif (fate[0], fate[1].id) not in proven:
                    yield f"{operation} of {namespace}/{id[:20]} before it was read back in {fate[0]}"


def _not_as_the_state_says(evidence: Evidence) -> Iterator[str]:
    """A job that says verified has all at its targets; cleaned, nothing left to move; rolled back, all as it was."""
    case, state = evidence.case, evidence.state
    if state == "rolled_back" and not evidence.excused and _faces(evidence.after) != _faces(evidence.before):
        yield "rolled back, and the index is not what it was"
    if state not in PROVEN:
        return
    candidates = case.candidates(evidence.before)
    missing, left = [], []
    for namespace in case.sources:
        for id, stored in evidence.before.get(namespace, {}).items():
            fate = case.fate(namespace, stored)
            if fate is None or (namespace, id) in evidence.excused:
                continue
            rivals = len(candidates[fate[0], fate[1].id]) + (fate[1].id in evidence.before.get(fate[0], {}))
            there = evidence.after.get(fate[0], {}).get(fate[1].id)
            arrived = there is not None and there.face() == fate[1].face()
            if not arrived and rivals == 1:
                missing.append(f"{namespace}/{id[:20]}")
            if state == "cleaned" and arrived and rivals == 1 and id in evidence.after.get(namespace, {}):
                left.append(f"{namespace}/{id[:20]}")
    if missing:
        yield f"{state}, and {len(missing)} records are not at their targets: {missing[:SHOWN]}"
    if left:
        yield f"cleaned, and {len(left)} moved records are in their sources still: {left[:SHOWN]}"


def _faces(contents: Contents) -> dict[tuple[str, str], str]:
    return {(namespace, id): stored.face() for namespace, rows in contents.items() for id, stored in rows.items()}


# The books, by SQL of the test's own

WATCH = """
CREATE TABLE IF NOT EXISTS chaos_seen (
    n bigserial, what text, id bigint, job_id bigint, was text, now text, generation int, owner text,
    until timestamptz, at timestamptz DEFAULT clock_timestamp());
CREATE OR REPLACE FUNCTION chaos_see_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (NEW.state, NEW.generation, NEW.lease_until) IS DISTINCT FROM (OLD.state, OLD.generation, OLD.lease_until) THEN
        INSERT INTO chaos_seen (what, id, job_id, was, now, generation, owner, until)
        VALUES ('batch', NEW.id, NEW.job_id, OLD.state, NEW.state, NEW.generation, NEW.lease_owner, NEW.lease_until);
    END IF; RETURN NULL; END $$;
CREATE OR REPLACE FUNCTION chaos_see_state() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.state <> OLD.state THEN
        INSERT INTO chaos_seen (what, id, job_id, was, now)
        VALUES (TG_TABLE_NAME, NEW.id, coalesce((to_jsonb(NEW)->>'job_id')::bigint, NEW.id), OLD.state, NEW.state);
    END IF; RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER chaos AFTER UPDATE ON batch FOR EACH ROW EXECUTE FUNCTION chaos_see_batch();
CREATE OR REPLACE TRIGGER chaos AFTER UPDATE ON move FOR EACH ROW EXECUTE FUNCTION chaos_see_state();
CREATE OR REPLACE TRIGGER chaos AFTER UPDATE ON job FOR EACH ROW EXECUTE FUNCTION chaos_see_state();
"""


def watch(fleet: ChaosFleet) -> None:
    """From now on the job table notes each change of a state and of a lease."""
    fleet.sql(WATCH)


def broken_books(fleet: ChaosFleet, job_id: int) -> list[str]:
    return [*_accounts(fleet, job_id), *_leases(fleet, job_id), *_edges(fleet, job_id)]


def _accounts(fleet: ChaosFleet, job_id: int) -> Iterator[str]:
    wrong = fleet.sql(
        f"SELECT source, listed, {SETTLED}, state FROM move WHERE job_id = %s AND state <> 'rolled_back' "
        f"AND listed_all AND open_batches = 0 AND listed <> {SETTLED}",
        job_id,
    )
    for source, listed, settled, state in wrong:
        yield f"{source} ({state}): {listed} listed, {settled} accounted for"
    tallied = fleet.sql(
        "SELECT m.source, m.written, coalesce(sum(y.records), 0) FROM move m LEFT JOIN batch b ON b.move_id = m.id AND "
        "b.kind = 'copy' LEFT JOIN batch_tally y ON y.batch_id = b.id WHERE m.job_id = %s GROUP BY m.id "
        "HAVING m.written <> coalesce(sum(y.records), 0)",
        job_id,
    )
    for source, written, records in tallied:
        yield f"{source}: {written} written, {records} in the tallies"
    negative = fleet.sql(
        "SELECT source FROM move WHERE job_id = %s AND "
        "least(listed, written, identical, gone, parked, left_behind, deleted, open_batches) < 0",
        job_id,
    )
    yield from (f"{source}: a count below zero" for (source,) in negative)


def _leases(fleet: ChaosFleet, job_id: int) -> Iterator[str]:
    """A batch has one lease at a time, and one in each generation."""
    held: dict[int, tuple[int, str]] = {}
    leased: set[tuple[int, int]] = set()
    rows = fleet.sql(
        "SELECT id, was, now, generation, owner FROM chaos_seen WHERE what = 'batch' AND job_id = %s ORDER BY n", job_id
    )
    for batch, was, now, generation, owner in rows:
        if now != "leased":
            held.pop(batch, None)
        elif was != "leased":
            if batch in held or (batch, generation) in leased:
                yield f"batch {batch} was leased twice in generation {generation}"
            held[batch] = (generation, owner)
            leased.add((batch, generation))
        elif held.get(batch, (generation, owner)) != (generation, owner):
            yield f"the lease of batch {batch} went from {held[batch]} to {(generation, owner)}"


def _edges(fleet: ChaosFleet, job_id: int) -> Iterator[str]:
    """Every change of a state is an edge of the one table of edges."""
    for what, edges in (("job", JOB_EDGES), ("move", MOVE_EDGES), ("batch", BATCH_EDGES)):
        allowed = {(str(was), str(now)) for was, those in edges.items() for now in those}
        for was, now, times in fleet.sql(
            "SELECT was, now, count(*) FROM chaos_seen WHERE what = %s AND job_id = %s AND was <> now GROUP BY 1, 2",
            what,
            job_id,
        ):
            if (was, now) not in allowed:
                yield f"{times} times a {what} went from {was} to {now}: there is no such edge"
