"""Tokens end: by themselves, by a person, with their tenant; and whatever cannot be read lets nobody in."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vecfleet.errors import BadInput, NotFound
from vecfleet.tenancy.tokens import TokenFile, digest, name_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_without_its_file_no_token_is_valid_any_more(file: Path) -> None:
    tokens = TokenFile(file)
    token = tokens.create({"id": "u1", "creator_id": "ana"})
    assert tokens.user(token) is not None

    file.unlink()

    assert tokens.user(token) is None


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"a": 1}', '"x"', "\x00"])
def test_a_file_that_makes_no_sense_lets_nobody_in_and_is_not_written_over(file: Path, body: str) -> None:
    tokens = TokenFile(file)
    token = tokens.create({"id": "u1", "creator_id": "ana"})
    file.write_text(body)

    assert tokens.user(token) is None
    assert tokens.users() == []
    with pytest.raises(BadInput, match=r"tokens\.json cannot be read"):
        tokens.create({"id": "u2"})
    with pytest.raises(BadInput):
        tokens.every()
    assert file.read_text() == body


def test_a_file_that_became_a_folder_lets_nobody_in(file: Path) -> None:
    tokens = TokenFile(file)
    token = tokens.create({"id": "u1", "creator_id": "ana"})
    file.unlink()
    file.mkdir()

    assert tokens.user(token) is None


def test_a_token_ends_after_ninety_days_or_as_was_said(file: Path) -> None:
    clock = Clock()
    tokens = TokenFile(file, clock)
    usual, short = tokens.create({"id": "u1"}), tokens.create({"id": "u2"}, days=7)
    assert {one.name: one.expires for one in tokens.every()} == {
        name_of(usual): NOW + timedelta(days=90),
        name_of(short): NOW + timedelta(days=7),
    }

    clock.now = NOW + timedelta(days=7)
    assert (tokens.user(usual) is None, tokens.user(short) is None) == (False, True)
    clock.now = NOW + timedelta(days=90)
    assert tokens.user(usual) is None
    assert len(tokens.every()) == 2, "those that ended are still shown"


@pytest.mark.parametrize("expires", [None, "", "soon", 5, [], "2026-11-22"])
def test_an_end_that_makes_no_sense_has_passed(file: Path, expires: Any) -> None:
    file.write_text(json.dumps({digest("t"): {"id": "u1", "role": "admin", "expires": expires}}))

    assert TokenFile(file, Clock()).user("t") is None


def test_a_token_from_before_tokens_had_an_end_goes_on_and_shows_it(file: Path) -> None:
    file.write_text(json.dumps({digest("t"): {"id": "u1", "role": "user", "creator_ids": ["ana"]}}))
    tokens = TokenFile(file)

    assert (tokens.user("t") or {})["id"] == "u1"
    assert [one.expires for one in tokens.every()] == [None]


def test_a_revoked_token_opens_nothing_from_the_next_request_on_in_every_process(file: Path) -> None:
    tokens, other_process = TokenFile(file), TokenFile(file)
    kept, ended = tokens.create({"id": "u1"}), tokens.create({"id": "u1"})
    assert other_process.user(ended) is not None

    assert tokens.revoke(name_of(ended)).user == "u1"

    assert (other_process.user(kept) is None, other_process.user(ended) is None) == (False, True)
    with pytest.raises(NotFound, match="there is no token"):
        tokens.revoke(name_of(ended))


def test_when_a_token_was_last_used_is_known_to_the_minute(file: Path) -> None:
    clock = Clock()
    tokens = TokenFile(file, clock)
    token = tokens.create({"id": "u1"})
    assert [one.last_used for one in tokens.every()] == [None]

    tokens.user(token)
    assert [one.last_used for one in tokens.every()] == [NOW]
    written = file.stat().st_mtime_ns
    clock.now = NOW + timedelta(seconds=59)
    tokens.user(token)
    assert file.stat().st_mtime_ns == written, "not with every request"
    clock.now = NOW + timedelta(seconds=60)
    tokens.user(token)
    assert [one.last_used for one in tokens.every()] == [clock.now]


def test_a_file_that_cannot_be_written_keeps_nobody_out(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = TokenFile(file)
    token = tokens.create({"id": "u1"})

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)

    assert tokens.user(token) is not None


def test_an_erased_creators_tokens_go_and_those_that_reach_others_too_lose_the_one(file: Path) -> None:
    tokens = TokenFile(file)
    hers, both = (
        tokens.create({"id": "u1", "creator_id": "ana"}),
        tokens.create({"id": "u2", "creator_ids": ["ana", "bob"]}),
    )
    tenants, operators = tokens.create({"id": "u3", "tenant_id": 7}), tokens.create({"id": "op", "role": "operator"})

    assert tokens.forget("ana") == 2
    assert tokens.forget("tenant_7") == 1
    assert tokens.forget("nobody") == 0

    assert tokens.user(hers) is None and tokens.user(tenants) is None
    assert (tokens.user(both) or {})["creator_ids"] == ["bob"]
    assert tokens.user(operators) is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_tokens_of_one_user_are_two_identities(file: Path) -> None:
    tokens = TokenFile(file)
    first, second = tokens.create({"id": "app"}), tokens.create({"id": "app"})

    assert {(tokens.user(one) or {})["token"] for one in (first, second)} == {name_of(first), name_of(second)}
    assert first not in file.read_text() and name_of(first) in file.read_text()


def test_what_two_processes_make_at_once_is_all_there(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: TokenFile(file).create({"id": f"u{n}"}), range(40)))

    tokens = TokenFile(file)
    assert all(tokens.user(token) is not None for token in made)


def test_a_file_that_was_changed_and_given_its_old_times_is_read_again(file: Path) -> None:
    # Given a process that has read the tokens
    tokens = TokenFile(file)
    token = tokens.create({"id": "u1"})
    for _ in range(2):  # the first notes that it was used
        assert tokens.user(token) is not None
    # When somebody puts another file of the same size in its place, as a restore with its times does
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(file.read_bytes().replace(digest(token).encode(), b"0" * len(digest(token))))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Then the token of before opens nothing any more
    assert tokens.user(token) is None
