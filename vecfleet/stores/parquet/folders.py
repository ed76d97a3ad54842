"""Names as folders: none leads out of the root, and no two share a folder, whatever the file system folds."""

import hashlib
import re
from pathlib import Path

from vecfleet.errors import BadInput

INDEX_FILE = "_index.json"
NAMESPACE_FILE = "_namespace.json"
# These begin with a dot, so that no reader takes them for data.
DRAFT, DELETED = ".new-", ".deleted-"

_HOST = "parquet:"
_INDEX_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]*(/[a-z0-9_][a-z0-9._-]*)?")
_ENCODED = "namespace="
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
# Safe as names of folders and of objects in buckets.
_OWN_NAME = re.compile(r"[A-Za-z0-9_!'()&$@;:+,-]([A-Za-z0-9_!'()&$@;:+,. -]*[A-Za-z0-9_!'()&$@;:+,-])?")
# File systems take 255 bytes for a name.
_MAX_CHARS = 200


def is_index_name(name: str) -> bool:
    return _INDEX_NAME.fullmatch(name) is not None


def index_path(root: Path, name: str) -> Path:
    """Return the folder of an index. Raises BadInput for a name that is none, or that is a link to elsewhere."""
    path = root / name
    if not is_index_name(name):
        raise BadInput(
            f"{name!r} cannot be a folder of files",
            next_step="name one, or one in another, in lower case: exports/brain-2026-02-11",
        )
    if path.resolve() != root.resolve() / name:
        raise BadInput(f"the folder {name!r} is a link", next_step="name the folder that it leads to")
    return path


def host_of(name: str) -> str:
    """Return the address of an index for claims and the pace: the same on every machine."""
    return _HOST + name


def own_folder(namespace: str) -> str | None:
    """Return the namespace's name, which a bulk import takes from its folder's; None if no folder can have it."""
    fits = len(namespace) <= _MAX_CHARS and _OWN_NAME.fullmatch(namespace) and namespace.lower() != INDEX_FILE
    return namespace if fits else None


def encoded_folder(namespace: str) -> str:
    """Return `namespace=` and the name, percent-encoded: without an own folder, and in exports of former versions.

    Capitals are encoded too, because some file systems do not tell them apart. A name that is too long becomes its
    digest: `_namespace.json` inside tells it.
    """
    encoded = "".join(char if char in _PLAIN else f"%{ord(char):02X}" for char in namespace)
    if len(encoded) > _MAX_CHARS:
        encoded = "~" + hashlib.sha256(namespace.encode()).hexdigest()
    return _ENCODED + encoded
