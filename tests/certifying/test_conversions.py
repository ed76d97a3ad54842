"""`certify --convert` names what a conversion makes of records, and leaves no index however the conversion goes."""

from collections.abc import Callable, Iterator

import pytest

from emulator.contested import VALUES, Contested
from emulator.server import Running, start
from migrations.certifying import converting
from migrations.certifying.asking import USUAL
from migrations.certifying.metering import Meter
from migrations.certifying.runs import Runs
from migrations.estimating import Prices
from tests.certifying.asked import BUDGET, asked, differing, store_at, unanswered
from tests.certifying.misbehaving import Exchange, Misbehaving

AN_HOUR_S = 3600.0
BOTH = {question.id for question in converting.QUESTIONS}


@pytest.fixture(autouse=True)
def no_wait_for_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "SNAPSHOT_MISSES_S", 0.0)


@pytest.fixture
def started() -> Iterator[Callable[..., str]]:
    """Starts emulators, and tells their addresses."""
    running: list[Running] = []

    def begin(delay_s: float = 0.0, misses_s: float = 0.0, **switches: str) -> str:
        running.append(
            start(port=0, conversion_delay_s=delay_s, backup_misses_s=misses_s, contested=Contested(**switches))
        )
        return running[-1].control

    yield begin
    for emulator in running:
        emulator.stop()


def test_a_conversion_as_the_emulator_s_differs_in_nothing(started: Callable[..., str], runs: Runs) -> None:
    address, meter = started(), Meter(Prices(), BUDGET)

    answers = asked(address, runs, converting.QUESTIONS, meter)

    assert (len(answers), differing(answers), unanswered(answers)) == (2, {}, {})
    # And the conversion is told beside the cost, which it is no part of
    assert meter.unpriced == ["a conversion of 3 records"]
    assert 0 < meter.spent.read_units < USUAL.read_units / 10 and 0 < meter.spent.write_units < USUAL.write_units / 10
    assert store_at(address).indexes() == [] and runs.every(None) == []


@pytest.mark.parametrize("switch", ["converted_names", "converted_sparse"])
def test_a_conversion_that_keeps_the_record_is_named_with_its_switch(
    started: Callable[..., str], runs: Runs, switch: str
) -> None:
    address = started(**{switch: VALUES[switch][1]})

    answers = asked(address, runs, converting.QUESTIONS)

    id = switch.replace("_", "-")
    assert differing(answers) == {id: "the record is there, with the keys ['kept']"}
    assert [answered.question.switch for answered in answers if answered.differs] == [id]
    assert store_at(address).indexes() == [] and runs.every(None) == []


def test_a_conversion_that_never_ends_leaves_no_index(
    started: Callable[..., str], runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "PATIENCE_S", 0.0)
    address = started(delay_s=AN_HOUR_S)

    why = unanswered(asked(address, runs, converting.QUESTIONS))

    assert why.keys() == BOTH and all("has not ended within 0 minutes: 0 %" in str(text) for text in why.values())
    assert store_at(address).indexes() == [] and runs.every(None) == []


def test_a_snapshot_without_the_records_is_no_answer(started: Callable[..., str], runs: Runs) -> None:
    # Given a service whose snapshots lack what was written within the last hour
    address = started(misses_s=AN_HOUR_S)

    why = unanswered(asked(address, runs, converting.QUESTIONS))

    # Then records that are missing are not taken for records that are left out
    assert why.keys() == BOTH and all("snapshot may be older" in str(text) for text in why.values())
    assert store_at(address).indexes() == [] and runs.every(None) == []


def _fails(exchange: Exchange) -> None:
    if exchange.path.startswith("/conversion-jobs"):
        exchange.forward()
        for job in exchange.body.get("data", [exchange.body]):
            job["status"] = "Failed"


def _loses_the_answer(exchange: Exchange) -> None:
    if exchange.path.endswith("/convert"):
        exchange.forward()
        exchange.status, exchange.body = 500, {"error": {"code": "UNKNOWN", "message": "lost"}, "status": 500}


def _forbids_the_list(exchange: Exchange) -> None:
    if exchange.path == "/conversion-jobs":
        exchange.status, exchange.body = 403, {"error": {"code": "FORBIDDEN", "message": "no list"}, "status": 403}


def _has_no_conversions(exchange: Exchange) -> None:
    if exchange.path.endswith("/convert"):
        exchange.status, exchange.body = 404, {"error": {"code": "NOT_FOUND", "message": "no path"}, "status": 404}


@pytest.mark.parametrize(
    ("fault", "says"),
    [(_fails, "ended Failed"), (_loses_the_answer, "lost"), (_forbids_the_list, "no list"), (_has_no_conversions, "")],
)
def test_a_conversion_that_fails_leaves_no_index(
    emulator: str, runs: Runs, fault: Callable[[Exchange], None], says: str
) -> None:
    with Misbehaving(emulator, fault) as service:
        why = unanswered(asked(service.address, runs, converting.QUESTIONS))

    assert why.keys() == BOTH and all(says in str(text) for text in why.values()), why
    assert store_at(emulator).indexes() == [] and runs.every(None) == []


def test_without_a_budget_for_its_records_nothing_is_converted(emulator: str, runs: Runs) -> None:
    meter = Meter(Prices(), 0.0)

    why = unanswered(asked(emulator, runs, converting.QUESTIONS, meter))

    assert why.keys() == BOTH and all("the budget of $0.0000 is reached" in str(text) for text in why.values())
    assert meter.unpriced == []
    assert store_at(emulator).indexes() == [] and runs.every(None) == []
