"""Every route of the fleet's HTTP API, for everybody who may ask: a route or a role without a row fails.

Whom the table refuses changes nothing. What an allowed one is answered is that of a verified job.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from job_table import INDEX, JobTable, plan_of, planned

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import JobState
from orchestrator.ledger import erasures
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.web import throttle
from orchestrator.web.app import create
from vecfleet.fleet.models import KEY_HEADER, PREFIX, State
from vecfleet.settings import Settings
from vecfleet.tenancy.tokens import TokenFile, name_of

NOBODY = ("nobody", "revoked", "expired")
OTHERS = ("user", "service", "evidence", "fencing", "viewer", "operator")
ROLES = ("read", "operate", "approve", "admin")


class Row(NamedTuple):
    """The least role, what the others are told that it is, the status for who may, and what is sent."""

    least: str
    allowed: int
    body: Mapping[str, Any] | None = None


NAMED = {"index": INDEX.name}
TABLE: Mapping[str, Row] = {
    "GET /jobs": Row("read", 200),
    "GET /jobs/{job}": Row("read", 200),
    "GET /jobs/{job}/parked": Row("read", 200),
    "GET /jobs/{job}/report": Row("read", 200),
    "GET /jobs/{job}/evidence": Row("read", 200),
    "GET /jobs/{job}/acts": Row("read", 200),
    "GET /plans": Row("read", 200),
    "GET /plans/{name}": Row("read", 404),
    "GET /plans/{name}/dry-run": Row("operate", 404),  # it spends read units
    "GET /erasures/{number}": Row("read", 200),
    "GET /fillings": Row("read", 200),
    "POST /jobs": Row("operate", 404, {"plan": "none.yaml", "digest": "x"}),
    "POST /jobs/{job}/pause": Row("operate", 409),
    "POST /jobs/{job}/resume": Row("operate", 409),
    "POST /jobs/{job}/retry": Row("operate", 409, {"what": "all"}),
    "POST /jobs/{job}/verify": Row("operate", 200, {}),
    "POST /jobs/{job}/pass": Row("operate", 409),
    "POST /jobs/{job}/set": Row("operate", 200, {"lever": "window", "value": 4}),
    "POST /jobs/{job}/comment": Row("operate", 200, {"text": "said"}),
    "POST /jobs/{job}/reverse": Row("operate", 200),
    "POST /jobs/{job}/take-back": Row("operate", 409, {"records": "all"}),
    "POST /jobs/{job}/finish": Row("operate", 200),
    "POST /jobs/{job}/cancel": Row("operate", 200),
    "POST /jobs/{job}/cutover": Row("approve", 200, {"percent": 5}),
    "POST /jobs/{job}/leave-behind": Row("approve", 409, {"records": "all"}),
    "POST /jobs/{job}/cleanup": Row("approve", 409, NAMED),
    "POST /jobs/{job}/rollback": Row("approve", 200, NAMED),
    "POST /fillings/give-up": Row("approve", 404, {"index": "nowhere"}),
    "POST /erasures": Row("approve", 422, {"creator": "ana_twin_x"}),
}


@pytest.fixture
def service(stranger_settings: Settings) -> Iterator[TestClient]:
    parts = Fleet(stranger_settings)
    with TestClient(create(parts), follow_redirects=False) as browser:
        yield browser
    parts.database.dispose()


@pytest.fixture
def stranger_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Its settings, where asking often is no reason for a refusal."""
    for limit in ("_EACH", "_ALL"):
        monkeypatch.setattr(throttle, limit, (1e6, 1_000_000))
    return settings.model_copy(update={"api_requests_per_second": 1e6})


class Asking:
    """Everybody with a token, and a verified job of its own for each who may act."""

    def __init__(self, service: TestClient, tokens: TokenFile, database: Database, settings: Settings) -> None:
        self._service, self._database = service, database
        self._table, self._count = JobTable(database), 0
        self._tokens = {role: tokens.create({"id": role, "role": role}) for role in (*OTHERS, *ROLES)}
        self._tokens |= {role: tokens.create({"id": role, "role": "admin"}) for role in ("revoked", "expired")}
        tokens.revoke(name_of(self._tokens["revoked"]))
        file = settings.vecfleet_home / "tokens.json"
        entries = json.loads(file.read_text())
        name = name_of(self._tokens["expired"])
        next(entry for key, entry in entries.items() if key.startswith(name))["expires"] = "2020-01-01T00:00:00"
        file.write_text(json.dumps(entries))
        with database.begin() as connection:
            self._erasure = erasures.begin(connection, "somebody", "ana")
        self._job = self.verified_job()

    def verified_job(self) -> int:
        self._count += 1
        plan = plan_of(planned(f"s{self._count}", f"t{self._count}"))
        files = plan.source.model_copy(update={"store": "parquet"})
        self._table.apply(plan.model_copy(update={"source": files, "target": files}).sealed())
        self._table.verified()
        return self._table.job_id

    def ask(self, route: str, role: str, *, acts: bool) -> tuple[int, Any]:
        method, path = route.split(" ")
        job = self.verified_job() if acts and method == "POST" else self._job
        token = self._tokens.get(role)
        headers = {KEY_HEADER: f"{role}-{route.replace(' ', '-')}"} if method == "POST" else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self.before = self.state()
        there = PREFIX + path.format(job=job, name="none.yaml", number=self._erasure)
        answer = self._service.request(method, there, headers=headers, json=TABLE[route].body)
        return answer.status_code, answer.json()

    def state(self) -> list[Any]:
        """Return what an act would change: jobs, keys and the audit trail."""
        with self._database.begin() as connection:
            jobs = sa.select(t.job.c.id, t.job.c.state, t.job.c.cut_over_percent, t.job.c.batch_window)
            return [
                connection.execute(jobs.order_by(t.job.c.id)).all(),
                connection.execute(sa.select(sa.func.count()).select_from(t.audit)).scalar_one(),
                connection.execute(sa.select(sa.func.count()).select_from(t.request_key)).scalar_one(),
            ]


def test_everybody_gets_of_every_route_of_the_api_what_the_table_says(
    service: TestClient, tokens: TokenFile, database: Database, stranger_settings: Settings
) -> None:
    asking, wrong = Asking(service, tokens, database, stranger_settings), []
    for route, row in TABLE.items():
        for role in (*NOBODY, *OTHERS, *ROLES):
            may = role in ROLES and ROLES.index(role) >= ROLES.index(row.least)
            status, said = asking.ask(route, role, acts=may)
            if may:
                right = status == row.allowed
            else:
                expected = 401 if role in NOBODY else 403
                right = status == said["status"] == expected and asking.state() == asking.before
                right = right and (role in NOBODY or f"role `{row.least}`" in said["detail"])
            if not right:
                wrong.append(f"{role}: {route}: {status}: {str(said)[:300]}")
    assert not wrong, "\n".join(wrong)


def test_who_may_only_look_is_told_of_records_and_not_their_ids(
    service: TestClient, tokens: TokenFile, database: Database
) -> None:
    # Given a job with a parked record, and one that differs at its target
    table = JobTable(database)
    plan = plan_of(planned("s", "t-s"))
    files = plan.source.model_copy(update={"store": "parquet"})
    table.apply(plan.model_copy(update={"source": files, "target": files}).sealed())
    table.listed({"s": [["differing-id", "parked-id"]]})
    [lease] = table.take()
    table.copy(lease, "t-s", wrote=["differing-id"], parked=["parked-id"])
    verdict = {"reason": "1 different", "samples": [{"kind": "different", "id": "differing-id"}]}
    with table.by_hand() as connection:
        connection.execute(sa.update(t.target).values(check_state="mismatched", verdict=verdict))

    def told(role: str, path: str) -> str:
        token = tokens.create({"id": role, "role": role})
        answer = service.get(f"{PREFIX}/jobs/{table.job_id}/{path}", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        return answer.text

    # Then
    for role, sees in (("read", False), ("operate", True)):
        assert ("parked-id" in told(role, "parked")) is ("parked-id" in told(role, "report")) is sees
        assert ("differing-id" in told(role, "report")) is sees
        assert "1 different" in told(role, "report") and '"records_in_all":1' in told(role, "parked")


def test_no_route_of_the_api_is_missing_from_the_table(service: TestClient) -> None:
    described: Mapping[str, Any] = service.app.openapi()["paths"]  # type: ignore[attr-defined]
    routes = {
        f"{method.upper()} {path.removeprefix(PREFIX)}": call
        for path, calls in described.items()
        if path.startswith(PREFIX)
        for method, call in calls.items()
    }
    assert routes.keys() == TABLE.keys()
    for route, call in routes.items():
        assert call["description"].endswith("."), f"{route} says not what it does"
        assert call["security"], route
        keys = [parameter for parameter in call.get("parameters", ()) if parameter["name"] == KEY_HEADER]
        assert bool(keys) == route.startswith("POST "), f"{route}: an act has a key, a look has none"
        assert all(key["required"] for key in keys)


def test_the_list_of_jobs_is_what_it_is_asked_for_and_a_slip_is_refused(
    service: TestClient, tokens: TokenFile, database: Database
) -> None:
    # Given three jobs, of which one runs and one is paused
    table = JobTable(database)
    numbers = [table.apply(plan_of(planned(f"s{number}", f"t{number}"))) for number in range(3)]
    for number, state in zip(numbers, (JobState.RUNNING, JobState.PAUSED), strict=False):
        table.job_id = number
        table.put(state=state)
    headers = {"Authorization": f"Bearer {tokens.create({'id': 'pipeline', 'role': 'read'})}"}

    def listed(**asked: Any) -> Any:
        answer = service.get(f"{PREFIX}/jobs", params=asked, headers=headers)
        return [job["job"] for job in answer.json()["jobs"]] if answer.is_success else answer.status_code

    # Then the newest come first, as many and of the states that were asked for
    first, second, third = numbers
    assert listed() == [third, second, first]
    assert listed(limit=2) == [third, second]
    assert listed(state=["running", "paused"]) == [second, first]
    assert listed(state="paused", limit=1) == [second]
    assert listed(state="cleaned") == []
    # And what is no state or no number of jobs lists nothing
    for asked in ({"state": "live"}, {"limit": 0}, {"limit": 1_001}, {"limit": "all"}):
        assert listed(**asked) == 422, asked


def test_a_token_of_the_api_signs_nobody_in_at_the_page(service: TestClient, tokens: TokenFile) -> None:
    for role in ("read", "operate", "approve"):
        token = tokens.create({"id": "pipeline", "role": role})
        assert service.post("/login", data={"token": token, "then": "/"}).status_code == 401
        assert service.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert service.get("/delphi/routes", headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_the_states_that_the_client_knows_are_those_of_a_job() -> None:
    assert set(get_args(State)) == set(JobState)


def test_the_path_of_the_api_holds_nothing_that_is_not_described(service: TestClient) -> None:
    answer = service.get(f"{PREFIX}/workers")
    assert answer.status_code == 404 and re.search("nothing at this address", answer.text)
