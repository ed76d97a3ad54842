"""Sentences about values that an option does not take: what was typed, and what is allowed."""

from collections.abc import Mapping
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand

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
