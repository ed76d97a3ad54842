"""Errors as a set: each says what happened and why, and what to do next; where it does not, a list says who does."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import vecfleet
from vecfleet import errors

REPOSITORY = Path(vecfleet.__path__[0]).parent
FOLDERS = ("vecfleet", "migrations", "orchestrator", "workers")
# Of these the fleet itself knows what to do, by the table in orchestrator/core/retrying.py. A person who meets one at
# the command line is told `vecfleet doctor`.
FLEET_DECIDES = {
    "Transient": "tried again",
    "RateLimited": "waited for",
    "Unavailable": "waited for",
    "TimedOut": "tried again",
    "UnusableAnswer": "tried again",
    "TooLarge": "halved",
    "BadRequest": "its record is parked, and `vecfleet park list` names it with what to type",
}
SAID_ELSEWHERE = {
    "NoSlotSoon": "waited for",
    "MuchLeftBehind": "orchestrator/services/left_behind.py: the command that says that it is meant",
    "TooOften": "orchestrator/web/throttle.py: in how many seconds to try again",
}
NOBODY_MEETS = {"vecfleet/stores/memory.py": "a store for tests"}


@dataclass(frozen=True)
class Made:
    """An error made in the code."""

    place: str
    kind: str
    says_next: bool


def family() -> set[str]:
    """Every class of ours that is a VecfleetError, by name."""
    bases: dict[str, set[str]] = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(ast.unparse(base).split(".")[-1] for base in node.bases)
    found = {errors.VecfleetError.__name__}
    while more := {name for name, own in bases.items() if own & found} - found:
        found |= more
    return found


@cache
def trees() -> dict[str, ast.Module]:
    """Every module by its path."""
    return {
        str(path.relative_to(REPOSITORY)): ast.parse(path.read_text())
        for folder in FOLDERS
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }


def made() -> Iterator[Made]:
    kinds = family()
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            kind = ast.unparse(node.exc.func).split(".")[-1]
            if kind in kinds:
                said = {keyword.arg for keyword in node.exc.keywords}
                yield Made(f"{file}:{node.lineno}", kind, "next_step" in said or None in said)


@cache
def that_say_it_themselves() -> set[str]:
    """Return the classes whose constructor gives each of their errors a next step."""
    return {
        node.name
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        if ast.unparse(call.func) == "super().__init__" and "next_step" in {given.arg for given in call.keywords}
    }


def given_codes() -> Iterator[str]:
    """Yield every code that is written out, of an error or of an objection."""
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                if isinstance(node.value.value, str):
                    yield node.value.value
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Objection":
                yield from (part.value for part in node.args[:1] if isinstance(part, ast.Constant))


def test_each_error_says_what_to_do_next_or_a_list_says_who_does() -> None:
    silent = [
        f"{one.place}: {one.kind}"
        for one in made()
        if not one.says_next
        and one.kind not in FLEET_DECIDES
        and one.kind not in SAID_ELSEWHERE
        and one.kind not in that_say_it_themselves()
        and one.place.partition(":")[0] not in NOBODY_MEETS
    ]
    assert silent == []


def test_each_refusal_has_a_code_of_its_own() -> None:
    """Unless an objection, which has one, is what it says."""
    by_objection = {"why", "landing"}
    without = [
        f"{file}:{node.lineno}"
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] == "Refused"
        and not {"code", "objections"} & {keyword.arg for keyword in node.keywords}
        and not (node.args and ast.unparse(node.args[0]) in by_objection)
    ]
    assert without == []


def test_a_code_is_a_short_noun_phrase_and_no_code_is_the_name_of_a_class() -> None:
    codes = set(given_codes())
    assert len(codes) > 50
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+){1,4}", code) for code in codes), codes
    assert errors.NotFound.code == "not-found" and errors.VecfleetError().to_json()["code"] == "fault"
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VecfleetError)
    ]
    assert not codes & {kind.code for kind in kinds}


def test_a_refusal_by_objections_is_told_with_the_code_of_each() -> None:
    objections = [errors.Objection("soak-time", "the soak time lasts"), errors.Objection("verdict-old", "it is old")]
    refusal = errors.Refused(objections=objections, next_step="wait")
    assert refusal.message == "the soak time lasts; it is old"
    assert refusal.to_json() == {
        "code": "soak-time",
        "message": refusal.message,
        "next_step": "wait",
        "objections": [
            {"code": "soak-time", "message": "the soak time lasts"},
            {"code": "verdict-old", "message": "it is old"},
        ],
    }


def test_the_lists_name_nothing_that_is_not_there() -> None:
    there = {one.kind for one in made()} | set(dir(errors))
    assert set(FLEET_DECIDES) | set(SAID_ELSEWHERE) <= there
    assert all((REPOSITORY / file).exists() for file in NOBODY_MEETS)


@pytest.mark.parametrize("kind", sorted(FLEET_DECIDES))
def test_what_the_fleet_decides_itself_is_of_a_store(kind: str) -> None:
    assert issubclass(getattr(errors, kind), errors.StoreError)


def _text(value: ast.expr) -> str:
    """Return a sentence as it is written, X for what is filled in."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) if isinstance(part, ast.Constant) else "X" for part in parts)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return "X"


def test_a_command_in_a_sentence_stands_in_backticks_and_a_command_alone_does_not() -> None:
    """Readers copied backticks with the commands, and took halves of sentences for commands."""
    uneven = []
    for place, tree in trees().items():
        values = (word.value for word in ast.walk(tree) if isinstance(word, ast.keyword) and word.arg == "next_step")
        for value in values:
            for said in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
                plain = re.sub("`[^`]*`", "", _text(said))
                if "vecfleet " in plain and not re.fullmatch("vecfleet [^,;]+", plain):
                    uneven.append(f"{place}:{said.lineno}: {_text(said)}")
    assert not uneven
    step = errors.BadInput("no", next_step="`vecfleet jobs`").next_step
    assert step == "vecfleet jobs"
    assert errors.BadInput("no", next_step="`vecfleet jobs` lists them").next_step == "`vecfleet jobs` lists them"
