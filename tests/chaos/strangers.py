"""People who know nothing of the job: they write to its targets and sources, and delete what it has made."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from tests.chaos.case import Case
from tests.chaos.indexes import Indexes, Request, ids_of
from tests.chaos.others import APPLICATION, is_application
from tests.chaos.witness import PLAIN, Contents, Stored

ANSWERS_WITHIN_S, TRIES, AGAIN_AFTER_S = 2.0, 20, 0.1
FEW = 2
VERSION = {"X-Pinecone-Api-Version": APPLICATION["X-Pinecone-Api-Version"]}


@dataclass(frozen=True)
class Foreign:
    """A record that somebody wrote, and when that was acknowledged. None: it was not, and may be there all the same."""

    namespace: str
    stored: Stored
    at: float | None


class Strangers:
    def __init__(self, case: Case, indexes: Indexes, note: Callable[[str], None]) -> None:
        self.written: list[Foreign] = []
        self.deleted: set[tuple[str, str]] = set()  # single records of targets
        self._case, self._indexes, self._note = case, indexes, note
        self._chance = random.Random(f"what strangers do {case.seed}")

    @property
    def _targets(self) -> list[str]:
        return sorted({owner.namespace for owner in self._case.tenants} - set(self._case.sources))

    def act(self, what: str) -> bool:
        """Say whether anything came of it."""
        acts: Mapping[str, Callable[[], bool]] = {
            "a target deleted by somebody": self._drop,
            "records of a target deleted by somebody": self._delete,
            "a record written to a target by somebody": self._write,
        }
        return acts[what]()

    def taken(self, truth: Contents, calls: Sequence[Mapping[str, Any]]) -> frozenset[tuple[str, str]]:
        """Return what they deleted at targets: single records; of a whole target what was there before the job, and
        what had been deleted from its source by then. A drop counts where it was carried out, answered or not.
        """
        case, taken = self._case, set(self.deleted)
        drops = [call for call in calls if call["operation"] == "delete_namespace" and call["applied"]]
        dropped = {call["namespace"]: call["time"] for call in drops if is_application(call)}
        for namespace, at in dropped.items():
            taken |= {(namespace, one.id) for one in case.foreign.get(namespace, ())}
            for call in calls:
                if call["operation"] in ("delete", "delete_namespace") and call["time"] < at:
                    rows = truth.get(call["namespace"], {}) if call["namespace"] in case.sources else {}
                    fates = [case.fate(call["namespace"], rows[id]) for id in call["ids"] or rows if id in rows]
                    taken |= {(fate[0], fate[1].id) for fate in fates if fate is not None and fate[0] == namespace}
        return frozenset(taken)

    def _drop(self) -> bool:
        name = self._chance.choice(self._targets)
        dropped = self._ask(self._indexes.drop(name))
        self._note(f"somebody dropped {name}: {dropped}")
        return dropped

    def _delete(self) -> bool:
        name = self._chance.choice(self._targets)
        method, url, body = self._indexes.list(name)
        try:
            answer = httpx.request(method, url, json=body, timeout=ANSWERS_WITHIN_S, verify=PLAIN, headers=VERSION)
        except httpx.HTTPError:
            return False
        ids = ids_of(answer.json()) if answer.is_success else []
        chosen = self._chance.sample(ids, min(len(ids) // 3, FEW))
        self.deleted |= {(name, id) for id in chosen}
        done = bool(chosen) and self._ask(self._indexes.delete(name, chosen))
        self._note(f"somebody deleted {chosen} of {name}: {done}")
        return done

    def _write(self) -> bool:
        """A record of an id that is nobody's, or where the target was there before, of one that may be to come."""
        name = self._chance.choice(self._targets)
        ids = [f"stranger-{len(self.written)}"]
        if name in self._case.foreign and self._case.policies["collisions"] != "prefix":
            sources = [source for source, owner in self._case.owners.items() if owner.namespace == name]
            ids += [one.id for source in sources for one in self._case.sources[source] if one.id.startswith(source[:3])]
        return self._put(name, ids[-1] if self._chance.random() < 0.5 else ids[0])

    def write_behind(self, namespace: str, ids: Sequence[str]) -> bool:
        """Write to where records were just deleted: of one of their ids, or of another."""
        again = self._chance.choice(sorted(ids)) if ids and self._chance.random() < 0.5 else "stranger-behind"
        return self._put(namespace, again)

    def _put(self, namespace: str, id: str) -> bool:
        like = next(iter(self._case.sources.values()))[0]
        made = replace(like, id=id, metadata={"note": "by a stranger", "n": self._chance.randint(0, 10**6)}, owner=None)
        done = self._ask(self._indexes.put(namespace, [made]))
        self.written.append(Foreign(namespace, made.stored(), time.time() if done else None))
        self._note(f"somebody wrote {id!r} to {namespace}: {done}")
        return done

    def _ask(self, asked: Request) -> bool:
        method, url, body = asked
        with httpx.Client(timeout=ANSWERS_WITHIN_S, verify=PLAIN, headers=APPLICATION) as http:
            for _ in range(TRIES):
                try:
                    answer = http.request(method, url, json=body)
                except httpx.HTTPError:
                    continue
                if answer.is_success:
                    return True
                if answer.status_code == 404:
                    return False
                time.sleep(AGAIN_AFTER_S)
        return False
