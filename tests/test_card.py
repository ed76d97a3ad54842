"""The user's card: the folders they named are there, and the eight packages they named are declared and used."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("workers", "orchestrator", "migrations", "tests")
FILES = ("docker-compose.yml", "pyproject.toml", "README.md")
PACKAGES = ("celery", "redis", "pinecone", "supabase", "sqlalchemy", "flower", "tenacity", "pytest")


def declared() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + [
        one for group in project["optional-dependencies"].values() for one in group
    ]
    return {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


@cache
def imported() -> dict[str, set[str]]:
    """Package → the modules of ours that import it."""
    users: dict[str, set[str]] = {}
    for folder in (*FOLDERS, "vecfleet"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in names:
                    users.setdefault(name.split(".")[0], set()).add(path.relative_to(REPOSITORY).as_posix())
    return users


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folders_of_the_card_are_there_and_hold_code(folder: str) -> None:
    assert any((REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_the_files_of_the_card_are_there_and_say_something(file: str) -> None:
    assert len((REPOSITORY / file).read_text(encoding="utf-8").split()) > 20


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_of_the_card_is_declared_and_used(package: str) -> None:
    assert package in declared()
    assert imported().get(package), f"only declared: {package}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_of_the_card_is_pinned(package: str) -> None:
    pinned = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").lower().splitlines()
    assert any(line.startswith(f"{package}==") for line in pinned)


# Flower is a program and pytest a tool: both run beside our code, which therefore does not import them.
@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"flower", "pytest"}))
def test_each_library_of_the_card_is_used_by_the_product_itself(package: str) -> None:
    assert {user for user in imported()[package] if not user.startswith("tests/")}
