"""`make setup` on a machine that lacks something says what to install; it never leaves half a set-up unnoticed."""

import os
import re
import shutil
import subprocess
import tomllib
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


@pytest.mark.parametrize("name", ["requirements.lock", "image.lock"])
def test_the_pinned_set_names_no_index_and_has_the_hashes_of_everything(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    assert "/" not in text and "--index" not in text
    entries = text.replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        package, *hashes = entry.split()
        assert "==" in package, entry
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), package


def test_pip_is_told_to_take_nothing_without_its_hash() -> None:
    for file in ("bin/setup", "Dockerfile"):
        installing = [line for line in (REPOSITORY / file).read_text().splitlines() if "pip install" in line]
        assert all("--require-hashes" in line or "--no-deps" in line for line in installing), file


def test_what_processes_start_from_is_compiled_once() -> None:
    """Each process finds bytecode: with PYTHONDONTWRITEBYTECODE, as in the image, it would compile all of it again."""
    typed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]
    for file in ("bin/setup", "Dockerfile"):
        [line] = [line for line in (REPOSITORY / file).read_text().splitlines() if "-m compileall" in line]
        assert set(line.partition("-q ")[2].split()) == {*typed} - {"benchmarks"}, file


def test_the_image_holds_what_runs_and_nothing_that_tests() -> None:
    pinned, image = _packages("requirements.lock"), _packages("image.lock")
    assert image.items() <= pinned.items()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    runs = {_name(each) for each in (*project["dependencies"], *groups["fleet"])}
    assert runs <= set(image)
    assert set(image) & ({_name(each) for each in groups["dev"]} - runs) == {"hatchling"}  # it installs us


def _packages(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text().splitlines()
    return {_name(line): line.split()[0].partition("==")[2] for line in lines if "==" in line}


def _name(entry: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", entry)[0].lower().replace("_", "-").replace(".", "-")


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
