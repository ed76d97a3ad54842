"""The emulator by itself: a wheel of its own, light, with a command and a fixture for pytest."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

EMULATOR = Path(__file__).resolve().parents[2] / "emulator"
TESTS = """
from pinecone import Pinecone

def client(emulator):
    return Pinecone(api_key="any", host=emulator.host)

def test_one_makes_an_index(pinecone_emulator):
    client(pinecone_emulator).create_index(name="things", dimension=2)
    assert [call["operation"] for call in pinecone_emulator.calls("create_index")] == ["create_index"]

def test_two_finds_none_and_a_fault(pinecone_emulator):
    assert list(client(pinecone_emulator).list_indexes()) == []
    pinecone_emulator.fault(operation="list_indexes", status=403, count=1)
    try:
        client(pinecone_emulator).list_indexes()
    except Exception as error:
        assert "403" in str(error)
    else:
        raise AssertionError("the fault did not strike")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=EMULATOR, capture_output=True, check=True)
    (built,) = folder.glob("*.whl")
    yield built


def test_the_wheel_holds_every_module_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (message_from_bytes(archive.read(name)) for name in names if name.endswith("METADATA"))
        (commands,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    modules = {f"emulator/{path.name}" for path in EMULATOR.glob("*.py")}
    assert {name for name in names if not name.startswith("vecfleet_emulator")} == modules
    assert "pinecone-emulator = emulator.__main__:main" in commands
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra" not in line]
    assert len(needed) == 6


def test_the_wheel_runs_alone_and_loads_nothing_heavy(wheel: Path, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path[:0] = [{str(wheel)!r}]\n"
        "from emulator.server import start\n"
        "emulator = start(port=0)\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "heavy = loaded & {'pyarrow', 'pinecone', 'vecfleet', 'httpx', 'pytest'}\n"
        "import emulator as package, json; print(json.dumps([package.__file__, sorted(heavy)])); emulator.stop()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    place, heavy = json.loads(ran.stdout)
    assert (place.startswith(str(wheel)), heavy) == (True, [])


def test_the_fixture_gives_each_test_an_empty_emulator_that_can_go_wrong(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["emulator.testing"]\n', "utf-8")
    (tmp_path / "test_app.py").write_text(TESTS, "utf-8")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    environment = {"PYTHONPATH": str(EMULATOR.parent)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
