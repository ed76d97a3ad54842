"""The fence over HTTP: a role of its own, and nothing is forgotten before number, tenant and state belong together."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from job_table import INDEX, JobTable, plan_of, planned

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import tables as t
from orchestrator.web.app import create
from tests.tenancy.conftest import HEADERS, SMALL, MakeIndex
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.tenancy import PineconeDelphiClient
from vecfleet.tenancy.fences import subject_of
from vecfleet.tenancy.tokens import TokenFile, name_of

pytest_plugins = ["tests.tenancy.conftest"]
MARKUP = "<script>alert(1)</script>"


@dataclass
class Books:
    browser: TestClient
    tokens: TokenFile
    table: JobTable
    home: Path

    def call(self, method: str, path: str, role: str = "fencing", **more: Any) -> httpx.Response:
        token = self.tokens.create({"id": f"an app {role}", "role": role, "creator_ids": ["app"]})
        self.token = name_of(token)
        headers = {"Authorization": f"Bearer {token}"}
        answer: httpx.Response = self.browser.request(method, f"/delphi/erasures{path}", headers=headers, **more)
        return answer

    def begin(self, creator: str = "ana", who: str = "support") -> int:
        answer = self.call("POST", "", json={"creator": creator, "who": who})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["number"])

    def finish(self, number: int, creator: str = "ana", found: Any = (), **certificate: Any) -> httpx.Response:
        body = {"creator": creator, "found": list(found), "certificate": certificate}
        return self.call("POST", f"/{number}", json=body)

    def rows(self, table: sa.Table) -> list[Any]:
        with self.table.begin() as connection:
            return list(connection.execute(sa.select(table)))

    def acts(self) -> list[tuple[str, str]]:
        return [(row.action, row.who) for row in self.rows(t.audit)]


@pytest.fixture
def books(
    settings: Settings, emulator: str, make_index: MakeIndex, table: JobTable, tokens: TokenFile
) -> Iterator[Books]:
    make_index()
    there = settings.model_copy(update={"pinecone_controller_host": emulator, "pinecone_index_name": "small"})
    parts = Fleet(there.model_copy(update={"pinecone_api_key": HEADERS_KEY}))
    with TestClient(create(parts), raise_server_exceptions=False) as browser:
        yield Books(browser, tokens, table, settings.vecfleet_home)
    parts.database.dispose()


HEADERS_KEY = Settings(pinecone_api_key=HEADERS["Api-Key"]).pinecone_api_key  # type: ignore[arg-type]


def place(name: str, *, whole: bool = True, index: str = "small", records: Any = None) -> dict[str, Any]:
    ids = records or {}
    return {"index": index, "name": name, "whole": whole, "count": len(ids), "digest": 7, "records": ids}


def nothing_was_forgotten(books: Books) -> None:
    assert [row.source for row in books.rows(t.move)] == ["s"]
    assert all(row.certificate is None for row in books.rows(t.erasure))
    assert not (books.home / "certificates").exists()


@pytest.fixture
def victim(books: Books) -> Books:
    books.table.apply(plan_of(planned("s", "creator_victim_twin_s")))
    return books


@pytest.mark.parametrize("role", ["service", "evidence", "user", "viewer", "operator"])
def test_fencing_is_a_role_of_its_own(victim: Books, role: str) -> None:
    for method, path, body in (
        ("POST", "", {"creator": "victim", "who": "x"}),
        ("GET", "?subject=x", None),
        ("GET", "/1", None),
        ("POST", "/1", {"creator": "victim", "found": [], "certificate": {}}),
    ):
        answer = victim.call(method, path, role, json=body)
        assert answer.status_code == 403 and "role `fencing`" in answer.json()["detail"]
        # And each refusal is on record, by its token
        log = (victim.home / "logs" / "tenants.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["token"] == victim.token
    assert victim.rows(t.erasure) == []
    nothing_was_forgotten(victim)


def test_an_erasure_that_never_began_is_not_finished(victim: Books) -> None:
    answer = victim.finish(424242, "victim")

    assert answer.status_code == 404 and "there is no erasure 424242" in answer.json()["detail"]
    nothing_was_forgotten(victim)
    assert victim.acts()[-1] == ("erasure refused", f"an app fencing ({victim.token})")


def test_an_erasure_that_was_begun_for_one_tenant_is_not_finished_for_another(victim: Books) -> None:
    number = victim.begin("app")

    for creator in ("victim", "ap", "app2"):
        answer = victim.finish(number, creator)
        assert answer.status_code == 409 and "begun for another tenant" in answer.json()["detail"]
        assert victim.acts()[-1][0] == "erasure refused"
    nothing_was_forgotten(victim)


def test_an_erasure_is_finished_once(victim: Books) -> None:
    number = victim.begin()
    assert victim.finish(number).status_code == 200

    again = victim.finish(number)

    assert again.status_code == 409 and "it is finished" in again.json()["detail"]
    assert len([row for row in victim.rows(t.erasure) if row.certificate]) == 1


def test_an_erasure_whose_fence_fell_is_not_finished(victim: Books) -> None:
    number = victim.begin()
    with victim.table.begin() as connection:
        connection.execute(sa.update(t.erasure).values(lifted_at=sa.func.now()))

    assert victim.finish(number).status_code == 409
    nothing_was_forgotten(victim)


@pytest.mark.parametrize(
    "claimed",
    [
        place("creator_victim_twin_s"),
        place("creator_victim_twin_s", whole=False, records={"a": 1}),
        place("s", index="old"),
        place("__default__"),
        place("creator_ana_twin_t", index="nowhere"),
    ],
)
def test_places_that_are_not_the_tenants_or_not_seen_from_here_are_refused(
    victim: Books, claimed: dict[str, Any]
) -> None:
    index = victim.rows(t.job)[0].source["name"]
    claimed = claimed | ({"index": index} if claimed["index"] == "old" else {})
    number = victim.begin()

    answer = victim.finish(number, found=[claimed])

    assert answer.status_code == 409, answer.text
    assert victim.acts()[-1][0] == "erasure refused"
    nothing_was_forgotten(victim)


def test_a_namespace_that_no_book_gives_to_the_tenant_is_no_word_to_forget(victim: Books) -> None:
    # Given a log, and a job's reason, with a word in them that is no tenant's
    log = victim.home / "logs" / "cli.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("a worker is running\n")
    victim.table.put(reason="it is running again")
    number = victim.begin()

    # When an application says that a namespace of that name was the tenant's alone
    answer = victim.finish(number, found=[place("running"), place("creator_ana_twin_t")])

    # Then the word stays everywhere, and the certificate says what it does not cover
    assert answer.status_code == 200, answer.text
    assert log.read_text() == "a worker is running\n" and victim.table.job.reason == "it is running again"
    assert "1 names of namespaces and 0 ids" in answer.json()["residual"][-1]


def test_ids_that_no_copy_ties_to_the_tenant_stay_in_the_accounts_of_their_jobs(
    books: Books, make_index: MakeIndex
) -> None:
    # Given a namespace of several tenants, of which two batches went to hers and to his, and a third is not copied yet
    make_index(INDEX.name)
    books.table.apply(plan_of(planned("mixed")))
    books.table.listed({"mixed": [["hers", "hers-too"], ["his"], ["nobody-knows"]]})
    first, second, third = books.table.take()
    books.table.copy(first, "creator_ana_twin_s")
    books.table.copy(second, "creator_bob_twin_s")
    books.table.requeue(third)
    with books.table.begin() as connection:
        his = t.target.c.namespace == "creator_bob_twin_s"
        connection.execute(sa.update(t.target).where(his).values(creator="bob", twin="s"))
    number = books.begin()

    # When an application says that all of them were hers
    told = {"hers": 1, "his": 2, "nobody-knows": 3}
    answer = books.finish(number, found=[place("mixed", whole=False, records=told, index=INDEX.name)])

    # Then the accounts lose what was copied to her namespace, and nothing else
    assert answer.status_code == 200, answer.text
    left = [books.table.ids(books.table.row(lease.id)) for lease in (first, second, third)]
    assert left == [[], ["his"], ["nobody-knows"]]
    assert "0 names of namespaces and 2 ids" in answer.json()["residual"][-1]


def test_an_old_namespace_that_a_plan_gave_to_the_tenant_is_forgotten_as_the_application_says(
    books: Books, make_index: MakeIndex
) -> None:
    make_index(INDEX.name)
    books.table.apply(plan_of(planned("of-hers", "creator_ana_twin_of-hers")))
    number = books.begin()

    answer = books.finish(number, found=[place("of-hers", index=INDEX.name)])

    assert answer.status_code == 200, answer.text
    assert {row.source for row in books.rows(t.move)} == {f"erased-{number}-2"}
    assert not [sentence for sentence in answer.json()["residual"] if "that no name, no plan" in sentence]


@pytest.mark.parametrize("claim", [[], [place("__default__", whole=False, records={"hers": 1})]])
def test_a_tenant_that_is_still_there_is_not_certified_as_erased(
    victim: Books, environment: Settings, monkeypatch: pytest.MonkeyPatch, claim: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("orchestrator.services.erase_guards.CONFIRM_S", 0.5)
    client = PineconeDelphiClient("small")
    client.upsert_vectors([{"id": "v-1", "values": [1.0] * SMALL}], "ana", "coach")
    number = victim.begin()

    answer = victim.finish(number, found=claim)

    assert answer.status_code == 409 and "still holds records" in answer.json()["detail"]
    nothing_was_forgotten(victim)
    # And once it is gone, it is
    assert client.delete_creator("ana")
    assert victim.finish(number).status_code == 200


def test_the_certificate_is_of_what_the_server_saw_and_holds_no_markup(victim: Books) -> None:
    number = victim.begin("ana", who=MARKUP)

    answer = victim.finish(
        number,
        found=[place("creator_ana_twin_t", records={"a": 1, "b": 2})],
        began="2020-01-01T00:00:00+00:00",
        ended="2020-01-01T00:00:01+00:00",
        asked_by="the king",
        subject=MARKUP,
        confirmed_by=[MARKUP],
        where=[{"index": MARKUP, "namespace": MARKUP, "records": 1, "ids_digest": MARKUP}],
        residual=[MARKUP],
        aliases=3,
    )

    assert answer.status_code == 200, answer.text
    kept = answer.json()
    now = datetime.now(UTC)
    for stamp in ("began", "last_look", "ended"):
        assert timedelta() <= now - datetime.fromisoformat(kept[stamp]) < timedelta(minutes=10)
    assert kept["subject"] == subject_of(Tenant("ana")) and kept["asked_by"].startswith("an app fencing (")
    assert (kept["namespaces"], kept["records"], kept["aliases"]) == (1, 2, 3)
    assert kept["where"][0]["ids_digest"] == f"{7:032x}" and "2020" not in answer.text
    [page] = (victim.home / "certificates").glob("*.html")
    assert MARKUP not in page.read_text() and "<script" not in page.read_text()


@pytest.mark.parametrize(
    "body",
    [
        {"creator": "ana", "who": "x" * 201},
        {"creator": "ana", "who": "a\nb"},
        {"creator": "a" * 100_000, "who": "x"},
        {"creator": "a\0", "who": "x"},
        {"creator": "", "who": "x"},
        {"who": "x"},
        [],
    ],
)
def test_what_an_erasure_is_begun_with_has_a_size_and_a_form(books: Books, body: Any) -> None:
    assert books.call("POST", "", json=body).status_code == 422
    assert books.rows(t.erasure) == []


@pytest.mark.parametrize(
    "wrong", [{"aliases": -1}, {"aliases": "3"}, {"exported": 10**40}, {"exported": MARKUP}, {"aliases": 2.5}]
)
def test_counts_that_are_none_are_refused(books: Books, wrong: dict[str, Any]) -> None:
    number = books.begin()
    assert books.finish(number, **wrong).status_code == 422
    assert all(row.certificate is None for row in books.rows(t.erasure))


def test_the_log_of_the_api_does_not_name_who_was_erased_by_it(books: Books) -> None:
    # Given a creator, and a token of support that reaches it
    creator = "sainath.no.1"
    token = books.tokens.create({"id": "support", "creator_ids": [creator, "others"]})
    # When the API erases it
    headers = {"Authorization": f"Bearer {token}"}
    answer = books.browser.delete("/delphi/creator", params={"creator_id": creator}, headers=headers)
    assert answer.status_code == 404, answer.text  # of its records none is there, of its name all
    # Then the log says that somebody was erased, and by whom, and not who
    told = (books.home / "logs" / "tenants.jsonl").read_text()
    assert '"data_deletion"' in told and '"support"' in told
    assert creator not in told
