"""The calls of the API, for the page that describes them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of the API, from its OpenAPI description."""

    method: str
    path: str
    summary: str
    parameters: tuple[tuple[str, str], ...]  # name, and its place in the request
    answers: tuple[tuple[str, str], ...]  # status, and what it means


def endpoints(description: Mapping[str, Any]) -> list[Endpoint]:
    """List every call of an OpenAPI description, in its order."""
    result: list[Endpoint] = []
    for path, calls in description["paths"].items():
        for method, call in calls.items():
            parameters = tuple(
                (parameter["name"], f"in the {parameter['in']}") for parameter in call.get("parameters", ())
            )
            body = (("body", "as JSON"),) if "requestBody" in call else ()
            answers = tuple((status, answer["description"]) for status, answer in call["responses"].items())
            summary = call.get("description") or call.get("summary", "")
            result.append(Endpoint(method.upper(), path, summary, parameters + body, answers))
    return result
