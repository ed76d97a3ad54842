"""The owners of the seeds' namespaces: 29 twins of three creators, and the sources of their records.

The same on every machine: all ids derive from fixed names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import orjson

CREATORS = ("sainath.no.1", "creator-b", "creator-c")
LARGEST = (
    ("eeeed554-9180-4229-a9af-0f8dd2c69e9b", 87),
    ("d080d547-5aac-4a92-91b2-6d3ff728af4c", 73),
    ("5698a809-87a5-4169-ab9b-c4a6222ae2dd", 68),
    ("ad1eeace-26d1-4eff-9560-39643832d0f2", 47),
)
SMALLER = (14, 12, 11, 10, 9, 9, 8, 8, 7, 7, 6, 6, 6, 5, 5, 5, 4, 4, 4, 3, 3, 3, 2, 2, 1)
NAMES = (
    "Ada", "Bjørn", "Chandra", "Dmitri", "Élodie", "Farida", "Goro", "Hana", "Ines", "Jonas",
    "Kavya", "Liam", "Mei", "Noor", "Olu", "Priya", "Quentin", "Rosa", "Sainath", "Tariq",
    "Uma", "Viktor", "Wanjiru", "Ximena", "Yuki", "Zofia", "Anton", "Beatriz", "Ciarán",
)  # fmt: skip


@dataclass(frozen=True)
class Twin:
    id: str
    creator_id: str
    name: str
    records: int  # in the namespace named by its id


@dataclass(frozen=True)
class Source:
    id: str
    twin_id: str


def twins() -> Sequence[Twin]:
    sizes = [*LARGEST, *((seed_uuid(f"twin-{n}"), size) for n, size in enumerate(SMALLER))]
    return [
        Twin(id, CREATORS[n % len(CREATORS)], name, size)
        for n, ((id, size), name) in enumerate(zip(sizes, NAMES, strict=True))
    ]


def sources() -> Sequence[Source]:
    """Return about one source for every twelve records of a twin."""
    return [
        Source(seed_uuid(f"source-{twin.id}-{n}"), twin.id) for twin in twins() for n in range(1 + twin.records // 12)
    ]


def write_ownership(path: Path) -> None:
    """Write `twins` and `sources`; the file is JSON, which every YAML reader reads."""
    ownership = {
        "twins": [{"id": twin.id, "creator_id": twin.creator_id, "name": twin.name} for twin in twins()],
        "sources": [{"id": source.id, "twin_id": source.twin_id} for source in sources()],
    }
    path.write_bytes(orjson.dumps(ownership, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def seed_uuid(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"vecfleet:seeds:{name}"))
