"""Put the figures of a run into docs/performance.md, and its pictures beside it.

    python -m benchmarks.publish FILE

Five sentences open the page, a line each, between `<!-- in short -->` and `<!-- end -->`. A table stands between
`<!-- figures: PART -->` and `<!-- end -->`; `<!-- figures: PART: PATTERN -->` takes those of its figures in whose names
the pattern is found. What the run did not measure stays as it is.
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
_SHORT = re.compile(r"(<!-- in short -->\n\n).*?(\n<!-- end -->)", re.DOTALL)
# What a reader needs first: a sentence, and by part and name the figures that it tells.
IN_SHORT: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Two workers copy **{0} records a second** of 3,072 dimensions, and {1} of 1,536, while the emulator, Postgres "
        "and Redis share their cores.",
        (("copy", "copy, 3,072-d, 500 B"), ("copy", "copy, 1,536-d, 500 B")),
    ),
    (
        "A record of 3,072 dimensions takes {0} ms of a core to copy, and {1} ms each time that it is read back and "
        "compared.",
        (
            ("copy", "CPU of workers, copy, 3,072-d, 500 B"),
            ("main_job", "CPU of workers, verify, 3,072-d, answers at once"),
        ),
    ),
    (
        "The fleet reaches {0} of the speed of the same calls without job table and proof; it is {1} times as fast as "
        "a plain loop with the SDK, and {2} times where answers come 30 ms late.",
        (
            ("overhead", "fleet / bare loop, 3,072-d, 500 B"),
            ("peers", "fleet / SDK loop, gRPC, 3,072-d, answers at once"),
            ("peers", "fleet / SDK loop, gRPC, 3,072-d, answers 30 ms late"),
        ),
    ),
    (
        "A namespace of 100 records takes {0} ms from its plan to its verdict where there are 1,200, and {1} ms where "
        "there are 100.",
        (("scale", "plan, copy and verify, 1,200 namespaces"), ("scale", "plan, copy and verify, 100 namespaces")),
    ),
    (
        "A killed worker delays the end of a job by up to {0} s, a refused call by {1} s.",
        (("restart", "lost by a worker killed"), ("restart", "lost by a 429")),
    ),
)
_SAID = {True: "reached", False: "**missed**", "undecided": "undecided"}


def filled(page: str, run: Mapping[str, Any]) -> str:
    """The page with the run's tables in it."""

    def table(match: re.Match[str]) -> str:
        begin, part, pattern, end = match.groups()
        rows = [one for one in run["measures"] if one["part"] == part and re.search(pattern or "", one["name"])]
        return f"{begin}\n{''.join(_lines(part, rows, run))}\n{end}" if rows else match[0]

    return _SHORT.sub(lambda match: f"{match[1]}{_in_short(match[0], run)}{match[2]}", _BLOCK.sub(table, page))


def _in_short(block: str, run: Mapping[str, Any]) -> str:
    """The opening sentences; one whose figures were not measured stays as it is."""
    values = {(one["part"], one["name"]): _number(one["value"]) for one in run["measures"]}
    before = block.splitlines()[2:-1] + [""] * len(IN_SHORT)
    told = (
        f"- {sentence.format(*(values[each] for each in figures))}" if {*figures} <= values.keys() else old
        for (sentence, figures), old in zip(IN_SHORT, before, strict=False)
    )
    return "".join(f"{line}\n" for line in told)


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
