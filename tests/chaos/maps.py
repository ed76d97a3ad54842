"""Metadata maps that lives ask for, and what each makes of a record. No code of vecfleet."""

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

MARK = "_vecfleet_map"
MAPS: tuple[dict[str, Any], ...] = (
    {"set": {"env": "prod", "seen": "mapped", "tags": ["m"]}},
    {"drop": ("share", "tags")},
    {"rename": {"text": "body", "page": "leaf"}},
    {"rename": {"page": "share", "share": "page"}},
    {"rename": {"page": "share"}},  # which most records hold: the plan says what happens
    {"copy": {"page": "leaf"}, "template": {"label": "{page}: {text}"}, "drop": ("page",), "set": {"seen": 7}},
)


def ask_for_map(seed: int, policies: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ask for a map in some lives: not where an application writes to both sides, for that is refused."""
    chance = random.Random(f"map {seed}")
    if chance.random() < 0.5 or policies.get("writers") == "dual":
        return None
    asked = {"set": {}, "drop": (), "rename": {}, "copy": {}, "template": {}} | chance.choice(MAPS)
    lasting = chance.random() < 0.2 and policies.get("writers", "freeze") == "freeze"
    return asked | {"undo": "none" if lasting else "travels"}


def mapped(asked: Mapping[str, Any], held: Mapping[str, Any], conflicts: str) -> dict[str, Any] | None:
    """Return what the map makes of these metadata; None where the record is parked."""
    metadata = {key: _number(value) for key, value in held.items()}
    moves = {old: new for old, new in asked["rename"].items() if old in metadata}
    if conflicts == "keep":
        taken = {old for old, new in moves.items() if new in metadata and new not in moves}
        moves = {old: new for old, new in moves.items() if old not in taken}
    made = {new: metadata[old] for old, new in [*moves.items(), *asked["copy"].items()] if old in metadata}
    for key, template in asked["template"].items():
        if {"page", "text"} <= metadata.keys():
            made[key] = template.replace("{page}", str(int(metadata["page"]))).replace("{text}", metadata["text"])
    leaving = {*moves, *asked["drop"]}
    if conflicts == "fail" and any(
        key in metadata and key not in leaving and metadata[key] != value for key, value in made.items()
    ):
        return None
    made |= {key: _number(value) for key, value in asked["set"].items()}
    result = {key: value for key, value in metadata.items() if key not in leaving} | made
    if asked["undo"] == "none":
        return result
    return result | {MARK: _mark(asked, metadata, result)}


def _mark(asked: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return what taking it back needs besides the mapped record."""
    added = {*asked["set"], *asked["copy"].values(), *asked["template"]}
    back = {key: value for key, value in after.items() if key not in added}
    back |= {old: back.pop(new) for old, new in asked["rename"].items() if new in back}
    was = {key: value for key, value in before.items() if key not in back or back[key] != value}
    body = json.dumps({**asked, "drop": sorted(asked["drop"]), "undo": None}, sort_keys=True)
    mark: dict[str, Any] = {"map": hashlib.sha256(body.encode()).hexdigest()[:12]}
    if was:
        mark["was"] = was
    if gone := sorted(back.keys() - before.keys()):
        mark["gone"] = gone
    return json.dumps(mark, sort_keys=True, separators=(",", ":"))


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
