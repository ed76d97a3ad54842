"""Every route of the service, for everybody who may ask: what is allowed, and what the others are refused with.

The table is walked over a socket against the running service. Who is refused changes nothing and makes no call to the
store; whose search or erasure is allowed reaches no namespace of another tenant. A route that is missing from the table
fails the test, and so does an act of the page.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from job_table import INDEX, JobTable, plan_of, planned
from starlette.routing import Mount

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services.erase import JobTableBooks
from orchestrator.web import throttle
from orchestrator.web.acting import ACTS, CONFIRMED
from orchestrator.web.app import create
from orchestrator.web.sessions import COOKIE
from tests.tenancy.conftest import SMALL, MakeIndex
from tests.tenancy.test_api import served
from vecfleet import names
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.tenancy import PineconeDelphiClient
from vecfleet.tenancy.places import Place
from vecfleet.tenancy.shadow_reads import EDGES_MS
from vecfleet.tenancy.tokens import TokenFile, name_of

pytest_plugins = ["tests.tenancy.conftest"]


class Refusal(NamedTuple):
    """A refusal: its status, and what it says."""

    status: int
    says: str


Outcome = int | Refusal
Outcomes = Mapping[str, Outcome]

# Every token is of a role, and may name creators, as `token create --creator` lets it.
_OF_ROLES = ("viewer", "operator", "service", "evidence", "fencing", "read", "operate", "approve", "admin")
USERS: Mapping[str, Mapping[str, Any] | None] = {
    "nobody": None,
    **{role: {"role": role, "creator_ids": ["bea"]} for role in _OF_ROLES},
    "operator's bearer": {"role": "operator", "creator_ids": ["bea"]},  # on the page, too
    "own": {"role": "user", "creator_ids": ["bea"]},
    "foreign": {"role": "user", "creator_ids": ["bea"]},
    "erased": {"role": "user", "creator_ids": ["gone"]},
    "revoked": {"role": "admin", "creator_ids": ["bea"]},
    "expired": {"role": "admin", "creator_ids": ["bea"]},
}
# Whom they speak of: a creator, and one of its twins. `gone` is erased before anybody asks.
SUBJECTS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(USERS, ("bea", "coach")),
    "foreign": ("bo", "coach"),
    "erased": ("gone", "coach"),
    # Of a tenant's own, by a valid token of that creator; at the tenants' routes alone
    "own: among others": ("bea", "among"),
    "own: unlisted": ("bea", "unlisted"),
    "own: called as another's": ("bea", "creator_bo_twin_coach"),
    "own: creator-wide": ("bea", None),
    "own: malformed creator": ("bea_twin_x", "coach"),
    "own: malformed twin": ("bea", "two words"),
    "own: erased": ("gone", "coach"),
}
OF_OWN = SUBJECTS.keys() - USERS.keys()
SIGNED_IN = {"viewer", "operator", "admin", "revoked", "expired"}  # at the page, these were

NO_TOKEN = Refusal(401, "the request has no valid bearer token")
NOT_SIGNED_IN = Refusal(401, "this needs an operator's session")
NOT_KNOWN = Refusal(401, "not known here, or it is one for the API")
OF_OTHERS = Refusal(403, "Access denied: creator 'bo' belongs to another tenant")
LOOKS = Refusal(403, "may look at jobs, and not change them: nothing was changed")
NO_BUTTON = Refusal(403, "a bearer token looks; only the buttons of the page act: nothing was changed")


def _everybody(outcome: Outcome) -> Outcomes:
    return dict.fromkeys(USERS, outcome)


def _page(looking: int = 200) -> Outcomes:
    """For those who are signed in."""
    seen = dict.fromkeys(("viewer", "operator", "operator's bearer", "admin"), looking)
    return _everybody(NOT_KNOWN) | dict.fromkeys(("nobody", "revoked", "expired"), NOT_SIGNED_IN) | seen


def _act(done: int) -> Outcomes:
    """For operators; 409 is what the guard of the act says of a job that is verified."""
    return _page() | {"viewer": LOOKS, "operator's bearer": NO_BUTTON, "operator": done, "admin": done}


def _by_token(role: str, *more: str, done: int = 200) -> Outcomes:
    """For tokens of a role, and of those that may besides."""
    found = _everybody(Refusal(403, f"this is for tokens of the role `{role}`"))
    found |= dict.fromkeys(("nobody", "erased", "revoked", "expired"), NO_TOKEN)
    return found | dict.fromkeys((role, *more, "admin"), done)


def _tenants(**of_own: Outcome) -> Outcomes:
    """For users: 200 of their own, unless told otherwise."""
    outcomes = {**_by_token("user", "own"), "foreign": OF_OTHERS, **dict.fromkeys(OF_OWN, 200)}
    del outcomes["user"]  # it is there as `own` and `foreign`
    return outcomes | {f"own: {name.replace('_', ' ')}": outcome for name, outcome in of_own.items()}


BAD_NAME = Refusal(422, "may neither contain _twin_ nor end in _twin")
BAD_TWIN = Refusal(422, "String should match pattern")
NOTHING = dict.fromkeys(
    ("unlisted", "erased"), 404
)  # of it is there, nor of a twin that is called as another's namespace

MATRIX: Mapping[str, Outcomes] = {
    "GET /openapi.json": _everybody(200),
    "GET /docs": _everybody(200),
    "GET /metrics": _everybody(200),
    "GET /static/{file}": _everybody(200),
    "GET /login": _everybody(200),
    "POST /login": _everybody(NOT_KNOWN) | dict.fromkeys(("viewer", "operator", "operator's bearer", "admin"), 303),
    "POST /logout": _everybody(303),
    "GET /": _page(),
    "GET /events": _page(),
    **dict.fromkeys(("GET /workers", "GET /plans", "GET /jobs/{job_id}/batches/{batch_id}"), _page()),
    **dict.fromkeys(("POST /jobs/{job_id}/comment", "POST /jobs/{job_id}/finish"), _act(303)),
    "GET /jobs/{job_id}/finish": _page(),
    "GET /plans/{name}": _page(404),
    "POST /plans/{name}": _act(404),
    "GET /jobs/{job_id}": _page(),
    "GET /jobs/{job_id}/namespaces": _page(),
    "GET /jobs/{job_id}/namespaces/{seq}": _page(),
    "GET /jobs/{job_id}/audit": _page(),
    "GET /jobs/{job_id}/report": _page(),
    "GET /jobs/{job_id}/events": _page(),
    "GET /jobs/{job_id}/cutover": _page(),
    "GET /jobs/{job_id}/cleanup": _page(),
    "GET /jobs/{job_id}/rollback": _page(),
    "GET /jobs/{job_id}/cancel": _page(),
    **{f"POST /jobs/{{job_id}}/{name}": _act(409) for name in ("pause", "resume", "retry", "pass")},
    "POST /jobs/{job_id}/accept": _act(409),
    "POST /jobs/{job_id}/accept-batch": _act(409),
    "POST /jobs/{job_id}/undo": _act(409),
    "POST /jobs/{job_id}/verify": _act(303),
    "POST /jobs/{job_id}/set": _act(422),
    "POST /jobs/{job_id}/cutover": _act(303),
    "POST /jobs/{job_id}/reverse": _act(303),
    "POST /jobs/{job_id}/cleanup": _act(409),
    "POST /jobs/{job_id}/rollback": _act(303),
    "POST /jobs/{job_id}/cancel": _act(303),
    "GET /delphi/routes": _by_token("service", "evidence", "fencing"),
    "POST /delphi/evidence/{job_id}": _by_token("evidence", done=204),
    "POST /delphi/erasures": _by_token("fencing"),
    "GET /delphi/erasures": _by_token("fencing"),
    "GET /delphi/erasures/{number}": _by_token("fencing"),
    "POST /delphi/erasures/{number}": _by_token("fencing"),
    "POST /delphi/search": _tenants(malformed_creator=BAD_NAME, malformed_twin=BAD_TWIN),
    "POST /delphi/search-cross-twin": _tenants(malformed_creator=BAD_NAME, malformed_twin=BAD_TWIN),
    "GET /delphi/twins": _tenants(malformed_creator=BAD_NAME),
    "GET /delphi/validate-name": {**_tenants(), "foreign": 200},  # it names no creator
    "DELETE /delphi/twin/{twin_id}": {
        **_tenants(malformed_creator=BAD_NAME, malformed_twin=BAD_TWIN, **NOTHING),
        "own: called as another's": 404,
    },
    "DELETE /delphi/creator": _tenants(malformed_creator=BAD_NAME, erased=404),
}

OF_TENANTS = {route for route, outcomes in MATRIX.items() if outcomes.keys() >= OF_OWN}

VECTOR = {"vector": [1.0] * SMALL}
ENDING = {"creator": "leaving", "found": [], "certificate": {}}


def _searched(creator: str, twin: str | None) -> dict[str, Any]:
    return {"json": VECTOR | {"creator_id": creator} | ({"twin_id": twin} if twin else {})}


def _searched_across(creator: str, twin: str | None) -> dict[str, Any]:
    return {"json": VECTOR | {"creator_id": creator} | ({"twin_ids": [twin]} if twin else {})}


def _of_creator(creator: str, _: str | None) -> dict[str, Any]:
    return {"params": {"creator_id": creator}}


CALLS: Mapping[str, Callable[[str, str | None], Mapping[str, Any]]] = {
    "POST /jobs/{job_id}/retry": lambda *_: {"data": {"what": "all"}},
    "POST /jobs/{job_id}/accept-batch": lambda *_: {"data": {"batch": "1"}},
    "POST /jobs/{job_id}/comment": lambda *_: {"data": {"text": "said"}},
    "POST /jobs/{job_id}/cutover": lambda *_: {"data": {"percent": "5", "since": "0"}},
    "POST /jobs/{job_id}/cleanup": lambda *_: {"data": {"typed": INDEX.name}},
    "POST /jobs/{job_id}/rollback": lambda *_: {"data": {"typed": INDEX.name}},
    "POST /delphi/evidence/{job_id}": lambda *_: {"json": {"queries": 0, "buckets": [0] * (len(EDGES_MS) + 1)}},
    "POST /delphi/erasures": lambda creator, _: {"json": {"creator": creator, "who": "support"}},
    "GET /delphi/erasures": lambda *_: {"params": {"subject": "x"}},
    "POST /delphi/erasures/{number}": lambda *_: {"json": ENDING},
    "POST /delphi/search": _searched,
    "POST /delphi/search-cross-twin": _searched_across,
    "GET /delphi/twins": _of_creator,
    "GET /delphi/validate-name": lambda _, twin: {"params": {"name": twin or "coach"}},
    "DELETE /delphi/twin/{twin_id}": _of_creator,
    "DELETE /delphi/creator": _of_creator,
}
SMALL_INDEX = IndexInfo("small", Kind.DENSE, SMALL, "cosine", host="small.local")
SHARED = "everybody"


class World:
    """The service on a port, a job that is verified, and two tenants with records in an emulator that keeps a log."""

    def __init__(self, http: httpx.Client, emulator: httpx.Client, settings: Settings, database: Database) -> None:
        self._http, self._emulator, self._settings = http, emulator, settings
        self._tenants = PineconeDelphiClient("small", settings=settings)
        self._raw = self._tenants._index(Place(""))
        self._table, self._numbers = JobTable(database), itertools.count(1)
        self._tokens = TokenFile(settings.vecfleet_home / "tokens.json")
        self._books = JobTableBooks(database, settings)
        self._job = self._verified_job()
        self._erased = self._tokens.create({"id": "gone", **(USERS["erased"] or {})})
        self._erase("gone")

    def hear(self, route: str, role: str, outcome: Outcome) -> tuple[int, str]:
        """The status and what is said; of a stream no more than its head. Who changes a job has one of their own."""
        method, path = route.split(" ")
        form, acts = method == "POST" and not path.startswith("/delphi"), not isinstance(outcome, Refusal)
        job = self._verified_job() if form and acts and "{job_id}" in path and outcome != 409 else self._job
        token, (creator, twin) = self._token(role), SUBJECTS[role]
        asked = dict(CALLS.get(route, lambda *_: {})(creator, twin))
        headers: dict[str, str] = {}
        if role in SIGNED_IN and not path.startswith("/delphi"):
            headers["Cookie"] = f"{COOKIE}={self._sign_in(token)}"
            asked |= {"data": {"proof": self._proof(headers, job), **asked.get("data", {})}} if form and acts else {}
        elif token and path != "/login":
            headers["Authorization"] = f"Bearer {token}"
        asked = {"data": {"token": token}} if route == "POST /login" else asked
        self._end(role, token)
        number = self._books.begin(Tenant("leaving"), "support").number if "{number}" in path and acts else 1
        parts = {"seq": 1, "batch_id": 1, "number": number, "file": "app.css", "name": "none.yaml"}
        there = path.format(job_id=job, twin_id=twin or "coach", **parts)
        self._before = self._changed()
        self._emulator.post("/_emulator/reset", json={"calls": True}).raise_for_status()
        with self._http.stream(method, there, headers=headers, **asked) as answer:
            streams = answer.headers.get("content-type", "").startswith("text/event-stream")
            said = "" if streams else answer.read().decode()
        self._http.cookies.clear()
        return answer.status_code, said

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls to the store since this one asked."""
        found: list[dict[str, Any]] = self._emulator.get("/_emulator/calls").raise_for_status().json()["calls"]
        return found

    def is_as_it_was(self) -> bool:
        """Say whether jobs and erasures are as before this request, and nothing is in the audit trail."""
        return self._changed() == self._before

    def fill(self) -> None:
        """Both tenants have their records, of their own and in a namespace that they share."""
        for creator in ("bea", "bo"):
            self._tenants.upsert_vectors([{"id": "r", "values": [1.0] * SMALL}], creator, "coach")
            owner = {"creator_id": creator, "twin_id": "among"}
            self._raw.upsert(SHARED, [Record(f"{creator}s", b"\0\0\x80\x3f" * SMALL, None, owner)])
            self._place_among_others(creator)

    def lacks_bos(self) -> bool:
        own = self._tenants.query([1.0] * SMALL, creator_id="bo", twin_id="coach").matches
        return not own or "bos" not in self._raw.fetch(SHARED, ["bos"]).records

    def _changed(self) -> list[Any]:
        with self._table.begin() as connection:
            jobs = sa.select(t.job.c.id, t.job.c.state, t.job.c.cut_over_percent).order_by(t.job.c.id)
            return [
                *connection.execute(jobs),
                *connection.execute(sa.select(t.erasure.c.id, t.erasure.c.certificate).order_by(t.erasure.c.id)),
                connection.execute(sa.select(sa.func.count()).select_from(t.audit)).scalar(),
            ]

    def _place_among_others(self, creator: str) -> None:
        """A route that leads a twin's readers to the shared namespace. An erasure of its creator takes it away."""
        with self._table.begin() as connection:
            if connection.execute(sa.select(t.route.c.id).where(t.route.c.creator == creator)).first():
                return
        to = f"creator_{creator}_twin_among"
        job_id = self._table.apply(
            plan_of(planned(SHARED, records=next(self._numbers))), target=SMALL_INDEX, source=SMALL_INDEX
        )
        self._table.listed({SHARED: [[f"{creator}s"]]})
        [lease] = self._table.take()
        self._table.copy(lease, to)
        route = {"job_id": job_id, "creator": creator, "twin": "among", "old_index": "small", "new_index": "small"}
        with self._table.begin() as connection:
            connection.execute(
                sa.update(t.target).where(t.target.c.namespace == to).values(creator=creator, twin="among")
            )
            connection.execute(sa.insert(t.route).values(**route, old_namespaces=[SHARED], new_namespace=to))

    def _verified_job(self) -> int:
        source = f"s{next(self._numbers)}"
        plan = plan_of(planned(source, f"t-{source}"))
        index = plan.source.model_copy(update={"store": "parquet"})
        self._table.apply(plan.model_copy(update={"source": index, "target": index}).sealed())
        self._table.verified()
        return self._table.job_id

    def _erase(self, creator: str) -> None:
        number = self._books.begin(Tenant(creator), "support").number
        assert number is not None
        self._books.finish(number, Tenant(creator), (), {"where": [], "residual": []})

    def _token(self, role: str) -> str:
        user = USERS.get(role, {"role": "user", "creator_ids": [SUBJECTS[role][0]]})
        return "" if user is None else self._erased if role == "erased" else self._tokens.create({"id": role, **user})

    def _end(self, role: str, token: str) -> None:
        """Void what was valid until now."""
        if role == "revoked":
            self._tokens.revoke(name_of(token))
        if role == "expired":
            file = self._settings.vecfleet_home / "tokens.json"
            kept = json.loads(file.read_text())
            next(one for key, one in kept.items() if key.startswith(name_of(token)))["expires"] = "2020-01-01T00:00:00"
            file.write_text(json.dumps(kept))

    def _sign_in(self, token: str) -> str:
        """The cookie of a new session."""
        cookie = self._http.post("/login", data={"token": token}).cookies[COOKIE]
        self._http.cookies.clear()
        return cookie

    def _proof(self, headers: Mapping[str, str], job: int) -> str:
        """Return what the forms of this session carry; a viewer is shown none."""
        page = self._http.get(f"/jobs/{job}", headers={**headers, "Accept": "text/html"}).text
        found = re.search(r'name="proof" value="([^"]+)"', page)
        return found[1] if found else ""


@pytest.fixture
def service(settings: Settings, emulator: str, make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Its settings: the index is on the emulator, nothing lags, and asking often is no reason for a refusal."""
    for limit in ("_EACH", "_ALL"):
        monkeypatch.setattr(throttle, limit, (1e6, 1_000_000))
    make_index()
    there = {
        "pinecone_controller_host": emulator,
        "pinecone_api_key": "any",
        "pinecone_index_name": "small",
        "use_delphi_namespaces": True,
        "freshness_wait_seconds": 0.01,
        "routes_cache_seconds": 0.1,
        "request_deadline_seconds": 2.0,
    }
    return Settings(**settings.model_dump(exclude_unset=True) | there)


@pytest.fixture
def app(service: Settings) -> Iterator[FastAPI]:
    parts = Fleet(service)
    yield create(parts)
    parts.database.dispose()


def test_everybody_gets_of_every_route_what_the_table_says(
    app: FastAPI, service: Settings, database: Database, emulator: str
) -> None:
    wrong: list[str] = []
    with (
        served(app) as address,
        httpx.Client(base_url=address, headers={"Accept": "application/json"}, timeout=60) as http,
        httpx.Client(base_url=emulator) as log,
    ):
        world = World(http, log, service, database)
        for route, role, outcome in _cells():
            tenants = route in OF_TENANTS
            if tenants:
                world.fill()
            status, said = world.hear(route, role, outcome)
            if isinstance(outcome, Refusal):
                right = status == outcome.status and outcome.says in said
                untouched = not world.calls() and world.is_as_it_was()
            else:
                kept = status != 409 or world.is_as_it_was()
                right, untouched = status == outcome and kept, not tenants or _only_own(world, route, role)
            if not (right and untouched):
                wrong.append(f"{role}: {route}: {status}, not {outcome}; others untouched: {untouched}; {said[:300]}")

    assert not wrong, "\n".join(wrong)


def _cells() -> Iterator[tuple[str, str, Outcome]]:
    return ((route, role, outcome) for route, outcomes in MATRIX.items() for role, outcome in outcomes.items())


def _only_own(world: World, route: str, role: str) -> bool:
    """Say whether no call named a namespace of others, and what others have is as it was."""
    named = {one["namespace"] for one in world.calls() if one["namespace"]}
    if role == "own: among others" and "search" in route and SHARED not in named:
        return False  # the route did not lead there: this cell would show nothing
    own = all(names.belongs_to(namespace, SUBJECTS[role][0]) for namespace in named - {SHARED})
    return own and not world.lacks_bos()


def test_no_route_and_no_act_is_missing_from_the_table(app: FastAPI) -> None:
    found = {f"{method} {path}" for path, methods in _routes(app) for method in methods - {"HEAD"}}
    asked, acted = "GET /jobs/{job_id}/{name}", "POST /jobs/{job_id}/{name}"
    assert {asked, acted} <= found
    every = {route for route in found - {asked, acted} if " /api/" not in route}  # test_every_api_route has those
    every |= {asked.replace("{name}", name) for name in CONFIRMED} | {acted.replace("{name}", name) for name in ACTS}

    assert every == MATRIX.keys() and CALLS.keys() <= MATRIX.keys()
    for route, outcomes in MATRIX.items():
        assert outcomes.keys() == (SUBJECTS if route in OF_TENANTS else USERS).keys(), route


def _routes(app: Any) -> Iterator[tuple[str, set[str]]]:
    for route in app.routes:
        if isinstance(route, Mount):
            yield f"{route.path}/{{file}}", {"GET"}
        else:
            yield re.sub(r":\w+}", "}", route.path), route.methods


@pytest.mark.parametrize("route", sorted(OF_TENANTS - {"GET /delphi/validate-name"}))
def test_what_is_not_available_names_no_index_of_ours(
    service: Settings, make_index: MakeIndex, tokens: TokenFile, route: str
) -> None:
    make_index("somebody-elses")
    parts = Fleet(service.model_copy(update={"pinecone_index_name": "not-there"}))
    token = tokens.create({"id": "an application", **(USERS["own"] or {})})
    method, path = route.split(" ")

    with TestClient(create(parts), headers={"Authorization": f"Bearer {token}"}) as browser:
        answer = browser.request(method, path.format(twin_id="coach"), **CALLS[route]("bea", "coach"))
    parts.database.dispose()

    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert not [name for name in ("somebody-elses", "small", "not-there") if name in answer.text]
