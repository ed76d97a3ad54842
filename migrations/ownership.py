"""The owners of namespaces and records: the look-up's answers, read once, checked, with a digest.

A twin belongs to one creator; a source (such as a document) belongs to one twin. The answers come from a file, from
Supabase or from Postgres; after that they are plain data (`migrations.routing.Ownership`).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from migrations import postgres_rows
from migrations.answers import SourceRow, TwinRow
from migrations.files import is_yaml, read_rows, read_yaml, within
from migrations.findings import counted
from migrations.plan import OwnershipRef, TwinKey
from migrations.routing import Owner, Ownership
from vecfleet.errors import BadInput
from vecfleet.settings import Settings

Origin = Literal["supabase", "postgres", "file"]

TWIN_COLUMNS = ("id", "creator_id", "name")


@dataclass(frozen=True, slots=True)
class OwnershipSnapshot:
    """The answers, their origin and digest, and warnings about them."""

    ownership: Ownership
    ref: OwnershipRef
    warnings: tuple[str, ...] = ()


def look_up(
    origin: Origin, settings: Settings, *, file: str | None = None, twin_key: TwinKey = "id"
) -> OwnershipSnapshot:
    """Ask the look-up for all its answers. `file` lies under VECFLEET_ROOT; the settings name the tables of a database.

    Raises BadInput if the answers are ambiguous, or if a setting is missing or refused. Raises Unreachable if the
    service does not answer.
    """
    if origin == "file":
        twins, sources = _from_file(settings.vecfleet_root, file)
    elif origin == "supabase":
        from migrations import supabase_rows  # this import takes half a second

        twins, sources = supabase_rows.read(settings)
    else:
        twins, sources = postgres_rows.read(settings)
    return understand(origin, twins, sources, twin_key=twin_key, file=file)


def look_up_again(ref: OwnershipRef, settings: Settings) -> OwnershipSnapshot:
    """Ask again for the answers, from the plan's origin. Errors as for `look_up`."""
    return look_up(ref.origin, settings, file=ref.file, twin_key=ref.twin_key)


def understand(
    origin: Origin,
    twins: Iterable[TwinRow],
    sources: Iterable[SourceRow],
    *,
    twin_key: TwinKey = "id",
    file: str | None = None,
) -> OwnershipSnapshot:
    """Turn rows into owners. Raises BadInput with every problem if the rows are ambiguous or empty."""
    problems: list[str] = []
    warnings: list[str] = []
    owners = _owners(twins, twin_key, problems, warnings)
    by_source = _sources(sources, owners, problems, warnings)
    if not owners and not problems:
        problems.append("it names no twin that has a creator (a key that may not read the rows gets none)")
    if problems:
        raise BadInput(
            f"the ownership look-up ({origin}) cannot be used:\n" + "\n".join(f"  · {problem}" for problem in problems),
            next_step="correct the rows, then plan again",
        )
    ownership = Ownership(twins=owners, sources=by_source)
    ref = OwnershipRef(
        origin=origin,
        file=file,
        twin_key=twin_key,
        twins=len(owners),
        sources=len(by_source),
        digest=digest_of(ownership),
    )
    return OwnershipSnapshot(ownership, ref, tuple(warnings))


def numbered(number: int) -> str:
    """Return a twin's number as it stands in its namespace's name: `001`."""
    return f"{number:03d}"


def digest_of(ownership: Ownership) -> str:
    """Return a digest of the answers that does not depend on their order."""
    hasher = hashlib.sha256()
    for answers in (ownership.twins, ownership.sources):
        for key in sorted(answers):
            owner = answers[key]
            hasher.update(orjson.dumps([key, owner.creator, owner.twin]) + b"\n")
        hasher.update(b"\n")
    return "sha256:" + hasher.hexdigest()


def _owners(rows: Iterable[TwinRow], twin_key: TwinKey, problems: list[str], warnings: list[str]) -> dict[str, Owner]:
    owners: dict[str, Owner] = {}
    holders: dict[Owner, str] = {}
    without_creator = 0
    rows = list(rows)
    numbers = _numbers(rows) if twin_key == "sequence" else {}
    for row in rows:
        if not row.creator:
            without_creator += 1
            continue
        label = {"id": row.id, "name": row.name, "sequence": numbers.get(row.id, "")}[twin_key]
        if not row.id or not label:
            problems.append(f"a twin of creator {row.creator!r} has no {'id' if not row.id else 'name'}")
            continue
        owner = Owner(row.creator, label)
        if owners.setdefault(row.id, owner) != owner:
            problems.append(f"twin {row.id!r} is given as {_said(owners[row.id])} and as {_said(owner)}")
        elif holders.setdefault(owner, row.id) != row.id:
            problems.append(
                f"twins {holders[owner]!r} and {row.id!r} of creator {row.creator!r} are both named {label!r}: "
                "name the namespaces by twin id instead"
            )
    if without_creator:
        warnings.append(
            f"in the look-up {counted(without_creator, 'twin')} without a creator: their records are unowned"
        )
    return owners


def _numbers(rows: Iterable[TwinRow]) -> dict[str, str]:
    """Number the twins of each creator by the order of their ids: the same answers give the same numbers."""
    of_creator: dict[str, set[str]] = {}
    for row in rows:
        of_creator.setdefault(row.creator, set()).add(row.id)
    return {id: numbered(number) for ids in of_creator.values() for number, id in enumerate(sorted(ids), start=1)}


def _sources(
    rows: Iterable[SourceRow], owners: dict[str, Owner], problems: list[str], warnings: list[str]
) -> dict[str, Owner]:
    twin_of: dict[str, str] = {}
    unknown = 0
    for row in rows:
        if row.twin not in owners:
            unknown += 1
        elif twin_of.setdefault(row.id, row.twin) != row.twin:
            problems.append(f"source {row.id!r} belongs to twin {twin_of[row.id]!r} and to twin {row.twin!r}")
    if unknown:
        warnings.append(f"in the look-up {counted(unknown, 'source')} of an unknown twin: their records are unowned")
    return {source: owners[twin] for source, twin in twin_of.items()}


def _said(owner: Owner) -> str:
    return f"{owner.twin!r} of creator {owner.creator!r}"


def _from_file(root: Path, file: str | None) -> tuple[list[TwinRow], list[SourceRow]]:
    if file is None:
        raise BadInput("the ownership file is not named", next_step="name it: --ownership FILE")
    path = within(root, file)
    if not is_yaml(path):
        rows = read_rows(path, TWIN_COLUMNS)
        return [TwinRow(row["id"], row["creator_id"], row["name"]) for row in rows], []
    body = read_yaml(path)
    if not isinstance(body, dict) or not {"twins"} <= set(body) <= {"twins", "sources"}:
        raise BadInput(
            f"{path.name} is not an ownership file",
            next_step="it holds `twins:`, a list of {id, creator_id, name}, and may hold `sources:`, of {id, twin_id}",
        )
    twins = [TwinRow(_id(row, "id"), _id(row, "creator_id"), _id(row, "name")) for row in _rows(path, body, "twins")]
    sources = [SourceRow(_id(row, "id"), _id(row, "twin_id")) for row in _rows(path, body, "sources")]
    return twins, sources


def _rows(path: Path, body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = body.get(key) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(
            f"{path.name}: `{key}` must be a list of mappings",
            next_step=f"write it so: {key}: [{{id: …}}]; docs/plans.md shows a file",
        )
    return rows


def _id(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)
