"""Sentences about what is no command line: which command was meant, or which value an option does not take."""

from collections.abc import Collection, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

_FOREIGN = "Value error, "  # how the parser's validation begins a sentence of its own

_NO_NUMBER = {
    "int_parsing": "not a whole number",
    "int_from_float": "not a whole number",
    "float_parsing": "not a number",
}
_OUT_OF_RANGE = {
    "greater_than_equal": ("ge", "too small: the minimum is {}"),
    "less_than_equal": ("le", "too large: the maximum is {}"),
}

MEANT = {
    **dict.fromkeys(("list", "ls"), "jobs"),
    **dict.fromkeys(("copy", "cp", "move", "mv", "rename"), "plan namespaces"),
    **dict.fromkeys(("run", "start"), "apply"),
    **dict.fromkeys(("delete-job", "remove-job"), "cancel"),
    "undo": "rollback",
}
"""Words that people type who do not know ours yet, and the command that does it."""
DESTROYING = frozenset({"cleanup", "decommission", "delete", "forget", "purge", "wipe"})
_SLIP = 0.8  # of the letters are right: nobody is led to a command that destroys by less


class GuessingGroup(TyperGroup):
    """A group that names the command which a person meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands and not ctx.resilient_parsing:
            likely = " or ".join(map(repr, meant(args[0], self.commands)))
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {likely}?" if likely else ""))
        return super().resolve_command(ctx, args)


def meant(typed: str, there: Collection[str]) -> list[str]:
    """Return the commands that may be meant by a word that is none."""
    if typed in MEANT:
        return [MEANT[typed]]
    close = get_close_matches(typed, there)
    return [name for name in close if name not in DESTROYING or SequenceMatcher(None, typed, name).ratio() > _SLIP]


class PlainCommand(TyperCommand):
    """A command that says in a plain sentence which value it does not take."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except BadParameter as misuse:
            misuse.message = sentence(misuse)
            raise


def sentence(misuse: BadParameter) -> str:
    """Return what is wrong with a value, without the words of the library that checked it."""
    errors = getattr(misuse.__cause__, "errors", None)
    first: Mapping[str, Any] = errors()[0] if errors is not None else {}
    kind, typed = first.get("type"), first.get("input")
    if kind in _NO_NUMBER:
        return f"{typed!r} is {_NO_NUMBER[kind]}"
    if kind in _OUT_OF_RANGE:
        name, said = _OUT_OF_RANGE[kind]
        return f"{typed} is {said.format(first['ctx'][name])}"
    return misuse.message.removeprefix(_FOREIGN)
