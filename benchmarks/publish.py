"""Put the figures of a run into docs/performance.md, and its pictures beside it.

    python -m benchmarks.publish FILE [FILE …]

Of a part that several files hold the last one counts: its figures are taken whole, and each table says of which commit
they are. Five sentences open the page, a line each, between `<!-- in short -->` and `<!-- end -->`. A table stands
between `<!-- figures: PART -->` and `<!-- end -->`; `<!-- figures: PART: PATTERN -->` takes those of its figures in
whose names the pattern is found. What no file holds stays as it is, with the commit that it was published with; so does
a picture of which a part is missing.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
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


def merged(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One run of them all: `parts`, each with the form, day, machine and commit of its run, and their `measures`."""
    parts, measures = dict[str, Any](), dict[str, list[Mapping[str, Any]]]()
    for run in runs:
        about = {key: run[key] for key in ("quick", "at", "machine", "commit")}
        found = dict[str, list[Mapping[str, Any]]]()
        for one in run["measures"]:
            found.setdefault(one["part"], []).append(one)
        parts |= {part: run["parts"][part] | about for part in found}
        measures |= found
    return {"parts": parts, "measures": [one for part in measures.values() for one in part]}


def filled(page: str, run: Mapping[str, Any]) -> str:
    """The page with the tables of a merged run in it."""

    def table(match: re.Match[str]) -> str:
        begin, part, pattern, end = match.groups()
        rows = [one for one in run["measures"] if one["part"] == part and re.search(pattern or "", one["name"])]
        return f"{begin}\n{''.join(_lines(part, rows, run['parts'][part]))}\n{end}" if rows else match[0]

    return _SHORT.sub(lambda match: f"{match[1]}{_in_short(match[0], run)}{match[2]}", _BLOCK.sub(table, page))


def _in_short(block: str, run: Mapping[str, Any]) -> str:
    """The opening sentences, each with its commits; one whose figures were not measured stays as it is."""
    values = {(one["part"], one["name"]): _number(one["value"]) for one in run["measures"]}

    def told(sentence: str, figures: Sequence[tuple[str, str]]) -> str:
        commits = dict.fromkeys(_commit(run["parts"][part]) for part, _ in figures)
        return f"- {sentence.format(*(values[each] for each in figures))} ({', '.join(commits)})"

    before = block.splitlines()[2:-1] + [""] * len(IN_SHORT)
    lines = (
        told(sentence, figures) if {*figures} <= values.keys() else old
        for (sentence, figures), old in zip(IN_SHORT, before, strict=False)
    )
    return "".join(f"{line}\n" for line in lines)


def _lines(part: str, rows: list[Mapping[str, Any]], about: Mapping[str, Any]) -> Iterator[str]:
    form = "quick" if about["quick"] else "whole"
    yield f"`python -m benchmarks.{part}`, {form} form, {about['at'][:10]}, {_commit(about)}, "
    yield f"load {about['load']:.0f} at its begin:\n\n"
    yield "| measure | value | lowest – highest | | reach | |\n|---|---|---|---|---|---|\n"
    for one in rows:
        low, high = one["interval"]
        spread = f"{_number(low)} – {_number(high)}" if low != high else ""
        judged = f"{one['reach']} | {_SAID[one['ok']]}" if one["reach"] else " | "
        yield f"| {one['name']} | {_number(one['value'])} | {spread} | {one['unit']} | {judged} |\n"
    if about["disturbed"]:
        yield f"\n**It was disturbed**: other processes took {about['others']:.0%} of the processors.\n"
    if about["failed"]:
        yield f"\n**It failed before its end**: {about['why']}\n"
    elif about["why"]:
        yield f"\nLeft out: {about['why']}\n"


def _commit(about: Mapping[str, Any]) -> str:
    return f"commit `{about['commit']}`" if about["commit"] else "outside of git"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="of `python -m benchmarks --json FILE`, the latest last")
    run = merged([json.loads(file.read_text(encoding="utf-8")) for file in parser.parse_args().files])
    page = DOCS / "performance.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), run), encoding="utf-8")
    for place in (page, *plots.draw(run, DOCS / "pictures")):
        print(place)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
