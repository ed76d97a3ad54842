"""The command by which a person confirms what went missing: reasons name it, and it is found in them again. Pure.

A reason is kept as a sentence with its job or batch. It holds the number of records and, where it is about one target,
that target's name; so what is printed as `next:` needs nothing to be filled in.
"""

import re
import shlex
from collections.abc import Iterable, Mapping

_NAMED = re.compile(r"`(vecfleet set \d+ missing [^`]+)`")


def confirmation(job_id: int, count: int, target: str | None = None) -> str:
    """Return the command that confirms `count` missing records, of each source or of one target."""
    return f"vecfleet set {job_id} missing {count}" + (f" --target {shlex.quote(target)}" if target else "")


def numbers_in(reasons: Iterable[str]) -> dict[str | None, int]:
    """Return what the commands in these reasons confirm: the largest number by target; None stands for the job."""
    largest: dict[str | None, int] = {}
    for command in (command for reason in reasons for command in _NAMED.findall(reason)):
        match _words(command)[4:]:
            case [number, *of] if number.isdigit() and (not of or (len(of) == 2 and of[0] == "--target")):
                target = of[1] if of else None
                largest[target] = max(int(number), largest.get(target, 0))
    return largest


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # cut short, or the name of its target holds a backtick
        return []


def confirmations(job_id: int, wanted: Mapping[str | None, int], said: Mapping[str | None, int]) -> tuple[str, ...]:
    """Return the commands that confirm what is `wanted` and was not `said` yet, by target."""
    return tuple(
        confirmation(job_id, count, target) for target, count in wanted.items() if count > said.get(target, -1)
    )
