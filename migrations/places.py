"""Places to compare: `STORE:INDEX[/NAMESPACE]`, and which namespace of one is compared with which of the other.

In a name `*` stands for any text, and what it stood for fills `{1}`, `{2}` … of a new name.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from migrations.findings import few
from migrations.reading import Reader, patiently
from vecfleet.errors import BadInput, Missing, NotFound
from vecfleet.names import canonical
from vecfleet.stores.base import NamespaceInfo, Store

# A Postgres schema that need not be named: `pgvector:TABLE` means a namespace of it.
_USUAL_SCHEMA = "public"
_AUDIT = "`vecfleet audit INDEX` lists them"
_SLOT = re.compile(r"\{(\d+)\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name in which each `*` stands for any text, none included."""

    text: str

    @property
    def is_name(self) -> bool:
        """Say whether it stands for one name only."""
        return "*" not in self.text

    def captures(self, name: str) -> tuple[str, ...] | None:
        """Return what each `*` stands for in this name; None if the name does not match."""
        parts = map(re.escape, self.text.split("*"))
        match = re.fullmatch("(.*)".join(parts), name, re.DOTALL)
        return match.groups() if match is not None else None

    def matches(self, name: str) -> bool:
        return self.captures(name) is not None


@dataclass(frozen=True, slots=True)
class Rename:
    """`old` becomes `new`, in which `{1}` is the first capture."""

    old: Pattern
    new: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Read OLD=NEW. Raises BadInput for anything else."""
        old, separator, new = text.partition("=")
        if not separator or not old or not new:
            raise BadInput(f"{text!r} is no pair of names", next_step="write OLD=NEW: prod=prod_v2, 'tenant-*=t/{1}'")
        stars = old.count("*")
        if any(not 1 <= int(slot) <= stars for slot in _SLOT.findall(new)):
            raise BadInput(
                f"{text!r} asks for more than its {stars} `*` gave", next_step="write {1} for the first `*`, and so on"
            )
        return cls(Pattern(old), new)

    @property
    def made(self) -> Pattern:
        """Return the pattern of the names that it makes."""
        return Pattern(_SLOT.sub("*", self.new))

    def applied(self, name: str) -> str | None:
        captures = self.old.captures(name)
        return _SLOT.sub(lambda slot: captures[int(slot[1]) - 1], self.new) if captures is not None else None


def rename_all(names: Iterable[str], renames: Sequence[Rename]) -> dict[str, str]:
    """Return the new name of each; the first rename that matches counts, and without one a name stays.

    Raises BadInput if a rename matches nothing, or two names become one.
    """
    names = list(names)
    for rename in renames:
        if not any(rename.old.matches(name) for name in names):
            raise BadInput(f"no namespace is called {rename.old.text!r}", next_step="`vecfleet audit INDEX` lists them")
    new = {name: next(filter(None, (rename.applied(name) for rename in renames)), name) for name in names}
    twice = [name for name, count in Counter(map(canonical, new.values())).items() if count > 1]
    if twice:
        raise BadInput(f"several namespaces would become one: {few(twice)}", next_step="give each a name of its own")
    return new


@dataclass(frozen=True, slots=True)
class Place:
    """An open index. `chosen`: the namespaces that were named; None: all of them."""

    text: str
    reader: Reader
    chosen: Pattern | None = None

    @property
    def only(self) -> str | None:
        """Return the one namespace that is meant; None if several may be."""
        return canonical(self.chosen.text) if self.chosen is not None and self.chosen.is_name else None

    @property
    def host(self) -> str:
        return self.reader.index.info.host


@dataclass(frozen=True, slots=True)
class Pair:
    """Two namespaces to compare; None where a place has none of that name. `records`: about how many there are.

    `label` begins the path of each of their records: the name at A, or at B if A lacks it; empty if A names only one.
    """

    label: str
    a: str | None
    b: str | None
    records: int


def open_place(text: str, store_named: Callable[[str], Store]) -> Place:
    """Open the index that a place names. Raises BadInput, NotFound, and what its store raises."""
    name, separator, rest = text.partition(":")
    if not separator or not rest:
        raise BadInput(
            f"{text!r} names no store and index",
            next_step="write STORE:INDEX or STORE:INDEX/NAMESPACE: pinecone:shop/prod, parquet:exports/shop",
        )
    store = store_named(name)
    objections: list[Missing | BadInput] = []
    for index, namespaces in _readings(name, rest):
        try:
            opened = store.open(patiently(lambda index=index: store.describe(index)))  # type: ignore[misc]
        except (Missing, BadInput) as error:
            objections.append(error)
            continue
        if index == rest or "/" in rest or opened.namespace(namespaces) is not None:
            return Place(text, Reader(opened), Pattern(namespaces) if namespaces else None)
    first = objections[0]
    raise NotFound(first.message, next_step=first.next_step or _AUDIT) from first


def _readings(store: str, rest: str) -> Iterator[tuple[str, str]]:
    """Yield index and namespaces as this may mean them, the likeliest first."""
    first, _, after = rest.partition("/")
    if store == "parquet" and after:  # a folder may lie in another
        second, _, beyond = after.partition("/")
        yield f"{first}/{second}", beyond
    yield first, after
    if store.startswith("pgvector") and not after:
        yield _USUAL_SCHEMA, first


def pair_up(a: Place, b: Place, renames: Sequence[Rename] = ()) -> list[Pair]:
    """Return the pairs of namespaces, in byte order of their labels. Raises BadInput, NotFound."""
    if b.chosen is not None and (a.only is None or b.only is None or renames):
        raise BadInput(
            f"{b.text!r} chooses namespaces of B, which follow from those of A",
            next_step="choose at A: pinecone:shop/tenant-* pinecone:shop-eu; or name one at each: "
            "pinecone:shop/prod pinecone:shop/prod_v2; other names: --rename 'tenant-*=t/{1}'",
        )
    pairs = _several(a, b, renames) if a.only is None else [_single(a, a.only, b, renames)]
    if a.host == b.host and any(pair.a == pair.b for pair in pairs):
        raise BadInput(
            "A and B are the same place, so they are equal",
            next_step="name a namespace at each: pinecone:shop/prod pinecone:shop/prod_v2",
        )
    if not pairs:
        raise NotFound(f"neither {a.text!r} nor {b.text!r} holds a namespace", next_step=_AUDIT)
    return pairs


def _single(a: Place, name: str, b: Place, renames: Sequence[Rename]) -> Pair:
    """Pair the one namespace of A with the one that B names, or with the one of its name, which may be absent."""
    new = canonical(b.only or rename_all([name], renames)[name])
    at_a, at_b = _namespace(a, name), _namespace(b, new)
    for place, wanted, info in ((a, name, at_a), (b, b.only, at_b)):
        if info is None and wanted is not None:
            raise NotFound(f"{place.text!r} names no namespace that is there", next_step=_AUDIT)
    return _pair("", at_a, at_b)


def _several(a: Place, b: Place, renames: Sequence[Rename]) -> list[Pair]:
    """Pair the chosen namespaces of A with those of their new names, and add those of B that none became."""
    at_a = {name: info for name, info in _namespaces(a).items() if a.chosen is None or a.chosen.matches(name)}
    at_b = _namespaces(b)
    new = {name: canonical(image) for name, image in rename_all(at_a, renames).items()}
    images = set(new.values())
    chosen = [a.chosen, *(rename.made for rename in renames)] if a.chosen is not None else [Pattern("*")]
    pairs = [_pair(name, info, at_b.get(new[name])) for name, info in at_a.items()]
    pairs += [
        _pair(name if name not in at_a else f"{name} (B)", None, info)
        for name, info in at_b.items()
        if name not in images and any(pattern.matches(name) for pattern in chosen)
    ]
    return sorted(pairs, key=lambda pair: pair.label)


def _namespace(place: Place, name: str) -> NamespaceInfo | None:
    return patiently(lambda: place.reader.index.namespace(name))


def _namespaces(place: Place) -> dict[str, NamespaceInfo]:
    listed = patiently(lambda: list(place.reader.index.namespaces()))
    return {info.name: info for info in listed}


def _pair(label: str, a: NamespaceInfo | None, b: NamespaceInfo | None) -> Pair:
    records = max(info.count for info in (a, b) if info is not None)
    return Pair(label, a.name if a else None, b.name if b else None, records)
