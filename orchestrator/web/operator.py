"""The operator's page: people who sign in see every job live; those who may act steer it through `services`."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

import yaml
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute

from migrations.estimating import Prices
from orchestrator.bootstrap import Fleet
from orchestrator.core.reading import JobRow, Totals
from orchestrator.core.states import MoveState
from orchestrator.ledger import audit, dashboards, deletions, jobs, moves
from orchestrator.services import report as reports
from orchestrator.web import pages
from orchestrator.web.acting import ACTS, CONFIRMED, Form, act, ask
from orchestrator.web.feed import STILL_HERE, Feed, Seen, event
from orchestrator.web.looking import Looker
from orchestrator.web.sessions import SAID, MayNotAct, NotSignedIn, Session, Sessions, ours, proven
from orchestrator.web.throttle import Failures, TooOften
from vecfleet.errors import BadInput, NotFound, Refused, VecfleetError
from vecfleet.tenancy.api.bodies import bounded
from vecfleet.tenancy.api.problems import Problem, Refusal, problem

_LARGEST_FORM = 64 * 1024  # a few thousand record ids; ours hold one
_MOST_FIELDS = 100
_PER_PAGE = 200
_LARGEST = 2**63 - 1  # the job table counts in 8 bytes
_ACTS_SHOWN = 500
Number = Annotated[int, Path(ge=0, le=_LARGEST)]
After = Annotated[int, Query(ge=0, le=_LARGEST)]
ALL_JOBS = 0  # the topic of the list; jobs are numbered from 1


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
                nothing = NotFound("there is nothing at this address", next_step="the page / lists the jobs")
                response = _refused(request, nothing)
            for name, value in pages.HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handled


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _sign_in_first(request: Request) -> Response:
    if _wants_html(request):
        there = "" if request.url.path == "/" else "?" + urlencode({"then": request.url.path})
        return RedirectResponse(f"/login{there}", 303)
    if "authorization" in request.headers:
        detail = "the token that was sent is not known here, or it is one for the API"
        step = "make one that is: vecfleet token create --role operator, or --role viewer to look only"
        return problem(Problem(title="Unknown token", status=401, detail=detail, next_step=step))
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
    if not _wants_html(request):
        body = Problem(title="Refused", status=_status(error), detail=error.message, next_step=error.next_step)
        return problem(body)
    shown = {
        "objections": objections,
        "next_step": error.next_step,
        "job_id": job_id if str(job_id).isdigit() else None,
        "status": _status(error),
    }
    return pages.page("refused.html", None, shown, status=_status(error))


@dataclass(frozen=True)
class Operators:
    """The parts that the operator's routes work with."""

    fleet: Fleet
    sessions: Sessions
    looker: Looker
    feed: Feed[pages.Shown]
    lists: Feed[str]
    failures: Failures


class TooLarge(BadInput):
    """A form is larger than any of ours."""


async def _form(request: Request) -> Form:
    try:
        body = await (await bounded(request, _LARGEST_FORM)).body()
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except (Refusal, ValueError) as error:
        raise TooLarge("this form is larger than any of ours", next_step="use the command line for it") from error
    if any("\0" in value for values in fields.values() for value in values):
        raise BadInput("this form holds what is no text", next_step="load the page again, and try once more")
    return Form(fields)


FormOf = Annotated[Form, Depends(_form)]


def router(operators: Operators) -> APIRouter:
    routes = APIRouter(include_in_schema=False, route_class=PageRoute)
    _signing(routes, operators)
    _looking(routes, operators)
    _following(routes, operators)
    _acting(routes, operators)
    return routes


def _signed_in(operators: Operators) -> Callable[[Request], Session]:
    def session(request: Request) -> Session:
        def look() -> Session | None:
            return operators.sessions.of(request)

        by_token = "authorization" in request.headers  # may be a guess, as at /login
        signed_in = operators.failures.attempt(_address(request), look) if by_token else look()
        if signed_in is None:
            raise NotSignedIn
        return signed_in

    return session


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "nowhere"


def _signing(router: APIRouter, operators: Operators) -> None:
    sessions = operators.sessions

    @router.get("/login")
    def show_login(then: str = "/") -> Response:
        return pages.page("login.html", None, {"then": then, "trouble": None})

    @router.post("/login")
    def login(request: Request, form: FormOf) -> Response:
        if not ours(request):
            raise MayNotAct("this form does not come from this page", next_step="sign in at /login")
        then = form.one("then")
        # Only a path of ours: browsers read `//elsewhere` and `/\elsewhere` as addresses of other sites.
        there = then if then.startswith("/") and then[1:2] not in ("/", "\\") else "/"
        response = RedirectResponse(there, 303)
        token = form.one("token").strip()
        if operators.failures.attempt(_address(request), lambda: sessions.sign_in(request, response, token) or None):
            return response
        trouble = "This token is not known here, or it is one for the API."
        return pages.page("login.html", None, {"then": there, "trouble": trouble}, status=401)

    @router.post("/logout")
    def logout(request: Request) -> Response:
        if not ours(request):
            raise MayNotAct("this form does not come from this page", next_step="sign out on the page")
        response = RedirectResponse("/login", 303)
        sessions.sign_out(request, response)
        return response


def _looking(router: APIRouter, operators: Operators) -> None:
    Signed = Annotated[Session, Depends(_signed_in(operators))]
    database, looker, sessions = operators.fleet.database, operators.looker, operators.sessions

    @router.get("/")
    def home(request: Request, session: Signed) -> Response:
        rows = looker.jobs()
        if not _wants_html(request):
            return JSONResponse({"jobs": [_job_json(job, totals) for job, totals in rows]})
        return _saying(request, sessions, pages.page("jobs.html", session, {"jobs": rows}))

    @router.get("/jobs/{job_id}")
    def job(request: Request, session: Signed, job_id: Number) -> Response:
        look = looker.look(job_id)
        if not _wants_html(request):
            return JSONResponse(look.progress.to_json())
        message = sessions.said(request)
        shown = {"look": look, "may_act": session.may_act, "said": message, "tasks": _tasks(operators.fleet, job_id)}
        return _saying(request, sessions, pages.page("job.html", session, shown))

    @router.get("/jobs/{job_id}/namespaces")
    def namespaces(session: Signed, job_id: Number, after: After = 0, state: str = "") -> Response:
        states = [MoveState(state)] if state in set(MoveState) else []
        with database.begin() as connection:
            row = jobs.get(connection, job_id)
            page = dashboards.namespaces(connection, job_id, after=after, limit=_PER_PAGE, states=states)
        more = page[-1].seq if len(page) == _PER_PAGE else None
        shown = {"job": row, "moves": page, "more": more, "state": state, "after": after}
        return pages.page("namespaces.html", session, shown)

    @router.get("/jobs/{job_id}/namespaces/{seq}")
    def namespace(session: Signed, job_id: Number, seq: Number, part: bool = False) -> Response:
        with database.begin() as connection:
            pair = dashboards.namespace(connection, job_id, seq)
            evidence = deletions.of_job(connection, job_id, pair[0].source) if pair is not None else []
        if pair is None:
            raise NotFound(f"job {job_id} has no namespace number {seq}", next_step=f"see /jobs/{job_id}/namespaces")
        move, targets = pair
        template = "part_namespace.html" if part else "namespace.html"
        return pages.page(template, session, {"job_id": job_id, "move": move, "targets": targets, "evidence": evidence})

    @router.get("/jobs/{job_id}/audit")
    def acts(session: Signed, job_id: Number) -> Response:
        with database.begin() as connection:
            row = jobs.get(connection, job_id)
            acts = audit.of_job(connection, job_id, _ACTS_SHOWN)
        return pages.page("audit.html", session, {"job": row, "acts": acts, "shown": _ACTS_SHOWN})

    @router.get("/jobs/{job_id}/report")
    def report(session: Signed, job_id: Number, format: str = "html") -> Response:
        fleet = operators.fleet
        summary = reports.build(fleet.database, fleet.store_named, Prices.of(fleet.settings), job_id)
        match format:
            case "json":
                return JSONResponse(reports.to_json(summary))
            case "yaml":
                body = yaml.safe_dump(reports.migration_log(summary), sort_keys=False, allow_unicode=True)
                return Response(body, media_type="application/yaml")
        return pages.page(
            "report.html",
            session,
            {
                "report": summary,
                "steps": reports.steps_after(summary),
                "way_back": reports.way_back(summary),
                "after": reports.namespaces_after(summary),
            },
        )


def _saying(request: Request, sessions: Sessions, response: Response) -> Response:
    """Delete the cookie of the last action's message: it is shown once."""
    if SAID in request.cookies:
        response.delete_cookie(SAID)
    return response


def _job_json(job: JobRow, totals: Totals) -> Mapping[str, Any]:
    return {
        "job": job.id,
        "state": job.state,
        "reason": job.reason,
        "source": job.source,
        "target": job.target,
        "records": totals.expected,
        "settled": totals.settled,
        "cut_over_percent": job.cut_over_percent,
    }


def _tasks(fleet: Fleet, job_id: int) -> str | None:
    """Return the address where Flower shows this job's tasks. The text after the name narrows the search."""
    at = fleet.settings.flower_url
    return f"{at.rstrip('/')}/tasks?name={quote(f'vecfleet. kwargs:job={job_id}')}" if at else None


def _following(router: APIRouter, operators: Operators) -> None:
    Signed = Annotated[Session, Depends(_signed_in(operators))]
    sessions = operators.sessions

    @router.get("/events")
    async def follow_jobs(request: Request, session: Signed) -> Response:
        async def events() -> AsyncIterator[bytes]:
            seen = Seen()
            async with aclosing(operators.lists.follow(ALL_JOBS)) as looks:
                async for text, trouble in looks:
                    if sessions.of(request) is None:
                        return
                    yield _told({} if text is None else seen.news({"jobs": text}, ()), trouble)

        return StreamingResponse(events(), media_type="text/event-stream")

    @router.get("/jobs/{job_id}/events")
    async def follow(request: Request, session: Signed, job_id: Number) -> Response:
        async def events() -> AsyncIterator[bytes]:
            seen = Seen()
            async with aclosing(operators.feed.follow(job_id)) as looks:
                async for shown, trouble in looks:
                    # A revoked token ends its streams.
                    if sessions.of(request) is None:
                        return
                    news = {} if shown is None else seen.news(shown.parts[session.may_act], shown.cells)
                    yield _told(news, trouble)

        return StreamingResponse(events(), media_type="text/event-stream")


def _told(news: dict[str, Any], trouble: str | None) -> bytes:
    if trouble is not None:
        return event({"trouble": trouble})
    return event(news) if news else STILL_HERE


def _acting(router: APIRouter, operators: Operators) -> None:
    Signed = Annotated[Session, Depends(_signed_in(operators))]
    database, sessions = operators.fleet.database, operators.sessions

    @router.get("/jobs/{job_id}/{name}")
    def confirm(session: Signed, job_id: Number, name: str) -> Response:
        """Show what the act will do, with the form that does it; or why it may not be done."""
        if name not in CONFIRMED:
            raise NotFound("there is nothing at this address", next_step=f"see /jobs/{job_id}")
        with database.begin() as connection:
            job = jobs.get(connection, job_id)
            question = ask(connection, job, name, moves.of_job(connection, job_id))
        return pages.page("confirm.html", session, {"job": job, "question": question})

    @router.post("/jobs/{job_id}/{name}")
    def do(request: Request, session: Signed, job_id: Number, name: str, form: FormOf) -> Response:
        if name not in ACTS:
            raise NotFound("there is nothing at this address", next_step=f"see /jobs/{job_id}")
        if not session.may_act:
            raise MayNotAct(
                f"{session.who} may look at jobs, and not change them: nothing was changed",
                next_step="sign in with the token of an operator: vecfleet token create --role operator",
            )
        if not session.proof:
            raise MayNotAct(
                "a bearer token looks; only the buttons of the page act: nothing was changed",
                next_step="sign in at /login, or type the command: vecfleet --help",
            )
        if not ours(request) or not proven(session, form.one("proof")):
            raise MayNotAct("this form is not of this session", next_step="load the page again, and try once more")
        message = act(operators.fleet, job_id, name, session.who, form)
        response = RedirectResponse(f"/jobs/{job_id}", 303)
        sessions.say(response, message)
        return response
