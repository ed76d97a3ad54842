"""Everything a step may use: its lease, its job and move, a lane to each index, and the job table."""

from dataclasses import dataclass, field

from migrations.reversing import Backward
from migrations.routing import Router
from migrations.texts import TextRows
from orchestrator.core import manifests
from orchestrator.core.model import Deletion, Job, Lease, Move, Target, TargetTally
from orchestrator.ledger import batches, checks, moves
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from orchestrator.telemetry import counters
from orchestrator.telemetry.counters import Counters
from vecfleet.settings import Settings
from vecfleet.stores.base import Usage
from workers.embedding import Embeddings
from workers.lane import Lane
from workers.leases import Held, Later
from workers.once import once
from workers.placing import Placer

__all__ = ["Later", "LeaseLost", "NotProven", "NotWhole", "Work"]


class NotProven(Exception):
    """A destructive step lacks its proof: the batch is parked with this sentence, and nothing was deleted."""


class NotWhole(Exception):
    """A second reading does not permit deleting a namespace whole. Nothing was deleted: the source is read once more.

    `by_ids`: no further reading would permit the deletion, so the records are deleted batch by batch.
    """

    def __init__(self, why: str, *, by_ids: bool = False) -> None:
        self.why = why
        self.by_ids = by_ids
        super().__init__(why)


@dataclass
class Work:
    """One leased batch being worked on.

    `wrote` holds the targets that this attempt may have written to. `sent` holds the subjects of each record sent, that
    is the tenants whose erasure covers the record: namespace → id → subjects.
    """

    database: Database
    settings: Settings
    held: Held
    job: Job
    source: Lane
    target: Lane
    router: Router
    counters: Counters
    wrote: set[int] = field(default_factory=set)
    sent: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    embeddings: Embeddings | None = None  # of a plan that embeds
    texts: TextRows | None = None  # of a plan whose texts are not in the records

    @property
    def leaves_embedding(self) -> bool:
        """Say whether the target embeds the texts itself."""
        embedding = self.job.plan.policies.embedding
        return embedding is not None and embedding.integrated

    @property
    def embeds(self) -> bool:
        """Say whether the plan makes vectors anew, by a model that the workers ask."""
        return self.job.plan.policies.embedding is not None and not self.leaves_embedding

    @property
    def lease(self) -> Lease:
        return self.held.lease

    @property
    def usage(self) -> Usage:
        return self.source.usage + self.target.usage

    @property
    def deletion(self) -> Deletion:
        """Return the outcome of this attempt's deletions: the less certain one of the two lanes."""
        asked = {self.source.deletion, self.target.deletion}
        return next(
            outcome for outcome in (Deletion.UNANSWERED, Deletion.ANSWERED, Deletion.UNSENT) if outcome in asked
        )

    def lands_within_s(self, lag_s: float) -> float:
        """Return the seconds after which a call that begins now has taken effect and shows in reads."""
        return self.settings.request_deadline_seconds + lag_s

    @property
    def move(self) -> Move:
        assert self.lease.move is not None, f"a {self.lease.kind} batch belongs to a move"
        return self.lease.move

    @property
    def target_row(self) -> Target:
        assert self.lease.target is not None, f"a {self.lease.kind} batch belongs to a target"
        return self.lease.target

    @property
    def copy_id(self) -> int:
        return self.lease.copy_id or self.lease.id

    @once
    def ids(self) -> list[str]:
        """The ids of the copy batch that this batch works on."""
        assert self.lease.manifest is not None, f"a {self.lease.kind} batch works on no copy batch's ids"
        return manifests.unpack(self.lease.manifest)

    @once
    def placer(self) -> Placer:
        return self.placer_of(self.move)

    def placer_of(self, move: Move) -> Placer:
        plan = self.job.plan
        policies, backward = plan.policies, None
        if plan.takes_back and move.to is None:
            backward = Backward(
                plan.old_namespaces, policies.review, policies.metadata_map, owners=plan.takes_back_owners
            )
        return Placer(move.source, move, self.router, policies, self.target.index, move.prefix, backward)

    @once
    def copy_targets(self) -> list[Target]:
        """The targets that the copy batch may have written to."""
        with self.database.begin() as connection:
            return moves.targets_of_batch(connection, self.copy_id)

    @once
    def tallies(self) -> list[TargetTally]:
        """The tallies of the copy batch in each of its targets. Raises Later if ids were erased meanwhile."""
        with self.database.begin() as connection:
            tallies = checks.tallies_of(connection, self.copy_id)
            if self.lease.copy_id is not None and batches.size_of(connection, self.copy_id) != len(self.ids):
                raise Later(0, "ids were erased meanwhile")
            return tallies

    def recorded(self, target_id: int) -> dict[str, int]:
        """Return the short digest of each record that the copy batch left in this target, by its id at the source."""
        tally = next((candidate for candidate in self.tallies if candidate.target_id == target_id), None)
        return manifests.select_digests(self.ids, tally.members, tally.record_digests) if tally else {}

    def look_again(self, why: str, *, often: bool = True) -> None:
        """Raise Later until the freshness wait is over: reads lag, and a difference counts only after it.

        `often`: look several times meanwhile; otherwise once, at the end of the wait.
        """
        left = self.settings.freshness_wait_seconds - self.lease.age_seconds
        if left > 0:
            # Look often at first, because most lag is short, and once more when the wait is over.
            wait = min(left, max(0.5, self.lease.age_seconds)) if often else left
            self.counters.note(counters.FRESHNESS_WAITS)
            self.counters.note(counters.FRESHNESS_WAIT_MS, int(wait * 1_000))
            raise Later(wait, why)
