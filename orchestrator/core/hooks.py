"""Hooks that may hold a job: their names, and the sentences about them. The operator's file says which there are."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from orchestrator.core.model import Job

POLICY = "policy"
"""Author of an act that the plan asks for. A policy asks a hook once; after a refusal only a person asks again."""
_WORDS = 300


class Hook(StrEnum):
    BEFORE_CUT_OVER = "before-cut-over"
    BEFORE_CLEAN_UP = "before-clean-up"


_ABOUT = re.compile(
    r"the hook (before-cut-over at (?P<percent>\d+) %|before-clean-up)|(a second person|two persons) for the clean-up"
)


_HELD = re.compile(r"(held by the hook|waits for (a second person|two persons) for the) .*", re.DOTALL)


def named(hook: Hook, percent: int | None) -> str:
    """Return the hook as sentences name it: `the hook before-cut-over at 25 %`."""
    return f"the hook {hook}" + (f" at {percent} %" if percent is not None else "")


def asked(hook: Hook, percent: int | None) -> str:
    return f"asks {named(hook, percent)}, and goes on only with its leave"


def held(hook: Hook, percent: int | None, words: str) -> str:
    return f"held by {named(hook, percent)}: {words}"


def verb(job_id: int, hook: Hook, percent: int | None) -> str:
    """Return the command by which a person asks the hook (again)."""
    if hook is Hook.BEFORE_CUT_OVER:
        return f"vecfleet cutover {job_id} --percent {percent}"
    return f"vecfleet cleanup {job_id}"


def way_on(job_id: int, reason: str | None) -> str | None:
    """Return the command that asks the hook again which a job's reason is about; None if it is about none."""
    about = _ABOUT.search(reason or "")
    if about is None:
        return None
    if about["percent"] is not None:
        return verb(job_id, Hook.BEFORE_CUT_OVER, int(about["percent"]))
    return verb(job_id, Hook.BEFORE_CLEAN_UP, None)


def holding(reason: str | None) -> str | None:
    """Return the part of a job's reason that says that it is held until a person acts; None if it is not held."""
    held = _HELD.search(reason or "")
    return held[0] if held is not None else None


def given(
    call_id: str,
    hook: Hook,
    percent: int | None,
    who: str,
    job: Job,
    counts: Mapping[str, int],
    namespaces: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what a hook is given: the job, its namespaces and counts; no key, no record and no id of one."""
    return {
        "id": call_id,
        "hook": hook,
        "asked_by": who,
        "percent": percent,
        "job": {"id": job.id, "state": job.state, "source": job.plan.source.typed, "target": job.plan.target.typed},
        "counts": counts,
        "namespaces": namespaces,
    }


def in_its_words(said: bytes) -> str:
    """Return what a hook said as one short line; empty if it said nothing that can be shown."""
    text = " ".join(said.decode(errors="replace").split())
    shown = "".join(letter for letter in text if letter.isprintable())
    return shown if len(shown) <= _WORDS else f"{shown[:_WORDS]}…"
