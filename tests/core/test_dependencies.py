"""Each dependency has its reason in docs/dependencies.md, each reason its dependency, each import its declaration."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = re.compile(r"[A-Za-z0-9._-]+")
OURS = ("vecfleet", "migrations", "orchestrator", "workers", "emulator")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(*groups: list[str]) -> set[str]:
    return {found[0] for group in groups for entry in group if (found := NAME.match(entry))}


def test_every_dependency_stands_in_its_groups_table_with_a_reason() -> None:
    page = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    groups = [part.partition("\n### ")[0] for part in page.split("\n## ")[1:]]  # what follows is in no group of ours
    tables = [re.findall(r"^\| ([A-Za-z0-9._-]+) \| \S", group, re.MULTILINE) for group in groups]

    declared = [named(group) for group in (PROJECT["dependencies"], *EXTRAS.values())]

    assert [sorted(set(table) - {"package"}) for table in tables] == [sorted(group) for group in declared]


@pytest.mark.parametrize("folder", OURS)
def test_whatever_is_imported_is_declared_and_never_there_by_chance(folder: str) -> None:
    """A package that only another one needs is gone once that one needs it no more."""
    declared = {_folded(name) for name in named(PROJECT["dependencies"], *EXTRAS.values())}
    packages = packages_distributions()
    undeclared = {
        (module, path.relative_to(REPOSITORY).as_posix())
        for path in (REPOSITORY / folder).rglob("*.py")
        for module in _imported(path)
        if not declared & {_folded(package) for package in packages.get(module, [])}
    }
    assert undeclared == set()


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(path: Path) -> set[str]:
    """Return the packages of others that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {*OURS, "tests"}
