"""Who else is at work while a job runs: an application that writes on, and a person who erases a tenant.

Each has a thread of its own and asks as long as it takes, for the faults of a life strike them too.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from orchestrator.bootstrap import Fleet
from orchestrator.erasing import JobTableBooks
from tests.chaos.small_index import Case, Made
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
Note = Callable[[str], None]


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
    """Writes to old namespaces what its case says, one record after the other; under `dual` to the new ones at once."""

    def __init__(self, case: Case, host: str, note: Note) -> None:
        super().__init__(note)
        self.acknowledged = 0
        self._case, self._host = case, host

    def truth(self, before: Contents) -> Contents:
        """What is in the old namespaces once all of it is acknowledged."""
        now = {namespace: dict(rows) for namespace, rows in before.items()}
        for write in self._case.writes if self.begun else ():
            if write.made is None:
                del now[write.namespace][write.id]
            else:
                now[write.namespace][write.id] = write.made.stored()
        return now

    def versions(self) -> list[tuple[str, Stored]]:
        """Every record that it wrote."""
        return [(one.namespace, one.made.stored()) for one in self._case.writes if one.made is not None and self.begun]

    def _act(self) -> None:
        began = time.monotonic()
        headers = {"Api-Key": "an application", "X-Pinecone-Api-Version": "2026-07"}
        with httpx.Client(timeout=ANSWERS_WITHIN_S, verify=PLAIN, headers=headers) as http:
            for write in self._case.writes:
                self._nap(max(0.0, began + write.at_s - time.monotonic()))
                self._write(http, write.namespace, write.id, vector(write.made) if write.made else None)
                if self._case.policies["writers"] == "dual":
                    self._write_new_side(http, write.namespace, write.id, write.made)
                self.acknowledged += 1
        self._note(f"the application has written its {self.acknowledged} records")

    def _write_new_side(self, http: httpx.Client, namespace: str, id: str, made: Made | None) -> None:
        like = made or next(one for one in self._case.sources[namespace] if one.id == id)
        fate = self._case.fate(namespace, like.stored())
        if fate is not None:
            self._write(http, fate[0], fate[1].id, _as_vector(fate[1], like) if made else None)

    def _write(self, http: httpx.Client, namespace: str, id: str, body: Mapping[str, Any] | None) -> None:
        what: tuple[str, dict[str, Any]] = (
            ("vectors/delete", {"ids": [id]}) if body is None else ("vectors/upsert", {"vectors": [body]})
        )
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = http.post(f"{self._host}/{what[0]}", json={"namespace": namespace, **what[1]})
            except httpx.HTTPError as error:
                told = str(error)
            else:
                # Deleting from a namespace that is not there (yet) is answered so: then nothing is to be deleted.
                if answer.is_success or (body is None and answer.status_code == 404):
                    return
                told = answer.text
            if time.monotonic() > until:
                raise NotDone(f"{what[0]} of {id!r} in {namespace}: {told}")
            self._nap(AGAIN_AFTER_S)


class Erasure(_Other):
    """A person types `vecfleet forget` until it is confirmed."""

    def __init__(self, case: Case, parts: Fleet, note: Note, hit: Counter[str]) -> None:
        super().__init__(note)
        self._case, self._parts, self._hit = case, parts, hit

    @property
    def _tenant(self) -> Tenant:
        assert self._case.erased is not None
        return Tenant(self._case.erased.creator, self._case.erased.twin)

    def _act(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                store = self._parts.store
                index = store.open(store.describe(self._case.index))
                books = JobTableBooks(self._parts.database, self._parts.settings)
                erased = erasing.erase([index], self._tenant, books=books, who="chaos", nap=self._nap)
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


def vector(made: Made) -> dict[str, Any]:
    """A record as a request has it."""
    body: dict[str, Any] = {"id": made.id, "metadata": made.metadata}
    if made.values:
        body["values"] = made.values
    if made.sparse is not None:
        body["sparseValues"] = {"indices": made.sparse[0], "values": made.sparse[1]}
    return body


def _as_vector(stored: Stored, like: Made) -> dict[str, Any]:
    """The same record under the id and with the metadata that it has at its target."""
    return {**vector(like), "id": stored.id, "metadata": dict(stored.metadata)}
