"""A small index, the plan asked for it, and what must become of each record. No code of vecfleet.

What a record becomes is known because it was made to become that: nothing here looks a record's owner up.
"""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tests.chaos.maps import mapped
from tests.chaos.model import vector_of
from tests.chaos.witness import Contents, Stored

DEFAULT = "__default__"
METADATA_BYTES = 40_000
PREVIOUS = "_vecfleet_prev"
SEARCHED = "text"  # the key that is searched by its words in some document indexes
REFUSED = "_node"  # a key that no document may have
_OURS, _OURS_SPELLED = "_vecfleet_", "vecfleet_"


@dataclass(frozen=True)
class Owner:
    """A tenant; or nobody in particular, and the namespace that a plan names."""

    creator: str
    twin: str | None
    named: str | None = None

    def has(self, other: "Owner") -> bool:
        """Say whether what is the other's is this one's too: a creator has all its twins."""
        return self.creator == other.creator and self.twin in (None, other.twin)

    @property
    def namespace(self) -> str:
        if self.named is not None:
            return self.named
        return f"creator_{self.creator}" + (f"_twin_{self.twin}" if self.twin is not None else "")


@dataclass(frozen=True)
class Made:
    """A record to write, and whose it is: None where nobody owns it."""

    id: str
    values: list[float]
    sparse: tuple[list[int], list[float]] | None
    metadata: dict[str, Any]
    owner: Owner | None

    def stored(self) -> Stored:
        """Return what the store makes of it: numbers of 32 bits."""
        sparse = (tuple(self.sparse[0]), _packed(self.sparse[1])) if self.sparse else None
        return Stored(self.id, _packed(self.values), sparse, self.metadata)


@dataclass(frozen=True)
class Write:
    """A write by an application to an old namespace while the job copies; `made` is None for a deletion."""

    at_s: float
    namespace: str
    id: str
    made: Made | None


@dataclass
class Case:
    """One seed's index and what is asked for it."""

    seed: int
    kind: str  # dense | hybrid | sparse
    dimension: int
    # creator: one for all | rows: a list, with merges | owners: a look-up splits __default__ | namespaces: new names,
    # with merges, and __default__ split by a key
    grouping: str
    policies: dict[str, Any]
    sources: dict[str, list[Made]] = field(default_factory=dict)
    foreign: dict[str, list[Made]] = field(default_factory=dict)  # what targets hold before
    empty: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    owners: dict[str, Owner] = field(default_factory=dict)  # whose each source is; not of one that is split
    twins: dict[str, str] = field(default_factory=dict)  # the look-up: twin → creator
    documents: dict[str, str] = field(default_factory=dict)  # the look-up: source → twin
    early: list[Write] = field(default_factory=list)  # acknowledged just before the job begins
    writes: list[Write] = field(default_factory=list)  # by an application that goes on meanwhile
    late: list[Write] = field(
        default_factory=list
    )  # after the cut-over, by clients whose routes are old but may be used
    otherwise: Owner | None = None  # whose what lacks the key is, where __default__ is split by one
    erased: Owner | None = None  # who is erased in the middle; without a twin: all of the creator
    map: dict[str, Any] | None = None  # what becomes of metadata keys on the way
    embeds: bool = False  # the vectors are made anew, of the records' texts
    form: str = "vectors"  # vectors | documents: of the index | into documents: the targets are in an index beside it
    searches: bool = False  # documents are searched by a text
    names: dict[str, str] = field(default_factory=dict)  # key → its name in the documents

    @property
    def is_capped(self) -> bool:
        """Say whether what the model may cost has a cap, of less than the texts cost."""
        return self.embeds and self.seed % 2 == 0

    @property
    def index(self) -> str:
        return f"chaos-{self.seed}"

    @property
    def target_index(self) -> str:
        return f"{self.index}-documents" if self.form == "into documents" else self.index

    @property
    def indexes(self) -> list[str]:
        return sorted({self.index, self.target_index})

    @property
    def stays(self) -> set[str]:
        """The namespaces of the index that the case begins with, as far as targets are elsewhere."""
        return {*self.sources, *self.empty, *self.left_alone}

    def holds_documents(self, namespace: str) -> bool:
        return self.form == "documents" or (self.form == "into documents" and namespace not in self.stays)

    def spelled(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return metadata under the names that they have in documents."""
        return {self.names.get(key, re.sub(f"^{_OURS}", _OURS_SPELLED, key)): it for key, it in metadata.items()}

    def key_of(self, index: str, name: str) -> str:
        """Return the key that a name stands for in this index."""
        if self.form == "vectors" or (self.form == "into documents" and index == self.index):
            return name
        keys = {named: key for key, named in self.names.items()}
        return keys.get(name, re.sub(f"^{_OURS_SPELLED}", _OURS, name))

    @property
    def merges(self) -> bool:
        return bool(self.policies["collisions"] != "fail")

    @property
    def splits(self) -> bool:
        return DEFAULT in self.sources and DEFAULT not in self.owners

    @property
    def is_renamed(self) -> bool:
        """Say whether each source becomes one namespace of its own, which is no tenant's."""
        named = [owner.named for owner in self.owners.values()]
        return self.grouping == "namespaces" and not self.splits and None not in named and len({*named}) == len(named)

    @property
    def marks(self) -> bool:
        """Say whether records say where they came from: always, but where names alone do."""
        travels = self.map is not None and self.map["undo"] == "travels"
        return not self.is_renamed or bool(self.foreign) or travels

    def fate(self, namespace: str, stored: Stored) -> tuple[str, Stored] | None:
        """Return where a record of a source belongs, and as what; None where it has to stay."""
        if namespace in self.left_alone:
            return None
        made = self._made[namespace].get(stored.id)
        if made is None:  # nobody's whom the job knows
            return None
        if made.owner is None and self.policies["orphans"] == "park":
            return None
        enriched = self._enriched(namespace, stored, made.owner)
        if enriched is None:
            return None
        prefix = f"{namespace}:" if self.policies["collisions"] == "prefix" else ""
        if self.embeds:
            values = vector_of(stored.metadata, self.dimension)
            if values is None:
                return None
            enriched = replace(enriched, values=values)
        if len(prefix + stored.id) > 512 or self._bytes(enriched.metadata) > METADATA_BYTES:
            return None
        target = made.owner.namespace if made.owner else "review"
        return target, replace(enriched, id=prefix + stored.id)

    def is_erased(self, namespace: str, id: str) -> bool:
        """Say whether a record of a source, or what stands in a target, is the erased tenant's."""
        if self.erased is None:
            return False
        if namespace in self.sources:
            made = self._made[namespace].get(id)
            return made is not None and made.owner is not None and self.erased.has(made.owner)
        return any(self.erased.has(owner) for owner in self.tenants if owner.namespace == namespace)

    def is_erased_whole(self, namespace: str) -> bool:
        """Say whether a source is the erased tenant's own: all that stands there, whoever wrote it, is erased."""
        owner = self.owners.get(namespace)
        return self.erased is not None and owner is not None and self.erased.has(owner)

    def _bytes(self, metadata: Mapping[str, Any]) -> int:
        """Return the size of metadata where they are to go: a text that is searched does not count."""
        if self.form == "vectors":
            return json_bytes(metadata)
        spelled = self.spelled(metadata)
        return json_bytes({key: value for key, value in spelled.items() if not (self.searches and key == SEARCHED)})

    @property
    def creators(self) -> list[str]:
        """The seed is in their names, so that a log tells whose life it was."""
        return [f"ana{self.seed}", f"b.{self.seed}", f"c {self.seed}"]

    @property
    def tenants(self) -> set[Owner]:
        """Everybody who owns a record."""
        return {one.owner for rows in self.sources.values() for one in rows if one.owner is not None}

    @cached_property
    def _made(self) -> Mapping[str, Mapping[str, Made]]:
        """Every record there ever is; one that is written again keeps its owner."""
        made = {name: {one.id: one for one in rows} for name, rows in self.sources.items()}
        for write in (*self.early, *self.writes, *self.late):
            if write.made is not None:
                made[write.namespace].setdefault(write.id, write.made)
        return made

    def _enriched(self, namespace: str, stored: Stored, owner: Owner | None) -> Stored | None:
        added: dict[str, Any] = {"migrated_from": namespace}
        if owner is None:
            added["needs_review"] = True
        elif owner.named is None:
            added["creator_id"] = owner.creator
            if owner.twin is not None:
                added["twin_id"] = owner.twin
        metadata: dict[str, Any] | None = dict(stored.metadata)
        if self.map is not None:
            metadata = mapped(self.map, stored.metadata, self.policies["conflicts"])
        if metadata is None:
            return None
        if not self.marks:
            return replace(stored, metadata=metadata)
        before = {}
        for key, value in added.items():
            if key in metadata:
                same = type(metadata[key]) is type(value) and metadata[key] == value
                if key != "migrated_from" and not same and self.policies["conflicts"] == "fail":
                    return None
                if key != "migrated_from" and not same and self.policies["conflicts"] == "keep":
                    continue
                before[key] = metadata[key]
            metadata[key] = value
        if PREVIOUS in metadata:
            before[PREVIOUS] = metadata[PREVIOUS]
        if before:
            metadata[PREVIOUS] = json.dumps(before, sort_keys=True, separators=(",", ":"))
        return replace(stored, metadata=metadata)

    def candidates(self, originals: Contents) -> dict[tuple[str, str], set[str]]:
        """Return what may stand under each id of each target: one of the records that belong there."""
        found: dict[tuple[str, str], set[str]] = {}
        for namespace, rows in originals.items():
            if namespace not in self.sources:
                continue
            for stored in rows.values():
                fate = self.fate(namespace, stored)
                if fate is not None:
                    found.setdefault((fate[0], fate[1].id), set()).add(fate[1].face())
        return found

    def ownership_file(self) -> str:
        return json.dumps(
            {
                "twins": [{"id": twin, "creator_id": creator, "name": twin} for twin, creator in self.twins.items()],
                "sources": [{"id": document, "twin_id": twin} for document, twin in self.documents.items()],
            }
        )


def json_bytes(metadata: Mapping[str, Any]) -> int:
    return len(json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode())


def _packed(numbers: Iterable[float]) -> bytes:
    every = list(numbers)
    return struct.pack(f"<{len(every)}f", *every)
