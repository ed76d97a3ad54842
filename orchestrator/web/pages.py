"""The pages as HTML: Jinja templates that escape everything, and the headers that every page carries."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator.core.progress import headline
from orchestrator.core.reading import ParkedGroup, given_up_said
from orchestrator.core.states import JobState
from orchestrator.core.wording import a_month, creation, duration, elapsed, moves_between, sides, with_left_behind
from orchestrator.web import charts, searching, views
from orchestrator.web.sessions import Session

HERE = Path(__file__).parent
# Scripts and styles from our own files only, nothing from other sites, and no frames around the page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
# The parts of a job's page that are sent again when they change; each is a template and the id of an element.
PARTS = (
    *("state", "waits", "comments", "actions", "figures", "legend", "failed", "parked"),
    *("batches", "records", "clients", "evidence", "namespaces", "steps", "audit"),
)

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else "—"


_TOLD = 3  # values of a list


def _told(value: Any) -> str:
    """Return a value of a plan or of an act as people read it: no list or dictionary shows as Python writes it."""
    match value:
        case None:
            return "—"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case Mapping():
            return " · ".join(f"{views.spoken(key)} {_told(each)}" for key, each in value.items() if each is not None)
        case list() | tuple():
            more = f", … and {len(value) - _TOLD:,} more" if len(value) > _TOLD + 1 else ""
            shown = value[:_TOLD] if more else value
            return ", ".join(_told(each) for each in shown) + more or "none"
        case _:
            return str(value)


def _policy(value: Any, name: str) -> str:
    """Return the value of a plan's policy; a time is told in hours, not in thousands of seconds."""
    return duration(value) if name.endswith("_seconds") else _told(value)


def _coded(text: str) -> Markup:
    """Mark the text between backticks in our sentences as code, and a command that stands alone."""
    if text.startswith("vecfleet "):
        return Markup("<code>{}</code>").format(text)
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _job_mark(state: str, left_behind: int = 0) -> tuple[str, str]:
    return views.job_mark(JobState(state), left_behind)


_templates.filters |= {"spoken": views.spoken, "moment": _moment, "duration": duration, "coded": _coded, "told": _told}
_templates.filters |= {
    "left_behind": with_left_behind,
    "verdict": views.verdict,
    "parked_count": ParkedGroup.counted,
    "took": searching.took,
    "elapsed": elapsed,
    "a_month": a_month,
    "creation": creation,
    "policy": _policy,
    "capitalized": lambda text: text[:1].upper() + text[1:],
}
_templates.globals |= {
    "headline": headline,
    "given_up_said": given_up_said,
    "moves_between": moves_between,
    "sides": sides,
    "job_mark": _job_mark,
    "blank": searching.Wish(),
    "sorts": searching.SORTS,
    "states": searching.STATES,
    "letters": {str(state): letter for state, letter in views.CELL_LETTERS.items()},
    "chart_width": charts.WIDTH,
    "chart_height": charts.HEIGHT,
}


def text(template: str, **shown: Any) -> str:
    return _templates.get_template(template).render(**shown)


def page(template: str, session: Session | None, shown: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """Render a whole page for this session."""
    return HTMLResponse(text(template, session=session, **shown), status)


@dataclass(frozen=True, slots=True)
class Shown:
    """A look at a job as all its viewers get it, drawn once. The key of `parts` says whether the viewer may act."""

    parts: Mapping[bool, Mapping[str, str]]
    cells: Sequence[str]


def draw(look: views.JobView) -> Shown:
    """Draw every part of a job's page twice: for viewers who may act, and for those who may not."""
    parts = {
        may_act: {name: text(f"part_{name}.html", look=look, may_act=may_act) for name in PARTS}
        for may_act in (True, False)
    }
    return Shown(parts, look.cell_classes)


# Compile now, so that the first page is as quick as the next.
for _name in _templates.list_templates():
    _templates.get_template(_name)
