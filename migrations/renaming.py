"""Namespaces by pattern: `*` stands for any text, and what it stood for fills `{1}`, `{2}` … of a new name. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from migrations.findings import few
from vecfleet.errors import BadInput
from vecfleet.names import canonical

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
