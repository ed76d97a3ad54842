"""A tenant's name in texts: found as whole words, and replaced. Pure.

`a` is not found in `ab`, nor `creator_a` in `creator_ab`; what is found too much in a log does no harm, what is found
too little would.
"""

import re
from collections.abc import Iterable
from typing import Any

from vecfleet import names
from vecfleet.names import Tenant

_BEFORE, _AFTER = r"(?<![\w-])(?<!\w\.)", r"(?![\w-])(?!\.\w)"
# In a namespace's name, as texts quote it: up to a space, a quote, or a bracket.
_REST = r"[^\s\"'`,;:()\[\]{}<>]+"


class Traces:
    """One tenant, by its name and its namespaces' names, and what stands for it once it is forgotten."""

    def __init__(self, tenant: Tenant, namespaces: Iterable[str], number: int) -> None:
        self.tenant = tenant
        self._number = number
        self._names = {name: f"erased-{number}-{seq}" for seq, name in enumerate(sorted(set(namespaces)), start=1)}
        own = names.build(tenant.creator, tenant.twin)
        twins = rf"|{re.escape(own)}_twin_{_REST}" if tenant.twin is None else ""
        # The id of a single twin may be another creator's twin's too; its namespaces are its own.
        words = {own, *self._names} | ({tenant.creator} if tenant.twin is None else set())
        longest_first = [re.escape(word) for word in sorted(words, key=len, reverse=True)]
        self._pattern = re.compile(rf"{_BEFORE}(?:{'|'.join(longest_first)}{twins}){_AFTER}")
        self._bytes = re.compile(self._pattern.pattern.encode())

    @property
    def pseudonym(self) -> str:
        return f"erased-{self._number}"

    @property
    def namespaces(self) -> list[str]:
        return list(self._names)

    def name(self, namespace: str) -> str:
        """What a namespace is called from now on: another name where it was the tenant's, each its own."""
        return self._names.get(namespace, namespace)

    def is_own(self, namespace: str) -> bool:
        return namespace in self._names or names.belongs_to(namespace, self.tenant.creator, self.tenant.twin)

    def in_text(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def replaced(self, value: Any) -> Any:
        """The same JSON value without the tenant's name."""
        if isinstance(value, str):
            return self._names.get(value) or self._pattern.sub(self.pseudonym, value)
        if isinstance(value, list):
            return [self.replaced(one) for one in value]
        if isinstance(value, dict):
            return {self.replaced(key): self.replaced(one) for key, one in value.items()}
        return value

    def spans(self, text: bytes) -> list[tuple[int, int]]:
        """Where the name stands in a file."""
        return [match.span() for match in self._bytes.finditer(text)]
