"""docs/configuration.md, from `vecfleet.settings.Settings` and .env.example: `python docs/configuration.py` writes it.

Names, defaults and kinds are those of the code, meanings those of .env.example, which a test holds complete.
"""

import re
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from vecfleet.settings import Settings

PAGE = Path(__file__).with_name("configuration.md")
EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"
_HEAD = """# Configuration

Everything is set by environment variables, or by a file `.env` in the folder where a command is typed; the environment
wins, and an empty value counts as not set. `none` means not set too, and wins over `.env`. Written by
`python docs/configuration.py`.

A value that cannot be used ends a command with its name, never its value, and what to do. `vecfleet doctor` tries the
addresses and keys. A secret shows as stars, is in no log, and is no part of any plan.
"""
_SECTION = re.compile(r"# --- (.+) ---")
_VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=")


def page() -> str:
    fields = {
        spelling: Settings.model_fields[name]
        for name, spellings in Settings.variables().items()
        for spelling in spellings
    }
    lines = [_HEAD]
    said: list[str] = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines()[2:]:
        if found := _SECTION.match(line):
            lines += [f"\n## {found[1].replace('`', '')}\n", "| variable | default | meaning |", "|---|---|---|"]
            said = []
        elif found := _VARIABLE.match(line):
            lines.append(f"| `{found[1]}` | {_default(fields[found[1]])} | {_sentence(said)} |")
            said = []
        elif line.startswith("#"):
            said.append(line.removeprefix("#").strip())
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    kind = " · secret" if "Secret" in str(field.annotation) else ""
    if default is None:
        return f"not set{kind}"
    shown = (
        str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else default
    )
    return f"`{shown}`{kind}"


def _sentence(said: list[str]) -> str:
    return " ".join(said).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
