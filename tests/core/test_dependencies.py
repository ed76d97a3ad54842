"""Each dependency has its reason in docs/dependencies.md, and each reason its dependency."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = re.compile(r"[A-Za-z0-9._-]+")


def test_every_dependency_stands_in_its_groups_table_with_a_reason() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    page = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    tables = [re.findall(r"^\| ([A-Za-z0-9._-]+) \| \S", part, re.MULTILINE) for part in page.split("\n## ")[1:]]

    declared = [{found[0] for entry in group if (found := NAME.match(entry))} for group in groups]

    assert [sorted(set(table) - {"package"}) for table in tables] == [sorted(group) for group in declared]
