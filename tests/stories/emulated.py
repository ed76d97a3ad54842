"""The emulator as its own process, and what a witness may ask it. Shares no code with vecfleet or its workers."""

import base64
import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from orchestrator.embedded.ports import free_port
from tests.stories.launching import Launch, cold

START_S = 120.0  # takes 1 s; a slow two-core machine under a load of twenty may need this
PREVIOUS = "_vecfleet_prev"
CREATOR = "sainath.no.1"


@dataclass(frozen=True)
class Row:
    """One record as the emulator's dump has it: float32 bytes, not numbers."""

    id: str
    values: bytes
    sparse: tuple[tuple[int, ...], bytes] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def face(self) -> tuple[object, ...]:
        """Return what must be equal: every byte of the values, every key of the metadata with its type."""
        return self.id, self.values, self.sparse, tuple(sorted((key, _exact(key, value)) for key, value in _all(self)))

    def enriched(self, source: str, creator: str, twin: str | None) -> "Row":
        """Return what it must be at its target: the old metadata, three keys more, and what those keys held before."""
        added = {"migrated_from": source, "creator_id": creator} | ({"twin_id": twin} if twin else {})
        previous = {key: self.metadata[key] for key in added if key in self.metadata}
        remembered = {PREVIOUS: json.dumps(previous)} if previous else {}
        return replace(self, metadata={**self.metadata, **added, **remembered})


Rows = dict[str, Row]
"""A namespace, by id."""


def row(id: str, *, seed: int = 0, dimension: int = 8, **metadata: Any) -> Row:
    """A record made up for a test; its values follow from its id and the seed."""
    chance = np.random.default_rng([seed, *id.encode()])
    return Row(id, chance.standard_normal(dimension, dtype="<f4").tobytes(), None, metadata)


def assert_same(there: Rows, wanted: Rows, where: str) -> None:
    """Nothing missing, nothing extra, and every byte as it should be."""
    missing, extra = sorted(wanted.keys() - there.keys()), sorted(there.keys() - wanted.keys())
    different = sorted(id for id in wanted.keys() & there.keys() if wanted[id].face() != there[id].face())
    assert not missing, f"{where}: {len(missing)} of {len(wanted)} missing: {missing[:5]}"
    assert not extra, f"{where}: {len(extra)} extra: {extra[:5]}"
    assert not different, f"{where}: {len(different)} differ: " + "; ".join(
        f"{there[id].metadata} instead of {wanted[id].metadata}" for id in different[:2]
    )


def target_of(source: str) -> str:
    """Return where a namespace goes when it becomes one creator's twin."""
    return f"creator_{CREATOR}_twin_{'default' if source == '__default__' else source}"


def as_twins(before: Mapping[str, Rows]) -> dict[str, Rows]:
    """Return what an index holds once every namespace of it has become one creator's twin."""
    return {
        target_of(source): {
            id: row.enriched(source, CREATOR, "default" if source == "__default__" else source)
            for id, row in rows.items()
        }
        for source, rows in before.items()
    }


def assert_same_index(there: Mapping[str, Rows], wanted: Mapping[str, Rows]) -> None:
    """The same namespaces with the same records, every byte of them."""
    missing, extra = sorted(wanted.keys() - there.keys()), sorted(there.keys() - wanted.keys())
    assert not (missing or extra), f"{len(missing)} namespaces missing: {missing[:5]}; extra: {extra[:5]}"
    for namespace, rows in wanted.items():
        assert_same(there[namespace], rows, namespace)


def _all(row: Row) -> Iterable[tuple[str, Any]]:
    return row.metadata.items()


def _exact(key: str, value: Any) -> str:
    """Text that tells true from 1.0, and reads what was remembered as the object it is."""
    if key == PREVIOUS and isinstance(value, str):
        value = json.loads(value)
    return json.dumps(_typed(value), sort_keys=True)


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return value if isinstance(value, bool | str) else float(value)


class Emulator:
    """A running `python -m emulator`. With `data` it may be killed and started again at the same address."""

    def __init__(self, folder: Path, *options: str, port: int = 0, launch: Launch = cold) -> None:
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._log = folder / "emulator.log"
        self._options = options
        self._launch = launch
        self._hosts: dict[str, str] = {}
        self._http = httpx.Client(timeout=START_S)
        self.start()

    def start(self) -> None:
        words = ("--port", str(self.port), *self._options)
        self.process = self._launch("emulator", "emulator", *words, log=self._log, env=os.environ, port=self.port)
        self.process.wait_until(self._healthy, START_S)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.child is not None
        self.process.child.wait(timeout=START_S)

    def stop(self) -> None:
        self._http.close()
        self.process.stop(patience_s=10)

    def _healthy(self) -> bool:
        try:
            return self._http.get(f"{self.address}/_emulator/health").status_code == 200
        except httpx.HTTPError:
            return False

    # What really happened

    def calls(self, **wanted: str | int) -> list[dict[str, Any]]:
        """Calls, by `operation`, `index`, `namespace`, `since` a number, in the order they were carried out."""
        return list(self._ask("calls", wanted).json()["calls"])

    def last_call(self) -> int:
        return int(self._ask("calls", {"counts": 1}).json()["last_seq"])

    def writes(self, since: int = 0) -> list[dict[str, Any]]:
        """The calls that changed something."""
        writing = {"upsert", "update", "delete", "delete_namespace", "create_namespace"}
        return [call for call in self.calls(since=since) if call["operation"] in writing and call["applied"]]

    # What is really there

    def dump(self, index: str) -> dict[str, Rows]:
        """Every record of every namespace, as stored."""
        there = self._ask("digest", {"index": index}).json()["namespaces"]
        return {namespace: self.records(index, namespace) for namespace in there}

    def records(self, index: str, namespace: str) -> Rows:
        lines = self._ask("records", {"index": index, "namespace": namespace}).text.splitlines()
        return {row.id: row for row in map(_read, lines)}

    def _ask(self, what: str, params: Mapping[str, Any]) -> httpx.Response:
        return self._http.get(f"{self.address}/_emulator/{what}", params=params).raise_for_status()

    # What shall go wrong

    def fault(self, **rule: Any) -> None:
        self._http.post(f"{self.address}/_emulator/faults", json=rule).raise_for_status()

    def struck(self) -> int:
        """Return how often a fault has hit a call so far."""
        rules = self._http.get(f"{self.address}/_emulator/faults").raise_for_status().json()["faults"]
        return sum(rule["struck"] for rule in rules)

    def no_faults(self) -> None:
        self._http.delete(f"{self.address}/_emulator/faults").raise_for_status()

    # What somebody else does meanwhile

    def create_index(self, name: str, dimension: int = 8, **fields: Any) -> None:
        dense = {"type": "dense_vector", "dimension": dimension, "metric": "dotproduct"}
        body = {
            "name": name,
            "schema": {"fields": {"_values": dense, **fields}},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        }
        self._http.post(f"{self.address}/indexes", json=body, headers=_HEADERS).raise_for_status()

    def write(self, index: str, namespace: str, rows: Iterable[Row]) -> None:
        every = list(rows)
        for start in range(0, len(every), 50):
            vectors = [_vector(row) for row in every[start : start + 50]]
            self._post(index, "vectors/upsert", {"namespace": namespace, "vectors": vectors})

    def delete(self, index: str, namespace: str, *ids: str) -> None:
        self._post(index, "vectors/delete", {"namespace": namespace, "ids": list(ids)})

    def alias(self, index: str, name: str, to: str) -> None:
        self._post(index, "namespace-aliases", {"name": name, "target_namespace": to})

    def _post(self, index: str, path: str, body: Mapping[str, Any]) -> None:
        if index not in self._hosts:
            described = self._http.get(f"{self.address}/indexes/{index}", headers=_HEADERS).raise_for_status().json()
            self._hosts[index] = described["host"]
        self._http.post(f"{self._hosts[index]}/{path}", json=body, headers=_HEADERS).raise_for_status()


_HEADERS = {"Api-Key": "somebody-else", "X-Pinecone-Api-Version": "2026-07"}


def _read(line: str) -> Row:
    body = json.loads(line)
    sparse = body["sparse"]
    return Row(
        body["id"],
        base64.b64decode(body["values"]),
        (tuple(sparse["indices"]), base64.b64decode(sparse["values"])) if sparse else None,
        body["metadata"] or {},
    )


def _vector(row: Row) -> dict[str, Any]:
    vector: dict[str, Any] = {"id": row.id, "metadata": dict(row.metadata)}
    if row.values:
        vector["values"] = np.frombuffer(row.values, "<f4").astype(float).tolist()
    if row.sparse is not None:
        indices, weights = row.sparse
        vector["sparseValues"] = {
            "indices": list(indices),
            "values": np.frombuffer(weights, "<f4").astype(float).tolist(),
        }
    return vector
