"""Laws that hold for every seed when it is over. Each gives sentences that say what is wrong; none is good."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.chaos.case import Case
from tests.chaos.others import is_application, is_done
from tests.chaos.schedule import LAG_MS
from tests.chaos.strangers import Foreign
from tests.chaos.witness import Contents, Stored

DELETIONS = ("delete", "delete_namespace")
LOOKS = ("list", "fetch", "query", "describe_namespace", "list_namespaces", "describe_index_stats")
LANDED_LATE = "landed late"
PROVEN = ("verified", "cut_over", "cleaned")
TAKEN_BACK = ("rolled_back", "cancelled")
SHOWN = 5
# Of a deletion repeated blind all calls are told from so many seconds before it failed: longer than a lease.
TOLD_BEFORE_S = 8.0


@dataclass(frozen=True)
class Evidence:
    """The evidence that the laws judge: the index before and after, the log of calls, and the end of the job.

    `truth` is what the index would hold without the job: as before, but for what an application wrote last and what was
    erased. `versions` are all records that the application wrote to sources.
    """

    case: Case
    before: Contents
    truth: Contents
    after: Contents
    versions: Sequence[tuple[str, Stored]]
    calls: Sequence[Mapping[str, Any]]
    state: str
    excused: frozenset[tuple[str, str]] = frozenset()  # records the service itself lost
    late: frozenset[tuple[str, str]] = frozenset()  # records written by old routes: some clean-ups leave them there
    doubtful: frozenset[tuple[str, str]] = frozenset()  # records whose last write was not acknowledged
    strangers: Sequence[Foreign] = ()  # records that others wrote
    taken: frozenset[tuple[str, str]] = frozenset()  # records that others deleted at targets
    set_back: bool = (
        False  # the job table lost its record of the copies: it takes them for foreign records and keeps them
    )

    @cached_property
    def left_out(self) -> frozenset[tuple[str, str]]:
        """Records in an unknown state, or with a law of their own.

        The service may have carried out an application's write once more, later, and so replaced a newer version.
        """
        again = [call for call in self.calls if call["fault"] == LANDED_LATE and is_application(call)]
        written_again = {(call["namespace"], id) for call in again for id in call["ids"]}
        return self.doubtful | written_again | {(one.namespace, one.stored.id) for one in self.strangers}

    def is_left_out(self, namespace: str, stored: Stored) -> bool:
        """Say whether the record is one of `left_out`, or its counterpart at the target is."""
        fate = self.case.fate(namespace, stored)
        return (namespace, stored.id) in self.left_out or (fate is not None and (fate[0], fate[1].id) in self.left_out)


def broken(evidence: Evidence) -> list[str]:
    """Everything about the index that is not as it must be."""
    return [
        *_lost(evidence),
        *_extra(evidence),
        *_foreign_touched(evidence),
        *_unproven_deletions(evidence),
        *_repeated_blind(evidence),
        *_strangers_wronged(evidence),
        *_not_as_the_state_says(evidence),
    ]


def _lost(evidence: Evidence) -> Iterator[str]:
    """Every record, as it was written last, is equal in its source, or in its target, or in both."""
    lost = []
    for namespace, rows in evidence.truth.items():
        if namespace not in evidence.case.sources:
            continue
        for id, stored in rows.items():
            there = evidence.after.get(namespace, {}).get(id)
            if (there is not None and there.face() == stored.face()) or evidence.is_left_out(namespace, stored):
                continue
            fate = evidence.case.fate(namespace, stored)
            if fate is not None and (fate[0], fate[1].id) in evidence.taken:
                continue  # deleted where readers were: as an application would
            twin = evidence.after.get(fate[0], {}).get(fate[1].id) if fate else None
            arrived = twin is not None and fate is not None and twin.face() == fate[1].face()
            if not arrived and (namespace, id) not in evidence.excused:
                lost.append(f"{namespace}/{id[:20]}")
    if lost:
        yield f"{len(lost)} records are neither in their source nor in their target: {lost[:SHOWN]}"


def _extra(evidence: Evidence) -> Iterator[str]:
    """The index holds only expected records, and no record of an erased tenant.

    If a job was taken back, a target may also hold an older version of a record that an application wrote there, or
    wrote to a source after it was copied.
    """
    case, extra = evidence.case, []
    candidates = case.candidates(evidence.truth)
    for namespace, stored in [*evidence.versions, *_records(evidence.before)]:
        if evidence.state in TAKEN_BACK or evidence.set_back or (namespace, stored.id) in evidence.late:
            fate = case.fate(namespace, stored) if namespace in case.sources else None
            if evidence.versions and fate is not None and not case.is_erased(namespace, stored.id):
                candidates.setdefault((fate[0], fate[1].id), set()).add(fate[1].face())
    fates = [case.fate(namespace, stored) for namespace, stored in evidence.versions if namespace in case.sources]
    unknown = evidence.left_out | {(fate[0], fate[1].id) for fate in fates if fate is not None and evidence.doubtful}
    for namespace, rows in evidence.after.items():
        for id, stored in rows.items():
            was = evidence.truth.get(namespace, {}).get(id)
            if was is not None and was.face() == stored.face():
                continue
            if (namespace, id) in unknown:
                continue
            if stored.face() not in candidates.get((namespace, id), set()):
                extra.append(f"{namespace}/{id[:20]}: {str(dict(stored.metadata))[:200]}")
    if extra:
        yield f"{len(extra)} records are there that nobody asked for: {extra[:SHOWN]}"


def _records(contents: Contents) -> Iterator[tuple[str, Stored]]:
    return ((namespace, stored) for namespace, rows in contents.items() for stored in rows.values())


def _foreign_touched(evidence: Evidence) -> Iterator[str]:
    """Records that a target held before are neither replaced nor removed, not even for a moment."""
    for namespace in {*evidence.case.foreign, *evidence.case.left_alone}:
        held = evidence.truth.get(namespace, {})
        for id, stored in held.items():
            there = evidence.after.get(namespace, {}).get(id)
            if (namespace, id) in evidence.excused | evidence.left_out | evidence.taken:
                continue
            if there is None or there.face() != stored.face():
                yield f"what {namespace} held before was touched: {id!r}"
        for call in _carried_out(evidence, "upsert", "delete", "delete_namespace"):
            touched = {id for id in call["ids"] if id in held and (namespace, id) not in evidence.left_out}
            if call["namespace"] == namespace and (touched or (held and call["operation"] == "delete_namespace")):
                yield f"{call['operation']} in {namespace} named what it held before: {sorted(touched)[:SHOWN]}"


def _carried_out(evidence: Evidence, *operations: str) -> Iterator[Mapping[str, Any]]:
    return (
        call
        for call in evidence.calls
        if call["applied"] and call["operation"] in operations and not is_application(call)
    )


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
            if namespace in case.sources and not is_application(call):
                yield f"a source was written to: {namespace}"
        elif operation in ("delete", "delete_namespace") and namespace in case.sources and not is_application(call):
            held = evidence.truth[namespace]
            ids = set(call["ids"]) if operation == "delete" else set(held)
            for id in ids & set(held):
                fate = case.fate(namespace, held[id])
                if (namespace, id) in evidence.left_out:
                    continue
                if fate is None:
                    if (namespace, id) not in evidence.excused:
                        yield f"{operation} of {namespace}/{id[:20]}, which had to stay"
                elif (fate[0], fate[1].id) not in proven:
                    yield f"{operation} of {namespace}/{id[:20]} before it was read back in {fate[0]}"


def _by_the_fleet(evidence: Evidence) -> list[Mapping[str, Any]]:
    """Return its calls in the order in which it made them. A call that landed late was made once, long before."""
    asked = [call for call in evidence.calls if not is_application(call) and call["fault"] != LANDED_LATE]
    return sorted(asked, key=lambda call: call["time"])


def _repeated_blind(evidence: Evidence) -> Iterator[str]:
    """A deletion that failed, or was not answered, is sent again only after a look at what it would take.

    Not asked where a tenant is erased: that is asked for until nothing of it is left, whoever writes it anew.
    """
    if evidence.case.erased is not None:
        return
    unknown: list[Mapping[str, Any]] = []
    calls = _by_the_fleet(evidence)
    for call in calls:
        if call["operation"] in ("list", "fetch") and is_done(call):
            unknown = [deletion for deletion in unknown if not _shows(call, deletion)]
        elif call["operation"] in DELETIONS:
            again = [deletion for deletion in unknown if _same(deletion, call)]
            if again:
                told = again[0]["status"] or "silence"
                around = _told_of(calls, call, since=again[0]["time"] - TOLD_BEFORE_S)
                yield f"{call['operation']} in {call['namespace']} was repeated without a look after {told}: {around}"
            if not is_done(call) and call["status"] != 404:
                unknown.append(call)


def _told_of(calls: Iterable[Mapping[str, Any]], last: Mapping[str, Any], since: float) -> str:
    """Tell the calls in the namespace of the last one, with the seconds before it at which the store took each."""
    there = (one for one in calls if one["namespace"] == last["namespace"] and since <= one["time"] <= last["time"])
    return ", ".join(
        f"{one['operation']} of {len(one['ids'])} {last['time'] - one['time']:.3f} s before: {one['status']}"
        for one in there
    )


def _shows(look: Mapping[str, Any], deletion: Mapping[str, Any]) -> bool:
    """Say whether the look was at what the deletion was to take."""
    records = look["operation"] == "list" or set(look["ids"]) & set(deletion["ids"])
    return bool(look["namespace"] == deletion["namespace"] and records)


def _same(deletion: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether one may take what the other was to take."""
    same = ("namespace", "operation")
    whole = deletion["operation"] == "delete_namespace"
    return all(deletion[key] == other[key] for key in same) and (
        whole or bool(set(deletion["ids"]) & set(other["ids"]))
    )


def _strangers_wronged(evidence: Evidence) -> Iterator[str]:
    """Others' writes are there still, unless the fleet could not see them before its own call took them."""
    asked = _by_the_fleet(evidence)
    for wrote in evidence.strangers:
        namespace, id, at = wrote.namespace, wrote.stored.id, wrote.at
        there = evidence.after.get(namespace, {}).get(id)
        untouched = there is not None and there.face() == wrote.stored.face()
        if at is None or untouched or evidence.case.is_erased(namespace, id):
            continue
        if evidence.case.is_erased_whole(namespace):
            continue
        naming = [call for call in asked if call["namespace"] == namespace and _names(call, id)]
        if any(call["operation"] == "upsert" and call["time"] < at for call in naming):
            continue  # a change of what the job had copied: that is repaired, or left to readers
        took = next(
            (call for call in naming if call["operation"] not in LOOKS and call["applied"] and call["time"] > at), None
        )
        if took is None:
            continue  # a call that was on its way before, or somebody else
        if any(call["operation"] in LOOKS and at + LAG_MS / 1000 < call["time"] < took["time"] for call in naming):
            yield f"{took['operation']} in {namespace} took {id!r} of somebody else's, which had been seen"


def _names(call: Mapping[str, Any], id: str) -> bool:
    return call["operation"] in ("delete_namespace", "list") or id in call["ids"]


def _not_as_the_state_says(evidence: Evidence) -> Iterator[str]:
    """A verified job has all records at its targets; a cleaned one has left none; a rolled back one changed none."""
    case, state = evidence.case, evidence.state
    if state == "rolled_back" and not evidence.excused:
        there, wanted = _faces(evidence.after), _faces(evidence.truth)
        for key in evidence.left_out | evidence.taken:
            there.pop(key, None)
            wanted.pop(key, None)
        # Copies that the job table has lost from its record are not removed: their owner is no longer known.
        # Nor are copies that an application changed since, by the policy that it chose.
        if evidence.versions or evidence.set_back:
            there = {key: face for key, face in there.items() if key in wanted}
        if there != wanted:
            yield "rolled back, and the index is not what it was"
    if state not in PROVEN:
        return
    candidates = case.candidates(evidence.truth)
    missing, left = [], []
    for namespace in case.sources:
        for id, stored in evidence.truth.get(namespace, {}).items():
            fate = case.fate(namespace, stored)
            if fate is None or (namespace, id) in evidence.excused or evidence.is_left_out(namespace, stored):
                continue
            if (fate[0], fate[1].id) in evidence.taken or (namespace, id) in evidence.late:
                continue
            rivals = len(candidates[fate[0], fate[1].id]) + (fate[1].id in evidence.truth.get(fate[0], {}))
            there = evidence.after.get(fate[0], {}).get(fate[1].id)
            arrived = there is not None and there.face() == fate[1].face()
            if not arrived and rivals == 1 and not (evidence.set_back and _is_there(evidence, namespace, id)):
                missing.append(f"{namespace}/{id[:20]}")
            stays = id in evidence.after.get(namespace, {}) and not evidence.set_back
            if state == "cleaned" and arrived and rivals == 1 and stays:
                left.append(f"{namespace}/{id[:20]}")
    if missing:
        yield f"{state}, and {len(missing)} records are not at their targets: {missing[:SHOWN]}"
    if left:
        yield f"cleaned, and {len(left)} moved records are in their sources still: {left[:SHOWN]}"


def _is_there(evidence: Evidence, namespace: str, id: str) -> bool:
    """Say whether a record is at its source as it was written last."""
    there = evidence.after.get(namespace, {}).get(id)
    return there is not None and there.face() == evidence.truth[namespace][id].face()


def not_as_it_was(
    truth: Contents,
    after: Contents,
    left_out: frozenset[tuple[str, str]] = frozenset(),
    lost: frozenset[tuple[str, str]] = frozenset(),
) -> Iterator[str]:
    """After the way back every record is where it was, as it was. What the service lost may be gone, not altered."""
    there = _faces(after)
    wanted = {key: face for key, face in _faces(truth).items() if key in there or key not in lost}
    keys = (there.keys() | wanted.keys()) - left_out
    different = sorted(key for key in keys if there.get(key) != wanted.get(key))
    if different:
        yield f"on the way back {len(different)} records are not where they were, as they were: {different[:SHOWN]}"


def not_there_again(first: Contents, again: Contents) -> Iterator[str]:
    """Forth again after the way back, everything is where it was the first time, as it was there."""
    there, wanted = _faces(again), _faces(first)
    different = sorted(key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key))
    if different:
        yield f"forth again {len(different)} records are not where they were the first time: {different[:SHOWN]}"


def _faces(contents: Contents) -> dict[tuple[str, str], str]:
    return {(namespace, id): stored.face() for namespace, rows in contents.items() for id, stored in rows.items()}
