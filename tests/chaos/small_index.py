"""A small index made up from a seed, the plan asked for it, and who else is at work there. No code of vecfleet."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.chaos.case import DEFAULT, METADATA_BYTES, PREVIOUS, REFUSED, Case, Made, Owner, Write, json_bytes
from tests.chaos.maps import ask_for_map

# Just under what the store takes, so that no key can be added to it.
FULL_BYTES = METADATA_BYTES - 50
# An undisturbed copy takes one to two seconds; most writes come in its middle, some between two of its passes.
WRITES_WITHIN_S = 2.5
NAMES = ("alma", "bruno", "Chiara", "d-e", "d_e", "D-E", "n 1", "100%", "twin_x", "creator", "z" * 90, "a.b:c", "_")
IDS = ("with space", "100%", "a/b", "x:y", "#1", "q?a=b&c", 'quo"te', "tick'", "back\\slash", "z" * 500, "+", "0")
TEAMS: Mapping[Any, str] = {"red": "red", "x y": "x y", 7: "7", -2.5: "-2.5", True: "true"}
TEXTS = ("größer als 🚀", "", "日本語のテキスト", "line\nbreak", "\u2028", "e\u0301 is not é", "null", "{}")


def make_case(seed: int) -> Case:
    """The same index and plan for the same seed."""
    chance = random.Random(f"index {seed}")
    grouping = chance.choice(("creator", "rows", "rows", "owners"))
    if random.Random(f"names {seed}").random() < 0.25:
        grouping = "namespaces"
    # A list merges, and a split may meet what its twin's own namespace holds: so it is said what happens to equal ids.
    collisions = "fail" if grouping == "creator" else chance.choice(("skip", "prefix", "identical"))
    case = Case(
        seed=seed,
        kind=chance.choice(("dense", "dense", "dense", "hybrid", "sparse")),
        dimension=chance.choice((4, 8, 24)),
        grouping=grouping,
        policies={
            "soak_seconds": 0,
            "conflicts": chance.choice(("fail", "keep", "overwrite", "overwrite")),
            "collisions": collisions,
            "orphans": chance.choice(("park", "review")),
            "exclusive": chance.random() < 0.5,
        },
    )
    _choose_form(case, random.Random(f"documents {seed}"))
    names = chance.sample(NAMES, chance.randint(3, 6))
    _own(case, chance, names)
    split = grouping == "owners" or (grouping == "namespaces" and chance.random() < 0.7)
    for name in [*case.owners, *([DEFAULT] if split else [])]:
        case.sources[name] = _records(case, chance, name)
    spare = [name for name in NAMES if name not in names]
    case.empty = chance.sample(spare, chance.randint(0, 1))
    if case.merges and chance.random() < 0.6:
        _occupy(case, chance)
    _disturb(case, random.Random(f"others {seed}"))
    _hurry(case, random.Random(f"last words {seed}"))
    case.map = ask_for_map(seed, case.policies)
    plain = (
        case.kind == "dense"
        and case.form != "into documents"
        and case.map is None
        and case.policies.get("writers") != "dual"
    )
    case.embeds = plain and random.Random(f"embed {seed}").random() < 0.4
    return case


def _choose_form(case: Case, chance: random.Random) -> None:
    """Some lives are of documents; in some, vectors become documents. Targets elsewhere need names of their own."""
    draw = chance.random()
    if draw < 0.15:
        case.form = "documents"
    elif draw < 0.4 and case.grouping != "namespaces":
        case.form = "into documents"
        case.names = {REFUSED: "node"} if chance.random() < 0.5 else {}
    case.searches = case.form != "vectors" and chance.random() < 0.5


def _own(case: Case, chance: random.Random, names: list[str]) -> None:
    if case.grouping == "creator":
        case.owners = {name: Owner(case.creators[0], name) for name in names}
        if chance.random() < 0.7:
            case.owners[DEFAULT] = Owner(case.creators[0], "default")
        return
    creators = case.creators
    if case.grouping == "namespaces":
        case.policies["orphans"] = "park"
        case.otherwise = Owner("", None, "leftovers") if chance.random() < 0.5 else None
        plain = chance.random() < 0.2
        for name in names:
            moved = Owner("", None, f"{name}/v2")
            tenant = Owner(chance.choice(creators), name)
            case.owners[name] = moved if plain else chance.choice((moved, tenant, Owner("", None, "joint")))
        return
    if case.grouping == "rows":
        merged = [Owner(chance.choice(creators), None), Owner(chance.choice(creators), "joint")]
        for name in [*names, *([DEFAULT] if chance.random() < 0.5 else [])]:
            alone = Owner(chance.choice(creators), name)
            case.owners[name] = chance.choice([*merged, alone])
        return
    case.twins = {name: chance.choice(creators) for name in [*names, "unheard"]}
    case.owners = {name: Owner(case.twins[name], name) for name in names}
    case.documents = {f"document-{twin}": twin for twin in case.twins}


def _records(case: Case, chance: random.Random, namespace: str) -> list[Made]:
    count = chance.choice((1, 3, 12, 30, 60, 130))
    ids = [f"{namespace[:3]}-{n}" for n in range(count)] + [f"same-{n}" for n in range(chance.randint(1, 4))]
    ids += chance.sample(IDS, chance.randint(0, 4))
    fat = chance.random() < 0.15  # many bytes: several requests, several batches
    rows = [_record(case, chance, namespace, id, fat) for id in ids]
    if chance.random() < 0.5:
        rows.append(_oversize(case, chance, namespace))
    return rows


def _record(case: Case, chance: random.Random, namespace: str, id: str, fat: bool = False) -> Made:
    metadata: dict[str, Any] = {
        "page": chance.randint(-5, 10**6),
        "share": chance.random(),
        "seen": chance.random() < 0.5,
    }
    metadata["text"] = chance.choice(TEXTS) + ("x" * chance.randint(20_000, 38_000) if fat else "")
    if chance.random() < 0.3:
        metadata["tags"] = chance.sample(["a", "ö", "🚀", ""], chance.randint(0, 3))
    # An id that several sources hold is often the very same record.
    content = random.Random(f"{case.seed} {id}") if id.startswith("same-") and chance.random() < 0.5 else chance
    if content is not chance:
        metadata = {"page": 1.0, "text": "the same everywhere"}
    if case.names and metadata["page"] % 3 == 0:
        metadata[REFUSED] = "{}"
    owner = case.owners.get(namespace)
    if owner is None:
        owner = _unrouted(case, chance, metadata)
    if chance.random() < 0.1 and content is chance:
        metadata |= chance.choice(
            ({"migrated_from": "long ago"}, {PREVIOUS: "somebody's"}, {"migrated_from": namespace})
        )
    if chance.random() < 0.05 and namespace in case.owners:
        metadata["creator_id"] = "somebody else"
    return Made(id, *_vector(case, content), metadata, owner)


def _unrouted(case: Case, chance: random.Random, metadata: dict[str, Any]) -> Owner | None:
    """Say in its metadata whose a record of __default__ is, in one of the ways there are."""
    if case.grouping == "namespaces":
        team = chance.choice([*TEAMS, "", None])
        if team is None:
            return case.otherwise
        metadata["team"] = team
        return Owner("", None, f"team-{TEAMS[team]}") if team != "" else case.otherwise
    twin = chance.choice(sorted(case.twins))
    owner = Owner(case.twins[twin], twin)
    match chance.randrange(5):
        case 0:
            metadata["twin_id"] = twin
        case 1:
            metadata["source_id"] = f"document-{twin}"
        case 2:
            metadata |= {"creator_id": owner.creator, "twin_id": twin}
        case 3:
            metadata["creator_id"] = owner.creator
            return Owner(owner.creator, None)
        case _:
            return None
    return owner


def _oversize(case: Case, chance: random.Random, namespace: str) -> Made:
    made = _record(case, chance, namespace, "oversize")
    metadata = {key: value for key, value in made.metadata.items() if key != "text"} | {"text": ""}
    metadata["text"] = "x" * (FULL_BYTES - json_bytes(metadata))
    return replace(made, metadata=metadata)


def _vector(case: Case, chance: random.Random) -> tuple[list[float], tuple[list[int], list[float]] | None]:
    values = [] if case.kind == "sparse" else [chance.uniform(-1, 1) for _ in range(case.dimension)]
    sparse = None
    if case.kind == "sparse" or (case.kind == "hybrid" and chance.random() < 0.7):
        indices = sorted(chance.sample(range(2**31), chance.randint(1, 5)))
        sparse = (indices, [chance.uniform(0.1, 1) for _ in indices])
    return values, sparse


def _occupy(case: Case, chance: random.Random) -> None:
    """A target holds records already: of ids that are to come, and of others."""
    name = chance.choice(sorted(case.owners))
    target = case.owners[name].namespace
    prefix = f"{name}:" if case.policies["collisions"] == "prefix" else ""
    ids = [prefix + one.id for one in case.sources[name] if len(prefix + one.id) <= 512]
    taken = chance.sample(ids, min(len(ids), chance.randint(0, 2)))
    others = [f"before-{n}" for n in range(chance.choice((1, 1, 130)))]  # more than a page of ids
    case.foreign[target] = [_foreign(case, chance, id) for id in [*others, *taken, "000"]]


def _foreign(case: Case, chance: random.Random, id: str) -> Made:
    return Made(id, *_vector(case, chance), {"note": "here before", "page": 7}, None)


# Who else is at work


def _disturb(case: Case, chance: random.Random) -> None:
    """In some lives an application writes on, in some a tenant is erased, and in some of those both."""
    if chance.random() < 0.3:
        case.erased = _someone(case, chance)
    if chance.random() < 0.4 and not case.is_renamed:  # by its marks alone is known what a crash left of what is gone
        writers = chance.choice(("delta", "dual"))
        case.policies["writers"] = "delta" if case.names else writers  # the one of these lives reads no routes
        case.policies["max_passes"] = 40  # as many as it takes while faults strike
        if case.policies["writers"] == "dual":
            case.foreign = {}  # what a target holds under `dual` came from the application itself
            if case.policies["collisions"] == "prefix":  # which knows of no prefixes: such a plan is refused
                case.policies["collisions"] = "identical"
        case.writes = _writes(case, chance)


def _someone(case: Case, chance: random.Random) -> Owner | None:
    """A twin or a creator, beside whom there are others. Nobody to whom a list gives all of __default__: a namespace
    of several tenants by its name is never one's alone to an erasure."""
    twins = sorted((owner for owner in case.tenants if owner.named is None), key=str)
    anyone = [*twins, *{Owner(owner.creator, None) for owner in twins if owner.twin is not None}]
    everything = case.owners.get(DEFAULT)
    possible = [
        one
        for one in sorted(set(anyone), key=str)
        if not (everything is not None and one.has(everything)) and not all(one.has(other) for other in twins)
    ]
    return chance.choice(possible) if possible else None


def _writes(case: Case, chance: random.Random) -> list[Write]:
    """Changed, added and deleted records, some deleted after they were changed. Some records of each source are let
    alone: that a source looks empty stops the job, as it must, and that many records went away does too."""
    writes: list[Write] = []
    for namespace in sorted(case.sources):
        rows = [one for one in case.sources[namespace] if _is_free(case, namespace, one)]
        chosen = chance.sample(rows, min(len(rows) // 2, chance.randint(0, 6)))
        for number, one in enumerate(chosen):
            values, sparse = _vector(case, chance)
            metadata = one.metadata | {"page": chance.randint(-5, 10**6), "seen": "by a writer"}
            changed = replace(one, values=values, sparse=sparse, metadata=metadata)
            deleted, at_s = number < 2 and chance.random() < 0.4, chance.uniform(0, WRITES_WITHIN_S)
            if not deleted or chance.random() < 0.5:
                writes.append(Write(at_s, namespace, one.id, changed))
            if deleted:
                writes.append(Write(chance.uniform(at_s, WRITES_WITHIN_S), namespace, one.id, None))
        for number in range(chance.randint(0, 3)):
            added = _record(case, chance, namespace, f"{chance.choice('0mz')}-{namespace[:3]}-new-{number}")
            if case.erased is None or added.owner is None or not case.erased.has(added.owner):
                writes.append(Write(chance.uniform(0, WRITES_WITHIN_S), namespace, added.id, added))
    return sorted(writes, key=lambda write: write.at_s)


def _is_free(case: Case, namespace: str, one: Made) -> bool:
    """Say whether an application may write this record: not the erased tenant's; and where both sides are written, none
    whose place at the target is another record's too, for there nobody could say what must come of it."""
    if one.owner is not None and case.erased is not None and case.erased.has(one.owner):
        return False
    if case.policies["writers"] == "delta":
        return one.id != "oversize"
    return not one.id.startswith("same-") and one.id not in IDS and one.id != "oversize"


def _hurry(case: Case, chance: random.Random) -> None:
    """In some lives an application writes until the job begins, in some a client with an old route until it may no
    more. Each of these records is written by nobody else."""
    taken = {(write.namespace, write.id) for write in case.writes}
    if chance.random() < 0.6:
        case.early = list(_last_words(case, chance, taken, "early"))
    if case.writes and chance.random() < 0.7:
        taken |= {(write.namespace, write.id) for write in case.early}
        case.late = list(_last_words(case, chance, taken, "late"))


def _last_words(case: Case, chance: random.Random, taken: set[tuple[str, str]], when: str) -> Iterator[Write]:
    """`at_s` of these is a share of the time there is."""
    names = sorted(case.sources)
    for namespace in chance.sample(names, min(len(names), chance.randint(1, 2))):
        rows = [one for one in case.sources[namespace] if _is_alone(case, one) and (namespace, one.id) not in taken]
        chosen = chance.sample(rows, min(len(rows) // 3, chance.randint(0, 2)))
        for number, one in enumerate(chosen):
            values, sparse = _vector(case, chance)
            changed = replace(
                one, values=values, sparse=sparse, metadata=one.metadata | {"seen": f"{when}, by a writer"}
            )
            gone = number == 1 and chance.random() < 0.4
            yield Write(chance.random(), namespace, one.id, None if gone else changed)
        added = _record(case, chance, namespace, f"{chance.choice('0mz')}-{namespace[:3]}-{when}")
        if case.erased is None or added.owner is None or not case.erased.has(added.owner):
            yield Write(chance.random(), namespace, added.id, added)


def _is_alone(case: Case, one: Made) -> bool:
    """Say whether nobody else's record belongs in its place, and nobody erases it."""
    erased = one.owner is not None and case.erased is not None and case.erased.has(one.owner)
    return not erased and not one.id.startswith("same-") and one.id not in IDS and one.id != "oversize"
