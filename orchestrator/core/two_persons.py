"""Two persons: the acts that the operator may leave to two, and who counts as one. Pure.

Each of the two asks by themselves, under a name of their own: that of an account, or that of a token. An account or a
token that several share is one person, and so is an application that speaks for its users. A name that is nobody's own
is no person at all: it is neither the first nor the second.
"""

from collections.abc import Iterable
from enum import StrEnum

from orchestrator.core.hooks import POLICY

OF_THE_SETTINGS = "operator"
"""Author of acts under OPERATOR_TOKEN, which any number of people may know."""
UNNAMED = "an application"
"""Holder of a token for which no name was given."""
_NOBODY = frozenset({POLICY, OF_THE_SETTINGS, UNNAMED})


class TwoPersons(StrEnum):
    """Acts that the operator's file may leave to two persons."""

    CLEAN_UP = "clean-up"
    ERASURE = "erasure"


def person_of(who: str) -> str | None:
    """Return the person behind an act's author, the same for all tokens of one name; None if it names nobody."""
    name = who.partition(" (")[0].partition(", for ")[0].strip().casefold()
    return None if not name or name in _NOBODY else name


def other_person(who: str, asked: Iterable[str]) -> str | None:
    """Return the first of those that asked who is another person than this one; None if none of them is."""
    person = person_of(who)
    return next((first for first in asked if person and person_of(first) not in (None, person)), None)


def alone(act: str, asked: Iterable[str]) -> str:
    """Say that an act waits for two, and who asked for it so far."""
    first = next(filter(person_of, asked), None)
    if first is None:
        return f"waits for two persons for the {act}"
    return f"waits for a second person for the {act}: {first} asked for it"
