"""The pages are right: links lead somewhere, commands and settings exist, diagrams are those of the code."""

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery.bin.celery import celery
from typer.main import get_command

from orchestrator.cli.commands import build
from vecfleet.settings import Settings
from vecfleet.tenancy.erasing import RESIDUAL

REPOSITORY = Path(__file__).resolve().parent.parent
_AT_THE_ROOT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
PAGES = sorted([*map(REPOSITORY.joinpath, _AT_THE_ROOT), *(REPOSITORY / "docs").rglob("*.md")])
SEEDS = REPOSITORY / "docs" / "from-the-seeds.md"
# Variables that other programs read: the SDK and OpenSSL, a test that is given a file.
FOREIGN = {
    *("SSL_CERT_FILE", "PINECONE_DATA_DESCRIPTION", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_BSP_SCHEDULE_DELAY"),
    *("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "AUTOSCALE_KEEPALIVE", "FLOWER_BROKER_API"),
}
LATER = ("out of scope",)
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
COMMAND_LINE = re.compile(r"^\s*(?:\$ )?(?:JOB=\$\()?(?:\.venv/bin/)?vecfleet ([a-z].*?)\)?$", re.MULTILINE)
OUR_FILE = re.compile(r"((?:tests|vecfleet|migrations|orchestrator|workers|emulator|docs)/[\w/.-]+)(?:::(\w+))?")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for address in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if address.startswith("https://"):
            continue
        path, _, heading = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{address} leads nowhere"
        assert target.is_relative_to(REPOSITORY), f"{address} leads out of the repository"
        if heading:
            assert heading in headings(target), f"{address}: there is no such heading"


@each_page
def test_commands_exist_with_their_options(page: Path) -> None:
    for line in commands_in(page.read_text()):
        words = line.split()
        command = find(words)
        assert command is not None, f"there is no command: vecfleet {line}"
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - options_of(command)
        assert not unknown, f"vecfleet {line}: there is no {unknown}"


@each_page
def test_options_named_alone_belong_to_a_command(page: Path) -> None:
    if page.parent.name == "adr":
        return  # decisions speak of other programs' options too
    known = set[str]().union(*(options_of(command) for command in every_command()), *(other_options(page),))
    for row, code in coded(ours(page)):
        if code.startswith("--") and not any(mark in row for mark in LATER):
            assert code.split()[0].partition("=")[0] in known, f"no command takes {code}"


@each_page
def test_settings_exist(page: Path) -> None:
    known = {variable for spellings in Settings.variables().values() for variable in spellings}
    for row, code in coded(page.read_text()):
        for name in re.findall(r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?==|$)", code):
            said = name in known or any(mark in row for mark in LATER) or name in names_in_code()
            assert said, f"{name} is no setting"


def test_the_state_diagrams_are_those_of_the_code() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    assert generator().generated(page) == page, "run `python docs/generate.py`"


def test_a_table_that_is_not_of_the_code_is_noticed() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    changed = page.replace("    ready --> dispatched", "    ready --> done")
    assert changed != page and generator().generated(changed) == page


@each_page
def test_tests_and_files_named_in_the_pages_exist(page: Path) -> None:
    for _, code in coded(ours(page)):
        match = OUR_FILE.fullmatch(code)
        if match is None:
            continue
        path = REPOSITORY / match[1]
        assert path.exists(), f"there is no {match[1]}"
        if match[2]:
            assert f"def {match[2]}(" in path.read_text(), f"there is no {code}"


def test_every_row_of_the_seeds_says_where_it_is() -> None:
    for row in SEEDS.read_text().splitlines():
        if row.startswith("| ") and not row.startswith("| there") and not row.startswith("| fault"):
            there, here = row.strip("| ").split(" | ")
            assert there and here


@each_page
def test_no_page_names_a_machine(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"/(?:work|home|Users|root)/\w", text)
    assert "index-url" not in text and "pypi.org" not in text


def ours(page: Path) -> str:
    """The text of a page; of the one about the seeds, without the columns that speak of theirs."""
    text = page.read_text()
    return re.sub(r"^\| .+? \| ", "| ", text, flags=re.MULTILINE) if page == SEEDS else text


def commands_in(text: str) -> Iterator[str]:
    """Every `vecfleet …` of a page: a line of a terminal, or code between backticks."""
    for match in COMMAND_LINE.finditer("\n".join(BLOCK.findall(text)) + "\n" + indented(text)):
        yield re.split(r"\s{2,}|\s#|\s\|\s", match[1])[0]
    for _, code in coded(text):
        match_one = re.match(r"(?:\.venv/bin/)?vecfleet ([a-z].*)", code)
        if match_one:
            yield match_one[1]


def indented(text: str) -> str:
    return "\n".join(line for line in BLOCK.sub("", text).splitlines() if line.startswith("    "))


def coded(text: str) -> Iterator[tuple[str, str]]:
    """Code between backticks, each with the table row or paragraph that it stands in."""
    for paragraph in re.split(r"\n(?=\||\s*\n|- |\d\. )", BLOCK.sub("", text)):
        prose = re.sub(r"\n\s*", " ", paragraph)
        for code in re.findall(r"`([^`]+)`", prose):
            yield prose, code


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@cache
def commands() -> dict[str, Any]:
    return get_command(build()).commands  # type: ignore[attr-defined,no-any-return]


def find(words: list[str]) -> Any:
    command = commands().get(words[0].rstrip(".,;:"))
    inner = getattr(command, "commands", None)
    return inner.get(words[1]) if inner and len(words) > 1 else command


def every_command() -> Iterator[Any]:
    for command in commands().values():
        yield from getattr(command, "commands", {None: command}).values()


def options_of(command: Any) -> set[str]:
    inner = getattr(command, "commands", {}).values()
    return {"--help"}.union(*(param.opts + param.secondary_opts for param in command.params), *map(options_of, inner))


def other_options(page: Path) -> set[str]:
    """Options of other programs that this page is about."""
    if page.name in ("emulator.md", "running.md"):
        return set(re.findall(r'"(--[a-z-]+)"', (REPOSITORY / "emulator" / "__main__.py").read_text())) | {"--scale"}
    if page.name in ("celery.md", "CHANGELOG.md"):
        params = [*celery.params, *celery.commands["worker"].params]
        return {option for param in params for option in param.opts} | {"--conf", "--share"}
    return {"--share"}


@cache
def names_in_code() -> set[str]:
    folders = ("orchestrator", "workers", "emulator")
    texts = (path.read_text() for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))
    found = {name for text in texts for name in re.findall(r"^([A-Z][A-Z0-9_]+)\b", text, re.MULTILINE)}
    return found | FOREIGN


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", REPOSITORY / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GLOSSARY = REPOSITORY / "docs" / "glossary.md"
# The words of before stand in decisions and in what was released, and the glossary names them.
MAY_NAME_OLD_WORDS = ("docs/adr/", "docs/glossary.md", "CHANGELOG.md")


def words_not_to_use() -> list[str]:
    rows = [line.strip("|").split("|") for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
    return [word.strip() for row in rows if row[0].strip() != "word" for word in row[2].split(",") if word.strip()]


def replaced_words() -> re.Pattern[str]:
    """Return a pattern of the words not to use, alone and as a part of a name, between underscores."""
    words = "|".join(words_not_to_use())
    return re.compile(rf"(?<![^\W_])({words})(?:s|ed|ing)?(?![^\W_])", re.IGNORECASE)


def test_a_word_that_the_glossary_replaces_is_used_nowhere() -> None:
    unwanted = replaced_words()
    files = [
        path
        for folder in ("vecfleet", "migrations", "orchestrator", "workers", "emulator", "benchmarks", "tests", "docs")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".md", ".html") and not path.name.endswith("_pb2.py")
        if not str(path.relative_to(REPOSITORY)).startswith(MAY_NAME_OLD_WORDS)
    ]
    used = [
        f"{path.relative_to(REPOSITORY)}:{number}: {match[0]}"
        for path in [*files, REPOSITORY / "README.md"]
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for match in unwanted.finditer(line)
    ]
    assert len(words_not_to_use()) >= 8
    assert used == []


def test_a_replaced_word_is_seen_inside_a_name_too() -> None:
    word = words_not_to_use()[-1]
    names = (f"_{word.upper()}", f"to_{word}", f"{word}ed", f"re{word}")
    assert [name for name in names if replaced_words().search(name)] == list(names[:3])


# A sentence that opens so is a question half asked: its subject comes late.
QUESTION_WORDS = {"what", "whose", "which", "who", "how", "where", "whether", "when", "why", "those"}


def docstrings_of(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of modules, classes and functions, and those that stand below a constant or a field."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
        if isinstance(node, ast.Module | ast.ClassDef):
            for above, below in pairwise(node.body):
                match above, below:
                    case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                        yield text


def question_openings(text: str) -> list[str]:
    docstrings = docstrings_of(ast.parse(text))
    return [docstring for docstring in docstrings if docstring[:12].split(" ")[0].lower() in QUESTION_WORDS]


def test_every_docstring_opens_with_a_verb_or_a_noun() -> None:
    modules = [
        path
        for folder in ("vecfleet", "migrations", "orchestrator", "workers", "emulator", "tests", "benchmarks", "docs")
        for path in (REPOSITORY / folder).rglob("*.py")
        if "versions" not in path.parts  # a revision that was released stays as it is
    ]
    openings = {str(path.relative_to(REPOSITORY)): question_openings(path.read_text()) for path in modules}
    assert {module: docstrings for module, docstrings in openings.items() if docstrings} == {}


@pytest.mark.parametrize("documented", ["def size() -> int:\n    ", "SIZE = 4\n", "class Record:\n    size: int\n    "])
def test_a_docstring_that_opens_with_a_question_word_is_seen(documented: str) -> None:
    assert question_openings(f'{documented}"""What a record weighs."""\n') == ["What a record weighs."]


def test_every_secret_of_the_settings_has_a_row_that_says_how_to_change_it() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text()
    rows = page.partition("## How to change every secret")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in rows.splitlines() if line.startswith("|")]
    secrets = {Settings.variables()[field][0] for field in Settings.secrets()}
    assert secrets - {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set()


# A certificate's own words, and the page's, about each place that an erasure cannot reach.
OUT_OF_REACH = [
    ("no job read or wrote", "indexes in any account that neither a job nor `--index` named"),
    ("backups of the index", "Backups of an index"),
    ("vendor's own storage", "the vendor's own storage"),
    ("write-ahead log", "write-ahead log"),
    ("plan files that a person put elsewhere", "plan files outside `VECFLEET_ROOT/plans`"),
    ("Flower", "what Flower shows"),
    ("log lines of messages", "log lines of messages"),
    ("an application that was not stopped", "an application that was not stopped"),
    ("`vecfleet forget --export` wrote", "`vecfleet forget --export` wrote"),
    ("other folders of exports", "other folders of exports"),
    ("copies that the application", "copies that an application"),
]


def test_the_page_and_the_certificate_say_the_same_of_what_an_erasure_cannot_reach() -> None:
    page = (REPOSITORY / "docs" / "data-we-keep.md").read_text()
    section = page.partition("## What an erasure cannot reach")[2].partition("\n## ")[0]
    assert len(RESIDUAL) == len(OUT_OF_REACH)
    for sentence, (of_certificate, of_page) in zip(RESIDUAL, OUT_OF_REACH, strict=True):
        assert of_certificate in sentence and of_page in section


# Whoever copies a line of a page has jobs of their own: a number there would be another job's. What a terminal showed
# stands after its `$`; flower.md describes what a program prints.
CHANGING = "retry|verify|pass|cutover|cleanup|park accept|park undo|pause|resume|set|reverse|finish|cancel|rollback"
NUMBERED = re.compile(rf"vecfleet (?:{CHANGING}|plan reverse) \d+|\bJOB=\d+")


def numbered(text: str) -> list[str]:
    """Return the commands for copying that change a job by a number of the page's own."""
    copied = [line for line in indented(text).splitlines() if not re.match(r"\s*(?:\$|next:|or:)", line)]
    return NUMBERED.findall("\n".join([*copied, *(code for _, code in coded(text))]))


@each_page
def test_no_page_changes_a_job_by_a_number_of_its_own(page: Path) -> None:
    if page.name not in ("CHANGELOG.md", "flower.md") and page.parent.name != "adr":
        assert numbered(page.read_text()) == [], "take the number from `apply --number`, and type $JOB"


@pytest.mark.parametrize(
    "line", ["    vecfleet rollback 1 --yes", "then `vecfleet pass 7`", "    JOB=1\n    vecfleet report 1"]
)
def test_a_number_of_the_pages_own_is_seen(line: str) -> None:
    assert len(numbered(line)) == 1


@pytest.mark.parametrize(
    "line", ["    $ vecfleet finish 1", "    vecfleet status 1", "    vecfleet rollback $JOB --yes"]
)
def test_a_terminals_output_and_a_readers_number_may_stand(line: str) -> None:
    assert numbered(line) == []
