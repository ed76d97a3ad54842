"""Commands that people are told to type can be typed as they stand: those of a job's `next:` and `waits:`, and all."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from readings import NOW, policies, reading, totals
from test_next_steps import OF_ATTENTION, OF_STATES
from test_what_errors_say import trees
from typer.main import get_command

from orchestrator.cli.commands import COMMANDS, GROUPS, build
from orchestrator.core.next_steps import next_steps
from orchestrator.core.progress import progress
from orchestrator.core.reading import Reading
from orchestrator.core.states import JobState
from orchestrator.core.wording import another_plan, plan_keeping

TYPED = ("plan", "creators", "brain", "--creator", "ana", "--skip", "two words")
FILLED = "§"
KEEPING = "vecfleet plan creators brain --creator ana --skip 'two words' --conflicts keep"
RECIPES = ("creators", "namespaces", "index", "reembed", "documents", "export", "import", "stores", "tables", "reverse")
UNNUMBERED = "until clean-up `vecfleet rollback`; after it `vecfleet plan reverse`"  # as the job table holds it
SEEN = [
    *(seen for seen, _ in OF_STATES),
    *(reading(state, way_back=UNNUMBERED) for state in JobState),
    *(reading(JobState.NEEDS_ATTENTION, **given) for given, _ in OF_ATTENTION),
    *(
        reading(state, conflicting=3, undecided=3, command=command)
        for state in (JobState.NEEDS_ATTENTION, JobState.CANCELLED, JobState.ROLLED_BACK)
        for command in ((), TYPED)
    ),
    reading(JobState.RUNNING, led=False),
    reading(JobState.RUNNING, unanswered=4, unanswered_since=NOW.replace(year=2020)),
    reading(JobState.VERIFIED, recipe="index", policies=policies(cut_over="none", writers="delta")),
    reading(JobState.VERIFIED, totals=totals(left_behind=9)),
]


@cache
def commands() -> dict[str, Any]:
    return get_command(build()).commands  # type: ignore[attr-defined,no-any-return]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that these words name, and the words after its name."""
    command = commands()[words[0]]
    inner = getattr(command, "commands", None)
    return (inner[words[1]], words[2:]) if inner else (command, words[1:])


def parse(line: str) -> None:
    """Read a command line as the program does; it says itself what is wrong with it."""
    program, *words = shlex.split(line)
    assert program == "vecfleet", line
    command, rest = find(words)
    if rest != ["--help"]:
        command.make_context(line, rest)


@pytest.mark.parametrize("seen", SEEN)
def test_each_step_and_each_command_in_a_wait_can_be_typed_as_printed(seen: Reading) -> None:
    view = progress(seen)
    waits = [code for wait in view.waits for code in re.findall("`([^`]+)`", wait)]
    way_back = re.findall("`([^`]+)`", view.way_back or "")
    for line in (*view.next_steps, *waits, *way_back):
        parse(line)


@pytest.mark.parametrize("line", ["vecfleet plan creators brain … more --conflicts keep", "vecfleet status 7 --wait"])
def test_a_line_that_cannot_be_typed_is_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)unexpected extra argument|no such option"):
        parse(line)


def test_a_job_whose_records_only_another_plan_moves_names_that_plan_whole() -> None:
    [wait] = progress(reading(JobState.NEEDS_ATTENTION, conflicting=3, undecided=3, command=TYPED)).waits
    assert f"to move them as they are, `vecfleet rollback 7`, then `{KEEPING}`; or accept" in wait
    back = reading(JobState.ROLLED_BACK, conflicting=3, command=TYPED)
    assert next_steps(back) == (KEEPING, "vecfleet report 7")


@pytest.mark.parametrize("chosen", [("--conflicts", "fail"), ("--conflicts=fail",)])
def test_a_choice_that_was_typed_is_replaced_and_not_typed_twice(chosen: tuple[str, ...]) -> None:
    assert plan_keeping("creators", (*TYPED, *chosen)) == KEEPING


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_plan_of_before_leads_to_the_options_of_its_recipe(recipe: str) -> None:
    assert f"plan {recipe}" in COMMANDS
    parse(plan_keeping(recipe, ()))
    told = another_plan(2, recipe, (), ("vecfleet rollback 7",))
    assert f"the plan again, with --conflicts keep (`vecfleet plan {recipe} --help` shows its options)" in told


def told() -> Iterator[tuple[str, str]]:
    """Yield each command line in the code: in backticks, or a text of its own. FILLED stands for what is filled in."""
    for place, tree in trees().items():
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            match node:
                case ast.JoinedStr(values=values):
                    text = "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in values)
                case ast.Constant(value=str(text)) if id(node) not in parts:
                    pass
                case _:
                    continue
            lines = re.findall(r"`(vecfleet [^`]+)`", text)
            if re.fullmatch("vecfleet [a-z][^,;`]*", text):
                lines.append(text)
            yield from ((f"{place}:{node.lineno}", line) for line in lines)


def trouble_of(line: str) -> str | None:
    """Say which word of a told command line the program does not know."""
    words = [word.rstrip(".:)") for word in line.partition("#")[0].split()[1:]]
    if FILLED in "".join(words[:2]) or " ".join(words).removesuffix(" --help") in (*GROUPS, "COMMAND", "--help"):
        return None
    try:
        command, rest = find(words)
    except (KeyError, IndexError):
        return "there is no such command"
    options = {"--help"}.union(*(param.opts + param.secondary_opts for param in command.params))
    unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - options
    own = command.context_settings.get("ignore_unknown_options")  # the emulator parses its own
    return f"there is no {unknown}" if unknown and not own else "…" if "…" in words else None


def test_each_command_that_the_code_tells_of_exists_with_its_options() -> None:
    lines = list(told())
    assert len(lines) > 200
    assert [f"{place}: {line}: {trouble}" for place, line in lines if (trouble := trouble_of(line))] == []


@pytest.mark.parametrize("line", ["vecfleet staus 7", "vecfleet status 7 --namespaces 50", "vecfleet audit INDEX …"])
def test_a_command_that_the_program_does_not_know_is_seen(line: str) -> None:
    assert trouble_of(line)
