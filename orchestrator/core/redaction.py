"""Find a tenant's name in texts as whole words and replace it. Pure.

`a` does not match in `ab`, nor `creator_a` in `creator_ab`. A wrong match in a log does no harm; a missed one does.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vecfleet import names
from vecfleet.names import Tenant

_BEFORE, _AFTER = r"(?<![\w-])(?<!\w\.)", r"(?![\w-])(?!\.\w)"
# The rest of a namespace's name as texts quote it: up to a space, a quote or a bracket.
_REST = r"[^\s\"'`,;:()\[\]{}<>]+"
# Text around the name in a task id (`orchestrator.queue.task_id`). Celery writes the task id into every log line.
_BEFORE_IN_TASK, _AFTER_IN_TASK = r"(?<![\w-])j\d+\.", r"(?=\.[a-z]+\d+\.b\d+\.g\d+)"


def pseudonym_of(erasure: int) -> str:
    """Return what stands for a tenant in the job table once it is erased."""
    return f"erased-{erasure}"


class Traces:
    """One tenant's name, its places (index, namespace), and the pseudonym that replaces the name.

    A namespace of the same name in another index may belong to another tenant and keeps its name. The default namespace
    and the public one belong to everybody and keep their names too.
    """

    def __init__(self, tenant: Tenant, places: Iterable[tuple[str, str]], number: int) -> None:
        self.tenant = tenant
        self.number = number
        self._places = {place for place in places if place[1] not in (names.DEFAULT, names.PUBLIC)}
        called = sorted({name for _, name in self._places})
        self._names = {name: f"{self.pseudonym}-{seq}" for seq, name in enumerate(called, start=1)}
        self._words: dict[frozenset[str] | None, Words] = {}

    @property
    def pseudonym(self) -> str:
        return pseudonym_of(self.number)

    def name(self, index: str, namespace: str) -> str:
        """Return the new name of a namespace: its own pseudonym if it was the tenant's, else its name."""
        return self._names[namespace] if (index, namespace) in self._places else namespace

    def is_own(self, index: str, namespace: str) -> bool:
        its = names.belongs_to(namespace, self.tenant.creator, self.tenant.twin)
        return its or (index, namespace) in self._places

    def words(self, *indexes: str) -> "Words":
        """Return the words to look for in texts about these indexes. Without an index: texts about unknown indexes."""
        key = frozenset(indexes) or None
        if key not in self._words:
            known = {
                name: self._names[name]
                for index, name in self._places
                if key is None or index in key or names.belongs_to(name, self.tenant.creator, self.tenant.twin)
            }
            self._words[key] = Words(self.tenant, known, self.pseudonym)
        return self._words[key]


class Words:
    """The words to look for in texts, and their replacements."""

    def __init__(self, tenant: Tenant, known: Mapping[str, str], pseudonym: str) -> None:
        from vecfleet.stores.parquet.folders import encoded_folder  # loads pyarrow, which only an erasure waits for

        self._names, self._pseudonym = known, pseudonym
        own = names.build(tenant.creator, tenant.twin)
        twins = rf"|{re.escape(own)}_twin_(?:{_REST}|\{{value\}})" if tenant.twin is None else ""
        # Two creators may use the same twin id, so the id alone is no word; the names of a twin's namespaces are.
        words = {own, *known} | ({tenant.creator} if tenant.twin is None else set())
        words |= {encoded_folder(word).removeprefix(encoded_folder("")) for word in words}  # in paths of exports
        longest_first = [re.escape(word) for word in sorted(words, key=len, reverse=True)]
        any_of = f"(?:{'|'.join(longest_first)}{twins})"
        self._pattern = re.compile(f"{_BEFORE}{any_of}{_AFTER}|{_BEFORE_IN_TASK}{any_of}{_AFTER_IN_TASK}")
        self._bytes = re.compile(self._pattern.pattern.encode())

    def replaced(self, value: Any) -> Any:
        """Return the JSON value without the tenant's name. Keys stay because they are ours."""
        if isinstance(value, str):
            return self._names.get(value) or self._pattern.sub(self._pseudonym, value)
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        if isinstance(value, dict):
            return {key: self.replaced(item) for key, item in value.items()}
        return value

    def named_in(self, value: Any) -> bool:
        """Say whether the tenant's name stands anywhere in this JSON value. Keys are ours and name nobody."""
        return bool(self.replaced(value) != value)

    def spans(self, text: bytes) -> list[tuple[int, int]]:
        """Return the spans of the name in a file, in bytes."""
        return [match.span() for match in self._bytes.finditer(text)]
