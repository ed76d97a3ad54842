"""Read a metadata map from options and from a file, and refuse values that no record can hold.

A file is YAML with any of `set`, `drop`, `rename`, `copy` and `template`. One error names all problems.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrations.files import read_yaml, within
from migrations.findings import few
from migrations.mapping import PLACEHOLDER, MetadataMap, Undo, keys_of
from vecfleet.enriching import SOURCE
from vecfleet.errors import BadInput

OWN = "_vecfleet"
"""Keys that begin so are vecfleet's own."""

_EXACT_INTEGER = 2**53
_MAPPINGS = ("set", "rename", "copy", "template")
_NEXT_STEP = "correct the map; docs/recipes/change-metadata.md shows one with every operation"


@dataclass(slots=True)
class Asked:
    """The requested operations, each key as often as it was named."""

    set: list[tuple[str, Any]] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    rename: list[tuple[str, Any]] = field(default_factory=list)
    copy: list[tuple[str, Any]] = field(default_factory=list)
    template: list[tuple[str, Any]] = field(default_factory=list)


def read_map(
    root: Path,
    *,
    sets: Sequence[str] = (),
    drops: Sequence[str] = (),
    renames: Sequence[str] = (),
    file: str | None = None,
    undo: Undo = "travels",
) -> MetadataMap | None:
    """Return the map of these options and the file under `root`; None without any. Raises BadInput, NotFound."""
    asked = Asked()
    if file is not None:
        path = within(root, file)
        _read_body(asked, read_yaml(path), path.name)
    asked.set += [(key, typed(text)) for key, text in (_pair(option, "--set env=prod") for option in sets)]
    asked.drop += drops
    asked.rename += [_pair(option, "--rename-key old=new") for option in renames]
    problems = list(_problems(asked))
    if problems:
        raise BadInput("the metadata map cannot be used: " + "; ".join(problems), next_step=_NEXT_STEP)
    made = MetadataMap(
        set=dict(asked.set),
        drop=tuple(dict.fromkeys(asked.drop)),
        rename=dict(asked.rename),
        copy=dict(asked.copy),
        template=dict(asked.template),
        undo=undo,
    )
    return made if made.keys else None


def typed(text: str) -> Any:
    """Return the value of a text: its JSON value if it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _pair(text: str, example: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise BadInput(f"{text!r} does not say key and value", next_step=f"write it so: `{example}`")
    return key, value


def _read_body(asked: Asked, body: Any, file: str) -> None:
    """Add the operations of a file. Raises BadInput if the file has another form."""
    form = BadInput(
        f"{file} is no metadata map: its parts are set, rename, copy, template (each `key: value`) and drop (a list)",
        next_step=_NEXT_STEP,
    )
    if not isinstance(body, dict) or not body.keys() <= {*_MAPPINGS, "drop"}:
        raise form
    for part in _MAPPINGS:
        pairs = body.get(part) or {}
        if not isinstance(pairs, dict):
            raise form
        getattr(asked, part).extend(pairs.items())
    dropped = body.get("drop") or []
    if not isinstance(dropped, list):
        raise form
    asked.drop += dropped


def _problems(asked: Asked) -> Iterator[str]:
    texts = [*asked.drop, *(part for pair in (*asked.rename, *asked.copy, *asked.template) for part in pair)]
    texts += [key for key, _ in asked.set]
    other = [str(text) for text in texts if not isinstance(text, str)]
    if other:
        yield f"keys and templates are text, in quotes where YAML reads something else: {few(other)}"
        return
    written = [key for key, _ in (*asked.set, *asked.template)] + [new for _, new in (*asked.rename, *asked.copy)]
    read = [key for _, text in asked.template for key in keys_of(text)]
    old = [key for key, _ in (*asked.rename, *asked.copy)]
    for key in dict.fromkeys((*asked.drop, *old, *written, *read)):
        problem = _problem_of_key(key)
        if problem is not None:
            yield f"the key {key!r} {problem}"
    for key, value in asked.set:
        problem = _problem_of_value(value)
        if problem is not None:
            yield f"{key!r} is set to {problem}"
    for key, text in asked.template:
        problem = _problem_of_template(text)
        if problem is not None:
            yield f"the template of {key!r} {problem}"
    yield from _repeated("written", written)
    for done, pairs in (("renamed", asked.rename), ("copied", asked.copy)):
        yield from _repeated(done, [key for key, _ in pairs])
        itself = [key for key, new in pairs if key == new]
        if itself:
            yield f"{done} to itself: {few(itself)}"


def _repeated(done: str, keys: Iterable[str]) -> Iterator[str]:
    often = [key for key, times in Counter(keys).items() if times > 1]
    if often:
        yield f"{done} more than once: {few(often)}"


def _problem_of_key(key: str) -> str | None:
    if key == SOURCE or key.startswith(OWN):
        return "is written by vecfleet itself"
    if not key:
        return "is empty"
    if key.startswith("$"):
        return "begins with $, which filters use"
    return None if _is_whole(key) else "holds half a character"


def _problem_of_value(value: Any) -> str | None:
    match value:
        case None:
            return "null, which no record keeps; drop the key instead"
        case bool():
            return None
        case int() if abs(value) > _EXACT_INTEGER:
            return f"{value}, which no store keeps exactly"
        case float() if not math.isfinite(value):
            return f"{value}, which is not a finite number; a text stands in quotes"
        case int() | float():
            return None
        case str():
            return None if _is_whole(value) else "a text with half a character"
        case list() if all(isinstance(item, str) and _is_whole(item) for item in value):
            return None
        case _:
            return "something else than a text, a number, true, false or a list of texts"


def _problem_of_template(text: str) -> str | None:
    if not keys_of(text):
        return "reads no key: write one in braces, as in {title}, or use set"
    if re.search(r"[{}]", PLACEHOLDER.sub("", text)):
        return "has a brace without its other: double it to have it in the text"
    return None if _is_whole(text) else "holds half a character"


def _is_whole(text: str) -> bool:
    """Say whether a text can be written as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
