"""Files that a command writes under a typed name: a command that comes to nothing leaves an older one as it was."""

import json
from pathlib import Path

import pytest
from terminal import Brain, Vecfleet

from vecfleet.records import Record

OLDER = "what somebody keeps\n"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "kept.txt"
    path.write_text(OLDER)
    return path


def assert_kept(path: Path) -> None:
    assert path.read_text() == OLDER
    assert [
        beside.name for beside in path.parent.iterdir() if "unfinished" in beside.name or ".new" in beside.name
    ] == []


@pytest.mark.parametrize(
    "words",
    [
        ("brain", "brain"),
        ("nobody", "mind"),
        ("brain", "mind", "--dense-field", "_x"),
        ("brain", "mind", "--namespace", "nowhere"),
        ("brain", "mind", "--via", "convert", "--writers", "dual"),
    ],
)
def test_a_plan_that_cannot_be_leaves_the_file_of_refused_records(
    vecfleet: Vecfleet, brain: Brain, kept: Path, words: tuple[str, ...]
) -> None:
    assert vecfleet("plan", "documents", *words, "--refused-file", str(kept)).code == 2
    assert_kept(kept)


def test_a_reading_that_breaks_off_leaves_the_file_of_refused_records(
    vecfleet: Vecfleet, brain: Brain, kept: Path
) -> None:
    # Given a record that can be no document, and a service that refuses to give the others
    brain.store.open(brain.store.describe("brain")).upsert(
        "first", [Record("a-0", b"\0\0\x80\x3f" * 4, metadata={"_node_content": "{}"})]
    )
    brain.fault(operation="fetch", namespace="second", status=401)
    # When the plan is made, then a list of some of them takes no place
    assert vecfleet("plan", "documents", "brain", "mind", "--refused-file", str(kept)).code not in (0, 2)
    assert_kept(kept)
    # And once all are read, the list of all does, though nothing is planned
    brain.no_faults()
    assert vecfleet("plan", "documents", "brain", "mind", "--refused-file", str(kept)).code == 2
    assert [json.loads(line)["id"] for line in kept.read_text().splitlines()] == ["a-0"]
    # And where every record fits, it says so by being empty
    told = vecfleet("plan", "documents", "brain", "mind", "--drop", "_node_content", "--refused-file", str(kept))
    assert told.code == 0, told.err
    assert kept.read_text() == ""


def test_a_comparison_that_never_begins_leaves_the_files(vecfleet: Vecfleet, brain: Brain, kept: Path) -> None:
    both = ("check", "pinecone:brain/first", "pinecone:brain/second")
    # Given a service that refuses everything
    brain.fault(operation="*", status=401)
    told = vecfleet(*both, "--combined", str(kept))
    assert told.code != 0
    assert_kept(kept)
    # And a second file that cannot be written, or that is the first
    brain.no_faults()
    assert vecfleet(*both, "--combined", str(kept), "--differ", str(kept.parent)).code == 2
    assert_kept(kept)
    # And one that compares replaces it
    assert vecfleet(*both, "--combined", str(kept)).code == 1
    assert sorted(kept.read_text().splitlines()) == ["+ a-1", "+ a-2", "- b-1", "- b-2"]
    # And one that finds nothing to write empties it
    brain.write("twin", "a-1", "a-2", title="one")
    assert vecfleet("check", "pinecone:brain/first", "pinecone:brain/twin", "--differ", str(kept)).code == 0
    assert kept.read_text() == ""


def test_a_sample_that_cannot_be_read_leaves_the_file(vecfleet: Vecfleet, brain: Brain, kept: Path) -> None:
    brain.fault(operation="fetch", status=401)
    assert vecfleet("audit", "brain", "--export-sample", "3", str(kept)).code != 0
    assert_kept(kept)
    brain.no_faults()
    told = vecfleet("audit", "brain", "--export-sample", "3", str(kept.parent))
    assert told.code == 2 and "cannot write" in told.err
    assert vecfleet("audit", "brain", "--export-sample", "3", str(kept)).code == 0
    assert kept.read_bytes()[:4] == b"PAR1"
