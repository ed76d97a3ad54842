"""What planning found: problems, which stop it, and warnings, which a person reads in the plan."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vecfleet.errors import BadPlan

SHOWN = 5


@dataclass(slots=True)
class Findings:
    """Everything that was found, so that all of it can be said at once."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        self.problems += other.problems
        self.warnings += other.warnings

    def found(self, text: str, *, stops: bool) -> None:
        (self.problems if stops else self.warnings).append(text)

    def raise_problems(self) -> None:
        """Raises BadPlan with every problem in its message, where there is one."""
        if self.problems:
            raise BadPlan(
                "this cannot be planned:\n" + "\n".join(f"  · {problem}" for problem in self.problems),
                next_step="change the options or the data as said above, then plan again",
            )


def few(names: Iterable[str], *, quoted: bool = True) -> str:
    """The first names in order, and how many more there are."""
    given = sorted(names)
    shown = ", ".join(repr(name) if quoted else name for name in given[:SHOWN])
    return f"{shown} and {len(given) - SHOWN:,} more" if len(given) > SHOWN else shown


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
