"""Everybody else: an application that keeps to the plan's policy, strangers who do not, and people at a keyboard."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.ledger.database import Database
from orchestrator.services import acts, left_behind
from tests.machine.lagging import LaggingIndex
from vecfleet.errors import Unreachable, VecfleetError
from vecfleet.records import Record

Writers = Literal["freeze", "delta", "dual"]
ADDED = ("migrated_from", "creator_id", "twin_id")


def ask(database: Database, job: int, what: str) -> str | None:
    """A person's act. Gives the sentence of a refusal, which is an answer like any other."""
    asks: dict[str, Callable[[], object]] = {
        "pause": lambda: acts.pause(database, job, "ana"),
        "resume": lambda: acts.resume(database, job, "ana"),
        "cancel": lambda: acts.cancel(database, job, "ana"),
        "finish": lambda: acts.finish(database, job, "ana"),
        "verify": lambda: acts.verify(database, job, "ana"),
        "retry": lambda: acts.retry(database, job, "ana", "all"),
        "pass": lambda: acts.another_pass(database, job, "ana"),
        "cut over": lambda: acts.cut_over(database, job, "ana", 100),
        "reverse": lambda: acts.reverse(database, job, "ana"),
        "clean up": lambda: acts.clean_up(database, job, "ana", by_ids=False),
        "clean up by ids": lambda: acts.clean_up(database, job, "ana", by_ids=True),
        "roll back": lambda: acts.roll_back(database, job, "ana", None),
        "roll back, keeping": lambda: acts.roll_back(database, job, "ana", "keep"),
        "accept": lambda: left_behind.accept_records(database, job, "ana", None, confirmed=10**9),
        "doubt 0": lambda: acts.set_lever(database, job, "ana", "doubt", 0),
    }
    try:
        asks[what]()
    except VecfleetError as error:
        if isinstance(error, Unreachable) and error.code != "server-unknown":
            raise
        return error.message
    return None


def record(name: str, text: str = "", **metadata: str) -> Record:
    """A record of this name; another text is another version of it."""
    return Record(name, bytes([ord(name[0])]) * 4 * 3_072, metadata={"text": text or f"text of {name}", **metadata})


def enriched(source: str, one: Record, target: str) -> Record:
    """Return what the plan makes of it in a target that is called after its owner, said once more here."""
    _, creator, _, twin = target.split("_")
    added = dict(zip(ADDED, (source, creator, twin), strict=True))
    before = {key: one.metadata[key] for key in (*added, "_vecfleet_prev") if key in one.metadata}
    kept = {"_vecfleet_prev": json.dumps(before, sort_keys=True, separators=(",", ":"))} if before else {}
    return one.with_metadata({**one.metadata, **added, **kept})


@dataclass
class Newest:
    """The last acknowledged version of a record (None: it was deleted), when and on which sides it was written."""

    record: Record | None
    at: float
    old_side: bool = True
    new_side: bool = False


@dataclass
class Application:
    """An application. It writes as the policy permits, and remembers each acknowledged write to compare with.

    `freeze`: it writes to the old side until the job starts, and by its routes once the readers have moved. `delta`: to
    the old side until its route says otherwise. `dual`: to both sides. A route may be as old as `stale_s`. If readers
    were taken back, it writes to the old side again. It writes nowhere once it is `stopped`, and while its routes are
    `misleading`: they were restored with an older job table and lead away from the side of its readers.
    """

    index: LaggingIndex
    writers: Writers
    stale_s: float = 0.0
    started: bool = False
    cut_over_at: float | None = None
    taken_back: bool = False
    stopped: bool = False
    misleading: bool = False
    target_of: Callable[[str, Record], str] = lambda source, _: f"creator_ana_twin_{source}"
    newest: dict[tuple[str, str], Newest] = field(default_factory=dict)
    writes_to: set[str] = field(default_factory=set)

    def sides(self, *, stale_route: bool = False) -> tuple[bool, bool]:
        """Say whether it writes to the old side, and whether to the new. `stale_route`: as long as that is allowed."""
        if self.stopped or self.misleading:
            return False, False
        if self.cut_over_at is None:
            stopped = self.writers == "freeze" and self.started and not self.taken_back
            return not stopped, self.writers == "dual" and self.started
        stale = stale_route and self.index.clock.monotonic() <= self.cut_over_at + self.stale_s
        return stale or self.writers == "dual", not stale or self.writers == "dual"

    def writes(self, source: str, one: Record, *, stale_route: bool = False) -> bool:
        """Say whether the policy lets it. What is acknowledged by each side counts from then on."""
        old, new = self.sides(stale_route=stale_route)
        target = self.target_of(source, one)
        if old:
            self.index.upsert(source, [one])
        if new:
            self.index.upsert(target, [enriched(source, one, target)])
        if old or new:
            self.newest[source, one.id] = Newest(one, self.index.clock.monotonic(), old, new)
            where = " and ".join([source] * old + [target] * new)
            self.index.story.tell(f"the application writes {one.id} to {where} (acknowledged)")
        return old or new

    @property
    def is_led_to_the_new_side(self) -> bool:
        return (self.cut_over_at is not None) != self.misleading

    def is_cut_over(self) -> None:
        self.cut_over_at, self.misleading = self.index.clock.monotonic(), False

    def is_taken_back(self) -> None:
        """Readers use the old side again. What it wrote to the new side alone stays there, and nobody keeps it."""
        self.cut_over_at, self.taken_back, self.misleading = None, True, False
        self.newest = {key: held for key, held in self.newest.items() if held.old_side}

    def goes_back(self) -> None:
        """A plan takes everything back to the old side, from wherever it is, and nobody writes meanwhile."""
        self.stopped = True
        for held in self.newest.values():
            held.old_side = True

    def deletes(self, source: str, name: str) -> bool:
        old, new = self.sides()
        held = self.newest.get((source, name))
        if held is None or held.record is None or not (old or new):
            return False
        target = self.target_of(source, held.record)
        for there in [source] * old + [target] * new:
            self.index.delete(there, [name])
        self.newest[source, name] = Newest(None, self.index.clock.monotonic(), old, new)
        self.index.story.tell(f"the application deletes {name} of {source} (acknowledged)")
        return True


@dataclass
class Strangers:
    """They write where and when they like. `wrote`: what stands there by them, and since when."""

    index: LaggingIndex
    wrote: dict[tuple[str, str], tuple[Record | None, float]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    def write(self, namespace: str, one: Record) -> None:
        self.index.upsert(namespace, [one])
        self.wrote[namespace, one.id] = one, self.index.clock.monotonic()
        self.index.story.tell(f"a stranger writes {one.id} to {namespace}")

    def delete(self, namespace: str, name: str) -> None:
        self.index.delete(namespace, [name])
        self.wrote[namespace, name] = None, self.index.clock.monotonic()
        self.index.story.tell(f"a stranger deletes {name} of {namespace}")

    def drop(self, namespace: str) -> None:
        held: Mapping[str, Record] = self.index.truth(namespace)
        for name in held:
            self.wrote[namespace, name] = None, self.index.clock.monotonic()
        self.dropped.add(namespace)
        self.index.delete_namespace(namespace)
        self.index.story.tell(f"a stranger drops {namespace}")

    def touched(self, namespace: str, name: str) -> bool:
        return (namespace, name) in self.wrote
