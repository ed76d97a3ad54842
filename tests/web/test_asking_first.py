"""Before an act that cannot be taken back at once, the page says what it will do, and asks."""

import re

from job_table import JobTable, plan_of, planned

from orchestrator.core.states import JobState
from orchestrator.services import acts
from orchestrator.web.acting import against
from tests.web.conftest import Browser, proof


def test_moving_readers_takes_a_second_click_and_says_what_it_does_first(
    signed_in: Browser, verified: JobTable
) -> None:
    # Given a verified job: each share of its readers is a link, the whole of them too
    operator = signed_in("operator")
    links = set(re.findall(r"/jobs/1/cutover\?percent=\d+", operator.get("/jobs/1").text))
    assert links == {f"/jobs/1/cutover?percent={percent}" for percent in (5, 25, 50, 100)}
    # When a quarter is asked for
    question = operator.get("/jobs/1/cutover?percent=25").text
    # Then the page says whom it moves, how long they are watched, and the way back, and has moved nobody
    for said in ("about 25 % of the routes", "watched for 1 day", "vecfleet reverse 1", "Move 25 % of the readers"):
        assert said in question
    assert verified.job.cut_over_percent == 0
    # And that applications which do not ask for the routes must be led there by hand
    assert "No client asks for the routes: point your applications" in question
    assert "They move at once, and none is watched first" in operator.get("/jobs/1/cutover?percent=100").text
    # And the form does what the page says
    form = {"proof": proof(operator), **dict(re.findall(r'name="(percent|since)" value="(\d+)"', question))}
    assert operator.post("/jobs/1/cutover", data=form).status_code == 303
    assert verified.job.cut_over_percent == 25
    # And while these are watched, the page of the next share says so instead of offering it
    assert "is watched until" in operator.get("/jobs/1/cutover?percent=50").text


def test_a_page_that_was_read_before_others_moved_readers_takes_none_back(
    signed_in: Browser, verified: JobTable
) -> None:
    """A smaller share than the present one leads readers back to the old namespaces."""
    # Given a question about a quarter of the readers, and somebody who moves all of them meanwhile
    operator = signed_in("operator")
    asked = {"proof": proof(operator), "percent": "25", "since": "0"}
    acts.cut_over(verified.database, 1, "ben", 100)
    # When it is answered with yes, then nothing is changed, and the page says why
    answer = operator.post("/jobs/1/cutover", data=asked)
    assert answer.status_code == 409 and "100 % of the readers are on the new side by now, not 0 %" in answer.text
    assert verified.job.cut_over_percent == 100
    # And a form that does not say what was read is no form of this page
    assert operator.post("/jobs/1/cutover", data={"proof": proof(operator), "percent": "25"}).status_code == 422
    # And the answer that both gave may be given twice
    assert operator.post("/jobs/1/cutover", data=asked | {"percent": "100"}).status_code == 303


def test_a_copy_is_finished_on_the_page(signed_in: Browser, verified: JobTable) -> None:
    operator = signed_in("operator")
    assert "Nothing is deleted" in operator.get("/jobs/1/finish").text
    assert operator.post("/jobs/1/finish", data={"proof": proof(operator)}).status_code == 303
    assert verified.job.state is JobState.FINISHED
    page = operator.get("/jobs/1").text
    assert "Both sides stay." in page and "Finish…" not in page


def test_a_clean_up_that_may_not_be_is_refused_in_the_guards_words(signed_in: Browser, verified: JobTable) -> None:
    operator = signed_in("operator")
    with verified.begin() as connection:
        objections = against(connection, verified.job, "cleanup")
    assert objections
    # The question says so before anything is typed
    asked = operator.get("/jobs/1/cleanup").text
    assert all(objection in asked for objection in objections) and 'name="typed"' not in asked
    assert "Next: " in asked
    # And so does the guard, whoever asks anyway
    form = {"proof": proof(operator), "typed": "digital-twin-brain"}
    answer = operator.post("/jobs/1/cleanup", data=form)
    assert answer.status_code == 409 and all(objection in answer.text for objection in objections)
    assert verified.job.state is JobState.VERIFIED


def test_what_destroys_must_be_typed(signed_in: Browser, table: JobTable) -> None:
    # Given a job whose clean-up nothing speaks against
    table.apply(plan_of(planned("s", "t-s"), soak_seconds=0))
    table.verified()
    acts.cut_over(table.database, table.job_id, "ana", 100)
    operator = signed_in("operator")
    asked = operator.get("/jobs/1/cleanup").text
    assert "s</th>" in asked and 'name="typed"' in asked
    # When the wrong word is typed, then nothing happens
    form = {"proof": proof(operator)}
    for typed in ("", "delete", "s"):
        answer = operator.post("/jobs/1/cleanup", data=form | {"typed": typed})
        assert answer.status_code == 409 and "nothing was changed" in answer.text
    assert table.job.state is JobState.CUT_OVER
    # When the index's name is, then it begins
    assert operator.post("/jobs/1/cleanup", data=form | {"typed": "digital-twin-brain"}).status_code == 303
    assert table.job.state is JobState.CLEANING
