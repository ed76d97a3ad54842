"""The emulator, installed by itself as docs/emulator.md says, serves the page's own example. `make compat` does it."""

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.compat.conftest import ENVIRONMENTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "emulator.md"
PROGRAMS = ENVIRONMENTS / "emulator" / "bin"

pytestmark = pytest.mark.skipif(not PROGRAMS.exists(), reason="the emulator is not installed; `make compat` does it")


def example() -> str:
    """Return the page's test of LangChain's vector store, as it stands."""
    found = re.search(r"^    from langchain_core.*?(?=^\S)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{PAGE.name} shows no test of LangChain's vector store"
    return textwrap.dedent(found[0])


def test_the_page_s_langchain_example_passes_by_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["emulator.testing"]\n', "utf-8")
    (tmp_path / "test_notes.py").write_text(example(), "utf-8")
    ran = subprocess.run(
        [PROGRAMS / "python", "-P", "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_it_comes_without_the_fleet_and_its_command_says_where_it_listens(tmp_path: Path) -> None:
    listed = subprocess.run([PROGRAMS / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True)
    installed = {line.split()[0].lower() for line in listed.stdout.splitlines()[2:]}
    assert "vecfleet-emulator" in installed
    assert installed.isdisjoint({"vecfleet", "celery", "sqlalchemy", "pyarrow"})
    with subprocess.Popen(
        [PROGRAMS / "pinecone-emulator", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        process.terminate()
    assert ready["control"].startswith("http://127.0.0.1:")
