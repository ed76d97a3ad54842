"""The terminal session in the README, from a real one: `vecfleet demo | python docs/session.py`.

Nothing is reworded. An `…` stands for rows of namespaces after the second, for the sampled metadata, for progress that
has not begun; and what comes before the first and after the last command is left out.
"""

import re
import sys
from itertools import groupby
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
SHOWN_ROWS = 2
_BLOCK = re.compile(r"(<!-- session -->\n```\n).*?(```\n<!-- /session -->)", re.DOTALL)
_NAMESPACE = re.compile(r"(__default__|[0-9a-f]{8}-[0-9a-f]{4}-)")
_METADATA = re.compile(r"metadata \(sampled\)|\w+ +(string|boolean|number|list of strings) +\d+ of \d+")
_STARTING = re.compile(r"job \d+ \w+: .*\(0 %\)|  waits: no ")
_SAID_BEFORE = re.compile(r"  (way back|audit head) ")


def excerpt(session: str) -> str:
    commands = session[session.index("$ vecfleet") :].partition("\nEverything is stopped")[0]
    lines = [line.rstrip() for line in commands.splitlines()]
    kept: list[str] = []
    for row, group in groupby(lines, key=lambda line: bool(_NAMESPACE.match(line))):
        some = list(group)
        kept += [*some[:SHOWN_ROWS], "…"] if row and len(some) > SHOWN_ROWS else map(_shown, some)
    once = [line for number, line in enumerate(kept) if not number or line != kept[number - 1]]
    return "\n".join(once).strip("\n…") + "\n"


def _shown(line: str) -> str:
    """The line, or `…` in its place."""
    return "…" if any(pattern.match(line) for pattern in (_METADATA, _STARTING, _SAID_BEFORE)) else line


if __name__ == "__main__":
    page, found = _BLOCK.subn(
        lambda match: match[1] + excerpt(sys.stdin.read()) + match[2], README.read_text(encoding="utf-8")
    )
    if found != 1:
        raise SystemExit("README.md must hold the markers of the session once")
    README.write_text(page, encoding="utf-8")
    sys.stdout.write(f"wrote {README.name}\n")
