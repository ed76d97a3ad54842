"""`vecfleet serve` and `token create`: one process for operators, tenants and applications."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from job_table import JobTable, plan_of, planned
from terminal import Brain, Vecfleet

from orchestrator.embedded.ports import free_port, listening
from orchestrator.ledger import erasures
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from tests.stories.launching import cold
from vecfleet.errors import Unreachable
from vecfleet.names import Tenant
from vecfleet.tenancy import CachedRoutes, HttpRoutes, Rollout, erasing
from vecfleet.tenancy.evidence_sender import EvidenceSender
from vecfleet.tenancy.fences import FENCED, HttpBooks, subject_of
from vecfleet.tenancy.shadow_reads import ShadowLog

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


@pytest.fixture
def address(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    port = free_port()
    words = ("orchestrator", "serve", "--port", str(port))
    process = cold("serve", *words, log=tmp_path / "serve.log", env={**os.environ, **environment}, port=port)
    try:
        process.wait_until(lambda: listening(port), PATIENCE_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop(patience_s=10)


def token(vecfleet: Vecfleet, *words: str) -> dict[str, str]:
    answer = vecfleet("token", "create", *words)
    assert answer.code == 0, answer.err
    assert "next: vecfleet serve" in answer.err
    return {"Authorization": f"Bearer {answer.out.strip()}"}


@pytest.fixture
def cut_over(database: Database) -> JobTable:
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t-s")))
    table.verified()
    acts.cut_over(database, table.job_id, "ana", 100)
    return table


def test_one_process_serves_operators_tenants_and_applications(
    address: str, vecfleet: Vecfleet, cut_over: JobTable, database: Database
) -> None:
    # Operators see the jobs, with a token of theirs
    operator = token(vecfleet, "--role", "operator")
    assert httpx.get(address, headers=operator).json()["jobs"][0]["cut_over_percent"] == 100
    assert httpx.get(address).status_code == 401
    # Tenants have their API, with their tokens
    ana = token(vecfleet, "--creator", "ana")
    answer = httpx.get(f"{address}/delphi/validate-name", params={"name": "coach"}, headers=ana)
    assert answer.json()["valid"]
    assert httpx.get(f"{address}/delphi/validate-name", params={"name": "coach"}).status_code == 401
    # Monitoring reads the metrics
    assert "vecfleet_query_seconds" in httpx.get(f"{address}/metrics").text
    # Applications read the routes with a service's token, and a user may not
    service = token(vecfleet, "--role", "service")
    assert httpx.get(f"{address}/delphi/routes", headers=ana).status_code == 403
    first = httpx.get(f"{address}/delphi/routes", headers=service)
    again = httpx.get(f"{address}/delphi/routes", headers=service | {"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    # And a reversal reaches them within the cache time
    provider = HttpRoutes(f"{address}/delphi/routes", service["Authorization"].removeprefix("Bearer "))
    rollout = Rollout(CachedRoutes(provider, cache_s=1.0), flag=False)
    assert rollout.where("ana", "s").side == "new"
    acts.reverse(database, cut_over.job_id, "ana")
    wait_until_old(rollout)
    # What is not there is a problem, too
    assert httpx.get(f"{address}/nowhere").headers["content-type"] == "application/problem+json"


def wait_until_old(rollout: Rollout) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while rollout.where("ana", "s").side != "old":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_evidence_reaches_the_job_and_bad_evidence_takes_its_readers_back(
    address: str, vecfleet: Vecfleet, database: Database
) -> None:
    # Given a job whose policy is to reverse, and an application that asked both sides
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t-s"), bad_step="reverse"))
    table.verified()
    acts.cut_over(database, table.job_id, "ana", 5)
    log = ShadowLog()
    for _ in range(200):
        log.record(table.job_id, 120.0, False, 1.0)
    log.record(None, 1.0, False, None)
    service = token(vecfleet, "--role", "evidence")["Authorization"].removeprefix("Bearer ")

    # When it reports
    assert EvidenceSender(log, f"{address}/delphi/evidence", "wrong").send() == 0
    assert EvidenceSender(log, f"{address}/delphi/evidence", service).send() == 200

    # Then the readers are back
    assert table.job.cut_over_percent == 0
    assert log.take() == {}


def test_a_token_is_printed_once_and_kept_as_a_hash(vecfleet: Vecfleet, environment: dict[str, str]) -> None:
    header = token(vecfleet, "--creator", "ana", "--user", "backend")
    file = Path(environment["VECFLEET_HOME"]) / "tokens.json"

    assert header["Authorization"].removeprefix("Bearer ") not in file.read_text()
    assert '"backend"' in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_tokens_are_listed_with_their_end_and_their_last_use_and_a_revoked_one_is_refused_at_once(
    address: str, vecfleet: Vecfleet
) -> None:
    first, second = (token(vecfleet, "--creator", "ana", "--user", "backend", "--days", days) for days in ("30", "90"))
    path = f"{address}/delphi/validate-name?name=coach"
    assert httpx.get(path, headers=first).status_code == 200

    listed = {one["token"]: one for one in json.loads(vecfleet("token", "list", "--json").out)["tokens"]}
    used = next(one for one in listed.values() if one["last_used"])
    ends = [datetime.fromisoformat(one["expires"]) - datetime.fromisoformat(one["made"]) for one in listed.values()]
    assert sorted(end.days for end in ends) == [30, 90]
    assert used["creators"] == ["ana"] and used["token"] in vecfleet("token", "list").out

    answer = vecfleet("token", "revoke", used["token"])
    assert answer.code == 0 and "opens nothing any more" in answer.out
    assert httpx.get(path, headers=first).status_code == 401
    assert httpx.get(path, headers=second).status_code == 200
    again = vecfleet("token", "revoke", used["token"])
    assert again.code == 2 and "vecfleet token list" in again.err


def test_without_the_file_of_tokens_a_serving_process_lets_nobody_in(
    address: str, vecfleet: Vecfleet, environment: dict[str, str]
) -> None:
    ana = token(vecfleet, "--creator", "ana")
    path = f"{address}/delphi/validate-name?name=coach"
    assert httpx.get(path, headers=ana).status_code == 200

    (Path(environment["VECFLEET_HOME"]) / "tokens.json").unlink()

    assert httpx.get(path, headers=ana).status_code == 401


def test_a_users_token_without_a_creator_is_refused(vecfleet: Vecfleet) -> None:
    answer = vecfleet("token", "create")

    assert answer.code == 2
    assert "--creator" in answer.err


@pytest.mark.parametrize("role", ["service", "evidence", "fencing", "viewer", "operator", "admin"])
def test_a_token_of_another_role_is_bound_to_no_creator(
    vecfleet: Vecfleet, environment: dict[str, str], role: str
) -> None:
    # When somebody asks for one that would seem to be
    answer = vecfleet("token", "create", "--role", role, "--creator", "ana")
    # Then it is refused with what to do, and no token was made
    assert answer.code == 2
    assert f"the role {role} has no such limit" in answer.err
    assert "leave out --creator" in answer.err
    assert vecfleet("token", "list", "--json").json["tokens"] == []


def test_serving_loads_neither_workers_nor_the_emulator() -> None:
    probe = (
        "import sys, orchestrator.web.app\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('workers', 'emulator')])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_application_raises_the_fence_of_an_erasure_and_gets_its_certificate(
    address: str, vecfleet: Vecfleet, brain: Brain, database: Database
) -> None:
    brain.write("creator_ana_twin_coach", "a-1", creator_id="ana")
    index = brain.store.open(brain.store.describe("brain"))
    key = token(vecfleet, "--role", "fencing")["Authorization"].removeprefix("Bearer ")

    erased = erasing.erase([index], Tenant("ana"), books=HttpBooks(address, key), lands_s=0)

    assert erased.confirmed and erased.fence == FENCED and erased.certificate["erasure"] == 1
    with database.begin() as connection:
        assert erasures.fenced(connection, [subject_of(Tenant("ana"))])
    # Whoever copies records of hers, or of one of her twins, is told of it
    books = HttpBooks(address, key)
    assert books.fenced(Tenant("ana")) and books.fenced(Tenant("ana", "coach")) and not books.fenced(Tenant("an"))
    # A token of a tenant raises none
    others = token(vecfleet, "--creator", "bob")["Authorization"].removeprefix("Bearer ")
    with pytest.raises(Unreachable, match="403"):
        HttpBooks(address, others).begin(Tenant("ana"), "bob")


def test_the_books_name_owners_by_index_and_for_an_older_client_by_name(
    address: str, vecfleet: Vecfleet, brain: Brain, table: JobTable
) -> None:
    # Given a plan of an old index, and an index of the application's own with a namespace of the same name
    assert vecfleet("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml").code == 0
    assert vecfleet("apply", "plan.yaml", "--no-backup").code == 0
    brain.create("other")
    brain.write("first", "not-hers", index="other")
    headers = token(vecfleet, "--role", "fencing")

    answer = httpx.post(f"{address}/delphi/erasures", json={"creator": "ana", "who": "x"}, headers=headers).json()
    assert {"first", "second"} <= {*answer["legacy"]} and {"first", "second"} <= {*answer["indexes"]["brain"]["legacy"]}

    books = HttpBooks(address, headers["Authorization"].removeprefix("Bearer "))
    indexes = [brain.store.open(brain.store.describe(name)) for name in ("brain", "other")]
    erased = erasing.erase(indexes, Tenant("ana"), books=books, lands_s=0)

    assert erased.confirmed and {(one.index, one.name) for one in erased.deleted} == {
        ("brain", "first"),
        ("brain", "second"),
    }
    assert indexes[1].list_ids("first").ids == ["not-hers"]
