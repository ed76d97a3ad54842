"""A maintenance window opens and closes by the clock of its zone, past midnight, and where clocks change."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from migrations.window import Window
from orchestrator.core.windows import closes_at, opens_at, waits_until
from vecfleet.errors import BadInput

NIGHT = Window.read("01:00-04:00", "UTC")
LATE = Window.read("22:30-01:15", "Europe/Berlin")


def at(text: str) -> datetime:
    """A moment: `2026-11-23 22:30` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "closes", "opens"),
    [
        ("2026-11-23 00:59", None, "2026-11-23 01:00"),
        ("2026-11-23 01:00", "2026-11-23 04:00", "2026-11-24 01:00"),
        ("2026-11-23 03:59", "2026-11-23 04:00", "2026-11-24 01:00"),
        ("2026-11-23 04:00", None, "2026-11-24 01:00"),
    ],
)
def test_it_is_open_from_its_first_minute_until_its_last(now: str, closes: str | None, opens: str) -> None:
    assert closes_at(NIGHT, at(now)) == (at(closes) if closes else None)
    assert opens_at(NIGHT, at(now)) == at(opens)


@pytest.mark.parametrize(
    ("now", "closes"),
    [
        ("2026-11-23 21:29", None),  # 22:29 in Berlin
        ("2026-11-23 21:30", "2026-11-24 00:15"),
        ("2026-11-24 00:14", "2026-11-24 00:15"),  # the day after: it began yesterday
        ("2026-11-24 00:15", None),
    ],
)
def test_one_that_passes_midnight_is_open_on_both_days(now: str, closes: str | None) -> None:
    assert closes_at(LATE, at(now)) == (at(closes) if closes else None)


def test_it_opens_by_the_clock_of_its_zone_in_summer_and_in_winter() -> None:
    window = Window.read("01:00-04:00", "Europe/Berlin")
    assert opens_at(window, at("2026-07-01 12:00")) == at("2026-07-01 23:00")
    opens = opens_at(window, at("2026-11-23 12:00"))
    assert opens == at("2026-11-24 00:00") and f"{opens:%H:%M %Z}" == "01:00 CET"


def test_the_night_on_which_clocks_are_put_back_is_an_hour_longer() -> None:
    # Given that in Berlin 03:00 CEST is 02:00 CET on this night
    window = Window.read("01:00-04:00", "Europe/Berlin")
    assert closes_at(window, at("2026-10-24 23:00")) == at("2026-10-25 03:00")
    # Then an hour that comes twice belongs to the window both times
    twice = Window.read("02:15-02:45", "Europe/Berlin")
    assert (
        closes_at(twice, at("2026-10-25 00:15")) == closes_at(twice, at("2026-10-25 01:44")) == at("2026-10-25 01:45")
    )
    assert closes_at(twice, at("2026-10-25 01:45")) is None


def test_the_night_on_which_clocks_are_put_forward_is_an_hour_shorter() -> None:
    # Given that in Berlin 02:00 CET is 03:00 CEST on this night
    window = Window.read("01:00-04:00", "Europe/Berlin")
    assert closes_at(window, at("2026-03-29 00:00")) == at("2026-03-29 02:00")
    # Then a time that is skipped counts as the one an hour later
    assert opens_at(Window.read("02:30-05:00", "Europe/Berlin"), at("2026-03-29 00:00")) == at("2026-03-29 01:30")
    # And a window of which nothing is left that night opens the next
    assert opens_at(Window.read("02:30-03:15", "Europe/Berlin"), at("2026-03-29 00:00")) == at("2026-03-30 00:30")


def test_every_moment_of_three_years_is_in_the_window_or_before_the_next() -> None:
    # Given zones that change their clocks at other times, and by other steps
    for zone in ("America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"):
        for window in (Window.read("01:45-02:20", zone), Window.read("23:00-02:30", zone)):
            for minutes in range(0, 3 * 365 * 24 * 60, 601):
                now = datetime.fromtimestamp(1_767_225_600 + minutes * 60, UTC)
                closes, opens = closes_at(window, now), opens_at(window, now)
                # Then no window is further than two days away, and none that is open closes after the next opens
                assert now < opens and (opens - now).total_seconds() <= 2 * 86_400
                assert closes is None or now < closes < opens


def test_batches_wait_unless_the_window_is_open_or_a_person_gave_hours() -> None:
    noon = at("2026-11-23 12:00")
    assert waits_until(None, None, noon) is None
    assert waits_until(NIGHT, at("2026-11-23 04:00"), noon) == at("2026-11-24 01:00")
    assert waits_until(NIGHT, at("2026-11-23 14:00"), noon) is None
    assert waits_until(NIGHT, at("2026-11-22 04:00"), at("2026-11-23 02:00")) is None


@pytest.mark.parametrize(
    ("typed", "zone", "sentence"),
    [
        ("1-4", "UTC", "'1-4' is not a window"),
        ("25:00-04:00", "UTC", "is not a window"),
        ("01:00-01:00", "UTC", "has no hours"),
        ("01:00-04:00", "Berlin", "there is no time zone 'Berlin'"),
        ("01:00-04:00", "../etc/passwd", "there is no time zone"),
    ],
)
def test_what_is_no_window_is_refused(typed: str, zone: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        Window.read(typed, zone)


def test_a_plan_that_was_edited_into_no_window_is_none() -> None:
    for wrong in ({"opens": "04:00"}, {"zone": "Nowhere"}, {"opens": "4 o'clock"}):
        with pytest.raises(ValidationError):
            Window.model_validate({"opens": "01:00", "closes": "04:00", "zone": "UTC"} | wrong)
    assert Window.model_validate(NIGHT.model_dump(mode="json")) == NIGHT
