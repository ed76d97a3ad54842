"""The look of answers: text with a `next:` line, or one JSON document; errors in red on stderr."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vecfleet.errors import BadInput, Refused, StoreError, Unreachable, VecfleetError

# Wider than any row with the name of a namespace: lines piped into a file are not folded.
_UNFOLDED_COLUMNS = 2_000

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


_LARGEST_JOB = 2**63 - 1  # the job table counts in 8 bytes


def job_number(word: str) -> int:
    """Read a JOB as it was typed. Raises BadInput for what cannot be a job's number."""
    number = int(word) if word.isascii() and word.isdigit() else 0
    if not 0 < number <= _LARGEST_JOB:
        raise BadInput(
            f"{word!r} is not a job: JOB is the number that `vecfleet apply` printed",
            next_step="`vecfleet jobs` lists them",
        )
    return number


JobId = Annotated[
    int, typer.Argument(metavar="JOB", parser=job_number, help="The job's number, as `vecfleet jobs` lists it.")
]


def _console(stream: IO[str], *, stderr: bool) -> Console:
    width = None if stream.isatty() else _UNFOLDED_COLUMNS
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


out = _console(sys.stdout, stderr=False)
err = _console(sys.stderr, stderr=True)


@contextmanager
def aside(really: bool) -> Iterator[None]:
    """Print what is said for people to stderr: stdout belongs to one value, as a shell takes it by `$(…)`."""
    out.stderr = really
    try:
        yield
    finally:
        out.stderr = False


def say(text: str = "", style: str | None = None) -> None:
    out.print(text, style=style, soft_wrap=True)


def say_next(steps: Sequence[str]) -> None:
    """Print what to type now, the likeliest command first."""
    for number, step in enumerate(steps):
        say(f"{'next' if number == 0 else '  or'}: {step}", style="bold" if number == 0 else None)


typed: ContextVar[tuple[str, ...]] = ContextVar("typed")
"""The words of this command line, after the program's name."""


def again(*options: str) -> str:
    """Return the command line as it was typed, with these options besides."""
    return shlex.join(["vecfleet", *typed.get(), *options])


def say_json(document: Mapping[str, Any]) -> None:
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def say_error(error: VecfleetError, *, as_json: bool = False) -> None:
    """Print an error to stderr: as text, or as a last line of JSON with its code."""
    elsewhere = "vecfleet doctor" if isinstance(error, StoreError | Unreachable) else "vecfleet --help"
    error.next_step = error.next_step or elsewhere
    if as_json:
        typer.echo(orjson.dumps({"error": error.to_json()}), err=True)
        return
    if isinstance(error, Refused) and len(error.objections) > 1:
        message = "refused:\n" + "\n".join(f"  · {objection}" for objection in error.objections)
    else:
        message = error.message
    err.print(Text(message, style="red"), soft_wrap=True)
    err.print(f"next: {error.next_step}", soft_wrap=True)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a plain table. A head that starts with `>` marks a column of numbers. Nothing is cut off."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        number = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table)


def _nobody_answers(message: str) -> Refused:
    return Refused(message, code="answer-missing", next_step=again("--yes"))


def confirm_by_typing(name: str, *, yes: bool) -> None:
    """Go on only where the person types the name of what will be deleted. Otherwise raises Refused; nothing changed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise _nobody_answers("this needs a typed name, and nobody is at the terminal")
    if typer.prompt(f"Type {name} to go on") != name:
        raise Refused(
            "nothing was changed: that is not the name",
            code="other-name-typed",
            next_step="type the command again when you are sure",
        )


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with a yes. Otherwise raises Refused; nothing changed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise _nobody_answers("this needs a confirmation, and nobody is at the terminal")
    if not typer.confirm(question):
        raise Refused("nothing was changed", code="answer-no", next_step="type the command again when you are sure")
