"""The docs page: what it tells people to copy does what it says, and it leaves nothing out."""

import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.faults import Fault
from emulator.server import start

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "emulator.md").read_text("utf-8")
LINES = re.findall(r"^    (curl .+)$", PAGE, re.MULTILINE) + re.findall(r"`(curl [^`]+)`", PAGE)
FAULTS = [line for line in LINES if "$F -d" in line]


def curl(line: str, control: str) -> httpx.Response:
    """Return what a shell would do with a line of the page, said to this control plane."""
    line = line.replace("$F", "$E/faults").replace("$E", "127.0.0.1:5080/_emulator")
    words = shlex.split(line, comments=True)[1:]
    method, body = None, None
    while "-X" in words or "-d" in words:
        option = "-X" if "-X" in words else "-d"
        place = words.index(option)
        value = words[place + 1]
        del words[place : place + 2]
        method, body = (value, body) if option == "-X" else (method, value)
    (url,) = words
    form = {"content-type": "application/x-www-form-urlencoded"}
    url = url.replace("127.0.0.1:5080", control)
    return httpx.request(method or ("GET" if body is None else "POST"), url, content=body, headers=form)


class Service:
    """An index with four records in namespace `n`."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._patience_s = 60.0
        schema = {"fields": {"_values": {"type": "dense_vector", "dimension": 2}}}
        self._host = httpx.post(f"{control}/indexes", json={"name": "things", "schema": schema}).json()["host"]
        self.upsert("abcd")

    def upsert(self, ids: str = "xy") -> int | str:
        vectors = [{"id": id, "values": [1, 2]} for id in ids]
        return self._ask("POST", "/vectors/upsert", json={"vectors": vectors, "namespace": "n"})

    def fetch(self) -> int | str:
        return self._ask("GET", "/vectors/fetch?ids=a&ids=x&namespace=n")

    def list(self, token: str = "") -> int | str:
        return self._ask("GET", f"/vectors/list?namespace=n&limit=2&paginationToken={token}")

    def delete(self) -> int | str:
        return self._ask("POST", "/vectors/delete", json={"ids": ["a"], "namespace": "n"})

    def reads_go_back(self) -> bool:
        """Say whether a later read does not show the record that one showed."""
        deadline = time.monotonic() + self._patience_s
        seen: list[bool] = []
        while (True, False) not in itertools.pairwise(seen) and time.monotonic() < deadline:
            assert self.fetch() == 200
            seen.append("x" in self.body["vectors"])
        return time.monotonic() < deadline

    def comes_down_to(self, count: int) -> bool:
        """Say whether it does so in the end."""
        deadline = time.monotonic() + self._patience_s
        while self.count() != count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.count() == count

    def is_silent(self, ask: Callable[[], int | str]) -> bool:
        """Say whether nothing has come after a time in which an answer comes, and before one that is 1.5 s late."""
        self._patience_s = 0.7
        try:
            return ask() == "silence"
        finally:
            self._patience_s = 60.0

    def _ask(self, method: str, path: str, **body: Any) -> int | str:
        try:
            timeout = httpx.Timeout(60, read=self._patience_s)
            self.answer = httpx.request(method, f"{self._host}{path}", timeout=timeout, **body)
        except httpx.ReadTimeout:
            return "silence"
        except httpx.TransportError:
            return "reset"
        return self.answer.status_code

    @property
    def body(self) -> Any:
        return self.answer.json()

    def count(self) -> int:
        where = {"index": "things", "namespace": "n"}
        return int(httpx.get(f"{self._control}/_emulator/digest", params=where).json()["count"])


def forged(service: Service) -> int | str:
    """A second page, asked for with the token of the first."""
    service.list()
    return service.list(service.body["pagination"]["next"])


EFFECTS: dict[str, Callable[[Service], bool]] = {
    "429 storm, no Retry-After": lambda s: s.upsert() == 429 and "retry-after" not in s.answer.headers,
    "with it": lambda s: s.upsert() == 429 and s.answer.headers["retry-after"] == "2",
    "one request in ten": lambda s: {s.fetch() for _ in range(60)} == {200, 503},
    "reset, nothing done": lambda s: s.upsert() == "reset" and s.count() == 4,
    "done, then reset": lambda s: s.upsert() == "reset" and s.count() == 6,
    "done, then silence: a time-out": lambda s: s.is_silent(s.upsert) and s.count() == 6,
    "a hung connection": lambda s: s.is_silent(s.fetch) and s.fetch() == 200,
    "slow answers": lambda s: s.is_silent(s.fetch),
    "lag: of one kind of read; list, query, describe_namespace, …": lambda s: (
        s.upsert() == 200 and s.fetch() == 200 and "x" not in s.body["vectors"] and s.count() == 6
    ),
    "a namespace whose reads go back and forth": lambda s: s.upsert() == 200 and s.reads_go_back(),
    "silence; three seconds later it is done": lambda s: (
        s.is_silent(s.delete) and s.count() == 4 and s.comes_down_to(3) and s.upsert("a") == 200 and s.count() == 4
    ),
    "done, answered, and done again": lambda s: (
        s.delete() == 200 and s.count() == 3 and s.upsert("a") == 200 and s.count() == 4 and s.comes_down_to(3)
    ),
    "half of a batch, then an error": lambda s: s.upsert() == 500 and s.count() == 5,
    "a listing that ends too early": lambda s: s.list() == 200 and "pagination" not in s.body,
    "400 Invalid pagination token": lambda s: forged(s) == 400 and s.body["message"] == "Invalid pagination token",
    "a revoked key": lambda s: s.fetch() == 401 and s.answer.text == "Invalid API key",
    "read-only mode": lambda s: s.upsert() == 403 and s.fetch() == 200 and s.count() == 4,
    "the namespace disappears": lambda s: s.fetch() == 200 and s.body["vectors"] == {} and s.count() == 0,
    "a 429 that waiting does not cure": lambda s: s.fetch() == 429 and "upgrade your plan" in s.body["message"],
}


@pytest.mark.parametrize("line", FAULTS, ids=[line.partition("# ")[2] for line in FAULTS])
def test_each_fault_to_copy_does_what_is_written_behind_it(control: str, line: str) -> None:
    service = Service(control)
    curl(line, control).raise_for_status()
    assert EFFECTS[line.partition("# ")[2]](service)
    curl("curl -X DELETE $F", control).raise_for_status()
    assert service.fetch() == 200


def test_each_fault_may_be_there_from_the_start() -> None:
    rules = [json.loads(shlex.split(line, comments=True)[-1]) for line in FAULTS]
    emulator = start(port=0, faults=rules)
    shown = httpx.get(f"{emulator.control}/_emulator/faults").json()["faults"]
    emulator.stop()
    assert [{key: rule[key] for key in given} for rule, given in zip(shown, rules, strict=True)] == rules


def test_each_other_line_to_copy_is_answered() -> None:
    emulator = start(port=0, seeds=True)
    others = [line for line in LINES if line not in FAULTS]
    assert len(others) > 7
    for line in others:
        answer = curl(line, emulator.control)
        assert answer.is_success, (line, answer.text)
        if "/digest" in line:
            assert answer.json()["namespaces"]["__default__"]["count"] == 376
    emulator.stop()


def test_every_field_of_a_fault_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {item.name for item in fields(Fault)} - {"struck", "chance"} <= named


def test_every_option_on_the_page_is_in_the_help_and_every_option_is_explained() -> None:
    command = [sys.executable, "-m", "emulator", "--help"]
    help_text = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= set(re.findall(r"--[a-z-]+", help_text))
    for option in re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE):
        assert re.search(rf"^  {option}\b[^\n]*(  |\n {{20,}})\w", help_text, re.MULTILINE), option
