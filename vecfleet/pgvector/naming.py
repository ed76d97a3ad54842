"""Names of namespaces, and of everything derived from one. Pure.

A namespace is a table `embeddings_{namespace}`. A name outside the rules is refused and never folded into another:
`A-B`, `a-b` and `a_b` are three names, and two of them cannot be used. Postgres silently cuts a longer identifier off
at 63 bytes. So every derived name beyond that is shortened here, with a digest of the whole of it.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import count

from vecfleet.errors import BadName

PREFIX = "embeddings_"
LEGACY_TABLE = "embeddings"  # the one table from before there were namespaces
MAX_NAMESPACE_CHARS = 50
MAX_IDENTIFIER_BYTES = 63  # NAMEDATALEN - 1 of every ordinary Postgres
RESERVED = frozenset({"backup", "temp", "tmp", "system", "admin"})

_ALLOWED = re.compile(r"[a-z0-9_]+", re.ASCII)
_SLUG_CHARS = 24
_DIGEST_CHARS = 16
_MOST_KEPT = 32  # bytes of a name's end; the digest and some of its beginning must have room too
# No namespace within the rules has this character: a table named after a digest is never mistaken for another's.
_FOREIGN = "~"


class InvalidNamespace(BadName, ValueError):
    """The name of a namespace is outside the rules. A ValueError too, as callers of the seed's interfaces expect."""


def check(namespace: str) -> str:
    """Return the name as it is. Raises InvalidNamespace, saying which rule it breaks."""
    if not namespace:
        why = "is empty"
    elif not _ALLOWED.fullmatch(namespace):
        why = "may hold only a-z, 0-9 and _"
    elif len(namespace) > MAX_NAMESPACE_CHARS:
        why = f"has {len(namespace)} characters; at most {MAX_NAMESPACE_CHARS} are allowed"
    elif namespace in RESERVED:
        why = f"is reserved, as are {', '.join(sorted(RESERVED - {namespace}))}"
    else:
        return namespace
    shown = repr(namespace[:60])
    raise InvalidNamespace(
        f"the namespace name {shown} {why}",
        next_step="choose a name such as production, customer_123 or prod_eu; names are never changed for you",
    )


def is_valid(namespace: str) -> bool:
    try:
        check(namespace)
    except InvalidNamespace:
        return False
    return True


def table_name(namespace: str) -> str:
    """Return the table of a namespace within the rules. Raises InvalidNamespace."""
    return PREFIX + check(namespace)


def table_name_of_any(namespace: str) -> str:
    """Return the table of a namespace of any name, such as a fleet may bring from elsewhere.

    A name within the rules has the table that everybody expects. Any other has a table named after its digest, whose
    comment holds the name as it is.
    """
    if is_valid(namespace):
        return PREFIX + namespace
    slug = re.sub(r"[^a-z0-9]+", "_", namespace.lower()).strip("_")[:_SLUG_CHARS]
    return f"{PREFIX}{slug}{_FOREIGN}{_digest(namespace)}"


def namespace_of(table: str) -> str | None:
    """Return the namespace whose table has this name; None if no namespace's table has it."""
    name = table.removeprefix(PREFIX)
    return name if table.startswith(PREFIX) and is_valid(name) else None


def derived(table: str, suffix: str) -> str:
    """Return `{table}_{suffix}`; if that is too long for Postgres, shortened, with a digest of the whole name."""
    return fitted(f"{table}_{suffix}", keep=suffix)


def fitted(name: str, keep: str = "") -> str:
    """Return the name if Postgres keeps it whole; else its beginning, a digest of the whole, and the end `keep`."""
    if len(name.encode()) <= MAX_IDENTIFIER_BYTES:
        return name
    end = f"_{_digest(name)}" + (f"_{keep}" if 0 < len(keep.encode()) <= _MOST_KEPT else "")
    room = MAX_IDENTIFIER_BYTES - len(end.encode())
    return name.encode()[:room].decode("utf-8", "ignore") + end


def backup_names(table: str, now: datetime) -> Iterator[str]:
    """Yield names for a table that was moved away: `{table}_backup_{timestamp}`, to the second, then numbered."""
    stamp = f"backup_{now:%Y%m%d_%H%M%S}"
    yield derived(table, stamp)
    for number in count(2):
        yield derived(table, f"{stamp}_{number}")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
