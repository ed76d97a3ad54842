"""Others at work while a job runs: an application that goes on writing, and a person who erases a tenant.

Each has a thread of its own and asks as long as it takes, for the faults of a life strike them too.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx

from orchestrator.bootstrap import Fleet
from orchestrator.services.erase import JobTableBooks
from tests.chaos.case import Case, Write
from tests.chaos.indexes import Indexes, Request
from tests.chaos.witness import PLAIN, Contents, Stored
from vecfleet.errors import VecfleetError
from vecfleet.names import Tenant
from vecfleet.tenancy import erasing

# Longer than an answer may take here, for a request that was given up and comes later would write what is old.
ANSWERS_WITHIN_S = 10.0
AGAIN_AFTER_S = 0.1
PATIENCE_S = 300.0  # nearly all of a life's
# Whoever is told to stop does so before the next thing that is asked of a service.
STOPS_WITHIN_S = 30.0
APPLICATION = {"User-Agent": "an application", "Api-Key": "an application", "X-Pinecone-Api-Version": "2026-07"}
Note = Callable[[str], None]


def is_done(call: Mapping[str, Any]) -> bool:
    """Say whether a call was answered as done; writes of documents are answered with 202."""
    return 200 <= int(call["status"]) < 300


def is_application(call: Mapping[str, Any]) -> bool:
    """Say whether an application, or a stranger, asked for this: they say so. The fleet deletes over REST, too."""
    return bool(call["agent"] == APPLICATION["User-Agent"])


class NotDone(AssertionError):
    """It was asked again and again, and could not be done."""


class _Other:
    """Somebody who does one thing, in the background. `wrong` says why it could not be done."""

    def __init__(self, note: Note) -> None:
        self.wrong: str | None = None
        self._note = note
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    @property
    def begun(self) -> bool:
        return self._thread is not None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up what is not done yet."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOPS_WITHIN_S)

    def _nap(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise NotDone("given up")

    def _run(self) -> None:
        try:
            self._act()
        except Exception as error:  # noqa: BLE001 - whatever it is, the life tells it
            self.wrong = f"{type(error).__name__}: {error}"

    def _act(self) -> None:
        raise NotImplementedError


class Application(_Other):
    """Writes to old namespaces what it is to, one record after the other; under `dual` to the new ones at once,
    but for what it writes before the job.

    Each write is due at its `at_s`, of which one is `unit_s`. What is not acknowledged after `ends_s` is given up: who
    may not write any more does not, and nobody knows whether it is there.
    """

    def __init__(
        self,
        case: Case,
        indexes: Indexes,
        note: Note,
        writes: Sequence[Write],
        *,
        unit_s: float = 1.0,
        ends_s: float = PATIENCE_S,
        dual: bool = True,
    ) -> None:
        super().__init__(note)
        self.done: list[Write] = []
        self.doubtful: list[Write] = []
        self._case, self._indexes, self._writes = case, indexes, writes
        self._unit_s, self._ends_s = unit_s, ends_s
        self._dual = dual and case.policies.get("writers") == "dual"

    def upon(self, before: Contents) -> Contents:
        """Return what is in the old namespaces once all of it is acknowledged."""
        now = {namespace: dict(rows) for namespace, rows in before.items()}
        for write in self.done:
            if write.made is None:
                now[write.namespace].pop(write.id, None)
            else:
                now.setdefault(write.namespace, {})[write.id] = write.made.stored()
        return now

    def versions(self) -> list[tuple[str, Stored]]:
        """Every record that it wrote, or may have written."""
        written = (*self.done, *self.doubtful)
        return [(one.namespace, one.made.stored()) for one in written if one.made is not None]

    def places(self) -> frozenset[tuple[str, str]]:
        """Return where what it was to write may stand, in this or an older form: at its source, and at its target."""
        fates = [self._case.fate(*version) for version in self.versions()]
        there = [(fate[0], fate[1].id) for fate in fates if fate is not None]
        return frozenset([*((one.namespace, one.id) for one in self._writes), *there])

    def act_now(self) -> None:
        """Make all writes now; return when all are acknowledged."""
        self._act()

    def _act(self) -> None:
        began = time.monotonic()
        with httpx.Client(timeout=min(ANSWERS_WITHIN_S, self._ends_s), verify=PLAIN, headers=APPLICATION) as http:
            for write in self._writes:
                self._nap(max(0.0, began + write.at_s * self._unit_s - time.monotonic()))
                sides = [self._asked(write)]
                if self._dual:
                    sides += self._asked_of_new_side(write)
                if all(self._send(http, side, until=began + self._ends_s) for side in sides):
                    self.done.append(write)
                elif self._ends_s < PATIENCE_S:
                    self.doubtful.append(write)
                else:
                    raise NotDone(f"{write.id!r} in {write.namespace}")
        self._note(f"the application has written its {len(self.done)} records, and given up {len(self.doubtful)}")

    def _asked(self, write: Write) -> Request:
        if write.made is None:
            return self._indexes.delete(write.namespace, [write.id])
        return self._indexes.put(write.namespace, [write.made])

    def _asked_of_new_side(self, write: Write) -> list[Request]:
        like = write.made or next(one for one in self._case.sources[write.namespace] if one.id == write.id)
        fate = self._case.fate(write.namespace, like.stored())
        if fate is None:
            return []
        namespace, stored = fate
        if write.made is None:
            return [self._indexes.delete(namespace, [stored.id])]
        return [self._indexes.put(namespace, [replace(like, id=stored.id, metadata=dict(stored.metadata))])]

    def _send(self, http: httpx.Client, asked: Request, until: float) -> bool:
        """Say whether it is acknowledged. What is not is sent again for as long as there is time."""
        method, url, body = asked
        while time.monotonic() < until:
            try:
                answer = http.request(method, url, json=body)
            except httpx.HTTPError:
                pass
            else:
                # Deleting from a namespace that is not there (yet) is answered so: then nothing is to be deleted.
                if answer.is_success or (url.endswith("/delete") and answer.status_code == 404):
                    return True
            self._nap(AGAIN_AFTER_S)
        return False


class Erasure(_Other):
    """A person types `vecfleet forget` until it is confirmed."""

    def __init__(self, case: Case, parts: Fleet, note: Note, hit: Counter[str]) -> None:
        super().__init__(note)
        self._case, self._parts, self._hit = case, parts, hit

    def begin_again(self) -> None:
        """Of an erasure that is over: that it ended may be in what the job table lost."""
        if self.begun and not self.busy:
            self.begin()

    @property
    def _tenant(self) -> Tenant:
        assert self._case.erased is not None
        return Tenant(self._case.erased.creator, self._case.erased.twin)

    def _act(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                store = self._parts.store
                indexes = [store.open(store.describe(name)) for name in self._case.indexes]
                books = JobTableBooks(self._parts.database, self._parts.settings)
                lands_s = erasing.lands_s(self._parts.settings, indexes)
                erased = erasing.erase(indexes, self._tenant, books=books, who="chaos", lands_s=lands_s, nap=self._nap)
            except VecfleetError as error:
                told = f"{type(error).__name__}: {error}"
            else:
                if erased.confirmed:
                    self._hit["a tenant erased"] += 1
                    self._hit["records of an erased tenant"] += erased.records
                    self._note(f"{self._tenant} is erased: {erased.records} records in {erased.seconds:.1f} s")
                    return
                told = f"left: {erased.left}"
            self._note(f"not erased yet: {told}")
            if time.monotonic() > until:
                raise NotDone(f"the erasure of {self._tenant}: {told}")
            self._nap(AGAIN_AFTER_S)
