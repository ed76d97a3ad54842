"""The published record of a run: every bar and row that was measured, and nothing that was not."""

import re
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.__main__ import PARTS
from benchmarks.peers import DELAYS_MS, FLEET, PEERS, QUICK, _figures
from benchmarks.plots import BARS, PICTURES, draw, picture
from benchmarks.publish import DOCS, IN_SHORT, filled, merged

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


def test_a_picture_of_which_a_part_was_not_measured_stays_as_it_is(tmp_path: Path) -> None:
    # Given figures of one part, and pictures of an older run
    for name in PICTURES:
        (tmp_path / f"{name}.svg").write_text("older")
    sizes = ("100 namespaces", "1,200 namespaces")
    run = merged([of("scale", "1a2b3c4", [measure("scale", f"plan, copy and verify, {size}", 30.0) for size in sizes])])
    # When its pictures are drawn
    drawn = [place.stem for place in draw(run, tmp_path)]
    # Then those that need no other part are new
    kept = {place.stem for place in tmp_path.iterdir() if place.read_text() == "older"}
    assert (drawn, kept) == (["namespaces"], {"in-short", "records"})


def test_a_table_holds_the_figures_of_its_part_and_how_they_were_taken() -> None:
    # Given a page with a table of an older run, and one of a part that this run has not
    older = "before\n<!-- figures: scale: status -->\nold\n<!-- end -->\nafter\n"
    page = f"{older}<!-- figures: page -->\nkept\n<!-- end -->\n"
    status = {"part": "scale", "name": "status, service", "value": 38.0, "unit": "ms", "reach": "≤ 200", "ok": True}
    measures = [status | {"interval": [36.0, 40.0]}, measure("scale", "purge", 3.0)]
    run = merged([of("scale", "1a2b3c4", measures, disturbed=True, others=0.31)])
    # When the run is put into it
    told = filled(page, run)
    # Then the first holds the figure that it asks for, and the rest stands as it was
    assert "| status, service | 38 | 36 – 40 | ms | ≤ 200 | reached |" in told
    assert "quick form, 2026-11-22, commit `1a2b3c4`, load 9 at its begin" in told
    assert "**It was disturbed**: other processes took 31% of the processors." in told
    assert "old" not in told and "purge" not in told
    assert told.startswith("before\n<!-- figures: scale: status -->") and told.endswith("\nkept\n<!-- end -->\n")
    assert filled(told, run) == told


def test_the_opening_sentences_tell_the_run_and_one_that_was_not_measured_stays() -> None:
    # Given a page whose opening is of an older run, and a run of one part alone
    page = "# Performance\n\n<!-- in short -->\n\n- one\n- two\n- three\n- four\n- five\n\n<!-- end -->\nafter\n"
    names = ["plan, copy and verify, 1,200 namespaces", "plan, copy and verify, 100 namespaces"]
    measures = [measure("scale", name, value) for name, value in zip(names, (17.5, 41.0), strict=True)]
    run = merged([of("scale", "1a2b3c4", measures)])
    # When the run is put into it
    told = filled(page, run)
    # Then its sentence tells the figures, and the others stand
    assert "takes 17.5 ms from its plan to its verdict where there are 1,200, and 41 ms where there are 100." in told
    assert "there are 100. (commit `1a2b3c4`)\n" in told
    assert [line for line in told.splitlines() if line.startswith("- ") and len(line) < 10] == [
        "- one",
        "- two",
        "- three",
        "- five",
    ]
    assert filled(told, run) == told and told.endswith("\n\n<!-- end -->\nafter\n")


def test_files_of_several_runs_are_told_together_each_figure_with_its_commit() -> None:
    # Given a run of all parts, a later one of two of them, and one whose part was left out
    first = [measure("copy", "copy, 3,072-d, 500 B", 8_000.0), measure("copy", "copy, 8-d, 0 B", 20_000.0)]
    older = (
        of("copy", "1a2b3c4", first),
        of("restart", "1a2b3c4", [measure("restart", "lost by a worker killed", 15.0)]),
    )
    names = ("copy, 3,072-d, 500 B", "copy, 1,536-d, 500 B")
    newer = of("copy", "5d6e7f8", [measure("copy", name, 9_000.0) for name in names])
    late = of("restart", "5d6e7f8", [measure("restart", "lost by a 429", 0.2)])
    empty = of("page", "5d6e7f8", [], why="`make browser` installs it")
    page = "<!-- in short -->\n\n- one\n- two\n- three\n- four\n- five\n\n<!-- end -->\n" + "".join(
        f"<!-- figures: {part} -->\nold {part}\n<!-- end -->\n" for part in ("copy", "restart", "page")
    )
    # When they are put into a page
    told = filled(page, merged([*older, newer, late, empty]))
    # Then each part is that of the last file which has it, whole, and nothing of an earlier one stands among it
    assert "- Two workers copy **9,000 records a second** of 3,072 dimensions, and 9,000 of 1,536" in told
    assert "8-d, 0 B" not in told and "old copy" not in told and told.count("commit `5d6e7f8`, load") == 2
    assert "lost by a worker killed" not in told and "\n- five\n" in told
    assert "old page" in told


def test_a_sentence_of_two_commits_names_both() -> None:
    (sentence, figures) = IN_SHORT[2]
    runs = [
        of(part, commit, [measure(part, name, 2.0) for of_part, name in figures if of_part == part])
        for part, commit in (("overhead", "1a2b3c4"), ("peers", "5d6e7f8"))
    ]
    told = filled("<!-- in short -->\n\n- 1\n- 2\n- 3\n- 4\n- 5\n\n<!-- end -->\n", merged(runs))
    assert f"- {sentence.format('2', '2', '2')} (commit `1a2b3c4`, commit `5d6e7f8`)\n" in told


def test_the_quick_form_measures_what_opens_the_page() -> None:
    # Given a round of the quick form, for each dimension and delay
    rates = dict.fromkeys((FLEET, *PEERS), (2.0, 1.0))
    given = {
        ("peers", one.name)
        for (dimension, _), late in product(QUICK, DELAYS_MS)
        for one in _figures([rates], dimension, late)
    }
    # Then every figure of peers in the sentences is among them
    assert {each for _, figures in IN_SHORT for each in figures if each[0] == "peers"} <= given


def test_every_part_has_its_table_in_the_page() -> None:
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- figures: (\w+)", page)) == set(PARTS)


def of(part: str, commit: str, measures: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
    """A run of one part."""
    said = {"load": 8.6, "failed": False, "why": None, "disturbed": False, "others": 0.0} | about
    run = {"quick": True, "at": "2026-11-22T03:00:00+00:00", "commit": commit, "machine": {"cores": 2}}
    return run | {"parts": {part: said}, "measures": [{"unit": "s", "ok": None} | one for one in measures]}


def drawn(name: str, run: list[dict[str, Any]]) -> ElementTree.Element:
    return ElementTree.fromstring(picture("a run", PICTURES[name], run))
