"""An index in memory that knows whose each record is, whatever names and metadata say. For `hostile_tenants`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from emulator.errors import Refusal
from emulator.filters import compile_filter
from emulator.records import Record as EmulatedRecord
from vecfleet import names
from vecfleet.errors import BadRequest
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, IndexInfo, Kind, Limits, Usage, Written
from vecfleet.stores.memory import MemoryIndex
from vecfleet.stores.serving import AsyncBefore, Before, Filter, Hit, Question

INDEX, DIMENSION = "hostile", 2
VALUES = [1.0, 0.5]
CREATORS = ("a", "b", "a", "b", "ab", "b_twin")
TWINS = ("t", "u", "t_twin_u", None)
TENANTS = tuple(Tenant(creator, twin) for creator in CREATORS[:2] for twin in TWINS)
SHARED = ("__default__", "public", "everybody", "two-routes")
LEGACY = {"t": Tenant("a", "t"), "old-b": Tenant("b", "old-b"), "kept-b": Tenant("b", "kept-b")}
"""Namespaces called as a twin, and whose they are."""
OLD_OF_B = "where-b-was"
IDS = 6


def _record(id: str, metadata: Mapping[str, Any]) -> Record:
    return Record(id, np.asarray(VALUES, "<f4").tobytes(), None, metadata)


@dataclass
class Truth:
    """The owner and the content of each record, whatever its metadata pretend; and what went wrong."""

    owner: dict[tuple[str, str], Tenant] = field(default_factory=dict)
    caller: Tenant = field(default_factory=lambda: Tenant(""))
    """The tenant that calls just now."""
    scope: str = "one"
    """`one`: a call for one tenant; `creator`: for all of its twins; `erase`: one that looks at everybody's records."""
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)

    def is_own(self, owner: Tenant) -> bool:
        if self.scope != "one" and self.caller.twin is None:
            return owner.creator == self.caller.creator
        return owner == self.caller

    def is_creators(self, namespace: str) -> bool:
        """Say whether an erasure is in its creator's own namespace; the creator names twins as owners of records."""
        return self.scope == "erase" and names.parse(namespace) == Tenant(self.caller.creator)

    def whose(self, namespace: str) -> set[Tenant]:
        """To whom a namespace belongs whole, by its name or its history; empty: it is shared, or nobody's."""
        if namespace in SHARED:
            return set()
        if namespace in LEGACY:
            return {LEGACY[namespace]}
        if namespace == OLD_OF_B:
            return {Tenant("b", "u")}
        named = names.parse(namespace)
        return {named} if named is not None else {Tenant("nobody")}

    def complain(self, what: str, namespace: str, id: str = "") -> None:
        self.wrong[what] += 1
        if len(self.examples) < 10:
            self.examples.append(f"{what}: {self.caller} reached {id!r} in {namespace!r}")

    def reach(self, what: str, namespace: str) -> None:
        """A call named this namespace."""
        self.reached[what] += 1
        owners = self.whose(namespace)
        if owners and not self.is_creators(namespace) and not any(map(self.is_own, owners)):
            self.complain(f"foreign {what}", namespace)

    def change(self, what: str, namespace: str, ids: Sequence[str]) -> None:
        for id in ids:
            owner = self.owner.get((namespace, id))
            if owner is not None and not self.is_own(owner) and not self.is_creators(namespace):
                self.complain(f"foreign {what}", namespace, id)


class Watched(MemoryIndex):
    """An index in memory that keeps `truth` up to date with every call."""

    def __init__(self, info: IndexInfo, truth: Truth) -> None:
        super().__init__(info, Limits())
        self.truth = truth

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        namespace = names.canonical(namespace)
        self.truth.reach("upsert", namespace)
        self.truth.change("overwriting", namespace, [one.id for one in records])
        written = super().upsert(namespace, records)
        self.truth.owner |= {(namespace, one.id): self.truth.caller for one in records}
        return written

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        namespace = names.canonical(namespace)
        if ids:
            self.truth.reach("delete", namespace)
        self.truth.change("deletion", namespace, ids)
        for id in ids:
            self.truth.owner.pop((namespace, id), None)
        return super().delete(namespace, ids)

    def delete_namespace(self, name: str) -> Usage:
        self.truth.reach("delete_namespace", name)
        ids = [id for space, id in list(self.truth.owner) if space == name]
        self.truth.change("deletion", name, ids)
        for id in ids:
            del self.truth.owner[(name, id)]
        return super().delete_namespace(name)

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        if self.truth.scope != "erase":
            self.truth.reach("fetch", names.canonical(namespace))
        return super().fetch(namespace, ids)

    def records(self, namespace: str) -> list[Record]:
        """Return what a namespace holds, asked by nobody."""
        held = self._namespaces.get(names.canonical(namespace))
        return list(held.records.values()) if held is not None else []

    def seed(self, namespace: str, id: str, owner: Tenant, metadata: Mapping[str, Any]) -> None:
        super().upsert(namespace, [_record(id, metadata)])
        self.truth.owner[(names.canonical(namespace), id)] = owner


class Asked:
    """The index as the client for threads asks it."""

    def __init__(self, index: Watched) -> None:
        self._index = index
        self.info = index.info

    def ask(self, namespace: str, question: Question) -> list[Hit]:
        self._index.truth.reach("query", names.canonical(namespace))
        held = self._index.records(namespace)
        if question.filter is not None:
            held = [one for one in held if _fits(question.filter, one)]
        some = held[: question.top_k]
        return [Hit(one.id, 1.0, one.metadata if question.metadata else None, namespace=namespace) for one in some]

    def write(self, namespace: str, records: Sequence[Record], before: Before) -> int:
        before()
        return self._index.upsert(namespace, records).count

    def write_texts(self, namespace: str, texts: Sequence[Mapping[str, Any]], before: Before) -> int:
        return self.write(namespace, [_record(text["_id"], text) for text in texts], before)


class AskedByCoroutines:
    """The same for the client for coroutines."""

    def __init__(self, index: Watched) -> None:
        self._asked = Asked(index)

    async def describe(self) -> IndexInfo:
        return self._asked.info

    async def ask(self, namespace: str, question: Question) -> list[Hit]:
        return self._asked.ask(namespace, question)

    async def write(self, namespace: str, records: Sequence[Record], before: AsyncBefore) -> int:
        await before()
        return self._asked.write(namespace, records, _go)

    async def write_texts(self, namespace: str, texts: Sequence[Mapping[str, Any]], before: AsyncBefore) -> int:
        await before()
        return self._asked.write_texts(namespace, texts, _go)

    async def close(self) -> None:
        """There is nothing to close."""


def _go() -> None:
    """It was asked already."""


def _fits(asked: Filter, record: Record) -> bool:
    """By the emulator's own reading of filters."""
    try:
        predicate = compile_filter(asked)
    except Refusal as refusal:
        raise BadRequest(str(refusal)) from refusal
    return predicate(EmulatedRecord(record.id, record.values, None, msgspec.json.encode(record.metadata)))


def seeded() -> Watched:
    """Every tenant has records of the same ids in its own namespace and in each shared one; old ones are there, too."""
    index = Watched(IndexInfo(INDEX, Kind.DENSE, DIMENSION, "cosine", ""), Truth())
    for tenant in TENANTS:
        own = {"creator_id": tenant.creator} | ({"twin_id": tenant.twin} if tenant.twin is not None else {})
        for number in range(IDS):
            index.seed(names.build(tenant.creator, tenant.twin), f"r{number}", tenant, own)
            for shared in SHARED:
                index.seed(shared, f"{tenant.creator}-{tenant.twin}-{number}", tenant, own)
    for name, owner in {**LEGACY, OLD_OF_B: Tenant("b", "u")}.items():
        for number in range(IDS):
            index.seed(name, f"r{number}", owner, {"text": "from before"})
    for shared in SHARED:
        index.seed(shared, "nobody's", Tenant("nobody"), {"text": "from before"})
    return index
