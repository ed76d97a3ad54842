"""Each command says what it does, and docs/commands.md says the same."""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from reference import PLACE, commands, help_of, reference
from typer.testing import CliRunner

import orchestrator.cli
from orchestrator.cli import signatures, steering
from orchestrator.cli.commands import COMMANDS, GROUPS, OPTIONS, SECTIONS, build, listing
from orchestrator.cli.misuse import DESTROYING, MEANT

REPOSITORY = Path(orchestrator.cli.__path__[0]).parents[1]
EXPECTED = {
    *("doctor", "audit", "analyze", "check", "plan", "show", "apply", "jobs", "status", "show-evidence", "report"),
    *("retry", "verify", "cutover", "reverse", "cleanup", "rollback", "pause", "resume", "cancel", "set", "park"),
    *("migrate", "dispatcher", "worker", "flower", "emulator", "up", "down", "demo", "serve", "token", "pg"),
    *(
        "pass",
        "backup",
        "forget",
        "readmit",
        "rehearse",
        "filling",
        "wipe",
        "delete",
        "decommission",
        "pace",
        "purge",
        "audit-log",
        "notices",
    ),
    *("finish", "comment", "certify"),
}
READS = [
    ("doctor",),
    ("audit",),
    ("analyze",),
    ("check",),
    ("show",),
    ("jobs",),
    ("status",),
    ("pace",),
    ("park", "list"),
    ("show-evidence",),
    ("report",),
    ("audit-log", "verify"),
    ("certify",),
    ("token", "list"),
    ("filling", "list"),
    *(("pg", words) for words in ("search", "namespaces", "stats", "check", "collections", "collection-stats")),
]


def test_every_command_is_there() -> None:
    assert {words[0] for words in commands()} == EXPECTED
    assert {words[1] for words in commands() if len(words) > 1} == {
        "creators",
        "index",
        "reembed",
        "documents",
        "export",
        "import",
        "revoke",
        "restore",
        "reverse",
        "stores",
        "tables",
        "list",
        "accept",
        "undo",
        "create",
        "verify",
        "deletion",
        "give-up",
        "lock",
        *("setup", "process", "search", "namespaces", "stats", "create", "drop", "check", "legacy", "copy", "move"),
        *("collections", "collection-stats", "empty"),
    }


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_each_says_what_it_does(words: tuple[str, ...]) -> None:
    said = help_of(*words)
    assert said.startswith(f"Usage: vecfleet {' '.join(words)}")
    # A sentence, before the options
    assert said.split("\n\n")[1].endswith("."), said


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_each_that_only_looks_speaks_json(words: tuple[str, ...]) -> None:
    assert "--json" in help_of(*words)


# What it prints last is for a shell; or it runs on until it is stopped.
WITHOUT_NEXT = {"down", "dispatcher", "worker", "serve", "flower", "emulator"}


def calls(tree: ast.Module, name: str, seen: set[str]) -> set[str]:
    """Return what a function of this module calls, itself or by another one of the module."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name not in functions or name in seen:
        return set()
    seen.add(name)
    nodes = list(ast.walk(functions[name]))
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    said = {"next" for node in nodes if isinstance(node, ast.Constant) and str(node.value).startswith("next: ")}
    return called.union(said, *(calls(tree, one, seen) for one in called))


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - WITHOUT_NEXT))
def test_each_that_answers_says_what_is_next(words: str) -> None:
    module, _, function = COMMANDS[words].partition(":")
    tree = ast.parse(Path(import_module(f"orchestrator.cli.{module}").__file__ or "").read_text())
    assert calls(tree, function, set()) & {"say_next", "next", "write", "watch"}


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_each_ends_its_help_with_something_to_type(words: tuple[str, ...]) -> None:
    _, _, examples = help_of(*words).partition("Examples:")
    typed = [line.split() for line in examples.splitlines() if line.strip().startswith("vecfleet ")]
    assert typed and all(line[1 : len(words) + 1] == list(words) for line in typed)


def test_the_help_lists_each_command_once_in_the_section_where_a_person_looks_for_it() -> None:
    said = CliRunner().invoke(build(), ["--help"], prog_name="vecfleet").output
    listed = re.findall(r"^  ([a-z][a-z-]*) {2,}[A-Z]", said, re.MULTILINE)
    assert len(listed) == len(set(listed)) and set(listed) == EXPECTED
    places = [said.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places)
    assert listed.index("audit") < listed.index("plan") < listed.index("apply") < listed.index("cleanup")
    # And no sentence is cut short
    assert "..." not in said.partition("\nBegin:")[2]


def test_the_many_options_of_a_plan_stand_in_sections_and_each_of_them_in_one() -> None:
    said = help_of("plan", "index")
    titles = re.findall(r"^([A-Z][^:\n]*):$", said, re.MULTILINE)
    assert titles == ["Arguments", *OPTIONS]
    options = re.findall(r"^  (--[a-z-]+)", said, re.MULTILINE)
    assert options[:3] == ["--namespace", "--skip", "--out"] and len(options) == len(set(options)) > 40


def test_a_word_that_people_guess_is_no_command_and_leads_to_one() -> None:
    typed_first = {words.split()[0] for words in COMMANDS}
    assert not MEANT.keys() & typed_first
    assert set(MEANT.values()) | DESTROYING <= COMMANDS.keys()
    assert not set(MEANT.values()) & DESTROYING


def test_a_listing_that_loads_no_command_says_what_the_commands_do() -> None:
    every = build()
    for group in (None, *GROUPS):
        words = [group, "--help"] if group else ["--help"]
        loaded, read = (CliRunner().invoke(app, words, prog_name="vecfleet").output for app in (every, listing(group)))
        assert read == loaded


_OF_WORK = (
    "sqlalchemy",
    "psycopg",
    "pydantic_settings",
    "celery",
    "kombu",
    "redis",
    "pinecone",
    "grpc",
    "numpy",
    "yaml",
)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--help", "Usage: vecfleet "),
        ("plan --help", "Usage: vecfleet plan "),
        ("aply", "No such command 'aply'"),
        ("check --help", "Usage: vecfleet check "),
        ("plan creators --help", "Usage: vecfleet plan creators "),
        ("status", "Missing argument 'JOB'"),
        ("pause x", "'x' is not a job"),
    ],
)
def test_help_and_errors_of_usage_load_nothing_of_the_work(typed: str, said: str) -> None:
    """They took as long as the work, of which half a second was the loading of what was not used."""
    probe = (
        "import sys; from orchestrator.cli.app import main\n"
        f"main({typed.split()!r})\n"
        f"print([name for name in {_OF_WORK} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert said in ran.stdout + ran.stderr and ran.stdout.endswith("[]\n")


def test_what_a_command_asks_for_is_read_without_its_work_and_is_what_its_function_takes() -> None:
    probe = (
        "import sys; from orchestrator.cli.commands import build; build()\n"
        f"print([name for name in (*{_OF_WORK}, 'orchestrator.ledger', 'migrations') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ran.stdout == "[]\n"
    for words, where in COMMANDS.items():
        module, _, function = where.partition(":")
        loaded, read = getattr(import_module(f"orchestrator.cli.{module}"), function), signatures.command(where)
        assert _asked_by(read) == _asked_by(loaded), words
        assert read.__doc__ == loaded.__doc__, words


def _asked_by(command: Callable[..., None]) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(command)))


def test_a_choice_reaches_the_command_as_a_member_of_its_own_class(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[object]()
    monkeypatch.setattr(steering, "retry", lambda **given: seen.append(given["what"]))
    assert CliRunner().invoke(build("retry"), ["retry", "1", "parked"]).exit_code == 0
    assert seen[0] is steering.What.PARKED


# Verbs whose work needs no such library until it begins: who only asks the job table, or reads a plan, waits for none.
_LIGHT = (
    *("jobs", "looking", "planning", "steering", "parking", "watching", "books", "comparing", "mapping"),
    "processes",  # it becomes another program, which loads its own
)
_HEAVY = ("numpy", "pyarrow", "pinecone", "grpc", "celery", "kombu", "redis", "httpx", "structlog", "opentelemetry")


@pytest.mark.parametrize("module", _LIGHT)
def test_a_command_begins_without_the_libraries_that_it_may_not_need(module: str) -> None:
    """They took half of the second in which `vecfleet pace` answered."""
    probe = (
        f"import sys, orchestrator.cli.app, orchestrator.cli.{module}\n"
        f"print([name for name in {_HEAVY} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ran.stdout == "[]\n"


def test_a_shell_that_completes_is_told_the_options_of_any_command() -> None:
    asked = {"_VECFLEET_COMPLETE": "complete_bash", "COMP_WORDS": "vecfleet status --li", "COMP_CWORD": "2"}
    words = [sys.executable, "-P", "-m", "orchestrator"]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | asked, cwd=REPOSITORY)
    assert "--limit" in answer.stdout


def test_the_documentation_is_what_the_commands_say() -> None:
    assert PLACE.read_text(encoding="utf-8") == reference(), "write it anew: .venv/bin/python tests/cli/reference.py"


def test_it_runs_as_a_module() -> None:
    words = [sys.executable, "-P", "-m", "orchestrator", "--help"]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("Usage: vecfleet ")


def test_the_command_line_starts_workers_and_the_emulator_as_processes() -> None:
    """It never imports them."""
    for file in Path(orchestrator.cli.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"workers", "emulator"}, file
