"""The client of the fleet's API beside a service that is away for a while, or is something else."""

import traceback

import pytest

from tests.contracts.answering import Answer, Answering, Asked
from vecfleet.errors import BadInput, Unreachable
from vecfleet.fleet import FleetClient, NotReached, StillUnderWay

STATUS = {
    "job": 7,
    "state": "running",
    "rests": False,
    "reason": None,
    "waits": [],
    "next_steps": [],
    "step": "copying",
    "unit": "records",
    "done": 1,
    "total": 2,
    "percent": 50.0,
    "cut_over_percent": 0,
    "way_back": "roll back",
}
AWAY = Answer(503, {"detail": "the job table does not answer"})


def client_of(service: Answering) -> FleetClient:
    return FleetClient(service.address, "token", tries=1)


def test_a_service_that_is_away_for_longer_than_a_request_is_tried_does_not_end_a_wait() -> None:
    answers = iter([AWAY, AWAY, Answer(200, STATUS), AWAY, Answer(200, STATUS | {"state": "verified"})])
    with Answering(lambda _: next(answers)) as service, client_of(service) as fleet:
        assert fleet.wait(7, within_s=60, every_s=0).state == "verified"


def test_a_wait_ends_in_its_time_whether_the_service_is_there_or_away() -> None:
    with (
        Answering(lambda _: AWAY) as service,
        client_of(service) as fleet,
        pytest.raises(Unreachable, match="job table"),
    ):
        fleet.wait(7, within_s=0)
    there = Answer(200, STATUS)
    with Answering(lambda _: there) as service, client_of(service) as fleet, pytest.raises(StillUnderWay):
        fleet.wait(7, within_s=0)


def test_a_wait_for_a_job_that_a_hook_holds_ends_at_once_in_the_hooks_words() -> None:
    held = {"state": "verified", "rests": True, "reason": "the policy waits: held by the hook x: not yet"}
    with Answering(lambda _: Answer(200, STATUS | held)) as service, client_of(service) as fleet:
        with pytest.raises(NotReached, match="held by the hook x: not yet"):
            fleet.wait(7, {"cleaned"}, within_s=3_600)
    waits = {"reason": "the policy waits: asks the hook x"}
    with Answering(lambda _: Answer(200, STATUS | waits)) as service, client_of(service) as fleet:
        with pytest.raises(StillUnderWay, match="asks the hook x"):
            fleet.wait(7, {"cleaned"}, within_s=0)


def test_a_traceback_shows_what_to_do_next_where_it_was_tried_and_nothing_of_the_clients_own() -> None:
    with FleetClient("http://127.0.0.1:1", "token", tries=2) as fleet, pytest.raises(Unreachable) as away:
        fleet.jobs()
    printed = "".join(traceback.format_exception(away.value))
    assert "vecfleet.errors.Unreachable: the fleet does not answer at http://127.0.0.1:1: ConnectError\n" in printed
    assert printed.endswith("\nnext: check VECFLEET_API: the address of `vecfleet serve`\n")
    assert "_AskAgain" not in printed
    # A step that is known better later takes the place of the first
    away.value.next_step = "start it"
    assert away.value.__notes__ == ["next: start it"]


@pytest.mark.parametrize("answer", [Answer(200, b"<html>sign in</html>"), Answer(404, ["nothing here"])])
def test_an_address_of_something_else_is_said_to_be(answer: Answer) -> None:
    def answers(_: Asked) -> Answer:
        return answer

    with Answering(answers) as service, client_of(service) as fleet, pytest.raises(BadInput):
        fleet.jobs()


def test_jobs_are_asked_for_by_state_and_as_many_as_are_wanted() -> None:
    with Answering(lambda _: Answer(200, {"jobs": []})) as service, client_of(service) as fleet:
        fleet.jobs()
        fleet.jobs({"running", "paused"}, limit=5)
    assert [asked.path for asked in service.asked] == [
        "/api/v1/jobs",
        "/api/v1/jobs?state=paused&state=running&limit=5",
    ]
