"""Cutting JSON into pieces of text, each with its place in the document. Pure, and deterministic.

An object or list that fits becomes one chunk. A larger one becomes a chunk of its own plain values, and one or more for
each part of it. Text longer than a chunk is cut at a word.
"""

import hashlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from vecfleet.errors import BadInput

# A token of English is about four characters.
_CHARS_PER_TOKEN = 4
_MAX_PATH_CHARS = 4_096
# Deeper JSON is no document, but an attempt to exhaust the stack.
MAX_DEPTH = 64
# The characters that a path is made of. In a key they are escaped: else two places would have one path, and one id.
_OF_PATHS = re.compile(r"[\\.\[\]#$]")


@dataclass(frozen=True, slots=True)
class ChunkConfig:
    """The largest size of a chunk, in characters of its text."""

    name: str
    max_chars: int


CONFIGS = {
    config.name: config
    for config in (ChunkConfig("default", 2_000), ChunkConfig("fine", 500), ChunkConfig("coarse", 8_000))
}


def config_named(name: str | None) -> ChunkConfig:
    """Return the configuration. Raises BadInput naming the known ones."""
    config = CONFIGS.get(name or "default")
    if config is None:
        raise BadInput(f"there is no configuration {name!r}", next_step=f"one of: {', '.join(CONFIGS)}")
    return config


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document. `path`: its place, such as `campaigns[0].name`; `parent`: the path of its container.

    A dot that is part of a key is written `\\.` in a path, and so are brackets, `#`, `$` and the backslash.
    """

    path: str
    parent: str | None
    text: str
    depth: int
    keys: tuple[str, ...]
    strategy: str
    content_type: str
    contains_arrays: bool
    is_leaf: bool

    def id_in(self, collection: str, document: str) -> str:
        """Return an id that is the same for the same place of the same document, so that a second run replaces."""
        place = "\0".join((collection, document, self.path, self.strategy))
        return f"{document[:400]}_{hashlib.sha256(place.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"

    @property
    def tokens(self) -> int:
        return -(-len(self.text) // _CHARS_PER_TOKEN)

    @property
    def density(self) -> float:
        """The share of distinct words: 1.0 if none repeats."""
        words = self.text.split()
        return round(len(set(words)) / len(words), 3) if words else 0.0


def chunks(data: Any, config: ChunkConfig) -> Iterator[Chunk]:
    """Yield the chunks of a JSON value, in document order. Raises BadInput for content that is no JSON, or too deep."""
    yield from _chunks(data, "", "$", None, 0, config)


def _chunks(data: Any, name: str, path: str, parent: str | None, depth: int, config: ChunkConfig) -> Iterator[Chunk]:
    if len(path) > _MAX_PATH_CHARS:
        raise BadInput(
            f"a path of the document is over {_MAX_PATH_CHARS:,} characters: {path[:80]}…",
            next_step="shorten the keys above it, or nest it less",
        )
    text = "\n".join(_lines(data, name))
    if len(text) <= config.max_chars:
        if text:
            yield _chunk(data, path, parent, depth, text, "semantic" if depth else "document")
        return
    if not isinstance(data, dict | list):
        for number, part in enumerate(textwrap.wrap(text, config.max_chars, replace_whitespace=False)):
            yield _chunk(data, f"{path}#{number}", parent, depth, part, "fixed_size")
        return
    parts = list(_parts(data, path))
    plain = {key: value for key, value, _ in parts if not isinstance(value, dict | list)}
    small = {key: value for key, value in plain.items() if len(str(value)) <= config.max_chars // 4}
    own = "\n".join(line for key, value in small.items() for line in _lines(value, key))
    if own and len(own) <= config.max_chars:
        yield _chunk(data, path, parent, depth, own, "hierarchical")
    else:
        small = {}
    for key, value, place in parts:
        if key not in small:
            held_as = key if isinstance(data, dict) else f"{name or '$'}{key}"
            yield from _chunks(value, held_as, place, path, depth + 1, config)


def _chunk(data: Any, path: str, parent: str | None, depth: int, text: str, strategy: str) -> Chunk:
    keys = tuple(data) if isinstance(data, dict) else ()
    held = list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else []
    return Chunk(
        path=path,
        parent=parent,
        text=text,
        depth=depth,
        keys=keys,
        strategy=strategy,
        content_type="object" if isinstance(data, dict) else "array" if isinstance(data, list) else "text",
        contains_arrays=isinstance(data, list) or any(isinstance(value, list) for value in held),
        is_leaf=not any(isinstance(value, dict | list) for value in held),
    )


def _parts(data: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            segment = _OF_PATHS.sub(r"\\\g<0>", str(key))
            yield str(key), value, f"{path}.{segment}" if path != "$" else segment
    else:
        for number, value in enumerate(data):
            yield f"[{number}]", value, f"{path}[{number}]"


def _lines(data: Any, name: str, depth: int = 0) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise BadInput(
            f"the document is nested more than {MAX_DEPTH} deep at {name[:80]}",
            next_step="nest it less, or give that part as a text",
        )
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _lines(value, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(data, list) and any(isinstance(value, dict | list) for value in data):
        for number, value in enumerate(data):
            yield from _lines(value, f"{name}[{number}]", depth + 1)
    elif isinstance(data, list):
        if data:
            yield f"{name}: {', '.join(map(_said, data))}"
    elif data is not None and data != "":
        yield f"{name}: {_said(data)}" if name else _said(data)


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\0", " ")
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise BadInput(
            f"the document is no JSON: it holds {type(value).__name__}",
            next_step="give it as what JSON knows: texts, numbers, true, false, null, lists, objects",
        ) from error
