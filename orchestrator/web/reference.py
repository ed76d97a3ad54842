"""The calls of the API, for the page that describes them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of the API, as its description has it."""

    method: str
    path: str
    summary: str
    parameters: tuple[tuple[str, str], ...]  # name, and where it is given
    answers: tuple[tuple[str, str], ...]  # status, and what it means


def endpoints(description: Mapping[str, Any]) -> list[Endpoint]:
    """Every call that an OpenAPI description holds, in its order."""
    found: list[Endpoint] = []
    for path, calls in description["paths"].items():
        for method, call in calls.items():
            given = tuple((one["name"], f"in the {one['in']}") for one in call.get("parameters", ()))
            body = (("body", "as JSON"),) if "requestBody" in call else ()
            answers = tuple((status, answer["description"]) for status, answer in call["responses"].items())
            summary = call.get("description") or call.get("summary", "")
            found.append(Endpoint(method.upper(), path, summary, given + body, answers))
    return found
