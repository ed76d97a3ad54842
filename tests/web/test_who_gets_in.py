"""Signing in and out: a session ends when its person says so, whoever kept a copy of its cookie."""

import json
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from fastapi.testclient import TestClient
from job_table import JobTable, plan_of, planned
from prometheus_client import CollectorRegistry

from orchestrator.bootstrap import Fleet
from orchestrator.cli.serving import serve
from orchestrator.ledger.database import Database
from orchestrator.services.erase import JobTableBooks
from orchestrator.web import applications
from orchestrator.web.app import create
from orchestrator.web.sessions import COOKIE
from orchestrator.web.throttle import Failures
from tests.web.conftest import Browser
from tests.web.test_crowds_and_proxies import until
from vecfleet.errors import BadInput
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


ELSEWHERE = (
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Referer": "http://flower.example:5555/"},  # what a browser tells of itself without TLS
)


@pytest.mark.parametrize("told", ELSEWHERE, ids=["by-fetch-metadata", "by-referrer"])
def test_a_click_on_another_site_leads_to_the_page_without_another_login(
    signed_in: Browser, told: dict[str, str]
) -> None:
    browser = signed_in("operator")
    held = dict(browser.cookies)
    # Given that a browser sends our cookies with nothing that another site began
    browser.cookies.clear()
    first = browser.get("/jobs/7/batches/12", headers=told)
    [there] = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', first.text)
    assert there == "/login?then=%2Fjobs%2F7%2Fbatches%2F12" and f'href="{there}"' in first.text
    # When our own page leads on, with the cookies, then the person arrives
    browser.cookies.update(held)
    led = browser.get(there, headers={"Sec-Fetch-Site": "same-origin"})
    assert (led.status_code, led.headers["location"]) == (303, "/jobs/7/batches/12")
    # And without a session the login asks for a token, and leads nowhere else
    browser.cookies.clear()
    assert 'name="token"' in browser.get(there).text
    browser.cookies.update(held)
    assert browser.get("/login?then=//elsewhere.example").headers["location"] == "/"
    assert 'name="token"' in browser.get("/login").text  # somebody signs in as another person
    # And the login says of no bearer token whether it is known, for there nobody counts the guesses
    known = {"Authorization": "Bearer the token of the settings"}
    assert browser.get("/login?then=/", headers=known).status_code == 200


def test_a_form_on_another_site_acts_no_more_than_before(signed_in: Browser) -> None:
    browser = signed_in("operator")
    for path in ("/jobs/1/pause", "/logout"):
        answer = browser.post(path, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
    cookie = browser.post("/login", data={"token": "the token of the settings"}).headers["set-cookie"]
    assert "SameSite=strict" in cookie and "HttpOnly" in cookie


def test_guessing_at_the_login_is_slow_from_one_address_logged_and_counted(stranger: TestClient) -> None:
    answers = [stranger.post("/login", data={"token": f"guess {n}"}) for n in range(40)]

    assert [one.status_code for one in answers[:10]] == [401] * 10
    assert {one.status_code for one in answers[15:]} == {429}
    assert int(answers[-1].headers["Retry-After"]) >= 1
    # Not even the right one is looked at then, nor a guess that comes as a bearer
    assert stranger.post("/login", data={"token": "the token of the settings"}).status_code == 429
    assert stranger.get("/", headers={"Authorization": "Bearer guess"}).status_code == 429
    told = stranger.get("/metrics").text
    counted = re.search(r'vecfleet_sign_ins_failed_total\{outcome="unknown"\} ([0-9.]+)', told)
    assert counted is not None and float(counted[1]) >= 10


def test_many_guesses_at_once_are_no_more_than_those_that_are_allowed(stranger: TestClient, tokens: TokenFile) -> None:
    # Given a file of tokens whose reader has to wait, and many guesses at once
    os.mkfifo(tokens._path)
    with ThreadPoolExecutor(32) as pool:
        guesses = [pool.submit(stranger.post, "/login", data={"token": f"guess {n}"}) for n in range(32)]
        until("each is at work", lambda: sum("AnyIO" in thread.name for thread in threading.enumerate()) >= 32)
        # When it can be read
        until("all are answered", lambda: answered(tokens._path, guesses))
    # Then no more of them are looked at than one after the other
    codes = [guess.result().status_code for guess in guesses]
    assert set(codes) == {401, 429}
    assert 10 <= codes.count(401) <= 12


def answered(pipe: Path, guesses: Sequence[Future[httpx.Response]]) -> bool:
    """Let whoever reads the pipe have a file without tokens; say whether every guess has its answer."""
    with suppress(OSError):  # nobody reads it now
        writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, b"{}")
        os.close(writer)
    return all(guess.done() for guess in guesses)


def test_guessing_with_bearers_is_slow_too(stranger: TestClient) -> None:
    headers = {"Accept": "application/json"}
    told = [stranger.get("/", headers=headers | {"Authorization": f"Bearer {n}"}).status_code for n in range(40)]
    assert told[0] == 401 and told[-1] == 429


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/delphi/twins"), ("POST", "/delphi/search"), ("GET", "/delphi/routes"), ("POST", "/delphi/erasures")],
)
def test_asking_the_api_without_a_known_token_is_slow_logged_and_counted(
    stranger: TestClient, tokens: TokenFile, method: str, path: str
) -> None:
    # When somebody tries one token after the other, or none
    bearers = [{"Authorization": f"Bearer {n}"} if n % 2 else {} for n in range(40)]
    answers = [stranger.request(method, path, headers=headers) for headers in bearers]
    # Then the first are refused, and the others wait
    assert [one.status_code for one in answers[:10]] == [401] * 10
    assert {one.status_code for one in answers[15:]} == {429}
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert "without a valid bearer token" in answers[-1].json()["detail"]
    told = stranger.get("/metrics").text
    counted = re.search(r'vecfleet_sign_ins_failed_total\{outcome="throttled"\} ([0-9.]+)', told)
    assert counted is not None and float(counted[1]) >= 25
    # But a token that is known is let in from that very address, and an operator may sign in there
    service = tokens.create({"id": "app", "role": "service", "creator_ids": []})
    assert stranger.get("/delphi/routes", headers={"Authorization": f"Bearer {service}"}).status_code == 200
    assert stranger.post("/login", data={"token": "the token of the settings"}).status_code == 303


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of an application may ask twice a minute."""
    monkeypatch.setattr(applications, "_PER_SECOND", 1 / 30)
    monkeypatch.setattr(applications, "_AT_ONCE", 2)


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        ("service", "GET", "/delphi/routes"),
        ("evidence", "POST", "/delphi/evidence/1"),
        ("fencing", "GET", "/delphi/erasures?subject=x"),
        ("fencing", "POST", "/delphi/erasures/1"),
    ],
)
def test_an_applications_token_that_asks_too_often_waits_and_no_other_token_does(
    seldom: None, stranger: TestClient, tokens: TokenFile, role: str, method: str, path: str
) -> None:
    first, second = (tokens.create({"id": "an application", "role": role, "creator_ids": []}) for _ in range(2))

    def answer(token: str) -> httpx.Response:
        found: httpx.Response = stranger.request(method, path, headers={"Authorization": f"Bearer {token}"})
        return found

    answers = [answer(first) for _ in range(4)]

    assert answers[0].status_code != 429 and answers[-1].status_code == 429
    assert "this token asks too often" in answers[-1].json()["detail"] and answers[-1].headers["Retry-After"]
    assert answer(second).status_code != 429


def test_guessing_from_many_addresses_is_slow_in_all() -> None:
    failures = Failures(CollectorRegistry())
    tried = 0
    while not failures.wait_s(f"10.0.{tried // 256}.{tried % 256}"):
        failures.note(f"10.0.{tried // 256}.{tried % 256}")
        tried += 1
    assert 100 <= tried < 1_000


def test_who_signs_in_at_once_is_not_held_up(stranger: TestClient) -> None:
    for _ in range(30):
        assert stranger.post("/login", data={"token": "the token of the settings"}).status_code == 303


def test_a_short_operators_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_TOKEN", "fifteen letters")
    with pytest.raises(BadInput, match="OPERATOR_TOKEN"):
        Settings.load()
    monkeypatch.setenv("OPERATOR_TOKEN", "sixteen letters.")
    Settings.load()


@pytest.mark.parametrize("declared", [False, True])
def test_cookies_are_secure_behind_a_declared_proxy_and_by_no_header(settings: Settings, declared: bool) -> None:
    parts = Fleet(settings)
    with TestClient(create(parts, behind_proxy=declared), follow_redirects=False) as browser:
        for headers in ({}, {"X-Forwarded-Proto": "https"}, {"X-Forwarded-Proto": "http"}):
            answer = browser.post("/login", data={"token": "the token of the settings"}, headers=headers)
            assert ("Secure" in answer.headers["set-cookie"]) is declared
    parts.database.dispose()


@pytest.mark.parametrize("word", ["*", "proxy.example", "10.0.0.300", ""])
def test_a_proxy_is_declared_by_its_address(word: str) -> None:
    with pytest.raises(BadInput, match="neither an address nor a network"):
        serve(trusted_proxy=[word])


HUGE = "9" * 25
ODD = [
    ("GET", f"/jobs/{HUGE}", {}),
    ("GET", f"/jobs/1/namespaces?after={HUGE}", {}),
    ("GET", f"/jobs/1/namespaces/{HUGE}", {}),
    ("GET", "/jobs/1/namespaces?after=-1", {}),
    ("GET", f"/jobs/{HUGE}/events", {}),
    ("GET", "/jobs/-1", {}),
    ("GET", "/jobs/1/cutover?percent=0", {}),
    ("GET", f"/jobs/1/cutover?percent={HUGE}", {}),
    ("GET", "/jobs/1/namespaces?state=%00", {}),
    ("GET", "/login?then=%00%ff", {}),
    ("POST", "/jobs/1/cutover", {"percent": HUGE}),
    ("POST", "/jobs/1/cutover", {"percent": "999999"}),
    ("POST", "/jobs/1/cutover", {"percent": "9" * 5_000}),
    ("POST", "/jobs/1/retry", {"batch": HUGE}),
    ("POST", "/jobs/1/accept-batch", {"batch": HUGE}),
    ("POST", "/jobs/1/accept", {"record": "a\0b"}),
    ("POST", "/jobs/1/accept", {"record": "\ud83d"}),
    ("POST", "/jobs/1/rollback", {"typed": "\0", "changed": "\0"}),
    ("POST", "/jobs/1/cancel", {"proof": "größe"}),
    ("POST", "/jobs/1/cancel", {"proof": ""}),
    ("POST", "/login", {"token": "größe 🚀"}),
    ("POST", "/login", {f"f{n}": "x" for n in range(1_000)}),
]


def test_odd_input_is_refused_and_never_an_error_of_ours(signed_in: Browser, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t-s")))
    browser = signed_in("operator")
    proof = re.search(r'name="proof" value="([^"]+)"', browser.get("/jobs/1").text)
    assert proof is not None
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answered = []
    for method, path, fields in ODD:
        body = urlencode({"proof": proof[1], **fields}, errors="surrogatepass")
        answer = browser.request(method, path, content=body if method == "POST" else None, headers=kind)
        answered.append((method, path, answer.status_code))

    assert [one for one in answered if not (400 if one[0] == "POST" else 200) <= one[2] < 500] == []


@pytest.mark.parametrize("path", [f"/delphi/erasures/{HUGE}", "/delphi/erasures/0", "/delphi/erasures?subject=%00"])
def test_odd_numbers_of_erasures_are_refused_too(stranger: TestClient, tokens: TokenFile, path: str) -> None:
    token = tokens.create({"id": "app", "role": "fencing"})
    assert ask(stranger, path, token) in (200, 404, 422)
