"""Refusals as RFC 9457 problems: `application/problem+json`, with what to do next."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from vecfleet import logs
from vecfleet.errors import (
    BadInput,
    BadRequest,
    Conflict,
    Missing,
    NotFound,
    Refused,
    StoreError,
    Unreachable,
    VecfleetError,
    WrongDimension,
)
from vecfleet.tenancy.places import TenantIsolationError

log = logs.get_logger("vecfleet.tenancy")

MEDIA_TYPE = "application/problem+json"
_AWAY = "the vector database, or what leads to it, cannot answer now"
_TITLES = {
    400: "The request cannot be read",
    401: "Not signed in",
    403: "Access denied",
    404: "Not found",
    409: "Not possible now",
    413: "Too much at once",
    422: "The input cannot be used",
    429: "Too many requests",
    503: "Not available",
}
_CODES = {
    400: "unreadable-request",
    401: "not-signed-in",
    403: "access-denied",
    404: "not-found",
    409: "not-possible-now",
    413: "too-large",
    422: "bad-input",
    429: "too-often",
    503: "unavailable",
}
# The first match holds, so a class stands before its base classes.
_STATUS: Mapping[type[VecfleetError], int] = {
    TenantIsolationError: 403,
    NotFound: 404,
    BadInput: 422,
    BadRequest: 422,
    WrongDimension: 422,
    Refused: 409,
    Conflict: 409,
    Missing: 503,
    StoreError: 503,
    Unreachable: 503,
}


class Problem(BaseModel):
    """A refusal: what went wrong, and what to do next."""

    model_config = ConfigDict(json_schema_extra={"examples": [{
        "type": "about:blank",
        "title": "Access denied",
        "status": 403,
        "code": "tenant-isolation",
        "detail": "Access denied: creator 'somebody' belongs to another tenant",
        "next_step": "ask for a namespace of your own",
    }]})  # fmt: skip

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(
        default_factory=lambda given: _CODES.get(given["status"], "refused"),
        description="the kind of refusal, for programs: it stays when the sentence changes",
    )
    detail: str
    next_step: str | None = None
    objections: list[dict[str, str]] | None = Field(
        default=None, description="each reason of a guard that says no: its code, and its sentence"
    )
    left: list[str] | None = Field(default=None, description="after an erasure: what is still there, and why")
    errors: list[dict[str, Any]] | None = Field(default=None, description="which field cannot be used, and why")


class Refusal(Exception):
    """A request is refused with this status."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        next_step: str | None = None,
        left: list[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.headers = status, dict(headers or {})
        self.problem = Problem(title=_TITLES[status], status=status, detail=detail, next_step=next_step, left=left)
        super().__init__(detail)


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ProblemRoute(APIRoute):
    """A route whose refusals are problems, in whichever application it is mounted."""

    for_operators = False

    def get_route_handler(self) -> Handler:
        return problems(super().get_route_handler(), for_operators=self.for_operators)


def problems(handle: Handler, *, for_operators: bool = False) -> Handler:
    """Answer with a problem when this handler raises one of our errors, or one of FastAPI's.

    `for_operators`: say what is wrong with the vector database, too; it may name any index.
    """

    async def handled(request: Request) -> Response:
        try:
            return await handle(request)
        except Refusal as refusal:
            return problem(refusal.problem, refusal.headers)
        except HTTPException as error:  # FastAPI's own, such as for a body that is no text
            step = "correct it and ask again"
            title = _TITLES.get(error.status_code, "Refused")
            said = Problem(title=title, status=error.status_code, detail=str(error.detail), next_step=step)
            return problem(said, error.headers)
        except RequestValidationError as error:
            return problem(_invalid(error))
        except VecfleetError as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), None)
            if status is None:
                raise
            if status == 503 and not for_operators:
                # The cause, and the existing names, are for the operator of the service: they are in the log.
                log.warning("a request was not served", why=type(error).__name__, said=error.message)
                said = Problem(title=_TITLES[503], status=503, detail=_AWAY, next_step="ask again in a moment")
                return problem(said, {"Retry-After": "1"})
            # The advice of a store's error is for the operator of the index, not for the asker.
            told = None if isinstance(error, StoreError) and not for_operators else error.next_step
            step = told or "correct it and ask again"
            said = Problem(
                title=_TITLES[status],
                status=status,
                code=error.code,
                detail=error.message,
                next_step=step,
                objections=error.to_json().get("objections") or None,
            )
            return problem(said, {"Retry-After": "1"} if status == 503 else None)

    return handled


def problem(said: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = said.model_dump(exclude_none=True)
    return JSONResponse(body, said.status, dict(headers or {}), media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of an endpoint, for its description."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": _TITLES[status], "model": Problem, "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }


def _invalid(error: RequestValidationError) -> Problem:
    complaints = error.errors()
    unreadable = any(item["type"] == "json_invalid" for item in complaints)
    status = 400 if unreadable else 422
    fields = [{"field": ".".join(map(str, item["loc"])), "why": item["msg"]} for item in complaints]
    said = "; ".join(f"{field['field']}: {field['why']}" for field in fields)
    return Problem(
        title=_TITLES[status], status=status, detail=said, next_step="correct it and ask again", errors=fields
    )
