"""Recipe `creators`: assign namespaces to tenants. Pure: decides from a survey.

An explicit row decides first, then the option about `__default__`. After that either a single creator owns everything,
and its twins take the old names, or the look-up gives a namespace named after a twin to that twin's creator.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from migrations.files import read_table, within
from migrations.findings import Findings, counted, few
from migrations.ownership import OwnershipSnapshot, numbered
from migrations.plan import PlannedMove, Policies, TwinKey
from migrations.routing import Owner
from migrations.survey import HeldNamespace
from vecfleet import names
from vecfleet.errors import BadInput, BadName

DefaultRule = Literal["twin", "skip", "split", "delete"]
UnownedRule = Literal["fail", "skip", "review"]

DEFAULT_TWIN = "default"
ROW_COLUMNS = ("namespace", "creator", "twin")
_NUMBER = re.compile(r"\d{3,}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an explicit list: the namespace and its creator (`twin` None: creator-wide)."""

    namespace: str
    creator: str
    twin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """The rule that makes tenants of namespaces: one of `creator`, `snapshot` and `rows`; rows may join a snapshot.

    `default` decides about `__default__`. twin: make it a twin of the creator. skip: leave it alone. split: send every
    record to its own owner. delete: only warn, and name the export whose clean-up deletes it. None: it becomes a twin
    if one creator has everything; otherwise the option is required.
    `twin_key`: how twins are called. With one creator, `sequence` numbers them by their old names; a look-up has
    a key of its own.
    `unowned`: fail, skip, or review (each record to its own owner, the others to the review namespace).

    Raises BadInput if these contradict each other, BadName if the creator's id cannot be in a name.
    """

    creator: str | None = None
    snapshot: OwnershipSnapshot | None = None
    rows: tuple[Row, ...] = ()
    default: DefaultRule | None = None
    unowned: UnownedRule = "fail"
    twin_key: TwinKey = "id"

    def __post_init__(self) -> None:
        if self.creator is None and self.snapshot is None and not self.rows:
            raise BadInput(
                "nothing names the owners of the namespaces",
                next_step="name one creator for all with --creator, a look-up with --ownership, or a list with --list",
            )
        if self.creator is not None:
            names.build(self.creator)
        if self.creator is not None and (self.snapshot is not None or self.rows):
            raise BadInput(
                "one creator for all leaves nothing for a look-up or a list to decide",
                next_step="give --creator, or else --ownership or --list",
            )
        if self.creator is not None and self.default == "split":
            raise BadInput(
                "one creator for all leaves no owners to split __default__ by",
                next_step="make it a twin of the creator (--default twin), or name a look-up with --ownership",
            )
        if self.snapshot is None and self.twin_key == "name":
            raise BadInput(
                "only a look-up knows what a twin is called, and none is named",
                next_step="name one with --ownership, or call twins by --twin-key id or sequence",
            )
        if self.snapshot is None and self.creator is None and self.twin_key == "sequence":
            raise BadInput(
                "a list says itself what each twin is called: there is nothing to number",
                next_step="leave out --twin-key, or name one creator (--creator) or a look-up (--ownership)",
            )
        if self.creator is None and self.default == "twin":
            raise BadInput(
                "__default__ can become a twin only of one creator for all",
                next_step="give it a line in the list (--list): __default__,CREATOR,TWIN",
            )

    @property
    def numbers_twins(self) -> bool:
        return (self.twin_key if self.snapshot is None else self.snapshot.ref.twin_key) == "sequence"


@dataclass(slots=True)
class Assignment:
    """The result for every namespace: the moves, and the names that are left alone.

    `enrich`: add its origin and its owner to each record.
    """

    moves: list[PlannedMove] = field(default_factory=list)
    enrich: bool = True
    left_alone: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def assign(
    namespaces: Mapping[str, HeldNamespace],
    grouping: Grouping,
    *,
    occupied: Mapping[str, HeldNamespace],
    policies: Policies,
) -> Assignment:
    """Decide every namespace (each holds at least one record). `occupied`: the namespaces of the target's index."""
    result = Assignment()
    if grouping.numbers_twins:
        result.findings.problems += _numbered_already(grouping, occupied)
    numbers = map(numbered, count(1))
    rows = _rows_by_namespace(grouping, namespaces, result.findings)
    unowned, badly_named = [], []
    for name, held in sorted(namespaces.items()):
        owner: Owner | None
        if name in rows:
            owner = Owner(rows[name].creator, rows[name].twin)
        elif name == names.DEFAULT:
            _assign_default(held, grouping, namespaces, occupied, result)
            continue
        elif names.parse(name) is not None or name == names.PUBLIC or _is_review(name, policies):
            result.left_alone.append(name)
            continue
        else:
            owner = _owner(name, grouping, numbers)
        if owner is None:
            unowned.append(name)
            continue
        try:
            target = names.build(owner.creator, owner.twin)
        except BadName as error:
            badly_named.append(f"{name!r}: {error.message}")
            continue
        result.moves.append(
            PlannedMove(source=name, records=held.records, to=target, creator=owner.creator, twin=owner.twin)
        )
    result.findings.problems += badly_named
    _settle_unowned(unowned, namespaces, grouping, policies, result)
    return result


def read_list(root: Path, file: str) -> tuple[Row, ...]:
    """Read an explicit list: CSV with the columns namespace,creator,twin, or a YAML list of such mappings.

    An empty or absent twin makes a line creator-wide. Raises BadInput, NotFound.
    """
    path = within(root, file)
    rows = []
    for number, line in enumerate(read_table(path, ROW_COLUMNS), start=1):
        namespace, creator, twin = (line.get(column, "") for column in ROW_COLUMNS)
        if not creator:
            raise BadInput(
                f"{path.name}, entry {number}: it names no creator for {namespace!r}",
                next_step="give that entry a creator, or take it out; `--skip NAMESPACE` leaves one alone",
            )
        rows.append(Row(namespace, creator, twin or None))
    if not rows:
        raise BadInput(
            f"{path.name} lists no namespace", next_step=f"give it a line for each namespace: {','.join(ROW_COLUMNS)}"
        )
    return tuple(rows)


def _rows_by_namespace(
    grouping: Grouping, namespaces: Mapping[str, HeldNamespace], findings: Findings
) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    absent = []
    for row in grouping.rows:
        name = names.canonical(row.namespace)
        if name in rows:
            spelled = rows[name].namespace
            how = "twice" if spelled == row.namespace else f"under two spellings, {spelled!r} and {row.namespace!r}"
            findings.problems.append(f"the list names the namespace {name!r} {how}")
        if name not in namespaces:
            absent.append(name)
        rows[name] = row
    if absent:
        findings.problems.append(f"the list names namespaces that the index lacks or that are empty: {few(absent)}")
    if names.DEFAULT in rows and grouping.default is not None:
        findings.problems.append(f"the list decides __default__, and so does the option ({grouping.default})")
    return rows


def _assign_default(
    held: HeldNamespace,
    grouping: Grouping,
    namespaces: Mapping[str, HeldNamespace],
    occupied: Mapping[str, HeldNamespace],
    result: Assignment,
) -> None:
    rule = grouping.default or ("twin" if grouping.creator is not None else None)
    move = PlannedMove(source=names.DEFAULT, records=held.records)
    if rule is None:
        result.findings.problems.append(
            f"no option decides about __default__ ({counted(held.records, 'record')}): skip, split or delete it "
            "(--default), or give it a line in the list (--list)"
        )
    elif rule == "skip":
        result.left_alone.append(names.DEFAULT)
    elif rule == "split":
        result.moves.append(move)
    elif rule == "delete":
        result.left_alone.append(names.DEFAULT)
        result.findings.warnings.append(
            f"__default__ ({counted(held.records, 'record')}) is left alone by this plan: to have it exported and "
            "deleted, type `vecfleet plan export INDEX --namespace __default__`, apply that plan, and clean up its job"
        )
    else:
        creator = grouping.creator or ""
        target = names.build(creator, DEFAULT_TWIN)
        if DEFAULT_TWIN in namespaces or target in occupied:
            result.findings.problems.append(
                f"__default__ cannot become {target!r}: creator {creator!r} has a twin {DEFAULT_TWIN!r} already"
            )
            return
        result.moves.append(move.model_copy(update={"to": target, "creator": creator, "twin": DEFAULT_TWIN}))


def _numbered_already(grouping: Grouping, occupied: Mapping[str, HeldNamespace]) -> list[str]:
    """Object to numbering twins anew where a plan numbered some: the numbers would be given to others."""
    owners = grouping.snapshot.ownership.twins.values() if grouping.snapshot is not None else ()
    creators = {grouping.creator, *(owner.creator for owner in owners)}
    tenants = {name: names.parse(name) for name in occupied}
    there = {
        name
        for name, tenant in tenants.items()
        if tenant is not None and tenant.creator in creators and _NUMBER.fullmatch(tenant.twin or "")
    }
    if not there:
        return []
    return [
        f"twins are numbered already: {few(there)}; a second plan would give their numbers to others: "
        "name the rest in a list (--list)"
    ]


def _owner(name: str, grouping: Grouping, numbers: Iterator[str]) -> Owner | None:
    if grouping.creator is not None:
        return Owner(grouping.creator, next(numbers) if grouping.numbers_twins else name)
    return grouping.snapshot.ownership.twins.get(name) if grouping.snapshot is not None else None


def _settle_unowned(
    unowned: list[str],
    namespaces: Mapping[str, HeldNamespace],
    grouping: Grouping,
    policies: Policies,
    result: Assignment,
) -> None:
    if not unowned:
        return
    if grouping.unowned == "fail":
        result.findings.problems.append(
            f"nobody is known to own {few(unowned)}: add them to the look-up or the list (--list), or "
            "use --unowned skip or review"
        )
    elif grouping.unowned == "skip":
        result.left_alone += unowned
        result.findings.warnings.append(f"left alone, because nobody is known to own them: {few(unowned)}")
    else:
        result.moves += [PlannedMove(source=name, records=namespaces[name].records) for name in unowned]
        result.findings.warnings.append(
            f"nobody is known to own {few(unowned)}: a record that names no owner either goes to "
            f"{policies.review_namespace!r}"
        )


def _is_review(name: str, policies: Policies) -> bool:
    return name == policies.review
