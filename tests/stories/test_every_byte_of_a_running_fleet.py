"""A stack at work erases a tenant: no dump, log, plan, export or file of Redis names it, or its certificate says so."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.stack import Stack, down
from tests.stories.launching import type_out
from tests.stories.world import SEEDS
from vecfleet.settings import Settings

pytestmark = pytest.mark.story

CREATOR = "zoe-whom-nobody-remembers"
HANDED_OUT = "handed-out"
# Vectors lie there, in the place of the vendor's storage; and dead rows and the log of Postgres, until its vacuum.
NOT_OURS = ("emulator", "postgres")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """All that `vecfleet up` starts but Flower, with the seeds' index."""
    home = tmp_path / "home"
    for name, field in Settings.model_fields.items():
        if field.default is None:
            monkeypatch.setenv(name.upper(), "none")
    monkeypatch.setenv("VECFLEET_HOME", str(home))
    monkeypatch.setenv("VECFLEET_ROOT", str(tmp_path / "root"))
    (tmp_path / "root" / "plans").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "root")
    try:
        with Stack(
            home, workers=2, dispatcher=True, web=True, emulator=True, load="seeds", settings=Settings.load()
        ) as running:
            yield running
    finally:
        down(home, erase=True)


def test_nothing_that_a_running_fleet_keeps_names_who_was_erased(stack: Stack, tmp_path: Path) -> None:
    # Given a tenant whose namespaces were moved by this fleet, proven and exported, and one with a name of its own
    root, home = tmp_path / "root", tmp_path / "home"
    typed(stack, "plan", "creators", SEEDS, "--creator", CREATOR, "--default", "twin", "--soak-seconds", "0",
          *("--conflicts", "keep", "--exclusive", "--out", "plans/move.yaml"))  # fmt: skip
    typed(stack, "apply", "plans/move.yaml", "--no-backup", "--watch")
    typed(stack, "cutover", "1", "--percent", "100")
    typed(stack, "cleanup", "1", "--yes", "--watch")
    typed(stack, "plan", "export", SEEDS, "exports/before", "--out", "plans/export.yaml")
    typed(stack, "apply", "plans/export.yaml", "--watch")
    for place in (home / "redis", home / "logs", root / "plans", root / "exports"):
        assert names_in(place), f"nothing names the tenant below {place.name}: this test would show nothing"
    assert CREATOR in dump(stack)

    # When the tenant is erased, which first gets what is its own
    erased = typed(stack, "forget", "--creator", CREATOR, "--export", HANDED_OUT, "--yes", "--json")

    # Then no row of the database and no file names it, while the fleet runs on
    assert erased["confirmed"] and erased["records"] >= 805
    assert CREATOR not in dump(stack)
    kept = [path for path in names_in(tmp_path) if path.relative_to(tmp_path).parts[1] not in NOT_OURS]
    # But for what the tenant got, of which its certificate says that it stays
    assert kept and all(HANDED_OUT in path.parts for path in kept), kept
    assert any("forget --export" in left for left in erased["certificate"]["residual"])
    # And no export of before holds a record of it any more
    assert not list((root / "exports").rglob("*.parquet"))


def typed(stack: Stack, *words: str) -> Any:
    """Run a command as a shell does that joined the stack; its JSON, where it was asked for that."""
    done = type_out(*words, env={**os.environ, **stack.environment, "USER": "somebody"}, folder=Path.cwd())
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout) if "--json" in words else done.stdout


def names_in(place: Path) -> list[Path]:
    """The files below it in which the tenant's name stands, or whose own name it is part of."""
    files = [path for path in place.rglob("*") if path.is_file()]
    return [path for path in files if CREATOR in str(path) or CREATOR.encode() in path.read_bytes()]


def dump(stack: Stack) -> str:
    """All that `pg_dump` writes of the job table."""
    [server] = [one for one in stack._servers if isinstance(one, Postgres)]
    address = urlsplit(server.url)
    return subprocess.run(
        [server._binaries / "pg_dump", "--host=127.0.0.1", f"--port={server.port}", "--username=vecfleet", "vecfleet"],
        env={**os.environ, "PGPASSWORD": address.password or ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
