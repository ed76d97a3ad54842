"""The first user's index as its documents describe it: 805 vectors of 3,072 dimensions in 30 namespaces.

Deterministic, so that two emulators, two runs or two machines hold the same bytes.
"""

import math
from collections.abc import Iterator, Mapping
from operator import mul

import numpy as np

from emulator.index import Index
from emulator.project import Project
from emulator.records import DEFAULT_NAMESPACE, Record
from emulator.seeds_ownership import Source, Twin, seed_uuid, sources, twins
from emulator.shapes import plain_index

INDEX = "digital-twin-brain"
DIMENSION = 3072
DEFAULT_RECORDS = 376
SHARED_IDS = ("welcome", "faq_chunk_0", "faq_chunk_1", "persona")  # in several namespaces, with other contents
_SENTENCES = (
    "The creator explains how the first prototype failed and what was learned from it.",
    "Ein Vektor ist mehr als die Summe seiner Zahlen; Größe und Richtung zählen.",
    "Le sommeil, dit-elle, est la moitié de l'entraînement — et la moins chère.",
    "データを失わずに移行するには、まず数えることから始めます。",
    "जो लिखा गया है, वही पढ़ा जाना चाहिए।",
    "الذاكرة ليست سجلاً، بل إعادة بناء في كل مرة.",
    "Память — это не запись, а пересказ.",
    "기록은 사라지지 않는다, 다만 자리를 옮길 뿐이다.",
    "Ship it 🚀, then measure it 📏, then 👩🏽‍💻 fix what broke.",
    "Q: How often should I post? A: As often as you have something to say.",
)
_TYPES = ("youtube", "podcast", "pdf", "blog", "tweet", "transcript")
_TAGS = ("training", "health", "日本語", "product", "naïve", "q&a", "life", "🎙️")


def load_seeds(project: Project) -> None:
    """Create and fill the index, unless it is there already."""
    if INDEX in project.indexes:
        return
    index = project.create(
        plain_index(
            {
                "name": INDEX,
                "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}}},
                "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            }
        )
    )
    chance = np.random.default_rng(805)
    index.upsert(DEFAULT_NAMESPACE, list(_default(index, chance)))
    for twin in twins():
        index.upsert(twin.id, list(_of_twin(index, chance, twin)))


def _of_twin(index: Index, chance: np.random.Generator, twin: Twin) -> Iterator[Record]:
    own = [source for source in sources() if source.twin_id == twin.id]
    ids = list(SHARED_IDS[: chance.integers(0, 4)]) if twin.records > len(SHARED_IDS) else []
    chunks = [(own[n % len(own)], n // len(own)) for n in range(twin.records - len(ids))]
    for number, id in enumerate(ids):
        yield _record(index, chance, id, {"title": f"{twin.name}: {id}", "page": number})
    for number, (source, chunk) in enumerate(chunks):
        id = f"{source.id}_chunk_{chunk}" if number % 9 else f"doc:{source.id[:8]}#p{chunk}"
        fields = None if number % 17 == 16 else _fields(chance, source.id, chunk)
        yield _record(index, chance, id, fields)


def _default(index: Index, chance: np.random.Generator) -> Iterator[Record]:
    """Yield the default namespace: half of it names its twin, a quarter a source, a few both ids; the rest orphans."""
    owners, known = twins(), sources()
    for number in range(DEFAULT_RECORDS - len(SHARED_IDS)):
        twin = owners[int(chance.integers(len(owners)))]
        kind = number % 8
        if kind < 4:
            source = Source(seed_uuid(f"upload-{number // 16}"), twin.id)
            extra: dict[str, object] = {"twin_id": twin.id}
        elif kind < 6:
            source, extra = known[int(chance.integers(len(known)))], {}
        elif kind == 6 and number % 64 == 6:
            source = Source(seed_uuid(f"claimed-{number}"), twin.id)
            extra = {"creator_id": twin.creator_id, "twin_id": twin.id}
        else:
            source, extra = Source(seed_uuid(f"orphan-{number // 40}"), ""), {}
        bare = kind == 7 and number % 24 == 7
        fields = None if bare else _fields(chance, source.id, number) | extra
        yield _record(index, chance, f"{source.id}_chunk_{1000 + number}", fields)
    for id in SHARED_IDS:
        yield _record(index, chance, id, {"title": f"Shared: {id}", "chunk_text": _SENTENCES[0]})


def _fields(chance: np.random.Generator, source_id: str, chunk: int) -> dict[str, object]:
    picked = chance.integers(0, len(_SENTENCES), 3)
    fields: dict[str, object] = {
        "chunk_text": " ".join(_SENTENCES[int(n)] for n in picked),
        "source_id": source_id,
        "source_type": _TYPES[int(picked[0]) % len(_TYPES)],
        "title": f"Episode {chunk}: {_SENTENCES[int(picked[1])][:24]}",
        "page": chunk,
        "is_public": bool(picked[2] % 2),
    }
    if chunk % 3:
        fields["tags"] = [_TAGS[int(n) % len(_TAGS)] for n in picked]
    return fields


def _record(index: Index, chance: np.random.Generator, id: str, fields: Mapping[str, object] | None) -> Record:
    values = chance.standard_normal(DIMENSION, dtype="<f4")
    numbers = values.tolist()
    # BLAS adds up in another order on another processor; an exact sum is the same on each.
    length = math.sqrt(math.fsum(map(mul, numbers, numbers)))
    return index.check_record(id, (values / length).astype("<f4").tobytes(), None, fields)
