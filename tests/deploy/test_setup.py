"""`make setup` on a machine that lacks something says what to install; it never leaves half a set-up unnoticed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

OLD_PYTHON = "exit 1"
WITHOUT_ENSUREPIP = """
case "$2" in
    *ensurepip*) exit 1 ;;
    *print*) echo 3.12 ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with a shell, a fresh clone, and no Python yet."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "clone" / "bin").mkdir(parents=True)
    shutil.copy(REPOSITORY / "bin" / "setup", tmp_path / "clone" / "bin")
    for program in ("sh", "dirname"):
        (tmp_path / "programs" / program).symlink_to(shutil.which(program) or "")
    return tmp_path


def test_without_python_it_says_what_to_install(machine: Path) -> None:
    said = setup(machine)
    assert said.returncode != 0
    assert "No Python 3.11 or newer" in said.stderr and "next: install one" in said.stderr


def test_a_python_that_is_too_old_does_not_count(machine: Path) -> None:
    give_python(machine, OLD_PYTHON)
    assert "No Python 3.11 or newer" in setup(machine).stderr


def test_debians_python_without_ensurepip_is_told_from_none(machine: Path) -> None:
    give_python(machine, WITHOUT_ENSUREPIP)
    said = setup(machine)
    assert said.returncode != 0
    assert "apt-get install python3.12-venv" in said.stderr


def test_the_pinned_set_names_no_index_and_pins_everything() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    assert lines and all("==" in line and "/" not in line for line in lines)


def test_every_target_that_runs_something_sets_up_first() -> None:
    # Given what make would do for each target on a clone without .venv
    help_text = make("help")
    targets = [line.split()[1] for line in help_text.splitlines() if line.startswith("make ")]
    assert {"setup", "demo", "test", "lint", "bench"} <= set(targets)
    # Then it is to run the set-up, unless it has
    for target in targets:
        assert "bin/setup" in make("-n", "-W", "requirements.lock", target)


def make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


def setup(machine: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "bin/setup"],
        cwd=machine / "clone",
        env={"PATH": str(machine / "programs")},
        capture_output=True,
        text=True,
        check=False,
    )


def give_python(machine: Path, script: str) -> None:
    python = machine / "programs" / "python3"
    python.write_text(f"#!{os.path.realpath(shutil.which('sh') or '')}\n{script}")
    python.chmod(0o755)
