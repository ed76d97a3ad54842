"""Put the figures of a run into docs/performance.md, and its pictures beside it.

    python -m benchmarks.publish FILE

A table stands between `<!-- figures: PART -->` and `<!-- end -->`; `<!-- figures: PART: PATTERN -->` takes those of its
figures in whose names the pattern is found. What the run did not measure stays as it is.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import plots

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(r"(<!-- figures: (\w+)(?:: (.+?))? -->\n).*?(<!-- end -->)", re.DOTALL)
_SAID = {True: "reached", False: "**missed**", "undecided": "undecided"}


def filled(page: str, run: Mapping[str, Any]) -> str:
    """The page with the run's tables in it."""

    def table(match: re.Match[str]) -> str:
        begin, part, pattern, end = match.groups()
        rows = [one for one in run["measures"] if one["part"] == part and re.search(pattern or "", one["name"])]
        return f"{begin}\n{''.join(_lines(part, rows, run))}\n{end}" if rows else match[0]

    return _BLOCK.sub(table, page)


def _lines(part: str, rows: list[Mapping[str, Any]], run: Mapping[str, Any]) -> Iterator[str]:
    form, load = "quick" if run["quick"] else "whole", run["parts"][part]["load"]
    yield f"`python -m benchmarks.{part}`, {form} form, {run['at'][:10]}, load {load:.0f} at its begin:\n\n"
    yield "| measure | value | lowest – highest | | reach | |\n|---|---|---|---|---|---|\n"
    for one in rows:
        low, high = one["interval"]
        spread = f"{_number(low)} – {_number(high)}" if low != high else ""
        judged = f"{one['reach']} | {_SAID[one['ok']]}" if one["reach"] else " | "
        yield f"| {one['name']} | {_number(one['value'])} | {spread} | {one['unit']} | {judged} |\n"
    if run["parts"][part].get("disturbed"):
        yield f"\n**It was disturbed**: other processes took {run['parts'][part]['others']:.0%} of the processors.\n"
    if run["parts"][part]["failed"]:
        yield f"\n**It failed before its end**: {run['parts'][part]['why']}\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="of `python -m benchmarks --json FILE`")
    run = json.loads(parser.parse_args().file.read_text(encoding="utf-8"))
    page = DOCS / "performance.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), run), encoding="utf-8")
    for place in (page, *plots.draw(run, DOCS / "pictures")):
        print(place)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
