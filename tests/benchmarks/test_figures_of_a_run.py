"""Figures of the benchmarks: judged by all samples, kept in one file, and not lost with a part."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.__main__ import PARTS
from benchmarks.figures import Figure, entry
from benchmarks.peers import PEERS, named
from benchmarks.reach import REACHES, Reach
from benchmarks.runner import LeftOut, Measure, run
from benchmarks.showing import commit

AT_MOST, AT_LEAST = Reach(0.10), Reach(8.0, at_least=True)


@pytest.mark.parametrize(
    ("reach", "samples", "ok"),
    [
        (AT_MOST, [0.08, 0.10], True),
        (AT_MOST, [0.11, 0.20], False),
        (AT_MOST, [0.08, 0.12], "undecided"),
        (AT_LEAST, [8.0, 9.5], True),
        (AT_LEAST, [3.0, 7.9], False),
        (AT_LEAST, [7.9, 8.1, 9.0], "undecided"),
    ],
)
def test_a_reach_inside_the_noise_is_undecided(reach: Reach, samples: list[float], ok: bool | str) -> None:
    assert Figure.of("copy", "×", samples, reach).ok == ok


def test_a_spread_that_was_worked_out_is_what_is_judged() -> None:
    assert Figure("p95", 0.09, "ms", AT_MOST, samples=(0.05, 0.5), spread=(0.08, 0.095)).ok is True


def test_a_figure_without_a_reach_is_not_judged() -> None:
    said = entry(Figure("emulator", 3.0, "ms"))
    assert (said["reach"], said["ok"], said["interval"]) == (None, None, [3.0, 3.0])


def test_one_file_holds_every_part(tmp_path: Path) -> None:
    # Given two parts
    def first(quick: bool) -> Iterator[Figure]:
        yield Figure.of("copy", "records/s", [1.0, 3.0, 2.0], Reach(2.5, at_least=True))

    def second(quick: bool) -> Iterator[Figure]:
        yield Figure("erasure", 0.5, "s")

    # When both are run
    said, body = ran(tmp_path, {"first": first, "second": second})
    # Then each figure stands in the file, and its samples beside it
    assert body["quick"] is True and body["machine"]["cores"] and body["versions"]["pinecone"] and body["seed"]
    assert body["commit"] == commit()
    assert body["measures"] == [
        {
            "part": "first",
            "name": "copy",
            "value": 2.0,
            "unit": "records/s",
            "reach": "≥ 2.5",
            "ok": "undecided",
            "interval": [1.0, 3.0],
        },
        {
            "part": "second",
            "name": "erasure",
            "value": 0.5,
            "unit": "s",
            "reach": None,
            "ok": None,
            "interval": [0.5, 0.5],
        },
    ]
    assert body["raw"] == {"first": {"copy": [1.0, 3.0, 2.0]}, "second": {}}
    assert said == 0


def test_a_part_that_fails_keeps_its_figures_and_those_of_the_others(tmp_path: Path) -> None:
    # Given a part that fails after its first figure, and one after it
    def failing(quick: bool) -> Iterator[Figure]:
        yield Figure("before", 1.0, "s")
        raise RuntimeError("the emulator is gone")

    def other(quick: bool) -> Iterator[Figure]:
        yield Figure("after", 2.0, "s")

    # When they are run
    said, body = ran(tmp_path, {"failing": failing, "other": other})
    # Then both figures are kept, and the failure is told
    assert [one["name"] for one in body["measures"]] == ["before", "after"]
    assert body["parts"]["failing"]["failed"] and "the emulator is gone" in body["parts"]["failing"]["why"]
    assert not body["parts"]["other"]["failed"]
    assert said == 1


def test_a_part_that_lacks_what_it_needs_is_left_out_and_says_so(tmp_path: Path) -> None:
    def without(quick: bool) -> Iterator[Figure]:
        raise LeftOut("`make browser` installs it")

    said, body = ran(tmp_path, {"page": without})
    assert (said, body["parts"]["page"]["failed"]) == (0, False)
    assert body["parts"]["page"]["why"] == "`make browser` installs it"


def test_a_reach_that_is_missed_is_a_figure_and_no_failure(tmp_path: Path) -> None:
    said, body = ran(tmp_path, {"slow": lambda quick: [Figure("copy", 9.0, "ms", AT_MOST)]})
    assert (said, body["measures"][0]["ok"]) == (0, False)


def test_every_part_has_its_module() -> None:
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    assert len(set(PARTS)) == len(PARTS)
    for part in PARTS:
        assert "def measure(quick: bool)" in (folder / f"{part}.py").read_text(), part


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("CPU of the lane", "≤ 0.05"),
        ("CPU of workers, copy", "≤ 0.07"),
        ("fleet / bare loop", "≥ 0.9"),
        ("fleet / seed 000's loop", "≥ 8"),
        ("plan, copy and verify", "≤ 18"),
        ("job table after purge", "≤ 5"),
        ("allowance used", "≥ 0.95"),
        ("answered 429", "≤ 0.005"),
        ("start of a verb", "≤ 250"),
    ],
)
def test_the_reaches_are_those_that_were_asked_for_last(name: str, reach: str) -> None:
    assert str(REACHES[name]) == reach


def test_a_loop_of_ones_own_is_plugged_in_by_its_name() -> None:
    assert named("benchmarks.seed_loop:peer") is PEERS["seed 000's loop"]


def test_a_part_that_others_disturb_says_so_and_is_measured_again(tmp_path: Path) -> None:
    # Given processes of others that take all processors twice, and then rest
    taken, values = [0.0], iter((1.0, 2.0, 3.0, 4.0))

    def disturbed(quick: bool) -> Iterator[Figure]:
        value = next(values)
        taken[0] += 1_000.0 if value < 3 else 0.0
        yield Figure("copy", value, "s")

    # When the part is run
    told = StringIO()
    _, body = ran(tmp_path, {"copy": disturbed}, others=lambda: taken[0], told=told)

    # Then the figures are those of the third time
    assert [one["value"] for one in body["measures"]] == [3.0]
    part = body["parts"]["copy"]
    assert (part["tries"], part["disturbed"], part["others"]) == (3, False, 0.0)
    assert told.getvalue().count("copy was disturbed: other processes took") == 2


def test_a_part_that_is_always_disturbed_keeps_the_least_disturbed_figures(tmp_path: Path) -> None:
    taken, values = [0.0], iter((3.0, 1.0, 2.0))

    def disturbed(quick: bool) -> Iterator[Figure]:
        value = next(values)
        taken[0] += 1_000.0 ** (value + 1)  # one try may take a hundred times as long as another
        yield Figure("copy", value, "s")

    _, body = ran(tmp_path, {"copy": disturbed}, others=lambda: taken[0])

    assert [one["value"] for one in body["measures"]] == [1.0]
    assert body["parts"]["copy"]["disturbed"] and body["parts"]["copy"]["tries"] == 3


def test_a_repeat_that_fails_costs_none_of_the_figures_that_are_complete(tmp_path: Path) -> None:
    # Given a part that others disturb, and that fails when it is measured again
    taken, tries = [0.0], iter((1, 2))

    def failing_later(quick: bool) -> Iterator[Figure]:
        taken[0] += 1_000.0
        yield Figure("first half", 1.0, "s")
        if next(tries) == 2:
            raise RuntimeError("the emulator is gone")
        yield Figure("second half", 2.0, "s")

    # When it is run
    told = StringIO()
    said, body = ran(tmp_path, {"copy": failing_later}, others=lambda: taken[0], told=told)

    # Then the figures of the first time stand, and the failure is told
    assert [one["value"] for one in body["measures"]] == [1.0, 2.0]
    part = body["parts"]["copy"]
    assert (said, part["failed"], part["disturbed"], part["tries"]) == (0, False, True, 2)
    assert "the emulator is gone" in told.getvalue()


def test_a_run_that_is_stopped_while_a_part_is_measured_again_has_its_figures(tmp_path: Path) -> None:
    # Given a part that others disturb, and somebody who does not wait for it to be measured again
    taken, tries = [0.0], iter((1, 2))

    def disturbed(quick: bool) -> Iterator[Figure]:
        taken[0] += 1_000.0
        if next(tries) == 2:
            raise KeyboardInterrupt
        yield Figure("copy", 1.0, "s")

    # When the run is stopped
    with pytest.raises(KeyboardInterrupt):
        ran(tmp_path, {"copy": disturbed}, others=lambda: taken[0])

    # Then its file has what was taken first
    body = json.loads((tmp_path / "figures.json").read_text())
    assert [one["value"] for one in body["measures"]] == [1.0] and body["parts"]["copy"]["disturbed"]


def test_a_part_of_which_only_some_is_left_out_is_measured_again_like_any_other(tmp_path: Path) -> None:
    # Given a part that lacks what its last figure needs, and that others disturb once
    taken, values = [0.0], iter((1.0, 2.0))

    def partly(quick: bool) -> Iterator[Figure]:
        value = next(values)
        taken[0] += 1_000.0 if value < 2 else 0.0
        yield Figure("fleet", value, "s")
        raise LeftOut("`make compat` installs them")

    # When it is run
    _, body = ran(tmp_path, {"peers": partly}, others=lambda: taken[0])

    # Then the undisturbed figure counts, and what is left out is told
    assert [one["value"] for one in body["measures"]] == [2.0]
    part = body["parts"]["peers"]
    assert (part["tries"], part["disturbed"], part["why"]) == (2, False, "`make compat` installs them")


def ran(
    tmp_path: Path,
    parts: dict[str, Measure],
    others: Callable[[], float] = lambda: 0.0,
    told: StringIO | None = None,
) -> tuple[int, dict]:  # type: ignore[type-arg]
    """The exit code, and what the file holds."""
    place = tmp_path / "figures.json"
    console = Console(file=told or StringIO(), width=120)
    said = run(parts, quick=True, json_file=place, console=console, others=others)
    return said, json.loads(place.read_text())
