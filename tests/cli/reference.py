"""docs/commands.md, written from what each command says of itself: `python tests/cli/reference.py` writes it anew."""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from orchestrator.cli.commands import build

PLACE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"

HEAD = """# Commands

What `vecfleet COMMAND --help` prints, held by a test. Every command that only looks takes `--json` and then prints one
JSON document. An answer ends with what to type next (`next:`, or `next_steps`), but for that of `down`, which ends with
a line for your shell; what runs on until it is stopped has none. With `--json` an error is the last line of stderr,
`{"error": {"code", "message", "next_step"}}`, a refusal with its `objections`. Programs go by the `code`, such as
`soak-time`: it stays when the sentence changes.

| exit code | means |
|---|---|
| 0 | what was asked is true |
| 1 | it is not: a check failed, a store refused, a watched job came to rest elsewhere |
| 2 | the input cannot be used; nothing was changed |
| 3 | a guard refused; nothing was changed |
| 4 | Postgres, Redis or a look-up does not answer; `check` could not compare, or `certify` ask, everything |
| 70 | a fault of vecfleet; the traceback is in `VECFLEET_HOME/logs/cli.log` |
| 130 | Ctrl-C while watching; the job goes on. `check` says where to go on |

The usual way: [audit](#audit) → [plan creators](#plan-creators) → [show](#show) → [apply](#apply) → [status](#status) →
[cutover](#cutover) → [cleanup](#cleanup) → [report](#report).
"""


def commands() -> Iterator[tuple[str, ...]]:
    """Every command there is, groups opened."""
    every: Any = get_command(build())
    for name in every.list_commands(None):
        command = every.commands[name]
        inner = getattr(command, "commands", None)
        yield from ((name, each) for each in inner) if inner else [(name,)]


@cache
def help_of(*words: str) -> str:
    answer = CliRunner().invoke(build(words[0]), [*words, "--help"], prog_name="vecfleet")
    assert answer.exit_code == 0, answer.output
    return re.sub(r" +$", "", answer.output.strip(), flags=re.MULTILINE)


def reference() -> str:
    sections = [f"## {' '.join(words)}\n\n```\n{help_of(*words)}\n```\n" for words in commands()]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    PLACE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"wrote {PLACE.name}\n")
