"""The docs page: what it tells people to copy works, and it leaves nothing out."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import httpx

from emulator.faults import Fault

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "emulator.md").read_text("utf-8")


def test_every_fault_to_copy_is_taken(control: str) -> None:
    rules = [json.loads(text) for text in re.findall(r"curl \$F -d '([^']+)'", PAGE)]
    assert len(rules) > 10
    for rule in rules:
        httpx.post(f"{control}/_emulator/faults", json=rule).raise_for_status()


def test_every_field_of_a_fault_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {item.name for item in fields(Fault)} - {"struck", "chance"} <= named


def test_every_option_on_the_page_is_in_the_help_and_every_option_is_explained() -> None:
    command = [sys.executable, "-m", "emulator", "--help"]
    help_text = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= set(re.findall(r"--[a-z-]+", help_text))
