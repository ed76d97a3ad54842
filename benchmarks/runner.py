"""Parts of the benchmark, run one after the other: shown as each ends, and kept in one JSON file.

A part is a function `measure(quick)` that gives figures one by one. What it gave before it failed is kept, and the
parts after it run all the same. The file is written anew each time that a part was measured: an interrupted run has
what was taken so far.

A part is disturbed if other processes took more than a tenth of the processors while it ran. It says so and is measured
again, three times at most; the least disturbed measurement counts, and the file says how disturbed it was.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psutil
from rich.console import Console

from benchmarks.data import SEED
from benchmarks.figures import Figure, entry, show
from benchmarks.showing import commit, machine, versions
from orchestrator.embedded.foreground import endings_interrupt

STOPPED = 130  # the exit code of a command that Ctrl-C ended
_MOST_OF_OTHERS, _TRIES = 0.10, 3


class Measure(Protocol):
    """`quick`: windows of about ten seconds, few repeats, 1,200 namespaces at most."""

    def __call__(self, quick: bool) -> Iterable[Figure]: ...


class LeftOut(Exception):
    """This part needs what is not here; its sentence says what."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One part. `load`: of the machine when it began. `why`: what it failed of, or was left out for.

    `others`: the share of the processors that other processes took while it ran. `tries`: how often it was measured.
    """

    part: str
    figures: Sequence[Figure]
    seconds: float
    load: float
    others: float
    failed: bool = False
    why: str | None = None
    tries: int = 1

    @property
    def disturbed(self) -> bool:
        return self.others > _MOST_OF_OTHERS


def taken_by_others() -> float:
    """Return the processor seconds that processes other than this one and its ended children took so far."""
    times = psutil.cpu_times()
    busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return float(busy) - sum(os.times()[:4])


def run(
    parts: Mapping[str, Measure],
    *,
    quick: bool,
    json_file: Path | None,
    console: Console,
    others: Callable[[], float] = taken_by_others,
) -> int:
    """Measure, show, and write where asked. Returns the exit code: 1 where a part failed; to miss a reach is none."""
    before, ran = machine(), list[Ran]()
    form = "quick" if quick else "whole"
    console.print(f"{before['processor']}, {before['cores']} cores, Python {before['python']}; the {form} form")
    for name, measure in parts.items():
        for best in _undisturbed(name, measure, quick, console, others):
            if json_file is not None:
                told = document([*ran, best], quick, before)
                json_file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        ran.append(best)
    if json_file is not None:
        console.print(f"Figures and raw samples: {json_file}")
    return int(any(one.failed for one in ran))


def _undisturbed(
    name: str, measure: Measure, quick: bool, console: Console, others: Callable[[], float]
) -> Iterator[Ran]:
    """Measure the part until nothing disturbs it, or as often as it may be; give each time the least disturbed so far.

    A repeat that ends before its last figure costs none of those that were taken before.
    """
    whole = list[Ran]()
    for tried in range(1, _TRIES + 1):
        last = _one(name, measure, quick, console, others)
        if last.failed or not last.figures:
            if whole:
                console.print(f"{name}: the figures that were taken before are kept\n")
            yield replace(_least_disturbed(whole), tries=tried) if whole else last
            return
        whole.append(last)
        yield replace(_least_disturbed(whole), tries=tried)
        if not last.disturbed:
            return
        what = "it is measured again" if tried < _TRIES else "the least disturbed of its figures are kept"
        console.print(f"{name} was disturbed: other processes took {last.others:.0%} of the processors; {what}\n")


def _least_disturbed(ran: Sequence[Ran]) -> Ran:
    return min(ran, key=lambda one: one.others)


def _one(name: str, measure: Measure, quick: bool, console: Console, others: Callable[[], float]) -> Ran:
    load, taken, began, found = psutil.getloadavg()[0], others(), time.monotonic(), list[Figure]()
    failed, why = False, None
    with console.status(name) as status:
        try:
            for figure in measure(quick):
                found.append(figure)
                status.update(f"{name}: {len(found)} figures")
        except LeftOut as reason:
            why = str(reason)
        except Exception as error:  # noqa: BLE001 - the edge: the other parts are measured all the same
            failed, why = True, f"{type(error).__name__}: {error}"
            console.print_exception()
    seconds = time.monotonic() - began
    share = max(0.0, others() - taken) / (seconds * (psutil.cpu_count() or 1))
    if found:
        show(console, f"{name}: {seconds:,.0f} s; load at its begin {load:.1f}", found)
    if why is not None:
        console.print(f"{name} {'failed' if failed else 'was left out'}: {why}", markup=False)
    console.print()
    return Ran(name, found, seconds, load, share, failed, why)


def document(ran: Sequence[Ran], quick: bool, before: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON file: every figure of every part, and the samples behind them by part and name."""
    return {
        "quick": quick,
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(before),
        "versions": versions(),
        "seed": SEED,
        "parts": {
            one.part: {
                "seconds": round(one.seconds, 1),
                "load": round(one.load, 2),
                "others": round(one.others, 3),
                "disturbed": one.disturbed,
                "tries": one.tries,
                "failed": one.failed,
                "why": one.why,
            }
            for one in ran
        },
        "measures": [{"part": one.part} | entry(figure) for one in ran for figure in one.figures],
        "raw": {
            one.part: {figure.name: list(figure.samples) for figure in one.figures if figure.samples} for one in ran
        },
    }


def parser(program: str, about: str | None) -> argparse.ArgumentParser:
    """With the options that all parts take."""
    made = argparse.ArgumentParser(prog=program, description=(about or "").partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="shorter, with fewer repeats; its JSON says so")
    made.add_argument("--json", type=Path, help="a file for the figures and their raw samples")
    return made


def alone(part: str, measure: Measure, about: str | None) -> int:
    """Run `python -m benchmarks.PART`."""
    return report({part: measure}, parser(f"python -m benchmarks.{part}", about).parse_args())


def report(parts: Mapping[str, Measure], given: argparse.Namespace) -> int:
    """Measure these parts. Told to stop by SIGTERM, a hang-up or Ctrl-C, stop what was started and leave no folder."""
    try:
        with endings_interrupt():
            return run(parts, quick=given.quick, json_file=given.json, console=Console(width=120))
    except KeyboardInterrupt:
        return STOPPED
