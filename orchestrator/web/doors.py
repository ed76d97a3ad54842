"""Doors of the operator's page: routes whose refusals are pages, forms read within limits, and who may act."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from orchestrator.web import pages
from orchestrator.web.acting import Form
from orchestrator.web.sessions import MayNotAct, NotSignedIn, Session, from_elsewhere, ours, proven
from orchestrator.web.throttle import TooOften
from vecfleet.errors import BadInput, NotFound, Refused, VecfleetError
from vecfleet.tenancy.api.bodies import bounded
from vecfleet.tenancy.api.problems import Problem, Refusal, problem

_LARGEST_FORM = 64 * 1024  # a few thousand record ids; ours hold one
_MOST_FIELDS = 100


class TooLarge(BadInput):
    """A form is larger than any of ours."""


class PageRoute(APIRoute):
    """A route whose refusals are pages that say what happened and what to do, and whose answers are guarded."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handle(request)
            except NotSignedIn:
                response = _sign_in_first(request)
            except VecfleetError as error:
                response = _refused(request, error)
                if isinstance(error, TooOften):
                    response.headers["Retry-After"] = str(error.wait_s)
            except RequestValidationError:  # the address has a word in the place of a number
                return nothing_here(request)
            return _guarded(response)

        return handled


def _guarded(response: Response) -> Response:
    for name, value in pages.HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def nothing_here(request: Request) -> Response:
    """Answer a browser with a page, a program in JSON."""
    nothing = NotFound("there is nothing at this address", next_step="the page / lists the jobs, /docs the API")
    return _guarded(_refused(request, nothing))


def wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _sign_in_first(request: Request) -> Response:
    """Lead a person to the login, and from there back. For a click on another site that takes a page of ours.

    Browsers send our cookies with no request that another site began, nor with what it is redirected to. They send
    them from a page of ours: then the login sees the session that there may be, and asks for nothing.
    """
    if wants_html(request):
        then = "?" + urlencode({"then": request.url.path})
        if request.method == "GET" and from_elsewhere(request):
            return pages.page("on_the_way.html", None, {"there": f"/login{then}"})
        return RedirectResponse("/login" if request.url.path == "/" else f"/login{then}", 303)
    if "authorization" in request.headers:
        detail = "the token that was sent is not known here, or it is one for the API"
        step = "make one that is: vecfleet token create --role operator, or --role viewer to look only"
        return problem(Problem(title="Unknown token", status=401, code="unknown-token", detail=detail, next_step=step))
    step = "sign in at /login, or send `Authorization: Bearer …` of `vecfleet token create --role operator`"
    return problem(
        Problem(title="Not signed in", status=401, detail="this needs an operator's session", next_step=step)
    )


def _status(error: VecfleetError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, MayNotAct):
        return 403
    if isinstance(error, TooOften):
        return 429
    if isinstance(error, TooLarge):
        return 413
    return 409 if isinstance(error, Refused) else 422 if isinstance(error, BadInput) else 503


def _refused(request: Request, error: VecfleetError) -> Response:
    job_id = request.path_params.get("job_id", "")
    objections = error.objections if isinstance(error, Refused) and error.objections else (error.message,)
    if not wants_html(request):
        status, step = _status(error), error.next_step
        return problem(Problem(title="Refused", status=status, code=error.code, detail=error.message, next_step=step))
    shown = {
        "objections": objections,
        "code": error.code,
        "next_step": error.next_step,
        "job_id": job_id if str(job_id).isdigit() else None,
        "status": _status(error),
    }
    return pages.page("refused.html", None, shown, status=_status(error))


async def form_of(request: Request) -> Form:
    try:
        body = await (await bounded(request, _LARGEST_FORM)).body()
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except (Refusal, ValueError) as error:
        raise TooLarge("this form is larger than any of ours", next_step="use the command line for it") from error
    if any("\0" in value for values in fields.values() for value in values):
        raise BadInput("this form holds what is no text", next_step="load the page again, and try once more")
    return Form(fields)


FormOf = Annotated[Form, Depends(form_of)]


def require_may_act(request: Request, session: Session, form: Form) -> None:
    """Raise MayNotAct unless this form is of this session, and its person may act."""
    if not session.may_act:
        raise MayNotAct(
            f"{session.who} may look at jobs, and not change them: nothing was changed",
            next_step="sign in with the token of an operator: `vecfleet token create --role operator`",
        )
    if not session.proof:
        raise MayNotAct(
            "a bearer token looks; only the buttons of the page act: nothing was changed",
            next_step="sign in at /login, or type the command: `vecfleet --help`",
        )
    if not ours(request) or not proven(session, form.one("proof")):
        raise MayNotAct("this form is not of this session", next_step="load the page again, and try once more")
