"""Calls that nobody honest makes: creators, twins, ids and filters made to reach what is another tenant's.

    python -m benchmarks.hostile_tenants [--calls 1000000] [--seed 1]

Both clients upsert, delete, query and erase in turns, over an index in memory, by every kind of roll-out. What is whose
is kept beside the index, and asked at each call that reaches it, so that neither names nor metadata are believed.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from pydantic import SecretStr

from benchmarks.hostile_world import (
    CREATORS,
    IDS,
    INDEX,
    LEGACY,
    OLD_OF_B,
    SHARED,
    TENANTS,
    TWINS,
    VALUES,
    Asked,
    AskedByCoroutines,
    Truth,
    seeded,
)
from vecfleet import names
from vecfleet.errors import VecfleetError
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.tenancy import CachedRoutes, DelphiPineconeClient, PineconeDelphiClient, Rollout

_IN_MEMORY = Path("/dev/shm")  # the journal waits for the disk, which is not what is measured
EACH = 250  # calls of a roll-out, before the index is made anew

# The roll-outs


def _route(tenant: Tenant, *old: str, shared: bool = False, **more: Any) -> dict[str, Any]:
    places = [{"namespace": name, "shared": shared} for name in old]
    new = {"namespace": names.build(tenant.creator, tenant.twin)}
    return {"creator": tenant.creator, "twin": tenant.twin, "old": places, "new": new, "side": "old", **more}


_OF_ALL = [_route(one, "everybody", shared=True) for one in TENANTS]
_OF_B = _route(Tenant("b", "u"), OLD_OF_B)
_OF_TWO = [_route(Tenant(creator, "t"), "two-routes") for creator in ("a", "b")]
TABLES: Mapping[str, Mapping[str, Any] | None] = {
    "no roll-out": None,
    "unlisted legacy": {"routes": [_OF_B]},
    "unlisted legacy, owners told": {"routes": [_OF_B]},
    "unlisted new, some kept": {"routes": [_OF_B], "unlisted": "new", "kept": ["kept-b", "t", OLD_OF_B]},
    "shared": {"routes": _OF_ALL},
    "shared by some": {"routes": [*_OF_TWO, _OF_B, _route(Tenant("b", None), "everybody", shared=True)]},
    "several old places": {"routes": [_route(one, "everybody", "public", shared=True) for one in TENANTS]},
    "on both sides": {"routes": [_route(one, "everybody", "public", shared=True, dual=True) for one in TENANTS]},
}
_TOLD: Mapping[str, str] = {name: owner.creator for name, owner in LEGACY.items()}
"""The owners that an application tells of legacy namespaces."""
_ROUTES_KNOW: Mapping[str, Mapping[str, str]] = {
    "unlisted legacy, owners told": {OLD_OF_B: "a"},
    "shared by some": {OLD_OF_B: "a", "everybody": "a", "two-routes": "b"},
}
"""The owners that it tells besides, of namespaces of which the routes know better."""


class Table:
    """A provider of one table."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._text = msgspec.json.encode(table)

    def read(self) -> bytes | None:
        return self._text


def _rollout(kind: str) -> Rollout | None:
    table = TABLES[kind]
    if table is None:
        return None
    told = {**_TOLD, **_ROUTES_KNOW[kind]} if kind in _ROUTES_KNOW else {}
    return Rollout(CachedRoutes(Table(table)), flag=False, legacy_owner=told.get if told else None)


# The calls


_PIECES = ("a", "b", "_twin", "_twin_", "creator_", "t", "u", "old-b", "__default__", "public", "", " ", "\0", "é")


class Hostile:
    """Makes up who calls, and with what."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def name(self) -> Any:
        chance = self._chance
        roll = chance.random()
        if roll < 0.45:
            return chance.choice(TWINS)
        if roll < 0.75:  # the namespace of somebody
            return chance.choice((*SHARED, *LEGACY, OLD_OF_B, *(names.build(one.creator, one.twin) for one in TENANTS)))
        if roll < 0.95:
            return "".join(chance.choices(_PIECES, k=chance.randrange(1, 5)))
        return chance.choice((None, "", 7, True, ["a"], {"$ne": ""}, "x" * 600, b"a"))

    def creator(self) -> Any:
        return self._chance.choice(CREATORS) if self._chance.random() < 0.9 else self.name()

    def id(self) -> Any:
        chance = self._chance
        if chance.random() < 0.9:
            tenant = chance.choice(TENANTS)
            number = chance.randrange(IDS)
            return chance.choice((f"r{number}", f"{tenant.creator}-{tenant.twin}-{number}", "nobody's", "new"))
        return chance.choice(("", None, 7, "x" * 600, "é", "a" * 10))

    def ids(self) -> list[Any]:
        return [self.id() for _ in range(self._chance.randrange(1, 4))]

    def metadata(self) -> Any:
        stolen = {"creator_id": self._chance.choice(CREATORS), "twin_id": self._chance.choice(("t", "u"))}
        return self._chance.choice((None, {}, stolen, {"creator_id": ""}, {"migrated_from": self.name() or ""}))

    def filter(self, depth: int = 0) -> Any:
        chance = self._chance
        clause: dict[str, Any] = chance.choice(
            (
                {"creator_id": chance.choice(CREATORS)},
                {"creator_id": {"$in": list(CREATORS)}},
                {"twin_id": {"$exists": chance.random() < 0.5}},
                {"twin_id": {"$ne": "nobody"}},
                {"text": "from before"},
                {},
                {"$not": {}},
            )
        )
        if depth < 2 and chance.random() < 0.4:
            return {chance.choice(("$or", "$and")): [clause, self.filter(depth + 1)]}
        return clause if chance.random() < 0.7 else None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a client: the method, its arguments, and for whom the answer may be."""

    method: str
    tenant: Tenant
    scope: str
    arguments: Mapping[str, Any]


def _call(hostile: Hostile, chance: random.Random) -> Call:
    creator, twin = hostile.creator(), hostile.name()
    tenant = Tenant(creator, twin or None)
    who = {"creator_id": creator, "twin_id": twin}
    roll = chance.random()
    if roll < 0.3:
        vectors = [{"id": id, "values": VALUES, "metadata": hostile.metadata()} for id in hostile.ids()]
        more = hostile.metadata()
        return Call("upsert_vectors", tenant, "one", {"vectors": vectors, "metadata": more, **who})
    if roll < 0.35:
        texts = [{"id": id, "text": "x", "metadata": hostile.metadata()} for id in hostile.ids()]
        return Call("upsert_texts", tenant, "one", {"texts": texts, **who})
    if roll < 0.6:
        return Call("delete_vectors", tenant, "one", {"ids": hostile.ids(), **who})
    asked = {"vector": VALUES, "filter": hostile.filter(), "top_k": 100, "include_metadata": chance.random() < 0.5}
    if roll < 0.9:
        return Call("query", tenant, "one", {**asked, **who})
    if roll < 0.96:
        twins = chance.choice((None, [hostile.name() for _ in range(2)], "t"))
        everyone = Tenant(creator)
        return Call("query_across_twins", everyone, "creator", {**asked, "creator_id": creator, "twin_ids": twins})
    if roll < 0.97:
        return Call("verify_deletion", Tenant(creator), "erase", {"creator_id": creator})
    if roll < 0.98:
        return Call("erase", Tenant(creator), "erase", {"creator_id": creator})
    return Call("erase", tenant, "erase", who)


@contextmanager
def _told(truth: Truth, call: Call, refused: Counter[str]) -> Iterator[list[Any]]:
    """Make a call as its tenant and look at its answer. A refusal is one of ours, or a finding."""
    truth.caller, truth.scope = call.tenant, call.scope
    answer: list[Any] = []
    try:
        yield answer
    except VecfleetError as error:
        refused[type(error).__name__] += 1
    except Exception as error:  # noqa: BLE001 - whatever else ends a call is what is looked for
        truth.complain(f"{call.method} ended with {type(error).__name__}: {error}", "")
    for found in answer:
        for hit in getattr(found, "matches", found if isinstance(found, list) else ()):
            owner = truth.owner.get((names.canonical(hit.namespace), hit.id))
            if owner is None or not truth.is_own(owner):
                truth.complain(f"answer of {owner}", hit.namespace, hit.id)


@dataclass
class Report:
    """The outcome of many calls: how many were refused and why, which calls reached the index, and what was wrong."""

    calls: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def attack(calls: int, seed: int) -> Report:
    """So many calls, half by each client, over every kind of roll-out in turns. The same seed makes the same calls."""
    chance, report = random.Random(seed), Report()
    turn = 0
    while report.calls < calls:
        kind = list(TABLES)[turn % len(TABLES)]
        size = min(EACH, calls - report.calls)
        with TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as home:
            _block(kind, size, chance, report, Path(home), coroutines=turn // len(TABLES) % 2 == 1)
        report.calls += size
        turn += 1
    return report


def _block(kind: str, calls: int, chance: random.Random, report: Report, home: Path, *, coroutines: bool) -> None:
    index = seeded()
    hostile, truth = Hostile(chance), index.truth
    settings = Settings(pinecone_api_key=SecretStr("any"), vecfleet_home=home, _env_file=None)  # type: ignore[call-arg]
    made: PerProcess[Any] = PerProcess(lambda: index)

    async def by_coroutines() -> None:
        asked = lambda _: AskedByCoroutines(index)  # noqa: E731
        async with DelphiPineconeClient(INDEX, settings=settings, rollout=_rollout(kind), serving=asked) as client:
            client.in_threads._indexes[INDEX, ()] = made
            client.in_threads.journal._looked = inf
            for _ in range(calls):
                call = _call(hostile, chance)
                with _told(truth, call, report.refused) as answer:
                    answer.append(await getattr(client, call.method)(**call.arguments))

    if coroutines:
        asyncio.run(by_coroutines())
    else:
        client = PineconeDelphiClient(INDEX, settings=settings, rollout=_rollout(kind), serving=lambda _: Asked(index))
        client._indexes[INDEX, ()] = made
        client.journal._looked = inf
        for _ in range(calls):
            call = _call(hostile, chance)
            with _told(truth, call, report.refused) as answer:
                answer.append(getattr(client, call.method)(**call.arguments))
    there = {(one.name, record.id) for one in index.namespaces() for record in index.records(one.name)}
    if there != truth.owner.keys():
        truth.complain(f"{len(there ^ truth.owner.keys())} records changed unseen", "")
    report.reached += truth.reached
    report.wrong += truth.wrong
    report.examples += [f"{kind}: {one}" for one in truth.examples]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    report = attack(given.calls, given.seed)
    print(f"{report.calls:,} hostile calls in {time.monotonic() - began:,.0f} s, seed {given.seed}")
    print("refused:", ", ".join(f"{name} {n:,}" for name, n in report.refused.most_common()))
    print("reached the index:", ", ".join(f"{name} {n:,}" for name, n in report.reached.most_common()))
    print(f"foreign effects: {sum(report.wrong.values()):,}")
    for line in report.examples[:20]:
        print(f"  {line}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
