"""Figures that are one number each: a table for people, entries for the JSON file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.reach import Reach


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str
    reach: Reach | None = None


def show(console: Console, title: str, found: Sequence[Figure]) -> None:
    table = Table(title=title, title_justify="left", show_edge=False)
    for heading, side in (("measure", "left"), ("value", "right"), ("", "left"), ("reach", "left")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for one in found:
        said = "" if one.reach is None else f"{one.reach}: {'reached' if one.reach.judge([one.value]) else 'missed'}"
        table.add_row(one.name, f"{one.value:,.3f}", one.unit, said)
    console.print(table)


def entry(one: Figure) -> dict[str, Any]:
    """One entry of `measures` in the JSON file."""
    return {
        "name": one.name,
        "value": one.value,
        "unit": one.unit,
        "reach": str(one.reach) if one.reach else None,
        "ok": one.reach.judge([one.value]) if one.reach else None,
    }
