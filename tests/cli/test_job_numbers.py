"""The number of a job, as a script or a reader keeps it: `JOB=$(vecfleet apply PLAN --number)`."""

import pytest
from terminal import Brain, Vecfleet

PLANNED = ("plan", "namespaces", "brain", "first=copy", "--out", "copy.yaml")


@pytest.fixture
def plan(vecfleet: Vecfleet, brain: Brain) -> str:
    assert vecfleet(*PLANNED).code == 0
    return "copy.yaml"


def test_the_number_stands_alone_and_what_is_said_besides_goes_to_stderr(vecfleet: Vecfleet, plan: str) -> None:
    answer = vecfleet("apply", plan, "--no-backup", "--number")
    assert (answer.code, answer.out) == (0, "1\n")
    assert "job 1 is planned: 2 records in 1 namespace" in answer.err
    assert "way back:" in answer.err and "next: vecfleet status 1 --watch" in answer.err
    # And the next command answers where it always does
    assert vecfleet("status", "1").out.startswith("job 1 planned")


def test_a_job_that_is_refused_has_no_number(vecfleet: Vecfleet, plan: str) -> None:
    refused = vecfleet("apply", plan, "--number")
    assert (refused.code, refused.out) == (3, "") and "--no-backup" in refused.err


@pytest.mark.parametrize("other", ["--dry-run", "--json", "--watch"])
def test_a_number_is_not_printed_among_other_things(vecfleet: Vecfleet, plan: str, other: str) -> None:
    refused = vecfleet("apply", plan, "--no-backup", "--number", other)
    assert (refused.code, refused.out) == (2, "") and other in refused.err
