"""Figures that are one number each, with the samples behind it: a table for people, entries for the JSON file."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from benchmarks.reach import Reach

_COLUMNS = (("measure", "left"), ("value", "right"), ("lowest – highest", "right"), ("", "left"), ("reach", "left"))
_SAID = {True: "reached", False: "missed", "undecided": "undecided"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure. `samples`: what its value was made of, where it was taken more than once. `spread`: where the value
    lies, where that was worked out otherwise than as the lowest and the highest sample.
    """

    name: str
    value: float
    unit: str
    reach: Reach | None = None
    samples: tuple[float, ...] = ()
    spread: tuple[float, float] | None = None

    @classmethod
    def of(cls, name: str, unit: str, samples: Sequence[float], reach: Reach | None = None) -> Self:
        """The median of its samples."""
        return cls(name, median(samples), unit, reach, tuple(samples))

    @property
    def interval(self) -> tuple[float, float]:
        if self.spread is not None:
            return self.spread
        return (min(self.samples), max(self.samples)) if self.samples else (self.value, self.value)

    @property
    def ok(self) -> bool | str | None:
        """Say whether its reach is reached; "undecided" where that lies inside the interval; None where it has none."""
        return self.reach.judge(self.interval) if self.reach is not None else None


def show(console: Console, title: str, found: Sequence[Figure]) -> None:
    table = Table(title=title, title_justify="left", show_edge=False)
    for heading, side in _COLUMNS:
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for one in found:
        said = "" if one.ok is None else f"{one.reach}: {_SAID[one.ok]}"
        table.add_row(one.name, _number(one.value), _interval(one), one.unit, said)
    console.print(table)


def entry(one: Figure) -> dict[str, Any]:
    """One entry of `measures` in the JSON file."""
    return {
        "name": one.name,
        "value": one.value,
        "unit": one.unit,
        "reach": str(one.reach) if one.reach else None,
        "ok": one.ok,
        "interval": list(one.interval),
    }


def _interval(one: Figure) -> str:
    low, high = one.interval
    return "" if low == high else f"{_number(low)} – {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
