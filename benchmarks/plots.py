"""Pictures of a run, drawn from its JSON file: what a record costs, and what a namespace costs.

Each bar is a value, the thin line on it goes from its lowest to its highest sample, and a dashed line is the reach.
SVG of our own making: readable in light and dark, and no library for it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

WIDTH, PANEL, LABELS, BARS = 960, 480, 170, 220
ROW, HEADING, TOP = 22, 30, 48
# What is not the fleet is drawn in grey.
OTHERS = ("bare loop", "the lane", "seed 000", "SDK loop")
_PEERS = r"(fleet|seed 000's loop|SDK loop, \w+), 3,072-d, answers at once"
_SIZES = r"([\d,]+ namespaces)"
_LOOPS = (
    ("the fleet and its lane alone, 3,072-d", "overhead", r"(fleet|bare loop), 3,072-d.*"),
    ("the fleet and other loops, 3,072-d", "peers", _PEERS),
)

# A picture's panels; a panel's groups, each with its heading, and by part and name the figures in it: what is matched
# in brackets is a bar's label. All bars of a panel have one scale.
Panels = Mapping[str, Sequence[tuple[str, str, str]]]
PICTURES: Mapping[str, Panels] = {
    "in-short": {
        "records a second": _LOOPS,
        "plan to verdict, ms a namespace": (
            ("namespaces of 100 records", "scale", f"plan, copy and verify, {_SIZES}"),
        ),
    },
    "records": {
        "records a second": (
            ("the fleet, by what is copied", "copy", r"copy, (.+)"),
            *_LOOPS,
        ),
        "CPU of what copies, ms a record": (
            ("the fleet, by what is copied", "copy", r"CPU of workers, copy, (.+)"),
            ("the fleet and its lane alone, 3,072-d", "overhead", r"CPU of (workers|the lane).*"),
            ("the fleet and other loops, 3,072-d", "peers", f"CPU of {_PEERS}"),
        ),
    },
    "namespaces": {
        "by the clock, ms a namespace": tuple(
            (step, "scale", f"{step}, {_SIZES}") for step in ("plan, copy and verify", "verify alone", "clean up")
        ),
        "CPU until verified, ms a namespace": tuple(
            (role, "scale", f"list, copy and verify, CPU of {role}, {_SIZES}")
            for role in ("worker", "dispatcher", "postgres", "redis", "emulator")
        ),
    },
}

_PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" role="img"
 aria-label="{{ title }}" font-family="system-ui, sans-serif" font-size="13">
<style>
 .paper { fill: #fff } text { fill: #24292f } .soft { fill: #57606a } .ours { fill: #2f7fd6 } .other { fill: #a8b1bb }
 .spread { stroke: #24292f } .reach { stroke: #c2410c; stroke-width: 2; stroke-dasharray: 4 2 }
 @media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 } text { fill: #e6edf3 } .soft { fill: #9198a1 } .ours { fill: #4493f8 }
  .other { fill: #59636e } .spread { stroke: #e6edf3 } .reach { stroke: #f0883e }
 }
</style>
<rect class="paper" width="100%" height="100%"/>
<text x="16" y="20" class="soft">{{ title }}</text>
{% for panel in panels %}<g transform="translate({{ panel.x }} 0)">
<text x="16" y="42" font-weight="600">{{ panel.title }}</text>
{% for heading in panel.headings %}<text x="16" y="{{ heading.y }}" class="soft">{{ heading.text }}</text>
{% endfor %}{% for bar in panel.bars %}<text x="28" y="{{ bar.y + 14 }}">{{ bar.label }}</text>
<rect class="{{ 'ours' if bar.ours else 'other' }}" x="{{ labels }}" y="{{ bar.y + 3 }}" \
width="{{ bar.width }}" height="14" rx="2"/>
<path class="spread" d="M{{ bar.low }} {{ bar.y + 10 }}H{{ bar.high }}"/>
{% if bar.reach %}<path class="reach" d="M{{ bar.reach }} {{ bar.y }}v20"/>
{% endif %}<text x="{{ bar.high + 6 }}" y="{{ bar.y + 14 }}">{{ bar.said }}</text>
{% endfor %}</g>
{% endfor %}</svg>
"""


def picture(title: str, panels: Panels, measures: Sequence[Mapping[str, Any]]) -> str:
    """The SVG."""
    drawn = [_drawn(heading, groups, measures) for heading, groups in panels.items()]
    placed = [panel | {"x": place * PANEL} for place, panel in enumerate(drawn)]
    height = max(panel["height"] for panel in drawn)
    template = Environment(autoescape=True).from_string(_PICTURE)
    return template.render(title=title, panels=placed, labels=LABELS, width=WIDTH, height=height)


def _drawn(title: str, groups: Sequence[tuple[str, str, str]], measures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chosen = [(heading, list(_matching(part, name, measures))) for heading, part, name in groups]
    most = max((max(one["interval"][1], _bound(one) or 0.0) for _, found in chosen for _, one in found), default=1.0)
    headings, bars, y = [], [], TOP
    for heading, found in chosen:
        headings.append({"text": heading, "y": y + 20})
        y += HEADING
        for label, one in found:
            low, high, reach = (
                round(LABELS + each / most * BARS, 1) if each is not None else None
                for each in (*one["interval"], _bound(one))
            )
            said = f"{one['value']:,.0f}" if one["value"] >= 100 else f"{one['value']:.2g}"
            bars.append(
                {"label": label, "ours": not label.startswith(OTHERS), "y": y, "said": said}
                | {"low": low, "high": high, "reach": reach, "width": round(one["value"] / most * BARS, 1)}
            )
            y += ROW
    return {"title": title, "headings": headings, "bars": bars, "height": y + 12}


def _matching(part: str, name: str, measures: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in measures:
        match = re.fullmatch(name, one["name"])
        if match and one["part"] == part:
            yield match[1], one


def _bound(one: Mapping[str, Any]) -> float | None:
    return float(one["reach"].split()[-1]) if one["reach"] else None


def draw(run: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the pictures of which every part is in a merged run. Returns where they are."""
    drawn = []
    for name, panels in PICTURES.items():
        parts = {part for groups in panels.values() for _, part, _ in groups}
        if parts <= run["parts"].keys():
            title = _about([run["parts"][part] for part in sorted(parts)])
            drawn.append(folder / f"{name}.svg")
            drawn[-1].write_text(picture(title, panels, run["measures"]), encoding="utf-8")
    return drawn


def _about(parts: Sequence[Mapping[str, Any]]) -> str:
    """Say where and when they were measured."""
    forms = " and ".join(sorted({"quick" if one["quick"] else "whole" for one in parts}))
    days = ", ".join(sorted({one["at"][:10] for one in parts}))
    cores = " or ".join(sorted({str(one["machine"]["cores"]) for one in parts}))
    return f"{cores} cores, {forms} form, {days}; a line: all samples; dashed: the reach"
