"""The laws that hold whatever the adversary does: checked at each call, after each event, and at rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.core.states import JobState
from tests.chaos import books
from tests.machine.acting import Worker
from tests.machine.lagging import LaggingIndex
from tests.machine.people import Application, Strangers
from vecfleet.records import Record
from vecfleet.tenancy.routes import Route, RouteTable

# In which a job may stay for good: it has ended, or waits for a person.
AT_REST = (
    *(JobState.CLEANED, JobState.FINISHED, JobState.ROLLED_BACK, JobState.CANCELLED),
    *(JobState.VERIFIED, JobState.CUT_OVER, JobState.NEEDS_ATTENTION, JobState.PAUSED),
)
PROOF_KEEPS_S = 15 * 60.0  # as docs/guarantees.md says of a source that is deleted whole
# Of the batch that deletes from this source: seconds since 1970, and the age of its oldest reading.
_EVIDENCE = """
    SELECT m.clean_mode = 'whole', extract(epoch FROM d.last_write_at)::float, d.lag_s::float,
        extract(epoch FROM c.at)::float, extract(epoch FROM d.read_from)::float, extract(epoch FROM d.listed_at)::float,
        extract(epoch FROM c.at - (
            SELECT min(r.looked_at) FROM batch r WHERE r.move_id = m.id AND r.kind = 'recheck'
        ))::float
    FROM clock.time c, batch b JOIN move m ON m.id = b.move_id LEFT JOIN deletion d ON d.move_id = m.id
    WHERE b.id = %s AND m.source = %s AND b.kind IN ('clear', 'remove')
"""


@dataclass(frozen=True)
class Loss:
    """Commits of the job table were lost: since when, when it was replaced, and whether jobs went with them."""

    since: float
    at: float
    of_jobs: bool


@dataclass
class Laws:
    """The laws of one life.

    `expected` tells what the plan makes of a record of a source in its target, `routes` what applications are told.
    """

    index: LaggingIndex
    application: Application
    strangers: Strangers
    expected: Callable[[str, Record, str], Record]
    routes: Callable[[], RouteTable]
    applied_at: dict[int, float] = field(default_factory=dict)  # by job
    erased: set[str] = field(default_factory=set)  # creators whose certificate is written
    losses: list[Loss] = field(default_factory=list)
    _unanswered: dict[str, set[str]] = field(default_factory=dict)
    _written: set[tuple[str, str]] = field(default_factory=set)
    _lost: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index.watch, self.index.judge, self.index.unanswered = self.a_call_leaves, self.a_change, self._no_answer

    # At each call of a worker

    def a_call_leaves(self, operation: str, namespace: str, ids: Sequence[str]) -> None:
        """A deletion is never sent again unless somebody has looked what became of the one before."""
        waiting = self._unanswered.get(namespace, set())
        if operation == "list":
            waiting.clear()
        elif operation == "fetch":
            waiting.difference_update(ids)
        elif operation == "delete_namespace":
            assert "*" not in waiting, f"{namespace} is to be deleted again, and nobody looked what became of it"
        elif operation == "delete":
            again = sorted(waiting.intersection(ids))
            assert not again, f"{again} of {namespace} are to be deleted again, and nobody looked what became of them"
        if operation in ("delete", "delete_namespace"):
            self._evidence_is_on_record(namespace)

    def _evidence_is_on_record(self, namespace: str) -> None:
        """Before anything is deleted from a source, the looks that this rests on are on record, each young enough.

        What is said of its last permitted write is held against what the application was acknowledged. Of what was
        done in lost commits the table says nothing ("may be missing in it", docs/what-if.md): all looks are newer.
        """
        worker = Worker.current()
        assert worker is not None
        found = self.index.clock.sql(_EVIDENCE, worker.wakeup.batch_id, namespace)
        if not found:
            return  # of a target: what a roll back removes was compared, and is in its source
        [(whole, last_write, lag_s, now, read, listed, oldest_reading_s)] = found
        assert last_write is not None, f"{namespace} is to be deleted, and no look that this rests on is on record"
        since = self.index.clock.monotonic() - now  # of the two clocks, which move together
        looks = {"listed": listed} if whole else {"read": read}
        if whole and oldest_reading_s is not None:  # else nothing was copied of it
            looks["read"] = read
        for what, at in looks.items():
            assert at is not None, f"{namespace} is to be deleted, and when it was {what} is not on record"
            assert at >= last_write + lag_s, (
                f"{namespace} is to be deleted, and was {what} {at - last_write:.0f} s after its last permitted write: "
                f"reads lag up to {lag_s:.0f} s"
            )
            for loss in self.losses:
                assert at + since >= loss.at + self.index.lag_s, (
                    f"{namespace} is to be deleted, and was {what} {at + since - loss.at:.0f} s after commits were lost"
                )
        assert lag_s >= self.index.lag_s, f"{namespace} was waited for {lag_s:.0f} s, and reads lag {self.index.lag_s}"
        assert not whole or (oldest_reading_s or 0.0) <= PROOF_KEEPS_S, (
            f"{namespace} is to be deleted on a reading that is {oldest_reading_s / 60:.0f} minutes old"
        )
        for (source, name), newest in self.application.newest.items():
            if any(loss.since <= newest.at <= loss.at for loss in self.losses):
                continue
            assert source != namespace or not newest.old_side or newest.at <= last_write + since + 0.001, (
                f"{namespace}/{name} was written {newest.at - last_write - since:.0f} s after what is on record as the "
                "last permitted write"
            )

    def _no_answer(self, operation: str, namespace: str, ids: Sequence[str]) -> None:
        if operation in ("delete", "delete_namespace"):
            self._unanswered.setdefault(namespace, set()).update(ids or ["*"])

    def a_change(
        self, operation: str, namespace: str, before: Mapping[str, Record], after: Mapping[str, Record], sent: float
    ) -> None:
        """Whatever a stranger wrote where it could be seen stays, unless it is in its target as the plan makes it."""
        is_source = namespace in {source for source, _ in self.application.newest}
        if operation in ("delete", "delete_namespace") and is_source:
            self._last_copies(namespace, [one for name, one in before.items() if name not in after], sent)
        for name, held in before.items():
            stranger, at = self.strangers.wrote.get((namespace, name), (None, 0.0))
            if after.get(name) == held or held != stranger or at > sent - self.index.lag_s:
                continue
            if operation == "upsert" and (namespace, name) in self._written:
                continue  # a repair puts back what a check found changed: docs/guarantees.md
            target = self.application.target_of(namespace, held) if is_source else ""
            copied = is_source and self.index.truth(target).get(name) == self.expected(namespace, held, target)
            assert copied, f"{namespace}/{name}, written by a stranger {sent - at:.0f} s before, is destroyed by a job"
        if operation == "upsert":
            self._written |= {(namespace, name) for name in after}

    def _last_copies(self, source: str, going: Sequence[Record], sent: float) -> None:
        """Last copies stay until a person was asked, if a stranger took away most of their target."""
        for one in going:
            target = self.application.target_of(source, one)
            gone, at = self.strangers.wrote.get((target, one.id), (one, sent))
            if gone is None and at <= sent - self.index.lag_s and (source, one.id) in self.application.newest:
                self._lost.setdefault(target, set()).add(one.id)
        for target, names in self._lost.items():
            newest = self.application.newest.items()
            here = [
                name
                for (from_, name), held in newest
                if held.record and self.application.target_of(from_, held.record) == target
            ]
            assert len(names) * 2 <= len(here), f"{len(names)} of {len(here)} records of {target} are nowhere any more"

    # After each event

    def hold(self) -> None:
        self.nothing_is_lost()
        if not self.losses:  # after them routes are as old as the table
            routes = self.routes().routes
            self.routes_lead_to_records(routes)
            self.readers_stay_where_they_were_led(routes)
        self.erased_is_nowhere()
        self.nothing_late_is_claimed()

    def nothing_is_lost(self) -> None:
        """The newest acknowledged write of every id is in its source or its target, equal to the bit."""
        for (source, name), newest in self.application.newest.items():
            one = newest.record
            if one is None:
                continue
            target = self.application.target_of(source, one)
            if self.strangers.touched(source, name) or self.strangers.touched(target, name):
                continue
            here, there = self.index.truth(source).get(name), self.index.truth(target).get(name)
            assert (newest.old_side and here == one) or there == self.expected(source, one, target), (
                f"{source}/{name} is nowhere in its newest version: {source} holds {_said(here)}, "
                f"{target} {_said(there)}"
            )

    def routes_lead_to_records(self, routes: Sequence[Route]) -> None:
        """Published routes lead to their tenants' records: those from before the job, and those written there since."""
        if not routes:
            return
        left_behind = {name for (name,) in self.index.clock.sql("SELECT record_id FROM parked_record")}
        for route in routes:
            moved, old = route.cleaned or route.side == "new", {place.namespace for place in route.old}
            led = {route.new.namespace} if moved else old
            found = {name for namespace in led for name in self.index.truth(namespace)}
            began = self.applied_at.get(route.job or 0, 0.0)
            for (source, name), newest in self.application.newest.items():
                if newest.record is None or source not in old or name in found | left_behind:
                    continue
                target = self.application.target_of(source, newest.record)
                if target != route.new.namespace or any(self.strangers.touched(at, name) for at in (source, target)):
                    continue
                is_there = newest.new_side or newest.at <= began if moved else newest.old_side
                assert not is_there, (
                    f"a route of job {route.job} leads {route.creator}'s {route.twin} to {', '.join(sorted(led))}, "
                    f"where {name} is not any more"
                )

    def readers_stay_where_they_were_led(self, routes: Sequence[Route]) -> None:
        """Records of the new side alone are read there until a person takes the readers back: no end of a job
        takes its routes away.
        """
        led = {route.new.namespace for route in routes if route.cleaned or route.side == "new"}
        for (source, name), newest in self.application.newest.items():
            if newest.record is not None and newest.new_side and not newest.old_side:
                target = self.application.target_of(source, newest.record)
                assert target in led, f"{name} was written to {target} alone, and no route leads there any more"

    def erased_is_nowhere(self) -> None:
        for creator in self.erased:
            for namespace in self.index.real_namespaces():
                for name, one in self.index.truth(namespace).items():
                    theirs = one.metadata.get("creator_id") == creator or f"creator_{creator}_" in namespace
                    assert not theirs, f"{namespace}/{name} of {creator} is there after the certificate"

    def nothing_late_is_claimed(self) -> None:
        """Hold that no other job claims what a late call can still touch."""
        for late in self.index.landings:
            others = self.index.clock.sql(
                "SELECT job_id FROM claim WHERE namespace = %s AND job_id <> %s", late.namespace, late.job_id
            )
            assert not others, (
                f"a {late.operation} of {late.namespace} by job {late.job_id} may still come, "
                f"and job {others[0][0]} claims it"
            )

    def a_verdict_is_true(self, job_id: int, since: float) -> None:
        """Verified: what was written before `since` is in its target. That is when two passes that found nothing
        changed, a wait apart, began; or when the writers stopped.
        """
        sources = {name for (name,) in self.index.clock.sql("SELECT source FROM move WHERE job_id = %s", job_id)}
        left_behind = {
            name for (name,) in self.index.clock.sql("SELECT record_id FROM parked_record WHERE job_id = %s", job_id)
        }
        for (source, name), newest in self.application.newest.items():
            if newest.record is None or newest.at > since or self.strangers.touched(source, name):
                continue
            if source not in sources or name in left_behind:
                continue
            if self.losses and self.index.truth(source).get(name) == newest.record:
                continue  # as below
            target = self.application.target_of(source, newest.record)
            there = self.index.truth(target).get(name)
            assert self.strangers.touched(target, name) or there == self.expected(source, newest.record, target), (
                f"verified, and {target} holds {_said(there)} under {name}, older than what was written "
                f"{self.index.clock.monotonic() - newest.at:.0f} s ago, before the readings that this rests on"
            )

    # At rest

    def rest(self, job_id: int, *, is_last: bool) -> None:
        """Every lag has passed and every late call has landed: the job has ended, and its end is true.

        Of a job that another took back, nothing is where it left it.
        """
        wrong = books.broken_books(self.index.clock.sql, job_id)
        assert not wrong, wrong
        state, reason = self.index.clock.sql("SELECT state, reason FROM job WHERE id = %s", job_id)[0]
        assert state in AT_REST, f"the job stays {state}: {reason}"
        assert state not in ("needs_attention", "paused") or reason, f"the job is {state} without a reason"
        if state == JobState.CLEANED and is_last:
            self._cleaned_is_true(job_id)

    def _cleaned_is_true(self, job_id: int) -> None:
        """Readers of the new side find everything in its newest version, and nothing that was deleted.

        After lost commits (docs/what-if.md): "records that were copied in the lost commits look as if somebody else
        had written them: equal ids are parked, stay in their sources once accepted"; "plan a job again if it was
        applied since"; what else was done since is looked up in "the applications' logs".
        """
        if any(loss.of_jobs for loss in self.losses):
            return
        sources = {name for (name,) in self.index.clock.sql("SELECT source FROM move WHERE job_id = %s", job_id)}
        left_behind = {
            name for (name,) in self.index.clock.sql("SELECT record_id FROM parked_record WHERE job_id = %s", job_id)
        }
        for (source, name), newest in self.application.newest.items():
            if source not in sources or name in left_behind or self.strangers.touched(source, name):
                continue
            target = self.application.target_of(source, newest.record or Record(name, b""))
            if self.strangers.touched(target, name):
                continue
            if self.losses and self.index.truth(source).get(name) == newest.record is not None:
                continue
            if newest.record is None and any(loss.since <= newest.at <= loss.at for loss in self.losses):
                continue
            there = self.index.truth(target).get(name)
            wanted = None if newest.record is None else self.expected(source, newest.record, target)
            assert there == wanted, (
                f"the job is cleaned, and readers of {target} find {_said(there)} under {name}, not {_said(wanted)}"
            )


def _said(one: Record | None) -> str:
    return "nothing" if one is None else repr(one.metadata.get("text"))
