"""Ids of any characters in a store whose ids are ASCII: encoded on the way in, decoded on the way out.

Each character from `~` (U+007E) on becomes `~` and its code point in six hexadecimal digits: `café` is `caf~0000e9`.
The tilde is among them, so that an id that looks encoded is encoded too and survives. All others stay as they are. The
encoding is injective, and keeps the order of ids by their bytes in UTF-8: whatever merges listings goes on to work.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores.base import Aliased, Fetched, IdPage, Index, IndexInfo, Matches, Store, Usage, Written

_ENCODED = re.compile(r"[~-\U0010ffff]")
_ESCAPE = re.compile(r"~([0-9a-f]{6})")


def encode(text: str) -> str:
    """Return the ASCII form of an id, or of the beginning of one."""
    return _ENCODED.sub(lambda match: f"~{ord(match[0]):06x}", text)


def decode(text: str) -> str:
    """Return the id of an ASCII form. Raises BadRequest for a text that no id is encoded as."""
    id = _decoded(text)
    if id is None:
        raise BadRequest(
            f"the id {text[:60]!r} is not an encoded one: this namespace was not, or not only, written with "
            "`--encode-ids`",
            next_step="plan without `--encode-ids`: its ids are then taken as they are",
        )
    return id


def _decoded(text: str) -> str | None:
    try:
        id = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        id.encode()
    except ValueError:  # beyond the last code point, or half a character
        return None
    return id if encode(id) == text else None


def decoded(forms: Iterable[str]) -> list[str]:
    """Return the ids of ASCII forms; a text that is none is left out."""
    return [id for form in forms if (id := _decoded(form)) is not None]


def seen(store: Store, encoded: bool) -> Store:
    """Return the store as a plan sees it: if the plan has ids encoded at Pinecone, with decoded ones from there."""
    return EncodedIds(store) if encoded and store.name.startswith("pinecone") else store


class EncodedIds:
    """A store, seen with the ids that its records' other side has. All else is the store's own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, info: IndexInfo) -> Index:
        index = self._store.open(info)
        return _AliasedIndex(index) if isinstance(index, Aliased) else _Index(index)


class _Index:
    def __init__(self, index: Index) -> None:
        self._index = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        page = self._index.list_ids(namespace, token, limit, encode(prefix) if prefix is not None else None)
        return replace(page, ids=[decode(id) for id in page.ids])

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        fetched = self._index.fetch(namespace, [encode(id) for id in ids])
        records = {(id := decode(encoded)): replace(record, id=id) for encoded, record in fetched.records.items()}
        return replace(fetched, records=records)

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        return self._index.upsert(namespace, [self._sent(record) for record in records])

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        return self._index.delete(namespace, [encode(id) for id in ids])

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        found = self._index.query(namespace, like, top_k)
        return replace(found, matches=[replace(match, id=decode(match.id)) for match in found.matches])

    def request_bytes(self, record: Record) -> int:
        return self._index.request_bytes(replace(record, id=encode(record.id)))

    def _sent(self, record: Record) -> Record:
        sent = replace(record, id=encode(record.id))
        most = self._index.limits.id_chars
        if len(sent.id) > most:
            raise BadRequest(
                f"its encoded id has {len(sent.id):,} characters, and ids here have at most {most:,}: each character "
                "that is not ASCII takes seven"
            )
        return sent


class _AliasedIndex(_Index):
    """The same of an index with aliases: `Aliased` looks for these methods on the class."""

    _index: Any

    def aliases(self) -> dict[str, str]:
        aliases: dict[str, str] = self._index.aliases()
        return aliases

    def alias(self, name: str) -> str | None:
        target: str | None = self._index.alias(name)
        return target

    def point_alias(self, name: str, to: str | None) -> None:
        self._index.point_alias(name, to)
