"""The plan files under `plans/`, and the start of a job from one that a person has read."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from migrations.plan import Plan, read_plan
from orchestrator.bootstrap import Fleet
from orchestrator.core.wording import in_namespaces
from orchestrator.services import apply as applying
from orchestrator.web.acting import Form
from vecfleet.errors import BadPlan, NotFound, Refused

_SHOWN = 100  # files, the newest first
_MOVES_SHOWN = 200
_DECIDED = frozenset(
    {"writers", "conflicts", "verify", "cut_over", "dwell_seconds", "soak_seconds", "clean_up", "exclusive"}
)


@dataclass(frozen=True, slots=True)
class PlanView:
    """One plan file. `trouble` says why it is no plan."""

    name: str
    plan: Plan | None
    trouble: str | None

    @property
    def content(self) -> str:
        return in_namespaces(self.plan.records, len(self.plan.moves)) if self.plan else ""

    @property
    def made_at(self) -> datetime | None:
        return self.plan.made_at if self.plan else None

    @property
    def policies(self) -> list[tuple[str, Any]]:
        """Return the policies that a person decides on, and each other one that is not at its default."""
        if self.plan is None:
            return []
        unusual = self.plan.policies.model_dump(mode="json", exclude_defaults=True)
        every = self.plan.policies.model_dump(mode="json")
        return [(name, _filled(value)) for name, value in every.items() if name in _DECIDED or name in unusual]

    @property
    def more_moves(self) -> int:
        return max(0, len(self.plan.moves) - _MOVES_SHOWN) if self.plan else 0

    @property
    def moves_shown(self) -> list[tuple[str, str, int]]:
        moves = self.plan.moves[:_MOVES_SHOWN] if self.plan else ()
        return [(move.source, move.to or "several namespaces", move.records) for move in moves]


def _filled(value: Any) -> Any:
    """Return the value of a policy, of a map only what is set in it."""
    return {key: each for key, each in value.items() if each} if isinstance(value, dict) else value


def every(parts: Fleet) -> list[PlanView]:
    """Return the plan files, the newest first."""
    files = sorted(_files(parts), key=lambda path: path.stat().st_mtime, reverse=True)
    return [_view(path) for path in files[:_SHOWN]]


def find(parts: Fleet, name: str) -> PlanView:
    """Return the plan file of this name. Raises NotFound for any name that is not in the folder itself."""
    for path in _files(parts):
        if path.name == name:
            return _view(path)
    raise NotFound(f"there is no plan file {name!r} in plans/", next_step="see /plans")


def _files(parts: Fleet) -> Iterator[Path]:
    return (parts.settings.vecfleet_root / "plans").glob("*.yaml")


def _view(path: Path) -> PlanView:
    try:
        return PlanView(path.name, read_plan(path), None)
    except BadPlan as error:
        return PlanView(path.name, None, error.message)


def usable(parts: Fleet, name: str) -> Plan:
    """Return the plan in the file of this name. Raises NotFound, and Refused for a file that is no plan."""
    plan = find(parts, name).plan
    if plan is None:
        raise Refused(f"{name} is not a usable plan", code="plan-unusable", next_step=f"see /plans/{name}")
    return plan


def reviewed(parts: Fleet, name: str, digest: str) -> Plan:
    """Return the plan in the file of this name if it is the one that was read. Raises NotFound, Refused."""
    plan = usable(parts, name)
    if digest != plan.digest:
        raise Refused(
            "the plan file has changed since you read it",
            code="plan-changed",
            next_step=f"read it again: /plans/{name}",
        )
    return plan


def start(parts: Fleet, name: str, who: str, form: Form) -> int:
    """Start a job from the plan that the person has read; return its number. Raises Refused with every objection."""
    plan = reviewed(parts, name, form.one("digest"))
    if form.one("typed").strip() != plan.source.typed:
        raise Refused(
            f"nothing was started: what was typed is not {plan.source.typed}",
            code="other-name-typed",
            next_step="go back, and type the index's name",
        )
    return applying.apply(parts, plan, who=who, no_backup=bool(form.one("no_backup")))
