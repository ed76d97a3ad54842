"""The report of a life that is over."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """The outcome of a seed."""

    seed: int
    seconds: float = 0.0
    hit: Counter[str] = field(default_factory=Counter)
    state: str = ""
    wrong: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> "Outcome":
        """Read what `vars` of one says, after JSON."""
        return cls(**told | {"hit": Counter(told["hit"])})
