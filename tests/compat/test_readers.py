"""Other readers of Parquet take an export as docs/exports.md types it. `make compat` makes their environments."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.conftest import ENVIRONMENTS
from tests.contracts.making import pinecone_store
from vecfleet.stores.parquet import ParquetStore

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exports.md"
BRAIN, RECORDS, NAMESPACES = "digital-twin-brain", 805, 30


@pytest.fixture
def exported(emulated: Callable[..., str], tmp_path: Path) -> Path:
    """A folder with `exports/brain` and `exports/all`: the seeds."""
    store, folders = pinecone_store(emulated(seeds=True)), ParquetStore(tmp_path)
    source = store.open(store.describe(BRAIN))
    folder = folders.open(folders.create_like("exports/brain", source.info, None, None))
    for namespace in source.namespaces():
        ids, token = list[str](), None
        while True:
            page = source.list_ids(namespace.name, token)
            ids, token = ids + page.ids, page.next_token
            if token is None:
                break
        folder.upsert(namespace.name, list(source.fetch(namespace.name, ids).records.values()))
    shutil.copytree(tmp_path / "exports/brain", tmp_path / "exports/all")
    return tmp_path


def as_typed(library: str) -> tuple[str, str]:
    """Return the page's line for a library, and the answer that it shows under that."""
    page = PAGE.read_text(encoding="utf-8")
    typed = re.search(rf'^    ({library}\.(?:sql\("""(?s:.*?)"""\)|.*))$((?:\n    [┌│├└].*)*)', page, re.MULTILINE)
    assert typed is not None, f"{PAGE.name} types nothing of {library}"
    shown = [line.strip() for line in typed[2].strip("\n").splitlines()]
    return typed[1], "\n".join(shown)


def read(library: str, folder: Path, told: str) -> str:
    """Type the page's line in the library's environment. Return what is then told of its result, `found`."""
    python = ENVIRONMENTS / library / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment with {library}; `make compat` makes it")
    code = f"import {library}\nfound = {as_typed(library)[0]}\nprint({told})"
    ended = subprocess.run([python, "-c", code], cwd=folder, capture_output=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.decode().strip()


def test_pandas_reads_every_record_with_its_namespace(exported: Path) -> None:
    told = read("pandas", exported, "len(found), found.namespace.nunique(), found['values'].iloc[0].dtype, *found")
    assert told == f"{RECORDS} {NAMESPACES} float32 id values metadata namespace"


def test_polars_reads_every_record_with_its_file(exported: Path) -> None:
    told = read("polars", exported, "found.height, found['file'].n_unique(), *found.columns")
    assert told == f"{RECORDS} {NAMESPACES} id values metadata file"


def test_duckdb_answers_as_the_page_shows(exported: Path) -> None:
    assert read("duckdb", exported, "found") == as_typed("duckdb")[1]
