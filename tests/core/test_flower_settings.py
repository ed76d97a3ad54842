"""Flower's settings: Flower passes over a name it does not know, so a slip of the pen would open it to everybody."""

import runpy
from pathlib import Path

import pytest
from flower.options import options

from orchestrator import schema

SETTINGS = Path(schema.__file__).parent / "flower_settings.py"


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return what our file sets, as Flower reads it."""
    monkeypatch.setenv("FLOWER_PASSWORD", "a password")
    ran = runpy.run_path(str(SETTINGS))
    names = {name for name in ran if name == name.lower() and not name.startswith("_")}
    return {
        name: ran[name]
        for name in names - {"ast", "re", "secrets", "sys", "authenticated", "handlers", "went_on", "after_another_run"}
    }


def test_each_setting_is_one_that_flower_knows(chosen: dict[str, object]) -> None:
    assert {"address", "basic_auth", "read_only"} <= set(chosen)
    assert set(chosen) <= set(options.as_dict())


def test_flower_is_for_this_machine_and_behind_a_password(chosen: dict[str, object]) -> None:
    assert chosen["address"] == "127.0.0.1"
    assert chosen["basic_auth"] == ["vecfleet:a password"]
    assert chosen["read_only"] is True


def test_without_a_password_one_is_made_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("FLOWER_PASSWORD", raising=False)
    first, second = (runpy.run_path(str(SETTINGS))["basic_auth"] for _ in range(2))
    assert first != second
    assert first[0].removeprefix("vecfleet:") in capsys.readouterr().err
