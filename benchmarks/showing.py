"""What the benchmark says: a table for people, JSON for whoever compares runs."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.reach import REACHES, measured

_COLUMNS = (("measure", "left"), ("median", "right"), ("lowest – highest", "right"), ("", "left"), ("reach", "left"))
_PACKAGES = ("pinecone", "celery", "sqlalchemy", "psycopg", "redis", "numpy", "orjson", "xxhash")


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: the median of its samples, one a round."""

    name: str
    unit: str
    samples: tuple[float, ...]

    @property
    def value(self) -> float:
        return median(self.samples)


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured with vectors of one dimension."""

    title: str
    dimension: int
    delay_ms: int
    records: int
    seed_batch: int
    byte_equal: bool
    measures: tuple[Measure, ...]
    raw: tuple[dict[str, Any], ...] = field(repr=False)


def show(results: Sequence[Result], console: Console) -> None:
    for result in results:
        table = Table(title=result.title, title_justify="left", show_edge=False)
        for heading, side in _COLUMNS:
            table.add_column(heading, justify=side)  # type: ignore[arg-type]
        for one in result.measures:
            spread = f"{_figure(min(one.samples))} – {_figure(max(one.samples))}"
            table.add_row(one.name, _figure(one.value), spread, one.unit, _verdict(one, result.dimension))
        console.print(table)
        console.print(_checked(result))
        console.print()


def _verdict(measure: Measure, dimension: int) -> str:
    reach = REACHES.get((measure.name, dimension))
    if reach is None:
        return ""
    said = {True: "reached", False: "missed"}.get(reach.judge(measure.samples), "undecided")  # type: ignore[call-overload]
    return f"{reach}: {said}"


def _checked(result: Result) -> str:
    if result.byte_equal:
        return f"Both copies byte-equal to their source, says the emulator: {result.records:,} records each."
    return "[bold red]A copy is not byte-equal to its source.[/]"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in psutil.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_json(path: Path, results: Sequence[Result], settings: dict[str, Any], machine: dict[str, Any]) -> None:
    body = {
        "benchmark": "main_job",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {name: version(name) for name in _PACKAGES},
        "settings": settings,
        "measures": [
            measured(one.name, one.unit, result.dimension, result.delay_ms, one.samples)
            for result in results
            for one in result.measures
        ],
        "results": [
            {
                "dimension": result.dimension,
                "delay_ms": result.delay_ms,
                "records": result.records,
                "seed_batch": result.seed_batch,
                "byte_equal": result.byte_equal,
                "measures": [asdict(one) | {"value": one.value} for one in result.measures],
                "raw": list(result.raw),
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
