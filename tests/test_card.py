"""The shape that the user fixed: the folders and files at the top, and the eight packages, declared and used."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("celery", "redis", "pinecone", "supabase", "sqlalchemy", "flower", "tenacity", "pytest")
OURS = ("vecfleet", "migrations", "orchestrator", "workers", "tests")


@pytest.mark.parametrize(
    "path",
    ["workers", "orchestrator", "migrations", "tests", "docker-compose.yml", "pyproject.toml", "README.md"],
)
def test_the_top_level_is_the_users(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_declared_pinned_and_imported(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for group in project["optional-dependencies"].values() for name in group),
    ]
    assert any(line.split(">")[0].split("[")[0].strip() == package for line in declared)
    pinned = (ROOT / "requirements.lock").read_text().lower().splitlines()
    assert any(line.startswith(f"{package}==") for line in pinned)
    assert any(package in imported(file) for folder in OURS for file in (ROOT / folder).rglob("*.py"))


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found
