"""The operator's page: who gets in, what they may do, and what a browser is told to refuse."""

import html
import json
import re

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from job_table import JobTable, plan_of, planned
from pydantic import SecretStr

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import audit
from orchestrator.ledger import tables as t
from orchestrator.services import acts
from orchestrator.web.acting import against
from orchestrator.web.app import create
from orchestrator.web.sessions import COOKIE
from tests.web.conftest import Browser, proof
from vecfleet.settings import Settings
from vecfleet.tenancy import tokens as tokens_file
from vecfleet.tenancy.tokens import TokenFile

PAGES = ("/", "/jobs/1", "/jobs/1/namespaces", "/jobs/1/namespaces/1", "/jobs/1/audit", "/jobs/1/cleanup")
EVENTS = ("/events", "/jobs/1/events")


def test_who_is_not_signed_in_sees_nothing_and_does_nothing(stranger: TestClient, verified: JobTable) -> None:
    for page in (*PAGES, *EVENTS):
        answer = stranger.get(page)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/login")
        assert stranger.get(page, headers={"Accept": "application/json"}).status_code == 401
    assert stranger.post("/jobs/1/cancel", data={"proof": "x"}).status_code == 303
    assert verified.job.state is JobState.VERIFIED


def test_a_token_signs_in_and_taking_it_away_signs_out(
    stranger: TestClient, tokens: TokenFile, settings: Settings, verified: JobTable
) -> None:
    # Given an operator who signed in
    token = tokens.create({"id": "ana", "role": "operator", "creator_ids": []})
    answer = stranger.post("/login", data={"token": token, "then": "/jobs/1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    # Then the cookie is out of reach of scripts and of other sites, and does not hold the token
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and token not in cookie
    assert stranger.get("/jobs/1").status_code == 200
    # When the token is taken out of the file
    file = settings.vecfleet_home / tokens_file.FILE
    file.write_text(json.dumps({}))
    # Then the session is over
    assert stranger.get("/jobs/1").status_code == 303


@pytest.mark.parametrize("role", ["user", "service"])
def test_a_token_of_the_api_signs_nobody_in(stranger: TestClient, tokens: TokenFile, role: str) -> None:
    token = tokens.create({"id": "app", "role": role, "creator_ids": ["ana"]})
    answer = stranger.post("/login", data={"token": token, "then": "/"})
    assert answer.status_code == 401 and "not known here" in answer.text
    assert stranger.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 303


def test_the_token_of_the_settings_signs_in_too(stranger: TestClient) -> None:
    assert stranger.post("/login", data={"token": "the token of the settings", "then": "/"}).status_code == 303
    assert stranger.get("/").status_code == 200


def test_a_forged_cookie_is_none(stranger: TestClient) -> None:
    stranger.cookies.set(COOKIE, "eyJ0b2tlbiI6ICJ4In0.forged.signature")
    assert stranger.get("/").status_code == 303


@pytest.mark.parametrize("then", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example"])
def test_signing_in_leads_nowhere_else(stranger: TestClient, then: str) -> None:
    answer = stranger.post("/login", data={"token": "the token of the settings", "then": then})
    assert answer.headers["location"] == "/"


def test_a_viewer_looks_and_may_not_act(signed_in: Browser, verified: JobTable) -> None:
    viewer = signed_in("viewer")
    page = viewer.get("/jobs/1").text
    assert "read-only" in page and 'formaction="' not in page and 'name="proof"' not in page
    # Nor by a form made by hand, which is told who may
    answer = viewer.post("/jobs/1/cancel", data={"proof": "guessed"})
    assert answer.status_code == 403 and "may look at jobs, and not change them" in answer.text
    assert "--role operator" in answer.text
    assert verified.job.state is JobState.VERIFIED


def test_a_script_hears_that_its_token_is_not_known_and_that_a_known_one_looks_only(
    stranger: TestClient, tokens: TokenFile, verified: JobTable
) -> None:
    script = {"Accept": "application/json", "Authorization": "Bearer mistyped"}
    unknown = stranger.get("/jobs/1", headers=script)
    assert unknown.status_code == 401 and "not known here" in unknown.json()["detail"]
    assert "vecfleet token create --role operator" in unknown.json()["next_step"]
    known = tokens.create({"id": "ana", "role": "operator", "creator_ids": []})
    answer = stranger.post("/jobs/1/cancel", headers=script | {"Authorization": f"Bearer {known}"})
    assert answer.status_code == 403 and "only the buttons of the page act" in answer.json()["detail"]
    assert verified.job.state is JobState.VERIFIED


def test_a_form_that_is_not_ours_is_refused(signed_in: Browser, verified: JobTable) -> None:
    operator = signed_in("operator")
    good = {"proof": proof(operator), "percent": "100"}
    for data, headers in (
        ({"percent": "100"}, {}),
        (good | {"proof": "guessed"}, {}),
        (good, {"Sec-Fetch-Site": "cross-site"}),
        (good, {"Sec-Fetch-Site": "same-site"}),
    ):
        answer = operator.post("/jobs/1/cutover", data=data, headers=headers)
        assert answer.status_code == 403 and "not of this session" in answer.text
    assert verified.job.cut_over_percent == 0


def test_a_job_within_one_index_names_its_recipe_and_the_index_once(signed_in: Browser, verified: JobTable) -> None:
    for page in ("/", "/jobs/1"):
        assert ">creators in digital-twin-brain<" in signed_in("viewer").get(page).text


def test_acts_bear_the_name_of_the_person_and_token_and_are_told_once(
    signed_in: Browser, tokens: TokenFile, verified: JobTable
) -> None:
    operator = signed_in("operator")
    answer = operator.post("/jobs/1/cutover", data={"proof": proof(operator), "percent": "100", "since": "0"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    assert verified.job.state is JobState.CUT_OVER
    assert "2 of 2 routes lead to the new namespaces" in operator.get("/jobs/1").text
    assert "2 of 2 routes lead" not in operator.get("/jobs/1").text
    with verified.begin() as connection:
        [act] = audit.of_job(connection, 1, 10)
    [token] = tokens.every()
    assert (act.who, act.action) == (f"ana ({token.name})", "cut over")


def test_much_is_left_behind_only_by_the_name_of_its_index_and_can_be_taken_back(
    signed_in: Browser, table: JobTable
) -> None:
    # Given a job of which the service refused one of two namespaces, whole
    twelve = [f"r{number:02}" for number in range(12)]
    table.apply(plan_of(planned("s", "t", 12), planned("u", "v", 2)))
    table.listed({"s": [twelve], "u": [["a", "b"]]})
    refused, fine = table.take()
    table.target(refused, "t")
    table.copy(refused, wrote=[], parked=twelve)
    table.copy(fine, "v")
    table.advance(2)
    for check in table.take():
        table.check(check)
    table.advance()
    operator = signed_in("operator")
    page = operator.get("/jobs/1").text
    # Then the reason stands once above the records, and nothing counts as done that is parked
    assert re.search(r"<b>12 records</b> in\s+<span class=\"name\">s</span>", page)
    assert "14 %" in operator.get("/").text

    # When all of it is to be left behind, the page asks first
    asked = operator.post("/jobs/1/accept", data={"proof": proof(operator), "record": ""})
    assert asked.status_code == 200 and "12 of the 12 records of s would stay behind" in asked.text
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.text))
    assert form["confirmed"] == "12" and table.moves["s"].left_behind == 0
    assert operator.post("/jobs/1/accept", data=form | {"typed": "yes"}).status_code == 409
    assert operator.post("/jobs/1/accept", data=form | {"typed": "digital-twin-brain"}).status_code == 303
    table.advance(2)

    # Then no mark says that all is well, no reader may move, and it can be taken back
    page = operator.get("/jobs/1").text
    assert "verified, 12 left behind" in page and "pill large warn" in page
    assert "t is empty: 12 records meant for it were left behind" in html.unescape(page)
    assert operator.post("/jobs/1/undo", data={"proof": proof(operator)}).status_code == 303
    assert table.moves["s"].parked == 12 and table.job.state is JobState.COPIED


def listed(browser: TestClient, **query: str) -> list[str]:
    """The numbers of the jobs that the list shows, in its order."""
    return re.findall(r'href="/jobs/(\d+)">Job', browser.get("/", params=query).text)


def test_the_list_of_jobs_is_searched_filtered_and_sorted(signed_in: Browser, table: JobTable) -> None:
    # Given three jobs: one ended, one with a reason of its own, one larger than the others
    table.apply(plan_of(planned("a", "t-a", 5)))
    table.put(state="cancelled", ended_at=sa.func.clock_timestamp())
    table.apply(plan_of(planned("b", "t-b", 90)))
    table.apply(plan_of(planned("c", "t-c", 7)))
    table.put(reason="It is LOCKED by <script>")
    viewer = signed_in("viewer")
    assert listed(viewer) == ["3", "2", "1"]
    assert listed(viewer, sort="oldest") == ["1", "2", "3"]
    assert listed(viewer, sort="records")[0] == "2"
    assert listed(viewer, q="locked it") == ["3"]
    assert listed(viewer, state="live") == ["3", "2"] and listed(viewer, state="ended") == ["1"]
    assert listed(viewer, state="cancelled", q="brain") == ["1"]
    # What is no state and no order asks for nothing, and what was searched stands in its field, harmless
    assert listed(viewer, state="x", sort="'") == ["3", "2", "1"]
    answer = viewer.get("/", params={"q": '"><script>'}).text
    assert "No job matches" in answer and "<script>" not in answer.replace('<script src="/static', "")


def test_a_comment_stands_on_the_job_with_its_author(signed_in: Browser, verified: JobTable) -> None:
    operator = signed_in("operator")
    words = "waits for <b>ops</b>"
    assert operator.post("/jobs/1/comment", data={"proof": proof(operator), "text": words}).status_code == 303
    page = operator.get("/jobs/1").text
    assert "waits for &lt;b&gt;ops&lt;/b&gt;" in page and "ana (" in page
    for bad in ("", " ", "x" * 501, "a\x07b"):
        assert operator.post("/jobs/1/comment", data={"proof": proof(operator), "text": bad}).status_code == 422
    with verified.begin() as connection:
        assert len(audit.of_job(connection, 1, 10, action=audit.COMMENT)) == 1


def test_a_batch_tells_its_attempts_its_cost_and_what_the_logs_say_of_it(
    signed_in: Browser, table: JobTable, settings: Settings
) -> None:
    # Given a batch that failed, and a log with lines about it, about another batch, and about another job's
    table.apply(plan_of(planned("s", "t", 2)))
    table.listed({"s": [["a", "b"], ["c"]]})
    lease, other = table.take()
    table.park(lease, "it is <locked>")
    table.copy(other)
    logs = settings.vecfleet_home / "logs"
    logs.mkdir()
    (logs / "worker-1.log").write_text(
        f"1 batch parked batch={lease.id} job=1 error=<Conflict>\n"
        f"2 another batch={other.id} job=1\n3 another job batch={lease.id} job=11\n4 batch={lease.id}0 job=1\n"
    )
    (logs / "worker-2.log").write_text(f'{{"event": "5 tried again", "batch": {lease.id}, "job": 1}}\n')
    viewer = signed_in("viewer")
    # Then its page is led to, and tells these lines and no other
    assert f'href="/jobs/1/batches/{lease.id}"' in viewer.get("/jobs/1").text
    assert f'href="/jobs/1/batches/{other.id}"' in viewer.get("/jobs/1/namespaces/1").text
    page = html.unescape(viewer.get(f"/jobs/1/batches/{lease.id}").text)
    assert "it is <locked>" in page and "1 batch parked" in page and "5 tried again" in page
    assert not any(line in page for line in ("2 another", "3 another", f"batch={lease.id}0"))
    assert viewer.get("/jobs/1/batches/999").status_code == viewer.get("/jobs/2/batches/1").status_code == 404


def test_the_page_of_workers_tells_who_answers_and_who_holds_batches_without(
    signed_in: Browser, table: JobTable
) -> None:
    # Given a process that holds a batch and does not answer
    table.apply(plan_of(planned("s", "t")))
    table.start()
    table.owner = "machine-7:4242:boot:1"
    assert table.take()
    page = signed_in("viewer").get("/workers").text
    assert "No dispatcher leads" in page and "does not answer" in page
    assert "machine-7" in page and "4242" in page


def test_the_page_of_workers_names_the_namespaces_that_tenants_query_most(
    settings: Settings, tokens: TokenFile
) -> None:
    # Given queries of two tenants, of a Pinecone that does not answer
    away = {"pinecone_api_key": SecretStr("any"), "pinecone_controller_host": "http://127.0.0.1:9"}
    parts = Fleet(settings.model_copy(update={**away, "pinecone_index_name": "brain", "use_delphi_namespaces": True}))
    bearer = tokens.create({"id": "ana", "role": "admin", "creator_ids": []})
    with TestClient(create(parts), headers={"Authorization": f"Bearer {bearer}"}) as browser:
        assert "Most queried" not in browser.get("/workers").text
        for creator in ("ana", "ben", "ben"):
            asked = browser.post("/delphi/search", json={"vector": [1.0], "creator_id": creator, "twin_id": "coach"})
            assert asked.status_code == 503, asked.text
        page = browser.get("/workers").text
    parts.database.dispose()
    assert page.index("creator_ben_twin_coach") < page.index("creator_ana_twin_coach")
    assert 'class="n">2</td>' in page


def test_who_put_a_plan_elsewhere_is_told_why_it_is_not_listed(signed_in: Browser) -> None:
    assert (
        "Plans that <code>--out</code> put elsewhere than into <code>plans/</code> are not listed"
        in signed_in("operator").get("/plans").text
    )


def test_what_a_guard_refuses_now_is_no_button_but_the_guards_own_words(signed_in: Browser, table: JobTable) -> None:
    # Given a verified job of which no reader has moved
    table.apply(plan_of(planned("s", "t-s")))
    table.verified()
    operator = signed_in("operator")
    assert_stopped(table, operator, {"cleanup": "Clean up…"})
    assert 'href="/jobs/1/rollback"' in operator.get("/jobs/1").text
    # When all have, the soak time lasts: neither the one nor the other
    acts.cut_over(table.database, table.job_id, "ana", 100)
    assert_stopped(table, operator, {"cleanup": "Clean up…", "rollback": "Roll back…"})
    page = operator.get("/jobs/1").text
    assert "the soak time lasts until" in page
    # (Of shadow reads that the plan does not ask for, nothing is said.)
    assert "Shadow reads" not in page
    # And who asks for the question all the same finds the words in place of the form
    asked = operator.get("/jobs/1/rollback").text
    assert "readers are cut over at 100 %" in asked and 'name="typed"' not in asked


def assert_stopped(table: JobTable, browser: TestClient, labels: dict[str, str]) -> None:
    page = browser.get(f"/jobs/{table.job_id}").text
    assert page.count("<button disabled") == len(labels)
    for name, label in labels.items():
        with table.begin() as connection:
            objections = against(connection, table.job, name)
        assert objections and all(html.escape(objection) in page for objection in objections)
        assert f'aria-describedby="stopped">{label}</button>' in page and f'href="/jobs/1/{name}"' not in page


def test_a_failed_batch_of_a_paused_job_is_run_again_once_it_is_resumed(signed_in: Browser, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t-s")))
    table.listed({"s": [["a"]]})
    table.put(state=JobState.PAUSED, resume_to=JobState.RUNNING)
    with table.by_hand() as connection:
        connection.execute(sa.update(t.batch).values(state="parked", error_class="Conflict", error_text="locked"))
    page = signed_in("operator").get("/jobs/1").text
    assert page.index('id="part-failed"') < page.index('id="part-actions"') < page.index('id="part-figures"')
    assert "Retry all 2 failed batches: not now; a job that is paused has nothing to retry" in page
    assert '<button disabled aria-describedby="stopped">Retry all 2 failed batches</button>' in page
    assert 'formaction="/jobs/1/resume"' in page


def test_a_batch_has_a_page_with_its_reason_and_the_button_that_runs_it_again(
    signed_in: Browser, table: JobTable
) -> None:
    # Given a batch that is parked, in a job that waits for a person
    table.apply(plan_of(planned("s", "t-s")))
    table.listed({"s": [["a"], ["b"]]})
    [first, second] = table.rows(BatchKind.COPY)
    table.set_batch(first.id, state="parked", error_class="Conflict", error_text="the target is <locked>")
    page = signed_in("operator").get(f"/jobs/1/batches/{first.id}").text
    # Then its page says why it failed, and how to go on
    assert "<h1>Batch copy 1 of job 1</h1>" in page
    assert "the target is &lt;locked&gt;" in page
    assert f'name="batch" value="{first.id}">Retry this batch</button>' in page
    assert f"vecfleet retry 1 failed --batch {first.id}" in page
    # And who may only look has no button, and a batch without a fault none either
    assert "<button" not in main(signed_in("viewer").get(f"/jobs/1/batches/{first.id}").text)
    assert "<button" not in main(signed_in("operator").get(f"/jobs/1/batches/{second.id}").text)


def main(page: str) -> str:
    return page.partition("<main")[2].partition("</main>")[0]


def test_an_address_without_a_number_is_no_riddle(signed_in: Browser) -> None:
    for address in ("/jobs/abc", "/nosuch"):
        answer = signed_in("operator").get(address, headers={"accept": "text/html"})
        assert answer.status_code == 404 and "there is nothing at this address" in main(answer.text)


def test_every_page_tells_the_browser_what_to_refuse(signed_in: Browser, verified: JobTable) -> None:
    operator = signed_in("operator")
    for page in (*PAGES, "/login", "/jobs/99", "/nosuch", "/docs"):
        answer = operator.get(page)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        # Nothing that this policy would stop, and nothing from elsewhere
        assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son\w+=|https?://", answer.text), page


def test_the_api_is_described_without_signing_in_and_without_anything_from_elsewhere(stranger: TestClient) -> None:
    page = stranger.get("/docs")
    assert page.status_code == 200
    # Every call that its own description names, and what a caller gives and gets
    description = stranger.get("/openapi.json").json()
    for path, calls in description["paths"].items():
        for method in calls:
            assert f"{method.upper()} {path}" in page.text
    assert "<code>subject</code> in the query" in page.text and "<code>number</code> in the path" in page.text


def test_a_jobs_page_leads_to_flower_where_one_is_named(settings: Settings, verified: JobTable) -> None:
    named = settings.model_copy(update={"flower_url": "http://flower.example/"})
    for chosen, links in ((settings, 0), (named, 1)):
        parts = Fleet(chosen)
        with TestClient(
            create(parts), headers={"Authorization": "Bearer the token of the settings", "Accept": "text/html"}
        ) as page:
            assert page.get("/jobs/1").text.count("http://flower.example/tasks?name=vecfleet.") == links
        parts.database.dispose()


def test_names_are_text_and_no_more(signed_in: Browser, verified: JobTable) -> None:
    for page in ("/jobs/1", "/jobs/1/namespaces", "/jobs/1/namespaces/2", "/jobs/1/cleanup"):
        text = signed_in("operator").get(page).text
        assert "<b>s2</b>" not in text
    assert "&lt;b&gt;s2&lt;/b&gt;" in signed_in("operator").get("/jobs/1/namespaces").text


def test_a_job_that_does_not_exist_is_said_to(signed_in: Browser) -> None:
    answer = signed_in("operator").get("/jobs/99")
    assert answer.status_code == 404 and "there is no job 99" in answer.text


def test_the_namespaces_of_one_state_are_listed(signed_in: Browser, verified: JobTable) -> None:
    operator = signed_in("operator")
    assert "t-2" in operator.get("/jobs/1/namespaces?state=verified").text
    assert "There are none" in operator.get("/jobs/1/namespaces?state=parked").text
