"""The command line as a person uses it, and an index to use it on."""

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.cli.app import main
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

DIMENSION = 4
READS = {"list_aliases", "fetch", "list", "list_namespaces", "describe_namespace", "list_indexes", "describe_index"}
HEADERS = {"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Vecfleet:
    """`vecfleet("status", "1")` is what typing it gives."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Answer:
        self._capsys.readouterr()
        code = main(list(words))
        said = self._capsys.readouterr()
        return Answer(code, said.out, said.err)


def sit_down(monkeypatch: pytest.MonkeyPatch, folder: Path, environment: Mapping[str, str]) -> None:
    """Give the commands this environment and this folder, and nobody at the terminal."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@dataclass(frozen=True)
class Brain:
    """An index at the emulator, `brain`, and what was asked of it since a test began to look."""

    address: str
    store: PineconeStore

    def create(self, name: str = "brain", dimension: int = DIMENSION) -> None:
        schema = {"fields": {"_values": {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}}}
        like = IndexInfo(name, Kind.DENSE, dimension, "cosine", host="", schema=schema)
        self.store.create_like(name, like, "aws", "us-east-1")

    def drop(self, name: str = "brain") -> None:
        httpx.delete(f"{self.address}/indexes/{name}", headers=HEADERS).raise_for_status()

    def write(self, namespace: str, *ids: str, index: str = "brain", **metadata: str) -> None:
        opened = self.store.open(self.store.describe(index))
        opened.upsert(namespace, [Record(id, b"\0\0\x80\x3f" * DIMENSION, metadata=metadata) for id in ids])

    def clear(self, namespace: str) -> None:
        self.store.open(self.store.describe("brain")).delete_namespace(namespace)

    def forget_calls(self) -> None:
        httpx.post(f"{self.address}/_emulator/reset", json={"calls": True}).raise_for_status()

    def writes(self) -> set[str]:
        """The operations since `forget_calls` that are not reads."""
        answer = httpx.get(f"{self.address}/_emulator/calls", params={"counts": 1}).raise_for_status()
        return set(answer.json()["counts"]) - READS

    def fault(self, **rule: object) -> None:
        httpx.post(f"{self.address}/_emulator/faults", json=rule).raise_for_status()

    def no_faults(self) -> None:
        httpx.delete(f"{self.address}/_emulator/faults").raise_for_status()


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the job table, to see that nothing changed."""
    with database.begin() as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for name, table in t.metadata.tables.items()
        }
