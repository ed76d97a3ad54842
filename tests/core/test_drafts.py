"""Files that a person named: the older one stays until the new one takes its place."""

import os
from pathlib import Path

import pytest

from vecfleet.drafts import Draft
from vecfleet.errors import BadInput


def test_an_older_file_stays_until_the_new_one_is_published(tmp_path: Path) -> None:
    # Given a file with its rights, and a link to it
    older, link = tmp_path / "older.txt", tmp_path / "link.txt"
    older.write_text("older\n")
    older.chmod(0o640)
    link.symlink_to(older)
    # When a draft is written and left
    with Draft(link) as draft:
        draft.path.write_text("never seen\n")
        assert older.read_text() == "older\n"
    # Then the older one stands, and nothing lies beside it
    assert older.read_text() == "older\n" and {path.name for path in tmp_path.iterdir()} == {"older.txt", "link.txt"}
    # And once published, what was written and each later line stand under its name, with its rights
    with Draft(link) as draft, draft.path.open("w", buffering=1) as lines:
        lines.write("first\n")
        draft.publish()
        lines.write("second\n")
        draft.publish()
        assert older.read_text() == "first\nsecond\n"
    assert older.read_text() == "first\nsecond\n" and link.is_symlink()
    assert older.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"older.txt", "link.txt"}


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with Draft(pipe) as draft, draft.path.open("w", buffering=1) as lines:
            lines.write("a line\n")
            draft.publish()
            assert os.read(reader, 100) == b"a line\n"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["folder", "nowhere/file.txt"])
def test_a_name_under_which_nothing_can_be_written_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="cannot write ") as raised:
        Draft(tmp_path / name)
    assert raised.value.next_step == "name another file"
