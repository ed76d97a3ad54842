"""Write the diagrams and tables of docs/architecture.md from `orchestrator.core.states`: `python docs/generate.py`.

What is generated stands between a pair of markers; the rest of the page is written by hand.
"""

import re
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.core.states import BATCH_EDGES, CHECK_EDGES, JOB_EDGES, JOB_ENDED, MOVE_EDGES, JobState

PAGE = Path(__file__).with_name("architecture.md")
# Reached from almost everywhere: drawn, they would hide the way. The table has them.
_INTERRUPTIONS = frozenset({JobState.PAUSING, JobState.PAUSED, JobState.CANCELLING, JobState.CANCELLED})

AnyEdges = Mapping[Any, Mapping[Any, str]]


def diagram(edges: AnyEdges, hidden: frozenset[StrEnum] = frozenset()) -> str:
    """A Mermaid state diagram. The first state of the table begins."""
    shown = [state for state in edges if state not in hidden]
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {shown[0]}"]
    for state in shown:
        lines += [f"    {state} --> {to}" for to in edges[state] if to not in hidden]
        if state in JOB_ENDED or not edges[state]:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


def table(edges: AnyEdges) -> str:
    """Every edge with its reason."""
    rows = [f"| {state} | {to} | {why} |" for state, reasons in edges.items() for to, why in reasons.items()]
    return "\n".join(["| from | to | because |", "|---|---|---|", *rows])


PARTS: Mapping[str, Callable[[], str]] = {
    "job-diagram": lambda: diagram(JOB_EDGES, _INTERRUPTIONS),
    "move-diagram": lambda: diagram(MOVE_EDGES),
    "batch-diagram": lambda: diagram(BATCH_EDGES),
    "target-diagram": lambda: diagram(CHECK_EDGES),
    "job-table": lambda: table(JOB_EDGES),
    "move-table": lambda: table(MOVE_EDGES),
    "batch-table": lambda: table(BATCH_EDGES),
    "target-table": lambda: table(CHECK_EDGES),
}


def generated(page: str) -> str:
    """The page with everything between its markers made anew."""
    for name, part in PARTS.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, found = marked.subn(lambda match, text=part(): f"{match[1]}{text}\n{match[2]}", page)  # type: ignore[misc]
        if found != 1:
            raise SystemExit(f"{PAGE.name} must hold the markers of {name} once")
    return page


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
