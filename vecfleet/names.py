"""Names of namespaces: the tenant that each belongs to, and the name of a tenant's namespace.

A creator's namespace is `creator_{creator}`, a twin's is `creator_{creator}_twin_{twin}`. Parsing is the exact inverse
of building: strip `creator_`, split at the first `_twin_`. A creator may neither contain `_twin_` nor end in `_twin`.
Otherwise creator `x_twin` with twin `y` and creator `x` with twin `twin_y` would share a namespace.

The limits are Pinecone's: 1 to 512 characters, ASCII without NUL (its identifier limits, database-limits page).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vecfleet.errors import BadName

DEFAULT = "__default__"
PUBLIC = "public"
MAX_CHARS = 512

CREATOR = "creator_"
"""Begins the name of every tenant's namespace."""
_TWIN = "_twin_"
_SEMANTIC = re.compile(r"[a-z][a-z0-9_]{2,63}")
_RESERVED = frozenset({"default", "system", "admin", "test", "temp", "null"})


@dataclass(frozen=True, slots=True)
class Tenant:
    """The owner of a namespace: a creator's twin, or the creator as a whole (`twin` is None)."""

    creator: str
    twin: str | None = None


def canonical(namespace: str) -> str:
    """Return the one spelling of a namespace: Pinecone takes `""` and `__default__` for the same one."""
    return namespace or DEFAULT


def spellings(namespace: str) -> tuple[str, ...]:
    """Return every spelling of a namespace."""
    return ("", DEFAULT) if canonical(namespace) == DEFAULT else (namespace,)


def objection(namespace: str) -> str | None:
    """Say why this can be no namespace's name; None if it can."""
    if not namespace:
        return "an empty name is no namespace's"
    if not namespace.isascii() or "\0" in namespace:
        return f"the namespace name {namespace[:60]!r} holds characters other than ASCII 1 to 127"
    if len(namespace) > MAX_CHARS:
        return f"the namespace name {namespace[:40]!r}… has {len(namespace):,} characters; the limit is {MAX_CHARS}"
    return None


def meant(name: str, there: Iterable[str]) -> str:
    """Return, as the end of a sentence, the names that are there and nearest to one that is not; empty if none is."""
    from difflib import get_close_matches  # nobody who types a right name waits for it

    names = list(there)
    near = get_close_matches(name, names, n=2) or [longer for longer in names if name and longer.startswith(name)][:2]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def build(creator: str, twin: str | None = None) -> str:
    """Return the namespace of a twin, or of the creator without one. Raises BadName if it would not parse back."""
    why = _objection(creator, twin)
    if why is not None:
        raise BadName(why, next_step="give this creator or twin another id, or leave it out of the plan")
    return _spell(creator, twin)


def parse(namespace: str) -> Tenant | None:
    """Return the tenant for which `build` gives this namespace; None if there is no such tenant."""
    if not namespace.startswith(CREATOR):
        return None
    creator, separator, rest = namespace.removeprefix(CREATOR).partition(_TWIN)
    twin = rest if separator else None
    return Tenant(creator, twin) if _objection(creator, twin) is None else None


def belongs_to(namespace: str, creator: str, twin: str | None = None) -> bool:
    """Say whether it is this twin's namespace or, without `twin`, any namespace of this creator."""
    tenant = parse(namespace)
    return tenant is not None and tenant.creator == creator and twin in (None, tenant.twin)


def check_semantic_twin_name(name: str) -> None:
    """Raise BadName unless a new twin may have this name (lower case, 3 to 64 characters, not a reserved word)."""
    if not _SEMANTIC.fullmatch(name):
        why = "must have 3 to 64 characters, a-z, 0-9 and _, and start with a letter"
    elif "__" in name or name.endswith("_"):
        why = "may neither contain __ nor end in _"
    elif name in _RESERVED:
        why = "is a reserved word"
    else:
        return
    raise BadName(f"the twin name {name!r} {why}", next_step="choose another name, such as support_bot")


def _spell(creator: str, twin: str | None) -> str:
    return f"{CREATOR}{creator}" if twin is None else f"{CREATOR}{creator}{_TWIN}{twin}"


def _objection(creator: str, twin: str | None) -> str | None:
    if not creator:
        return "a creator id is empty"
    if _TWIN in creator or creator.endswith("_twin"):
        return f"the creator id {creator!r} may neither contain _twin_ nor end in _twin: it would read as a twin's"
    if twin == "":
        return f"a twin id of creator {creator!r} is empty"
    return objection(_spell(creator, twin))
