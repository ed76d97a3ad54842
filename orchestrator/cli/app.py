"""Run a command line, from its words to its exit code: the one place where an error becomes a sentence."""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import typer

from orchestrator.cli.commands import COMMANDS, GROUPS, PROGRAM, build, listing
from orchestrator.cli.misuse import MEANT
from orchestrator.cli.output import err, say_error, typed
from vecfleet.errors import BadInput, VecfleetError

_USAGE = 2  # what was typed is no command line: the parser ends this itself, and has said why
_BUG = 70  # EX_SOFTWARE of sysexits.h
_COMPLETING = f"_{PROGRAM.upper()}_COMPLETE"  # set by a shell that completes a command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Return its exit code: 0 only when what was asked is true."""
    words = _asked_for_help(sys.argv[1:] if arguments is None else arguments)
    typed.set(tuple(words))
    try:
        _commands_for(words)(words, prog_name=PROGRAM)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == _USAGE and not _asks_for_a_list(words):
            _say_misuse(words, end.__context__)
        return code
    except VecfleetError as error:
        say_error(error, as_json="--json" in words)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the edge: people get a sentence, the log the traceback
        fault = VecfleetError(
            f"an unexpected {type(error).__name__} ended this command: a fault of vecfleet, not yours",
            next_step=f"read the traceback, and report it: {_log(words)}",
        )
        say_error(fault, as_json="--json" in words)
        return _BUG
    return 0


def _asked_for_help(words: Sequence[str]) -> Sequence[str]:
    """Return `status --help` for `help status`, and any other words as they are."""
    return [*words[1:], "--help"] if words and words[0] == "help" else words


def _commands_for(words: Sequence[str]) -> typer.Typer:
    """Build the command that these words name, those of their group, or only names where nothing else is asked for."""
    if _COMPLETING in os.environ:
        return build()
    typed = [word for word in words if not word.startswith("-")]
    if len(typed) == 1 and typed[0] in GROUPS:
        return listing(typed[0])
    named = [name for name in (" ".join(typed[:2]), *typed[:1]) if name in COMMANDS or name in GROUPS]
    return build(named[0]) if named else listing()


def _asks_for_a_list(words: Sequence[str]) -> bool:
    """Say whether no command was typed, or only the name of a group: the answer is a list of commands."""
    return not words or (len(words) == 1 and words[0] in GROUPS)


def _say_misuse(words: Sequence[str], misuse: BaseException | None) -> None:
    """Say what helps who typed no command line. The parser said what is wrong with it; a program is told again."""
    step = _next_after(words, misuse)
    if "--json" not in words:
        err.print(f"next: {step}")
        return
    said = getattr(misuse, "format_message", str)  # the parser's errors have no public class
    say_error(BadInput(said() or "this is no command line", next_step=step, code="no-command-line"), as_json=True)


def _next_after(words: Sequence[str], misuse: BaseException | None) -> str:
    """Return what helps who typed no command line: the jobs where the number of one is missing, or else the help."""
    if words and words[0] in MEANT:
        return f"{PROGRAM} {MEANT[words[0]]}{'' if MEANT[words[0]] == 'jobs' else ' --help'}"
    parameter = getattr(misuse, "param", None)
    return f"{PROGRAM} jobs" if getattr(parameter, "name", None) == "job" else _help_of(words)


def _help_of(words: Sequence[str]) -> str:
    """Return the command that shows the help of what was typed."""
    typed = [word for word in words if not word.startswith("-")]
    known = [name for name in (" ".join(typed[:2]), "".join(typed[:1])) if name in COMMANDS or name in GROUPS]
    return " ".join([PROGRAM, *known[:1], "--help"])


def _without_filter(words: Sequence[str]) -> Iterator[str]:
    """Yield the words but the value of `--filter`, which may be a person's."""
    for before, word in pairwise(["", *words]):
        if before == "--filter":
            yield "…"
        else:
            yield "--filter=…" if word.startswith("--filter=") else word


def _log(words: Sequence[str]) -> Path:
    from vecfleet.settings import Settings  # takes half of the time in which a help is printed

    try:
        place = Settings.load().vecfleet_home / "logs" / "cli.log"
        place.parent.mkdir(parents=True, exist_ok=True)
    except (VecfleetError, OSError):
        # Nobody can foresee this name. A file under a known name may be somebody else's, or a link to elsewhere.
        number, name = tempfile.mkstemp(prefix="vecfleet-cli-", suffix=".log")
        os.close(number)
        place = Path(name)
    command = " ".join(_without_filter(words))
    with place.open("a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {PROGRAM} {command}\n{traceback.format_exc()}\n")
    return place.absolute()
