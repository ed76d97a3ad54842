"""A job table to test with: a few words make a job, list its namespaces, and work its batches by hand."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from migrations.plan import Estimate, IndexRef, Plan, PlannedMove, Policies
from migrations.routing import Owner, Ownership
from orchestrator import dispatcher
from orchestrator.core.freshness import Waits
from orchestrator.core.model import CopyOutcome, Finding, Job, Lease, Move, ParkedRecord, Target, TargetTally, Wakeup
from orchestrator.core.states import BatchKind, BatchState, JobState, MoveState
from orchestrator.ledger import batches, checks, cleanup, copies, jobs, leasing, listings, moves
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.digests import Tally
from vecfleet.stores.base import IndexInfo, Kind, Usage

INDEX = IndexInfo("digital-twin-brain", Kind.DENSE, 3_072, "cosine", host="brain.local")
ELSEWHERE = IndexInfo("another", Kind.DENSE, 3_072, "cosine", host="another.local")
LEASE_S = 60.0
# Nothing lags: a test that is about lag says so.
AT_ONCE = Waits()
WINDOW = 48


def planned(source: str, to: str | None = None, records: int = 0) -> PlannedMove:
    return PlannedMove(
        source=source, records=records, to=to, creator="ana" if to else None, twin=source if to else None
    )


def plan_of(*planned_moves: PlannedMove, target: IndexInfo = INDEX, **policies: Any) -> Plan:
    def ref(info: IndexInfo) -> IndexRef:
        return IndexRef(store="memory", index=info.name, kind=info.kind, dimension=info.dimension, metric=info.metric)

    return Plan(
        recipe="creators",
        made_at=datetime(2026, 2, 11, tzinfo=UTC),
        source=ref(INDEX),
        target=ref(target),
        policies=Policies(**policies),
        moves=planned_moves,
        estimate=Estimate(records=0, requests=0, read_units=0, write_units=0, egress_bytes=0, dollars=0.0, seconds=0.0),
    ).sealed()


def in_pinecone(plan: Plan) -> Plan:
    """The same plan, in an account that answers: a report looks into its index."""
    sides = {"source": plan.source, "target": plan.target}
    return plan.model_copy(
        update={side: ref.model_copy(update={"store": "pinecone"}) for side, ref in sides.items()}
    ).sealed()


def lift_the_edges(connection: sa.Connection) -> None:
    """Let the rest of this transaction put any row into any state: no trigger runs."""
    connection.execute(sa.text("SET LOCAL session_replication_role = replica"))


def digest_of(ids: Sequence[str]) -> int:
    """Stands for the digest of these records' content: different from that of their ids."""
    return Tally.of_ids(f"the content of {record_id}" for record_id in ids).digest


@dataclass
class JobTable:
    """The job table with one job on it. `owner` is who leases."""

    database: Database
    job_id: int = 0
    owner: str = "worker-1"
    plan: Plan = field(default_factory=lambda: plan_of(planned("s", "t")))

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        with self.database.begin() as connection:
            yield connection

    def apply(self, plan: Plan, target: IndexInfo = INDEX, source: IndexInfo = INDEX, waits: Waits = AT_ONCE) -> int:
        """A job of this plan; it becomes the one this table talks about."""
        with self.begin() as connection:
            self.job_id = self.insert(connection, plan, target, source, waits)
        return self.job_id

    @staticmethod
    def insert(
        connection: sa.Connection,
        plan: Plan,
        target: IndexInfo = INDEX,
        source: IndexInfo = INDEX,
        waits: Waits = AT_ONCE,
    ) -> int:
        return jobs.insert_job(
            connection,
            plan,
            source=source,
            target=target,
            way_back="roll back",
            ownership=Ownership(),
            created_by="ana",
            batch_window=WINDOW,
            pace_share=0.5,
            waits=waits,
        )

    @contextmanager
    def by_hand(self) -> Iterator[sa.Connection]:
        """One transaction in which a test may put any row into any state."""
        with self.begin() as connection:
            lift_the_edges(connection)
            yield connection

    def put(self, **values: Any) -> None:
        """Put the job's row as a test needs it."""
        with self.by_hand() as connection:
            connection.execute(sa.update(t.job).where(t.job.c.id == self.job_id).values(**values))

    def set_batch(self, batch_id: int, **values: Any) -> None:
        with self.by_hand() as connection:
            connection.execute(sa.update(t.batch).where(t.batch.c.id == batch_id).values(**values))

    def advance(self, times: int = 1) -> None:
        """Let the dispatcher decide the job's next steps."""
        for _ in range(times):
            with self.begin() as connection:
                dispatcher.advance(connection, self.job_id)

    # What stands there now

    @property
    def job(self) -> Job:
        with self.begin() as connection:
            return jobs.get(connection, self.job_id)

    @property
    def moves(self) -> dict[str, Move]:
        with self.begin() as connection:
            return {move.source: move for move in moves.of_job(connection, self.job_id)}

    @property
    def move(self) -> Move:
        (move,) = self.moves.values()
        return move

    @property
    def targets(self) -> dict[str, Target]:
        with self.begin() as connection:
            return {target.namespace: target for target in moves.targets_of_job(connection, self.job_id)}

    def rows(self, kind: BatchKind | None = None, source: str | None = None) -> list[Any]:
        """The job's batches, in the order of their making."""
        query = sa.select(t.batch).where(t.batch.c.job_id == self.job_id).order_by(t.batch.c.id)
        if kind is not None:
            query = query.where(t.batch.c.kind == kind)
        if source is not None:
            query = query.where(t.batch.c.move_id == self.moves[source].id)
        with self.begin() as connection:
            return list(connection.execute(query).all())

    def row(self, batch_id: int) -> Any:
        with self.begin() as connection:
            return connection.execute(sa.select(t.batch).where(t.batch.c.id == batch_id)).one()

    def expected(self, namespace: str) -> TargetTally | None:
        """Return what the tallies say a target should hold."""
        target_id = self.targets[namespace].id
        with self.begin() as connection:
            return checks.expected_of(connection, [target_id]).get(target_id)

    def parked_ids(self) -> list[str]:
        query = sa.select(t.parked_record.c.record_id).where(t.parked_record.c.job_id == self.job_id)
        with self.begin() as connection:
            return sorted(connection.execute(query).scalars())

    # What the dispatcher and the workers do

    def start(self) -> None:
        """The dispatcher starts the job, made long enough ago for its sources to be read: each move has its listing."""
        if lag_s := self.job.waits.source_lag_s:
            self.put(created_at=t.job.c.created_at - timedelta(seconds=lag_s))
        self.advance()
        assert self.job.state is JobState.RUNNING

    def dispatch(self, window: int | None = None) -> list[Wakeup]:
        if window is not None:
            self.put(batch_window=window)
        with self.begin() as connection:
            return batches.dispatch(connection, self.job_id)[0]

    def lease(self, wakeup: Wakeup, owner: str | None = None) -> Lease | None:
        with self.begin() as connection:
            return leasing.lease(connection, wakeup.batch_id, wakeup.generation, owner or self.owner, LEASE_S)

    def take(self, window: int | None = None) -> list[Lease]:
        """Dispatch whatever is due and lease all of it."""
        leases = [self.lease(wakeup) for wakeup in self.dispatch(window)]
        assert None not in leases
        return [lease for lease in leases if lease is not None]

    def expire(self, lease: Lease) -> None:
        """The lease's time is over."""
        self.set_batch(lease.id, lease_until=sa.func.clock_timestamp() - sa.text("interval '1 second'"))

    def reap(self, limit: int = 8) -> list[int]:
        """Reap leases that ran out, as the dispatcher does. Return the batches that are beyond their attempts."""
        with self.begin() as connection:
            _, spent = batches.requeue_expired(connection, [self.job_id], limit)
            for batch_id in spent:
                copies.park_exhausted(connection, batch_id)
            return spent

    def requeue(self, lease: Lease, *, after: float = 0.0, spend_attempt: bool = True) -> None:
        with self.begin() as connection:
            batches.requeue(
                connection,
                lease,
                after_seconds=after,
                error_class="Unavailable",
                error_text="503",
                usage=Usage(requests=1),
                busy_ms=1,
                spend_attempt=spend_attempt,
            )

    def list_ids(self, lease: Lease, *runs: Sequence[str], token: str | None = None, complete: bool = True) -> None:
        """Record what a listing does: a copy batch for each run of ids, and the listing's end where it is complete."""
        with self.begin() as connection:
            if complete:
                listings.end(connection, lease, runs, Usage(requests=1), 1, listed_in=1)
            else:
                listings.add(connection, lease, runs, token, listed_in=1)

    def listed(self, runs: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Start the job and list each of its namespaces in one go."""
        self.start()
        sources = {move.id: move.source for move in self.moves.values()}
        for lease in self.take():
            assert lease.kind is BatchKind.LIST and lease.move_id is not None
            self.list_ids(lease, *runs[sources[lease.move_id]])

    def target(self, lease: Lease, namespace: str) -> Target:
        """Return what a worker notes before its first upsert into a namespace."""
        assert lease.move_id is not None
        with self.begin() as connection:
            job, move = jobs.get(connection, lease.job_id), moves.get(connection, lease.move_id)
            batches.require(connection, lease)
            target = moves.ensure_target(connection, job, move, namespace, Owner("ana", move.source))
            moves.note_targets(connection, lease, [target.id])
            moves.raise_sequence(connection, [target.id])
        return target

    def copy(
        self,
        lease: Lease,
        namespace: str | None = "t",
        *,
        wrote: Sequence[str] | None = None,
        parked: Sequence[str] = (),
        gone: int = 0,
        left_behind: int = 0,
        identical: int = 0,
    ) -> None:
        """Record what a copied batch does. `wrote`: all of its ids unless told otherwise."""
        ids = self.ids(lease) if wrote is None else list(wrote)
        tallies: tuple[TargetTally, ...] = ()
        if ids and namespace is not None:
            target = self.target(lease, namespace)
            tallies = (TargetTally(target.id, len(ids), digest_of(ids), Tally.of_ids(ids).digest, None),)
        outcome = CopyOutcome(
            tallies=tallies,
            parked=tuple(ParkedRecord(record_id, "a poisoned record") for record_id in parked),
            written=len(ids),
            identical=identical,
            gone=gone,
            left_behind=left_behind,
        )
        with self.begin() as connection:
            copies.finish_copy(connection, lease, outcome, Usage(requests=2, write_units=5.0), 3)

    def ids(self, lease: Lease) -> list[str]:
        from orchestrator.core import manifests

        assert lease.manifest is not None
        return manifests.unpack(lease.manifest)

    def park(self, lease: Lease, why: str = "no retry helps") -> None:
        with self.begin() as connection:
            copies.park(connection, lease, "BadRequest", why, Usage(requests=1), 1)

    def check(self, lease: Lease, **found: int) -> None:
        """Record what a check does: everything is there and equal, except for what `found` says."""
        assert lease.target_id is not None
        with self.begin() as connection:
            if lease.kind is BatchKind.VERIFY:
                tallies = [tally for _, _, tally in checks.written_by(connection, lease.copies, lease.target_id)]
                total = sum((Tally(tally.count, tally.digest) for tally in tallies), Tally())
                seen = {"count": total.count, "digest": str(total.digest), "missing": 0, "different": 0}
            else:
                ids = checks.expected_ids_of(connection, lease.target_id)
                seen = {"count": ids.count, "ids_digest": str(ids.digest), "missing": 0, "extra": 0}
            copy_id = lease.copies[0] if lease.copies else None
            findings = [Finding(kind, "r", copy_id) for kind in ("missing", "extra", "different") if found.get(kind)]
            checks.finish(connection, lease, {**seen, **found}, findings, Usage(requests=1), 1)

    def finish(self, lease: Lease, **found: Any) -> None:
        """A recheck, clear, remove, compare, undo or drop is done."""
        with self.begin() as connection:
            cleanup.finish(connection, lease, found, Usage(requests=1), 1)

    def verified(self, runs: Mapping[str, Sequence[Sequence[str]]] | None = None) -> None:
        """Bring the job to `verified`: listed, copied, read back and equal."""
        self.listed(runs or {source: [[f"{source}-1", f"{source}-2"]] for source in self.moves})
        targets = {move.id: move.to or "t" for move in self.moves.values()}
        for lease in self.take():
            assert lease.move_id is not None
            self.copy(lease, targets[lease.move_id])
        self.advance(2)
        for lease in self.take():
            self.check(lease)
        self.advance()
        assert self.job.state is JobState.VERIFIED, self.job


def accounted_for(move: Move) -> bool:
    """The accounting identity: every listed id is in exactly one of the counts, and none of them is negative."""
    counts = (move.written, move.identical, move.gone, move.parked, move.left_behind, move.erased)
    return move.listed == move.settled and min(counts) >= 0


def settled(row: Any) -> bool:
    return row.state in (BatchState.DONE, BatchState.PARKED)


__all__ = ["BatchKind", "BatchState", "JobState", "JobTable", "MoveState", "plan_of", "planned"]
