"""The operator's page: the jobs, one a row."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from orchestrator.model import Job

_HEAD = "<!doctype html><html lang=en><meta charset=utf-8><title>vecfleet</title>"


def row(job: Job) -> dict[str, Any]:
    """A job in the words of `vecfleet jobs`."""
    return {
        "job": job.id,
        "state": str(job.state),
        "source": job.source.name,
        "target": job.target.name,
        "records": job.plan.records,
        "cut_over_percent": job.cut_over_percent,
        "reason": job.reason,
    }


def html(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return f"{_HEAD}<h1>Jobs</h1><p>There are none yet. Make a plan: <code>vecfleet plan creators</code></p>"
    head = "".join(f"<th>{escape(name)}" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape('' if cell is None else str(cell))}" for cell in one.values()) for one in rows
    )
    return f"{_HEAD}<h1>Jobs</h1><table><tr>{head}{body}</table>"
