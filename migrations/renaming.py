"""New names for namespaces: globs that choose them, pairs of a glob and a template that rename them. Pure.

In a glob `*` stands for any characters, as few as possible, and `?` for one character. A backslash takes the next
character literally. In a template `{1}` is the text that the first `*` or `?` stood for, `{value}` is the value of the
metadata key that a plan splits by, and `{{` and `}}` are braces. The first pair that matches a name decides about it.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from migrations.findings import few
from vecfleet import names
from vecfleet.errors import BadInput

VALUE = 0
"""Stands in a template for the value of a record; 1, 2, … stand for the wildcards of the pair's glob."""

_GLOB_PART = re.compile(r"\\(.)|([*?])|([^*?\\])", re.DOTALL)
_TEMPLATE_PART = re.compile(r"(\{\{)|(\}\})|\{(value|[1-9][0-9]?)\}|([^{}]+)", re.DOTALL)
_PAIR = re.compile(r"((?:[^\\=]|\\.)+)=(.+)", re.DOTALL)


@cache
def glob(text: str) -> re.Pattern[str]:
    """Compile a glob, with a group for each wildcard. Raises BadInput if the glob ends in a single backslash."""
    chunks = [""]
    for escaped, wildcard, plain in _glob_parts(text):
        if wildcard == "*":
            chunks.append("")
        else:
            chunks[-1] += "(.)" if wildcard else re.escape(escaped or plain)
    first, *others = chunks
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    # An atomic group keeps the first place where its text fits. A later place never helps, and trying it costs time.
    return re.compile(f"{first}{''.join(f'(?>(.*?){chunk})' for chunk in middle)}(.*){last}", re.DOTALL)


def _glob_parts(text: str) -> list[tuple[str, str, str]]:
    """Return an escaped character, a wildcard or a plain character for each part."""
    parts = list(_GLOB_PART.finditer(text))
    if sum(len(part[0]) for part in parts) != len(text):
        raise BadInput(
            f"{text!r} ends in a backslash, which takes the next character as it is", next_step="write it twice"
        )
    return [(part[1] or "", part[2] or "", part[3] or "") for part in parts]


def only_name(text: str) -> str | None:
    """Return the only name that a glob without wildcards matches."""
    parts = _glob_parts(text)
    return None if any(wildcard for _, wildcard, _ in parts) else "".join(map("".join, parts))


def matches(text: str, namespaces: Iterable[str]) -> set[str]:
    """Return the namespaces that a glob matches."""
    pattern = glob(names.canonical(text))
    return {name for name in namespaces if pattern.fullmatch(name)}


def choose(
    namespaces: Collection[str], index: str, only: Iterable[str], skip: Iterable[str]
) -> tuple[set[str], list[str]]:
    """Return the namespaces that globs choose (all, if there are none) and no glob skips; and objections to globs."""
    chosen, skipped = ({text: matches(text, namespaces) for text in globs} for globs in (only, skip))
    objections = []
    for globs, purpose in ((skipped, "skipped"), (chosen, "chosen")):
        absent = [text for text, found in globs.items() if not found]
        if absent:
            near = names.meant(absent[0], namespaces)
            objections.append(
                f"to be {purpose}, but not in the index {index!r}: {few(absent)} (* and ? alone are wildcards); "
                f"it holds {few(namespaces) if namespaces else 'nothing'}{near}"
            )
    among = set().union(*chosen.values()) if chosen else set(namespaces)
    return among.difference(*skipped.values()), objections


@dataclass(frozen=True, slots=True)
class Template:
    """A name with places in it: texts (no two side by side), numbers of wildcards, and `VALUE`."""

    parts: tuple[str | int, ...]

    @property
    def name(self) -> str | None:
        """Return the name; None if it depends on the record."""
        return None if VALUE in self.parts else self.of("")

    @property
    def text(self) -> str:
        """Return the text that `parsed` reads as this template."""
        return "".join(
            part.replace("{", "{{").replace("}", "}}") if isinstance(part, str) else f"{{{part or 'value'}}}"
            for part in self.parts
        )

    @property
    def wildcards(self) -> int:
        """Return the highest number of a wildcard in the template."""
        return max((part for part in self.parts if isinstance(part, int)), default=0)

    @property
    def prefix(self) -> str:
        """Return the text with which every name of the template begins."""
        return next((part for part in self.parts[:1] if isinstance(part, str)), "")

    @property
    def suffix(self) -> str:
        """Return the text with which every name of the template ends."""
        return next((part for part in self.parts[-1:] if isinstance(part, str)), "")

    @property
    def may_name_tenants(self) -> bool:
        """Say whether some value may give a tenant's name. May say so where none does, and never the reverse."""
        return self.prefix.startswith(names.CREATOR) or names.CREATOR.startswith(self.prefix)

    def filled(self, wildcards: Sequence[str]) -> "Template":
        """Put in the texts that the wildcards stood for."""
        return _joined(part if isinstance(part, str) or part == VALUE else wildcards[part - 1] for part in self.parts)

    def of(self, value: str) -> str:
        """Return the name for a record of this value."""
        return "".join(part if isinstance(part, str) else value for part in self.parts)

    def may_be(self, name: str) -> bool:
        """Say whether some value may give this name. False is certain; True may be wrong."""
        if self.name is not None:
            return self.name == name
        ends = len(self.prefix) + len(self.suffix)
        return name.startswith(self.prefix) and name.endswith(self.suffix) and len(name) > ends

    def may_meet(self, other: "Template") -> bool:
        """Say whether both may give the same name. False is certain; True may be wrong."""
        if other.name is not None:
            return self.may_be(other.name)
        if self.name is not None:
            return other.may_be(self.name)
        begin, end = (self.prefix, other.prefix), (self.suffix, other.suffix)
        return (begin[0].startswith(begin[1]) or begin[1].startswith(begin[0])) and (
            end[0].endswith(end[1]) or end[1].endswith(end[0])
        )


def _joined(parts: Iterable[str | int]) -> Template:
    joined: list[str | int] = []
    for part in parts:
        last = joined[-1] if joined else VALUE
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif part != "":
            joined.append(part)
    return Template(tuple(joined))


@cache
def parsed(text: str) -> Template:
    """Parse a template. Raises BadInput for a brace that is neither doubled nor a part of a place."""
    found = list(_TEMPLATE_PART.finditer(text))
    if sum(len(part[0]) for part in found) != len(text):
        raise BadInput(
            f"{text!r} has a brace that makes no place",
            next_step="{1} is what the first * stood for, {value} a record's value; write {{ and }} for braces",
        )
    return _joined(
        (VALUE if part[3] == "value" else int(part[3]))
        if part[3]
        else ("{" if part[1] else "}" if part[2] else part[4])
        for part in found
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """Old names, as a glob, and the template of their new names. Raises BadInput if either is malformed."""

    old: str
    new: str

    def __post_init__(self) -> None:
        there, wanted = glob(self.old).groups, parsed(self.new).wildcards
        if wanted > there:
            raise BadInput(
                f"{self} asks for {{{wanted}}}, and its left side has {there} wildcards",
                next_step="number them from the left: 'tenant-*=t/{1}'",
            )

    @classmethod
    def read(cls, text: str) -> "Pair":
        """Read a pair as it is typed: OLD=NEW. A `=` in the old name has a backslash before it."""
        found = _PAIR.fullmatch(text)
        if found is None:
            raise BadInput(
                f"{text!r} lacks its new name",
                next_step="write the old name and the new one: 'prod=prod_v2', 'tenant-*=t/{1}'",
            )
        return cls(found[1], found[2])

    def __str__(self) -> str:
        return f"{self.old}={self.new}"

    def renamed(self, name: str) -> Template | None:
        """Return the template of a namespace's new name; None if the pair does not match its name."""
        found = glob(names.canonical(self.old)).fullmatch(name)
        return None if found is None else parsed(self.new).filled(found.groups())


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Rules that give namespaces new names. A name that no pair matches is kept with `keeps_others`, else left alone.

    `key`: the metadata key whose value `{value}` is. `otherwise`: the namespace for records that lack this key; None:
    they are parked. `merges`: several sources may become one namespace. `marks`: records are enriched if names alone do
    not show where each came from.
    """

    pairs: tuple[Pair, ...] = ()
    keeps_others: bool = True
    merges: bool = False
    marks: bool = False
    key: str | None = None
    otherwise: str | None = None

    def templates(self, namespaces: Iterable[str]) -> dict[str, Template]:
        """Return the template of each namespace's new name."""
        found = {name: template for name, _, template in self._decided(namespaces)}
        if not self.keeps_others:
            return found
        return {name: found.get(name) or Template((name,)) for name in namespaces}

    def _decided(self, namespaces: Iterable[str]) -> Iterator[tuple[str, int, Template]]:
        """Yield, for each name that a pair matches, the number of the deciding pair and the template it gives."""
        exact: dict[str, int] = {}
        globs: list[int] = []
        for number, pair in enumerate(self.pairs):
            literal = only_name(names.canonical(pair.old))
            if literal is None:
                globs.append(number)
            else:
                exact.setdefault(literal, number)
        for name in namespaces:
            own = exact.get(name, len(self.pairs))
            for number in (*(number for number in globs if number < own), *(() if name not in exact else (own,))):
                template = self.pairs[number].renamed(name)
                if template is not None:
                    yield name, number, template
                    break

    def objections(self, index: str, namespaces: Sequence[str], moved: Sequence[str]) -> list[str]:
        """Return the objections to the pairs, given the index's namespaces and those of them to be moved."""
        objections = [*self._idle(index, namespaces)]
        templates = self.templates(moved)
        splits = any(template.name is None for template in templates.values())
        if splits and self.key is None:
            objections.append("{value} is the value of a metadata key, and none is named: `plan namespaces … --by KEY`")
        if self.key is not None and not splits:
            objections.append(f"nothing is split by {self.key!r}: give a new name with {{value}} in it")
        if self.otherwise is not None and self.key is None:
            objections.append("--else is for records that lack a key: name it with --by KEY")
        if not self.merges:
            objections += _shared(templates, self.otherwise)
        return objections

    def _idle(self, index: str, namespaces: Sequence[str]) -> Iterator[str]:
        """Object to pairs that decide about no namespace."""
        deciding = {number for _, number, _ in self._decided(namespaces)}
        for number, pair in enumerate(self.pairs):
            if number in deciding:
                continue
            meant = matches(pair.old, namespaces)
            if meant:
                yield f"{str(pair)!r} comes too late: pairs before it decide about {few(meant)}; write it before them"
            else:
                held = f"it holds {few(namespaces)}" if namespaces else "it holds none"
                near = names.meant(pair.old, namespaces)
                yield f"no namespace of the index {index!r} matches {pair.old!r}; {held}{near}"


def _shared(templates: dict[str, Template], otherwise: str | None) -> list[str]:
    """Object to names that several namespaces would get, or that records of several namespaces may get."""
    wanted = [(template, name) for name, template in templates.items()]
    if otherwise is not None:
        wanted += [(Template((otherwise,)), name) for name, template in templates.items() if template.name is None]
    wanted.sort(key=lambda entry: (entry[0].name or entry[0].prefix, entry[1]))
    met: dict[str, set[str]] = {}
    before: list[tuple[str, Template, str]] = []  # templates whose prefix begins the present template's prefix
    for template, source in wanted:
        begins = template.name or template.prefix
        while before and not begins.startswith(before[-1][0]):
            before.pop()
        for _, other, other_source in before:
            if other_source != source and other.may_meet(template):
                met.setdefault(template.text, set()).update((other_source, source))
                break
        before.append((begins, template, source))
    remedy = "give each a name of its own, or have them merged (--merge)"
    return [
        f"records of {few(sources)} would come together in {name!r}: {remedy}" for name, sources in sorted(met.items())
    ]
