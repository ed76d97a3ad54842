"""Signing in and out: a session ends when its person says so, whoever kept a copy of its cookie."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from orchestrator.erasing import JobTableBooks
from orchestrator.ledger.database import Database
from orchestrator.web.sessions import COOKIE
from tests.web.conftest import Browser
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.tenancy.tokens import TokenFile, name_of


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie_and_no_other_session(signed_in: Browser) -> None:
    browser = signed_in("operator")
    stolen = browser.cookies[COOKIE]
    browser.cookies.clear()
    other = signed_in("viewer").cookies[COOKIE]

    browser.cookies.clear()
    browser.cookies.set(COOKIE, stolen)
    assert browser.get("/").status_code == 200
    assert browser.post("/logout").status_code == 303

    browser.cookies.clear()
    browser.cookies.set(COOKIE, stolen)
    assert browser.get("/").status_code == 303
    browser.cookies.clear()
    browser.cookies.set(COOKIE, other)
    assert browser.get("/").status_code == 200


def test_without_the_record_of_open_sessions_nobody_is_signed_in(signed_in: Browser, settings: Settings) -> None:
    browser = signed_in("operator")
    for file in (settings.vecfleet_home / "web" / "sessions").iterdir():
        file.unlink()

    assert browser.get("/").status_code == 303


def test_a_token_that_was_revoked_ends_its_sessions(signed_in: Browser, tokens: TokenFile) -> None:
    browser = signed_in("operator")
    [token] = tokens.every()
    tokens.revoke(token.name)

    assert browser.get("/").status_code == 303


def test_an_erased_tenants_token_is_gone_with_it(
    stranger: TestClient, tokens: TokenFile, settings: Settings, database: Database
) -> None:
    # Given a tenant with a token, and another one
    ana, bob = (tokens.create({"id": f"of {who}", "role": "user", "creator_ids": [who]}) for who in ("ana", "bob"))
    path = "/delphi/validate-name?name=coach"
    assert [ask(stranger, path, token) for token in (ana, bob)] == [200, 200]

    # When one is erased
    books = JobTableBooks(database, settings)
    begun = books.begin(Tenant("ana"), "a person")
    assert begun.number is not None
    books.finish(begun.number, Tenant("ana"), (), {"where": [], "residual": []})

    # Then its token opens nothing, not even what is called as its name is blacked out
    assert [ask(stranger, path, token) for token in (ana, bob)] == [401, 200]
    assert [one.creators for one in tokens.every()] == [("bob",)]


def ask(browser: TestClient, path: str, token: str) -> int:
    return browser.get(path, headers={"Authorization": f"Bearer {token}"}).status_code


def test_each_token_is_an_identity_of_its_own_in_rate_limits_and_in_the_audit_log(
    stranger: TestClient, tokens: TokenFile, settings: Settings
) -> None:
    first, second = (tokens.create({"id": "an application", "role": "user", "creator_ids": ["ana"]}) for _ in range(2))
    path = "/delphi/validate-name?name=coach"
    while ask(stranger, path, first) != 429:
        pass

    assert ask(stranger, path, second) == 200, "what one token used up is not taken from another"

    for token in (second, second):
        foreign = stranger.get("/delphi/twins?creator_id=bob", headers={"Authorization": f"Bearer {token}"})
        assert foreign.status_code == 403
    log: Path = settings.vecfleet_home / "logs" / "tenants.jsonl"
    refused = [json.loads(line) for line in log.read_text().splitlines()]
    assert {one["token"] for one in refused if one["event"] == "isolation_violation"} == {name_of(second)}


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_who_looks_at_the_page_is_named_with_the_token(signed_in: Browser, tokens: TokenFile, role: str) -> None:
    page = signed_in(role).get("/").text
    [token] = tokens.every()
    assert f"ana ({token.name})" in page
