"""Every method of both clients, on every kind of subject: what is allowed, and what the others are refused with.

The table is walked against the emulator. After each call its log is read: none named a namespace of another tenant, but
for those that an erasure has to look at; and what others have is as it was. A method that is missing from the table
fails the test.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.told import CLIENTS, Client, client_of
from vecfleet.errors import BadInput, BadName, VecfleetError
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.tenancy import (
    CachedRoutes,
    DelphiPineconeClient,
    FileRoutes,
    PineconeDelphiClient,
    Rollout,
    TenantIsolationError,
)
from vecfleet.tenancy.places import Place

ALLOWED = None
Outcome = type[VecfleetError] | None

# (creator, twin) as somebody names them. The roll-out has `unlisted: legacy`: a twin without a route uses the namespace
# that is called as it is.
SUBJECTS: Mapping[str, tuple[Any, Any]] = {
    "own": ("ana", "coach"),
    "foreign": ("ana", "creator_bo_twin_coach"),
    "shared": ("ana", "among-others"),
    "unlisted": ("ana", "bos-old-one"),
    "erased": ("ana", "erased"),
    "malformed": ("ana_twin_x", "coach"),
    "nobody": (None, None),
}

_REFUSED: dict[str, Outcome] = {
    "own": ALLOWED,
    "foreign": TenantIsolationError,
    "shared": ALLOWED,
    "unlisted": TenantIsolationError,
    "erased": TenantIsolationError,
    "malformed": BadName,
    "nobody": BadInput,
}
# An erasure of a twin looks for what is the tenant's, whatever else is called so: it finds nothing of others.
_LOOKED_FOR = dict.fromkeys(SUBJECTS, ALLOWED) | {"malformed": BadName, "nobody": BadInput}

MATRIX: Mapping[str, Mapping[str, Outcome]] = {
    "query": _REFUSED,
    "query_across_twins": _REFUSED,
    "upsert_vectors": _REFUSED,
    "upsert_texts": _REFUSED,
    "delete_vectors": _REFUSED,
    "erase": _LOOKED_FOR,
    "delete_twin": _LOOKED_FOR,
    "delete_creator": _LOOKED_FOR,
    "delete_creator_data": _LOOKED_FOR,
    "verify_deletion": _LOOKED_FOR,
    "list_creator_twins": _LOOKED_FOR | {"nobody": BadName},
    "get_namespace": _LOOKED_FOR | {"nobody": BadName},
}
# Of no tenant: the index as a whole, for the operator's own programs; they guard nothing, and say so.
WITHOUT_SUBJECT = {"data", "serving", "replay", "close"}

DIMENSION = 1_024  # of the model that embeds texts
VALUES = [1.0] * DIMENSION
CALLS: Mapping[str, Callable[[Client, Any, Any], Any]] = {
    "query": lambda client, creator, twin: client.query(vector=VALUES, creator_id=creator, twin_id=twin),
    "query_across_twins": lambda client, creator, twin: client.query_across_twins(
        vector=VALUES, creator_id=creator, twin_ids=[twin]
    ),
    "upsert_vectors": lambda client, creator, twin: client.upsert_vectors(
        [{"id": "r", "values": VALUES}], creator, twin
    ),
    "upsert_texts": lambda client, creator, twin: client.upsert_texts([{"id": "r", "text": "x"}], creator, twin),
    "delete_vectors": lambda client, creator, twin: client.delete_vectors(["r", "bos"], creator, twin),
    "erase": lambda client, creator, twin: client.erase(creator, twin),
    "delete_twin": lambda client, creator, twin: client.delete_twin(creator, twin),
    "delete_creator": lambda client, creator, _: client.delete_creator(creator),
    "delete_creator_data": lambda client, creator, _: client.delete_creator_data(creator),
    "verify_deletion": lambda client, creator, _: client.verify_deletion(creator),
    "list_creator_twins": lambda client, creator, _: client.list_creator_twins(creator),
    "get_namespace": lambda client, creator, twin: client.get_namespace(creator, twin),
}
ERASING = {"erase", "delete_twin", "delete_creator", "delete_creator_data", "verify_deletion"}
LOOKING = {"fetch", "list", "list_namespaces", "describe_namespace", "query"}
ANAS = {"coachs-old-one", "creator_ana_twin_coach", "creator_ana_twin_among-others", "everybody"}
BOS = {"creator_bo_twin_coach": "r", "creator_bo": "r", "bos-old-one": "r", "erased": "r", "everybody": "bos"}


class World:
    """An index with records of two creators, and the log of the emulator it is in."""

    def __init__(self, emulator: str, folder: Path) -> None:
        self._emulator = emulator
        body = {
            "name": "matrix",
            "cloud": "aws",
            "region": "us-east-1",
            "embed": {"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}},
        }
        httpx.post(f"{emulator}/indexes/create-for-model", json=body, headers={"Api-Key": "any"}).raise_for_status()
        self.raw = PineconeDelphiClient("matrix")._index(Place(""))
        own = [
            {"twin": "coach", "old": [{"namespace": "coachs-old-one"}]},
            {"twin": "among-others", "old": [{"namespace": "everybody", "shared": True}]},
        ]
        routes = [
            {"creator": "ana", "side": "old", "new": {"namespace": f"creator_ana_twin_{one['twin']}"}, **one}
            for one in own
        ]
        (folder / "routes.json").write_text(json.dumps({"routes": routes}))
        self.rollout = Rollout(CachedRoutes(FileRoutes(folder / "routes.json")), flag=False)

    def prepare(self) -> None:
        """Everybody's records are there, and the log is empty."""
        values = b"\0\0\x80\x3f" * DIMENSION
        for namespace, id in BOS.items():
            self.raw.upsert(namespace, [Record(id, values, None, {"creator_id": "bo", "twin_id": "coach"})])
        for namespace in ("coachs-old-one", "everybody"):
            twin = "among-others" if namespace == "everybody" else "coach"
            self.raw.upsert(namespace, [Record("r", values, None, {"creator_id": "ana", "twin_id": twin})])
        httpx.post(f"{self._emulator}/_emulator/reset", json={"calls": True}).raise_for_status()

    def reached(self, *, looks: bool) -> set[str]:
        """The namespaces of others that a call named; without `looks`, that one changed."""
        calls = httpx.get(f"{self._emulator}/_emulator/calls").raise_for_status().json()["calls"]
        named = {one["namespace"] for one in calls if looks or one["operation"] not in LOOKING}
        return {namespace for namespace in named if namespace} - ANAS

    def lacks(self) -> list[str]:
        """Where a record of the other creator is not as it was."""
        return [
            namespace
            for namespace, id in BOS.items()
            if self.raw.fetch(namespace, [id]).records.get(id) is None
            or self.raw.fetch(namespace, [id]).records[id].metadata["creator_id"] != "bo"
        ]


@pytest.fixture
def world(emulator: str, environment: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.01")
    return World(emulator, tmp_path)


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_method_does_to_every_subject_what_the_table_says(world: World, kind: type[Client]) -> None:
    wrong: list[str] = []
    for method, outcomes in MATRIX.items():
        for subject, outcome in outcomes.items():
            world.prepare()
            heard = _heard(client_of(kind, "matrix", world.rollout), method, subject)
            reached = world.reached(looks=method not in ERASING)
            if (heard, reached, world.lacks()) != (outcome, set(), []):
                wrong.append(f"{method} of {subject}: {heard}, not {outcome}; reached {reached}; lost {world.lacks()}")

    assert not wrong, "\n".join(wrong)


def _heard(client: Client, method: str, subject: str) -> Outcome:
    try:
        CALLS[method](client, *SUBJECTS[subject])
    except VecfleetError as error:
        return type(error)
    return ALLOWED


@pytest.mark.parametrize("of", [PineconeDelphiClient, DelphiPineconeClient])
def test_no_method_is_missing_from_the_table(of: type) -> None:
    public = {name for name, _ in inspect.getmembers(of) if not name.startswith("_")}

    assert public - WITHOUT_SUBJECT == MATRIX.keys() == CALLS.keys()
    assert all(outcomes.keys() == SUBJECTS.keys() for outcomes in MATRIX.values())
