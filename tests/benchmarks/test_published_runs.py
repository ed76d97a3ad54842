"""The published record of a run: every bar and row that was measured, and nothing that was not."""

from typing import Any
from xml.etree import ElementTree

from benchmarks.plots import BARS, PICTURES, picture
from benchmarks.publish import filled

_SVG = "{http://www.w3.org/2000/svg}"


def measure(part: str, name: str, value: float, reach: str | None = None) -> dict[str, Any]:
    return {"part": part, "name": name, "value": value, "reach": reach, "interval": [value * 0.9, value]}


def test_a_bar_is_as_long_as_its_value_on_the_scale_of_its_panel() -> None:
    # Given a run of the fleet beside a loop
    run = [
        measure("peers", "fleet, 3,072-d, answers at once", 2_000.0),
        measure("peers", "seed 000's loop, 3,072-d, answers at once", 500.0),
        measure("peers", "fleet / seed 000's loop, 3,072-d, answers at once", 4.0, "≥ 8"),
    ]
    # When it is drawn
    svg = drawn("records", run)
    # Then there is a bar for each, the fleet's in colour and four times as long
    drawn_bars = [bar for bar in svg.iter(f"{_SVG}rect") if bar.get("class") != "paper"]
    bars = [(bar.get("class"), float(bar.get("width", ""))) for bar in drawn_bars]
    assert bars == [("ours", BARS), ("other", BARS / 4)]
    texts = [text.text for text in svg.iter(f"{_SVG}text")]
    assert {"fleet", "2,000", "seed 000's loop", "500"} <= set(texts)


def test_a_reach_is_drawn_where_there_is_one() -> None:
    run = [
        measure("scale", "plan, copy and verify, 100 namespaces", 100.0),
        measure("scale", "plan, copy and verify, 1,200 namespaces", 80.0, "≤ 40"),
    ]
    lines = [line for line in drawn("namespaces", run).iter(f"{_SVG}path") if line.get("class") == "reach"]
    assert len(lines) == 1


def test_a_run_without_a_part_has_no_picture_of_it() -> None:
    assert picture("a run", PICTURES["namespaces"], [measure("copy", "copy, 8-d, 0 B", 5_000.0)]) is None


def test_a_table_holds_the_figures_of_its_part_and_how_they_were_taken() -> None:
    # Given a page with a table of an older run, and one of a part that this run has not
    older = "before\n<!-- figures: scale: status -->\nold\n<!-- end -->\nafter\n"
    page = f"{older}<!-- figures: page -->\nkept\n<!-- end -->\n"
    run = {
        "quick": True,
        "at": "2026-11-22T03:00:00+00:00",
        "parts": {"scale": {"load": 8.6, "failed": False, "why": None, "disturbed": True, "others": 0.31}},
        "measures": [
            {"part": "scale", "name": "status, service", "value": 38.0, "unit": "ms", "reach": "≤ 200", "ok": True}
            | {"interval": [36.0, 40.0]},
            measure("scale", "purge", 3.0),
        ],
    }
    # When the run is put into it
    told = filled(page, run)
    # Then the first holds the figure that it asks for, and the rest stands as it was
    assert "| status, service | 38 | 36 – 40 | ms | ≤ 200 | reached |" in told
    assert "quick form, 2026-11-22, load 9 at its begin" in told
    assert "**It was disturbed**: other processes took 31% of the processors." in told
    assert "old" not in told and "purge" not in told
    assert told.startswith("before\n<!-- figures: scale: status -->") and told.endswith("\nkept\n<!-- end -->\n")
    assert filled(told, run) == told


def test_the_opening_sentences_tell_the_run_and_one_that_was_not_measured_stays() -> None:
    # Given a page whose opening is of an older run, and a run of one part alone
    page = "# Performance\n\n<!-- in short -->\n\n- one\n- two\n- three\n- four\n- five\n\n<!-- end -->\nafter\n"
    names = ["plan, copy and verify, 1,200 namespaces", "plan, copy and verify, 100 namespaces"]
    run = {"measures": [measure("scale", name, value) for name, value in zip(names, (17.5, 41.0), strict=True)]}
    # When the run is put into it
    told = filled(page, run)
    # Then its sentence tells the figures, and the others stand
    assert "takes 17.5 ms from its plan to its verdict where there are 1,200, and 41 ms where there are 100." in told
    assert [line for line in told.splitlines() if line.startswith("- ") and len(line) < 10] == [
        "- one",
        "- two",
        "- three",
        "- five",
    ]
    assert filled(told, run) == told and told.endswith("\n\n<!-- end -->\nafter\n")


def drawn(name: str, run: list[dict[str, Any]]) -> ElementTree.Element:
    svg = picture("a run", PICTURES[name], run)
    assert svg is not None
    return ElementTree.fromstring(svg)
