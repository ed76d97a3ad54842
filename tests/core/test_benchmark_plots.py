"""Pictures of a run: every bar that was measured, on the scale of its panel, and nothing that was not."""

from typing import Any
from xml.etree import ElementTree

from benchmarks.plots import BARS, PICTURES, picture

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


def drawn(name: str, run: list[dict[str, Any]]) -> ElementTree.Element:
    svg = picture("a run", PICTURES[name], run)
    assert svg is not None
    return ElementTree.fromstring(svg)
