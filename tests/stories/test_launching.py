"""A process that starts warm is the one that a person would start: the same words, the same end."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.stories.launching import LOADED, cold, warm, write_program
from tests.stories.world import PATIENCE_S

NOTHING = {"DATABASE_URL": "none", "REDIS_URL": "none", "PINECONE_API_KEY": "none"}


@pytest.mark.parametrize("words", [("--help",), ("status", "x"), ("worker",)], ids=" ".join)
def test_it_says_the_same_and_ends_alike(tmp_path: Path, words: tuple[str, ...]) -> None:
    # Given a command that is typed cold, warm, and into a shell
    said = []
    for launch in (cold, warm):
        log = tmp_path / f"{len(said)}.log"
        process = launch("a command", "orchestrator", *words, log=log, env=os.environ | NOTHING)
        assert process.child is not None
        said.append((process.child.wait(PATIENCE_S), log.read_text()))
    write_program(tmp_path / "vecfleet")
    typed = subprocess.run(
        [tmp_path / "vecfleet", *words],
        env=os.environ | NOTHING,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    # Then nobody can tell them apart
    assert said[0] == said[1] == (typed.returncode, typed.stdout)


def test_one_that_is_killed_says_by_what(tmp_path: Path) -> None:
    process = warm("an emulator", "emulator", "--port", "0", log=tmp_path / "log", env=os.environ)
    process.wait_until(lambda: "http://" in process.log.read_text(), PATIENCE_S)
    os.kill(process.pid, 9)
    assert process.child is not None and process.child.wait(PATIENCE_S) == -9
    assert not process.alive() and process.ending() == "by signal SIGKILL"


@pytest.mark.parametrize("module", LOADED)
def test_what_is_to_be_loaded_beforehand_is_there(module: str) -> None:
    """Python's fork server passes over what it cannot find."""
    assert importlib.import_module(module)
