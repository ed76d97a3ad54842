"""The options of a metadata map, for every recipe, and what the map makes of ten records."""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from migrations.mapping import MetadataMap, Undo
from migrations.mapreading import read_map
from migrations.previewing import MappedRecord
from orchestrator.cli.hours import HoursOptions
from orchestrator.cli.output import say, say_table
from orchestrator.core.wording import counted
from vecfleet.enriching import ConflictPolicy
from vecfleet.records import Metadata
from vecfleet.settings import Settings

Conflicts = Annotated[
    ConflictPolicy,
    typer.Option(help="Records with another value under a key they get: creator_id, twin_id, a mapped one."),
]

_SHOWN_CHARS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions(HoursOptions):
    """The changes to metadata keys on the way, and the hours. `conflicts`: also of keys that a plan writes itself."""

    set_key: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a metadata key: JSON where it reads so, else text."),
    ] = None
    drop: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Leave a metadata key out.")] = None
    rename_key: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Give a metadata key another name.")
    ] = None
    map_file: Annotated[
        str | None,
        typer.Option("--map", metavar="FILE", help="YAML of set, drop, rename, copy, template; under VECFLEET_ROOT."),
    ] = None
    map_undo: Annotated[
        Undo, typer.Option(help="Whether the record carries what is dropped or replaced, to restore it.")
    ] = "travels"

    conflicts: Conflicts = "fail"

    def policies(self, settings: Settings) -> dict[str, Any]:
        """Return the part of a plan's policies that these decide. Raises BadInput, NotFound."""
        asked = read_map(
            settings.vecfleet_root,
            sets=self.set_key or (),
            drops=self.drop or (),
            renames=self.rename_key or (),
            file=self.map_file,
            undo=self.map_undo,
        )
        return {"metadata_map": asked, "conflicts": self.conflicts, "window": self.hours()}


def with_shared(name: str, options: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every field of a dataclass as an option of its own; it gets them as the argument `name`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = inspect.signature(options).parameters
        own = [parameter for key, parameter in inspect.signature(command).parameters.items() if key != name]

        @wraps(command)
        def run(**given: Any) -> None:
            command(**given | {name: options(**{key: given.pop(key) for key in shared})})

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *shared.values())]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


with_map_options = with_shared("mapping", MapOptions)


def say_map(asked: MetadataMap, *, backward: bool) -> None:
    """Print what a map does, and whether it can be taken back."""
    say(f"metadata{', taken back' if backward else ''}: {' · '.join(_operations(asked))}")
    if not backward:
        say(
            "  it can be taken back: each record carries `migrated_from` and `_vecfleet_map`"
            if asked.travels
            else "  it cannot be taken back: records do not carry what it drops or replaces"
        )


def _operations(asked: MetadataMap) -> list[str]:
    return [
        *(f"rename {old} → {new}" for old, new in asked.rename.items()),
        *(f"copy {old} → {new}" for old, new in asked.copy.items()),
        *(f"{new} from {template!r}" for new, template in asked.template.items()),
        *(f"drop {key}" for key in asked.drop),
        *(f"set {key} = {_shown(value)}" for key, value in asked.set.items()),
    ]


def say_mapped(records: Sequence[MappedRecord], *, shown: int | None = None) -> None:
    """Print the keys that the map changes in these records, before and after. `shown`: so many, parked ones first."""
    if not records:
        return
    first = sorted(records, key=lambda record: record.after is not None)[:shown]
    less = f", {len(first)} shown" if len(first) < len(records) else ""
    say(f"what it makes of {counted(len(records), 'record', 'records')}{less}:")
    rows: list[tuple[str, ...]] = []
    for record in first:
        title = f"{record.namespace} {record.id}"
        if record.after is None:
            rows.append((title, "", "", f"parked: {record.parked}"))
            continue
        changed = _changed(record.before, record.after)
        rows += [(title, *row) for row in changed or [("", "", "unchanged")]]
    say_table(("record", "key", "before", "after"), rows)


def _changed(before: Metadata, after: Metadata) -> list[tuple[str, str, str]]:
    def shown(metadata: Metadata, key: str) -> str:
        return _shown(metadata[key]) if key in metadata else "—"

    keys = sorted(before.keys() | after.keys())
    return [(key, shown(before, key), shown(after, key)) for key in keys if before.get(key) != after.get(key)]


def _shown(value: object) -> str:
    """Return a value as JSON, which no control character gets through, and no more of it than a line holds."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def mapped_to_json(records: Sequence[MappedRecord]) -> list[dict[str, Any]]:
    return [
        {
            "namespace": record.namespace,
            "id": record.id,
            "before": dict(record.before),
            "after": None if record.after is None else dict(record.after),
            "parked": record.parked,
        }
        for record in records
    ]
