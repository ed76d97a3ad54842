"""`certify` names each way in which a service is other than the emulator, and finds nothing where it is not."""

from pathlib import Path

import httpx
import pytest

from emulator.contested import VALUES
from migrations.certifying import converting, freshness, listing, miniature
from migrations.certifying.asking import QUESTIONS, USUAL
from migrations.certifying.metering import Meter
from migrations.certifying.runs import Runs
from migrations.estimating import Prices
from tests.certifying.asked import BUDGET, asked, differing, store_at, unanswered
from tests.certifying.faults import PLANTED, Planted
from tests.certifying.misbehaving import Misbehaving

LAG_MS, PATIENCE_S = 60, 60.0


def test_a_service_that_is_as_the_emulator_differs_in_nothing_and_costs_what_is_said(emulator: str, runs: Runs) -> None:
    # Given a proxy that changes nothing
    meter = Meter(Prices(), BUDGET)
    with Misbehaving(emulator) as service:
        answers = asked(service.address, runs, meter=meter)

    # Then each question is answered as the emulator answers, over REST and gRPC
    assert (differing(answers), unanswered(answers)) == ({}, {})
    assert [answered.question for answered in answers if "grpc" in answered.question.id]
    # And no more was spent than is said beforehand, and nothing is left
    assert 0 < meter.spent.read_units < USUAL.read_units and 0 < meter.spent.write_units < USUAL.write_units
    assert store_at(emulator).indexes() == [] and runs.every(None) == []


def test_of_a_service_that_misbehaves_in_all_ways_at_once_each_is_named(emulator: str, runs: Runs) -> None:
    with Misbehaving(emulator, *(planted.fault for planted in PLANTED)) as service:
        answers = asked(service.address, runs)

    assert len(PLANTED) >= 10
    assert {planted.question for planted in PLANTED} - differing(answers).keys() == set()
    assert store_at(emulator).indexes() == []


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.question)
def test_each_fault_alone_is_noticed_by_the_question_about_it(emulator: str, runs: Runs, planted: Planted) -> None:
    about = [question for question in QUESTIONS if question.id == planted.question]
    with Misbehaving(emulator, planted.fault) as service:
        assert differing(asked(service.address, runs, about)).keys() == {planted.question}


def test_half_of_an_upsert_over_grpc_is_noticed_by_the_migration(emulator: str, runs: Runs) -> None:
    rule = {"operation": "upsert", "namespace": "grpc-new", "partial": 0.5}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    about = [question for question in QUESTIONS if question.id.startswith("migration-vectors")]

    assert differing(asked(emulator, runs, about)) == {
        "migration-vectors-grpc": "0 records proven there, 0 back",
    }


def test_a_service_whose_reads_lag_within_the_freshness_wait_differs_in_nothing(emulator: str, runs: Runs) -> None:
    rule = {"operation": "reads", "lag_ms": LAG_MS}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    about = [*listing.QUESTIONS, *freshness.QUESTIONS, *miniature.QUESTIONS]

    answers = asked(emulator, runs, about, freshness_s=PATIENCE_S)

    assert (differing(answers), unanswered(answers)) == ({}, {})


EVERY = (*QUESTIONS, *converting.QUESTIONS)


def test_each_question_has_a_name_of_its_own_and_says_what_rests_on_it() -> None:
    assert len({question.id for question in EVERY}) == len(EVERY)
    assert all(question.asks.endswith("?") and question.belief and question.because for question in EVERY)


def test_each_switch_of_the_emulator_has_a_question_but_those_of_imports() -> None:
    asked_for = {str(question.switch).replace("-", "_") for question in EVERY if question.switch is not None}
    assert asked_for == VALUES.keys() - {"equal_vectors", "extra_columns"}


def test_the_page_lists_each_question_with_its_answer() -> None:
    page = (Path(__file__).parents[2] / "docs" / "certify.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    assert listed == [
        f"| `{question.id}` | {question.asks} | {question.belief} | {question.because} |" for question in EVERY
    ]


def test_a_spent_budget_ends_the_questions_before_it_is_exceeded(emulator: str, runs: Runs) -> None:
    # Given a budget for a part of the questions
    meter = Meter(Prices(), 0.002)
    answers = asked(emulator, runs, meter=meter)

    # Then the others are listed with the reason, no more was spent, and nothing is left
    assert len(answers) == len(QUESTIONS) and differing(answers) == {}
    reasons = unanswered(answers)
    assert 0 < len(reasons) < len(QUESTIONS)
    assert all(why is not None and why.startswith("the budget of $0.0020 is reached") for why in reasons.values())
    assert meter.dollars <= meter.budget
    assert store_at(emulator).indexes() == [] and runs.every(None) == []


def test_an_index_that_cannot_be_created_leaves_its_own_questions_without_an_answer(emulator: str, runs: Runs) -> None:
    rule = {"operation": "create_index", "status": 403, "message": "quota: no more indexes", "count": 1}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    about = [question for question in QUESTIONS if question.id in ("upsert-counts", "sparse-comes-back")]

    answers = asked(emulator, runs, about)

    assert {answered.question.id: answered.answer for answered in answers} == {
        "upsert-counts": None,
        "sparse-comes-back": "bit for bit",
    }
    assert "no more indexes" in str(answers[0].why)


def test_an_index_that_is_said_to_be_there_already_may_be_ours_and_is_remembered(emulator: str, runs: Runs) -> None:
    # Given a creation that was carried out without an answer, and refused when it was repeated
    rule = {"operation": "create_index", "status": 409, "message": "Resource already exists", "count": 1}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()

    answers = asked(emulator, runs, [question for question in QUESTIONS if question.id == "upsert-counts"])

    assert unanswered(answers).keys() == {"upsert-counts"}
    assert len(runs.every("certify")) == 1
