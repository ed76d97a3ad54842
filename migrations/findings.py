"""Findings of planning: problems, which stop it, and warnings, which a person reads in the plan."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vecfleet.connections import ACCOUNT, PINECONE, full_name
from vecfleet.errors import BadPlan

SHOWN = 5


@dataclass(slots=True)
class Findings:
    """All findings of a plan, so that a person reads them at once."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        self.problems += other.problems
        self.warnings += other.warnings

    def found(self, text: str, *, stops: bool) -> None:
        (self.problems if stops else self.warnings).append(text)

    def raise_problems(self, look: str | None = None) -> None:
        """Raise BadPlan with every problem in its message, if there are any. `look` lists what the source holds."""
        if self.problems:
            seen = f"; {look} lists what is there" if look else ""
            raise BadPlan(
                "this cannot be planned:\n" + "\n".join(f"  · {problem}" for problem in self.problems),
                next_step=f"change the options or the data as said above, then plan again{seen}",
            )


def way_to_look(store: str, index: str) -> str | None:
    """Return the command that lists what an index of Pinecone holds; None for another store."""
    of_pinecone = store == PINECONE or store.startswith(ACCOUNT)
    return f"`vecfleet audit {full_name(store, index)}`" if of_pinecone else None


def few(names: Iterable[str], *, quoted: bool = True) -> str:
    """List the first names in order, and say how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(repr(name) if quoted else name for name in ordered[:SHOWN])
    return f"{shown} and {len(ordered) - SHOWN:,} more" if len(ordered) > SHOWN else shown


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
