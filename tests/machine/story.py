"""The story of a life, told in a few lines; and who chooses what happens."""

from typing import Any, Protocol


class Time(Protocol):
    """The tests' clock, which knows the job table too."""

    def monotonic(self) -> float: ...
    def passes(self, seconds: float) -> None: ...
    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]: ...


class Chance(Protocol):
    """A chooser: a number from 0, the mildest, to `most`."""

    def number(self, most: int) -> int: ...


class Worst:
    """Every look is as old as it may be, and everything comes as late."""

    def number(self, most: int) -> int:
        return most


class Story:
    """The events of a life, a line each, with the time."""

    def __init__(self, clock: Time) -> None:
        self._clock, self._began = clock, clock.monotonic()
        self.lines: list[tuple[float, str]] = []
        self._looks: tuple[str, list[str]] = "", []

    def tell(self, what: str) -> None:
        if not self.lines or self.lines[-1][1] != what:
            self.lines.append((self._clock.monotonic() - self._began, what))
            self._looks = "", []

    def tell_old_look(self, operation: str, namespace: str, age_s: float) -> None:
        """Looks at one namespace, one after another, share a line."""
        of, operations = self._looks
        if of == namespace:
            self.lines.pop()
        operations = [*operations, operation] if of == namespace and operation not in operations else operations
        operations = operations or [operation]
        self.tell(f"{', '.join(operations)} of {namespace}: what was there over {age_s:.0f} s ago")
        self._looks = namespace, operations

    def read(self, most: int = 15) -> str:
        """The last of its lines, and how many came before."""
        shown = [f"{at:6.1f} s  {what}" for at, what in self.lines]
        left_out = len(shown) - most
        return "\n".join(shown if left_out <= 0 else [f"          … {left_out + 1} lines before", *shown[1 - most :]])
