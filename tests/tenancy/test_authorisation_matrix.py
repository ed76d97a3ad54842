"""Every method of both clients, on every kind of subject: what is allowed, and what the others are refused with.

The table is walked against the emulator. After each call its log is read: none named a namespace of another tenant, but
for reads of an erasure where nothing tells whose a namespace is; no answer held a record of others, and what others
have is as it was. A method that is missing from the table fails the test.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.ledger.database import Database
from orchestrator.services.erase import JobTableBooks
from tests.tenancy.told import CLIENTS, Client, client_of
from vecfleet import names
from vecfleet.errors import BadInput, BadName, VecfleetError
from vecfleet.names import Tenant
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
from vecfleet.tenancy.requests import Answer

ALLOWED = None
Outcome = type[VecfleetError] | None

# (creator, twin) as somebody names them. The roll-out has `unlisted: legacy`: a twin without a route uses the namespace
# that is called as it is. Who was erased has a route yet: an application's routes may be older than the erasure.
SUBJECTS: Mapping[str, tuple[Any, Any]] = {
    "own": ("ana", "coach"),
    "creator-wide": ("ana", None),
    "both sides": ("ana", "both"),
    "foreign": ("ana", "creator_bo_twin_coach"),
    "shared": ("ana", "among-others"),
    "both sides, shared": ("ana", "both-among-others"),
    "unlisted": ("ana", "bos-old-one"),
    "erased": ("gone", "coach"),
    "malformed": ("ana_twin_x", "coach"),
    "nobody": (None, None),
}
SHARED = {"shared", "both sides, shared"}

_REFUSED: dict[str, Outcome] = dict.fromkeys(SUBJECTS, ALLOWED) | {
    "foreign": TenantIsolationError,
    "unlisted": TenantIsolationError,
    "malformed": BadName,
    "nobody": BadInput,
}
# In a namespace that tenants share, an id that is another's is refused; in one's own it is an id as any other.
_IDS_OF_OTHERS = _REFUSED | dict.fromkeys(SHARED, TenantIsolationError)
# An erasure of a twin looks for what is the tenant's, whatever else is called so: it finds nothing of others.
_LOOKED_FOR: dict[str, Outcome] = dict.fromkeys(SUBJECTS, ALLOWED) | {"malformed": BadName, "nobody": BadInput}
_NAMES_A_TWIN: dict[str, Outcome] = {"creator-wide": BadInput}

# By method; after a colon, what its call is about.
MATRIX: Mapping[str, Mapping[str, Outcome]] = {
    "query": _REFUSED,
    "query_across_twins": _REFUSED | _NAMES_A_TWIN,
    "upsert_vectors": _REFUSED,
    "upsert_vectors: an id of another's": _IDS_OF_OTHERS,
    "upsert_texts": _REFUSED,
    "upsert_texts: an id of another's": _IDS_OF_OTHERS,
    "delete_vectors": _REFUSED,
    "delete_by_filter": _REFUSED,
    "erase": _LOOKED_FOR,
    "delete_twin": _LOOKED_FOR | _NAMES_A_TWIN,
    "delete_creator": _LOOKED_FOR,
    "delete_creator_data": _LOOKED_FOR,
    "verify_deletion": _LOOKED_FOR,
    "list_creator_twins": _LOOKED_FOR | {"nobody": BadName},
    "get_namespace": _LOOKED_FOR | {"nobody": BadName},
    "held": _REFUSED,
    "model_of": _REFUSED,
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
    "upsert_vectors: an id of another's": lambda client, creator, twin: client.upsert_vectors(
        [{"id": "bos", "values": VALUES}], creator, twin
    ),
    "upsert_texts": lambda client, creator, twin: client.upsert_texts([{"id": "r", "text": "x"}], creator, twin),
    "upsert_texts: an id of another's": lambda client, creator, twin: client.upsert_texts(
        [{"id": "bos", "text": "x"}], creator, twin
    ),
    "delete_vectors": lambda client, creator, twin: client.delete_vectors(["r", "bos"], creator, twin),
    "delete_by_filter": lambda client, creator, twin: client.delete_by_filter({"twin_id": {"$ne": "x"}}, creator, twin),
    "erase": lambda client, creator, twin: client.erase(creator, twin),
    "delete_twin": lambda client, creator, twin: client.delete_twin(creator, twin),
    "delete_creator": lambda client, creator, _: client.delete_creator(creator),
    "delete_creator_data": lambda client, creator, _: client.delete_creator_data(creator),
    "verify_deletion": lambda client, creator, _: client.verify_deletion(creator),
    "list_creator_twins": lambda client, creator, _: client.list_creator_twins(creator),
    "get_namespace": lambda client, creator, twin: client.get_namespace(creator, twin),
    "held": lambda client, creator, twin: client.held(creator, twin),
    "model_of": lambda client, creator, twin: client.model_of(creator, twin),
}
ERASING = {"erase", "delete_twin", "delete_creator", "delete_creator_data", "verify_deletion"}
LOOKING = {"fetch", "list", "list_namespaces", "describe_namespace", "query"}
GONES = "creator_gone_twin_coach"
ROUTES: list[dict[str, Any]] = [
    {"creator": "ana", "twin": "coach", "old": [{"namespace": "coachs-old-one"}], "side": "old"},
    {"creator": "ana", "side": "new"},
    {"creator": "ana", "twin": "both", "old": [{"namespace": "boths-old-one"}], "side": "old", "dual": True},
    {"creator": "ana", "twin": "among-others", "old": [{"namespace": "everybody", "shared": True}], "side": "old"},
    {
        "creator": "ana",
        "twin": "both-among-others",
        "old": [{"namespace": "together", "shared": True}],
        "side": "old",
        "dual": True,
    },
    {"creator": "gone", "twin": "coach", "side": "new"},
]
PLACES = {
    (route["creator"], route.get("twin")): {
        names.build(route["creator"], route.get("twin")),
        *(place["namespace"] for place in route.get("old", ())),
    }
    for route in ROUTES
}
"""By tenant: the namespaces with its records."""
BOS = {"creator_bo_twin_coach": "r", "creator_bo": "r", "bos-old-one": "r", "everybody": "bos", "together": "bos"}
UNCLAIMED = {"bos-old-one"}
"""Called as nobody's, and in no route: an erasure reads each record there, as a migration does."""


class World:
    """An index with records of two creators and of an erased one, and the log of the emulator it is in."""

    def __init__(self, emulator: str, folder: Path, books: JobTableBooks) -> None:
        self._emulator = emulator
        body = {
            "name": "matrix",
            "cloud": "aws",
            "region": "us-east-1",
            "embed": {"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}},
        }
        httpx.post(f"{emulator}/indexes/create-for-model", json=body, headers={"Api-Key": "any"}).raise_for_status()
        self.raw = PineconeDelphiClient("matrix")._index(Place(""))
        routes = [{**route, "new": {"namespace": names.build(route["creator"], route.get("twin"))}} for route in ROUTES]
        (folder / "routes.json").write_text(json.dumps({"routes": routes}))
        self.rollout = Rollout(CachedRoutes(FileRoutes(folder / "routes.json")), flag=False)
        self.books = books
        self._erase()

    def client(self, kind: type[Client], subject: str) -> Client:
        return client_of(kind, "matrix", self.rollout, self.books if subject == "erased" else None)

    def prepare(self) -> None:
        """Everybody's records are there, nothing of who was erased, and the log is empty."""
        for namespace, id in BOS.items():
            self._write(namespace, id, "bo", "coach")
        for namespace, twin in {
            "coachs-old-one": "coach",
            "creator_ana": None,
            "boths-old-one": "both",
            "everybody": "among-others",
            "together": "both-among-others",
        }.items():
            self._write(namespace, "r", "ana", twin)
        self.raw.delete_namespace(GONES)
        httpx.post(f"{self._emulator}/_emulator/reset", json={"calls": True}).raise_for_status()

    def reached(self, subject: str, *, erasing: bool) -> set[str]:
        """Return the namespaces of others that a call named; an erasure also looks among the creator's own."""
        calls = httpx.get(f"{self._emulator}/_emulator/calls").raise_for_status().json()["calls"]
        may_look = UNCLAIMED if erasing else set()
        named = {one["namespace"] for one in calls if one["operation"] not in LOOKING}
        named |= {one["namespace"] for one in calls if one["operation"] in LOOKING} - may_look
        own = set().union(*PLACES.values()) if erasing else PLACES.get(SUBJECTS[subject], set())
        return {namespace for namespace in named if namespace} - own

    def lacks(self) -> list[str]:
        """Return where a record of the other creator is not as it was."""
        return [
            namespace
            for namespace, id in BOS.items()
            if (record := self.raw.fetch(namespace, [id]).records.get(id)) is None
            or record.metadata["creator_id"] != "bo"
        ]

    def _erase(self) -> None:
        self._write(GONES, "r", "gone", "coach")
        erased = PineconeDelphiClient("matrix", rollout=self.rollout, books=self.books).erase("gone", "coach")
        assert erased.confirmed and erased.certificate["erasure"] and self.books.fenced(Tenant("gone", "coach"))

    def _write(self, namespace: str, id: str, creator: str, twin: str | None) -> None:
        owner = {"creator_id": creator} | ({"twin_id": twin} if twin else {})
        self.raw.upsert(namespace, [Record(id, b"\0\0\x80\x3f" * DIMENSION, None, owner)])


@pytest.fixture
def books(database_url: str, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobTableBooks]:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.01")
    database = Database(database_url, pool_size=2)
    yield JobTableBooks(database, Settings.load())
    database.dispose()


@pytest.fixture
def world(emulator: str, books: JobTableBooks, tmp_path: Path) -> World:
    return World(emulator, tmp_path, books)


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_method_does_to_every_subject_what_the_table_says(world: World, kind: type[Client]) -> None:
    wrong: list[str] = []
    for call, outcomes in MATRIX.items():
        for subject, outcome in outcomes.items():
            world.prepare()
            heard, leaked = _heard(world.client(kind, subject), call, subject)
            reached = world.reached(subject, erasing=call in ERASING)
            if (heard, leaked, reached, world.lacks()) != (outcome, [], set(), []):
                told = f"{call} of {subject}: {heard}, not {outcome}; leaked {leaked}; reached {reached}"
                wrong.append(f"{told}; lost {world.lacks()}")

    assert not wrong, "\n".join(wrong)


def _heard(client: Client, call: str, subject: str) -> tuple[Outcome, list[str]]:
    """Return the refusal, and the records of others in the answer."""
    creator, twin = SUBJECTS[subject]
    try:
        answer = CALLS[call](client, creator, twin)
    except VecfleetError as error:
        return type(error), []
    hits = answer.matches if isinstance(answer, Answer) else answer if call == "query_across_twins" else []
    own = {"creator_id": creator} | ({"twin_id": twin} if twin else {})
    return ALLOWED, [hit.id for hit in hits if subject == "erased" or hit.metadata != own]


@pytest.mark.parametrize("of", [PineconeDelphiClient, DelphiPineconeClient])
def test_no_method_is_missing_from_the_table(of: type) -> None:
    public = {name for name, _ in inspect.getmembers(of) if not name.startswith("_")}

    assert public - WITHOUT_SUBJECT == {call.partition(":")[0] for call in MATRIX}
    assert MATRIX.keys() == CALLS.keys()
    assert all(outcomes.keys() == SUBJECTS.keys() for outcomes in MATRIX.values())
