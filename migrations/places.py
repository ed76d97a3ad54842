"""Places to compare, `STORE:INDEX[/NAMESPACE]`, and the pairs of namespaces that are compared."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrations.findings import SHOWN, way_to_look
from migrations.reading import Reader, patiently
from migrations.renaming import Naming, Pair, matches, only_name, parsed
from vecfleet.errors import BadInput, Missing, NotFound
from vecfleet.names import canonical, meant
from vecfleet.stores.base import NamespaceInfo, Store

# The Postgres schema that need not be named: `pgvector:TABLE` means a namespace of this schema.
_USUAL_SCHEMA = "public"
# Characters with a meaning in a glob.
_SPECIAL = re.compile(r"[\\*?]")


@dataclass(frozen=True, slots=True)
class Place:
    """An open index. `chosen`: a glob of its namespaces to compare; None: all of them."""

    text: str
    reader: Reader
    chosen: str | None = None

    @property
    def only(self) -> str | None:
        """Return the only namespace that the place names; None if it may name several."""
        name = only_name(self.chosen) if self.chosen is not None else None
        return canonical(name) if name is not None else None

    @property
    def host(self) -> str:
        return self.reader.index.info.host


@dataclass(frozen=True, slots=True)
class Counterparts:
    """Two namespaces to compare; None: the place has none of that name. `records`: roughly their number of records.

    `label` begins the path of each of their records: the name at A, or at B if A lacks it; empty if A names only one.
    """

    label: str
    a: str | None
    b: str | None
    records: int


def open_place(text: str, store_named: Callable[[str], Store]) -> Place:
    """Open the index that a place names. Raises BadInput, NotFound, and the store's errors."""
    name, separator, rest = text.partition(":")
    if not separator or not rest:
        likely = "pinecone:shop/prod" if separator else f"pinecone:{text}"
        raise BadInput(
            f"{text!r} names no store and index",
            next_step=f"write STORE:INDEX or STORE:INDEX/NAMESPACE: {likely}, parquet:exports/shop",
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
            return Place(text, Reader(opened), namespaces or None)
    first = objections[0]
    step = first.next_step or "`vecfleet doctor` lists the indexes of each account"
    raise NotFound(first.message, next_step=step) from first


def _readings(store: str, rest: str) -> Iterator[tuple[str, str]]:
    """Yield the index and namespaces that the text may name, the likeliest reading first."""
    first, _, after = rest.partition("/")
    if store == "parquet" and after:  # a folder may lie in another folder
        second, _, beyond = after.partition("/")
        yield f"{first}/{second}", beyond
    yield first, after
    if store.startswith("pgvector") and not after:
        yield _USUAL_SCHEMA, first


def pair_up(a: Place, b: Place, renames: Sequence[Pair] = ()) -> list[Counterparts]:
    """Return which namespaces belong together, in byte order of their labels. Raises BadInput, NotFound."""
    if b.chosen is not None and (a.only is None or b.only is None or renames):
        raise BadInput(
            f"{b.text!r} chooses namespaces of B, but A's namespaces decide which ones are compared",
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
        raise NotFound(f"neither {a.text!r} nor {b.text!r} holds a namespace", next_step=_look(a, b))
    return pairs


def _single(a: Place, name: str, b: Place, renames: Sequence[Pair]) -> Counterparts:
    """Pair the one namespace of A with the one that B names, or with B's of the same name, which may be absent."""
    new = b.only or _renamed(a, {name: None}, renames)[name]
    at_a, at_b = _namespace(a, name), _namespace(b, new)
    for place, wanted, info in ((a, name, at_a), (b, b.only, at_b)):
        if info is None and wanted is not None:
            raise _absent(place)
    return _pair("", at_a, at_b)


def _absent(place: Place) -> NotFound:
    there = patiently(lambda: [held.name for held in place.reader.index.namespaces()])
    shown = ", ".join([*map(repr, there[:SHOWN]), *(["…"] if there[SHOWN:] else [])]) or "none"
    return NotFound(
        f"{place.text!r} names no namespace that is there; the index holds {shown}" + meant(place.only or "", there),
        next_step=_look(place),
    )


def _look(*places: Place) -> str:
    """Say which commands list the namespaces of these places."""
    stores = [(place.text.partition(":")[0], place.reader.index.info.name) for place in places]
    commands = [command for store, index in stores if (command := way_to_look(store, index))]
    return f"{' and '.join(commands)} list{'' if commands[1:] else 's'} them" if commands else "name one that is there"


def _several(a: Place, b: Place, renames: Sequence[Pair]) -> list[Counterparts]:
    """Pair the chosen namespaces of A with B's of their new names, and add B's other namespaces."""
    at_a, at_b = _namespaces(a), _namespaces(b)
    chosen = ["*"]
    if a.chosen is not None:
        at_a = {name: at_a[name] for name in matches(a.chosen, at_a)}
        if not at_a:
            raise _absent(a)
        chosen = [a.chosen, *map(_made, renames)]
    new = _renamed(a, at_a, renames)
    rest = set().union(*(matches(names, at_b) for names in chosen)) - set(new.values())
    pairs = [_pair(name, info, at_b.get(new[name])) for name, info in at_a.items()]
    pairs += [_pair(name if name not in at_a else f"{name} (B)", None, at_b[name]) for name in rest]
    return sorted(pairs, key=lambda pair: pair.label)


def _renamed(a: Place, namespaces: Mapping[str, object], renames: Sequence[Pair]) -> dict[str, str]:
    """Return the name at B of each namespace of A. Raises BadInput for a rename that does nothing or merges two."""
    naming = Naming(pairs=tuple(renames))
    looked_at = a.reader.index.info.name + (f"/{a.chosen}" if a.chosen is not None else "")
    objections = naming.objections(looked_at, list(namespaces), list(namespaces))
    if objections:
        step = f"each --rename says what a namespace of A is called at B; {_look(a)}"
        raise BadInput("; ".join(objections), next_step=step)
    return {name: canonical(template.name or "") for name, template in naming.templates(namespaces).items()}


def _made(rename: Pair) -> str:
    """Return a glob that matches the names that a rename can make."""
    parts = parsed(rename.new).parts
    return "".join("*" if isinstance(part, int) else _SPECIAL.sub(r"\\\g<0>", part) for part in parts)


def _namespace(place: Place, name: str) -> NamespaceInfo | None:
    return patiently(lambda: place.reader.index.namespace(name))


def _namespaces(place: Place) -> dict[str, NamespaceInfo]:
    listed = patiently(lambda: list(place.reader.index.namespaces()))
    return {info.name: info for info in listed}


def _pair(label: str, a: NamespaceInfo | None, b: NamespaceInfo | None) -> Counterparts:
    records = max(info.count for info in (a, b) if info is not None)
    return Counterparts(label, a.name if a else None, b.name if b else None, records)
