"""The operator's page: people who sign in see every job live; those who may act steer it through `services`."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import yaml
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

from migrations.estimating import Prices
from orchestrator.bootstrap import Fleet
from orchestrator.core.progress import proof
from orchestrator.core.reading import JobRow, Totals, done_of
from orchestrator.core.states import MoveState
from orchestrator.ledger import audit, dashboards, deletions, jobs, moves
from orchestrator.ledger.index_acts import Filling
from orchestrator.services import report as reports
from orchestrator.services.left_behind import MuchLeftBehind
from orchestrator.web import batch_history, fleet_health, pages, plans
from orchestrator.web.acting import ACTS, CONFIRMED, act, ask, much_left_behind
from orchestrator.web.doors import FormOf, PageRoute, require_may_act, wants_html
from orchestrator.web.feed import STILL_HERE, Feed, Seen, event
from orchestrator.web.looking import Looker
from orchestrator.web.searching import Row, Wish
from orchestrator.web.sessions import SAID, MayNotAct, NotSignedIn, Session, Sessions, ours
from orchestrator.web.throttle import Failures
from vecfleet.errors import NotFound

_PER_PAGE = 200
_BATCHES_SHOWN = 100
_LARGEST = 2**63 - 1  # the job table counts in 8 bytes
_ACTS_SHOWN = 500
Number = Annotated[int, Path(ge=0, le=_LARGEST)]
Percent = Annotated[int, Query(ge=1, le=100)]
After = Annotated[int, Query(ge=0, le=_LARGEST)]
ALL_JOBS = 0  # the topic of the list; jobs are numbered from 1


@dataclass(frozen=True)
class Operators:
    """The parts that the operator's routes work with."""

    fleet: Fleet
    sessions: Sessions
    looker: Looker
    feed: Feed[pages.Shown]
    lists: Feed[tuple[list[Row], list[Filling]]]
    failures: Failures
    most_queried: Callable[[], list[tuple[str, int]]]


def router(operators: Operators) -> APIRouter:
    routes = APIRouter(include_in_schema=False, route_class=PageRoute)
    _signing(routes, operators)
    _looking(routes, operators)
    _following(routes, operators)
    _planned(routes, operators)
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


def _ours(path: str) -> str:
    # Browsers read `//there` and `/\there` as addresses of other sites.
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/"


def _signing(router: APIRouter, operators: Operators) -> None:
    sessions = operators.sessions

    @router.get("/login")
    def show_login(request: Request, then: str | None = None) -> Response:
        """Ask for a token, unless the person has a session and was led here from a page: then lead them back."""
        by_token = "authorization" in request.headers  # may be a guess, which is counted where it is asked with
        if then is not None and not by_token and sessions.of(request) is not None:
            return RedirectResponse(_ours(then), 303)
        return pages.page("login.html", None, {"then": then or "/", "trouble": None})

    @router.post("/login")
    def login(request: Request, form: FormOf) -> Response:
        if not ours(request):
            raise MayNotAct("this form does not come from this page", next_step="sign in at /login")
        there = _ours(form.one("then"))
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
        wish = Wish.of(request.query_params)
        rows = wish.grant(looker.jobs())
        if not wants_html(request):
            return JSONResponse({"jobs": [_job_json(job, totals) for job, totals in rows]})
        shown = {"jobs": rows, "wish": wish, "fillings": looker.fillings()}
        return _saying(request, sessions, pages.page("jobs.html", session, shown))

    @router.get("/workers")
    def workers(session: Signed) -> Response:
        shown = {"health": fleet_health.look(operators.fleet), "most_queried": operators.most_queried()}
        return pages.page("workers.html", session, shown)

    @router.get("/jobs/{job_id}")
    def job(request: Request, session: Signed, job_id: Number) -> Response:
        look = looker.look(job_id)
        if not wants_html(request):
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
            batches = dashboards.batches_of_move(connection, pair[0].id, _BATCHES_SHOWN) if pair is not None else []
        if pair is None:
            raise NotFound(f"job {job_id} has no namespace number {seq}", next_step=f"see /jobs/{job_id}/namespaces")
        move, targets = pair
        template = "part_namespace.html" if part else "namespace.html"
        shown = {"job_id": job_id, "move": move, "targets": targets, "evidence": evidence, "batches": batches}
        return pages.page(template, session, shown)

    @router.get("/jobs/{job_id}/batches/{batch_id}")
    def batch(session: Signed, job_id: Number, batch_id: Number) -> Response:
        history = batch_history.look(operators.fleet, job_id, batch_id)
        return pages.page("batch.html", session, {"job_id": job_id, "history": history})

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
                "proof": proof(summary.reading),
                "way_back": reports.way_back(summary),
                "sizes": reports.sizes(summary),
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
        "recipe": job.recipe,
        "source": job.source,
        "target": job.target,
        "records": totals.expected,
        "done": done_of(job, totals),
        "parked": totals.parked,
        "left_behind": totals.left_behind,
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
            seen, wish = Seen(), Wish.of(request.query_params)
            async with aclosing(operators.lists.follow(ALL_JOBS)) as looks:
                async for listed, trouble in looks:
                    if sessions.of(request) is None:
                        return
                    text = None
                    if listed is not None:
                        rows, fillings = listed
                        text = pages.text("part_jobs.html", jobs=wish.grant(rows), wish=wish, fillings=fillings)
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


def _planned(router: APIRouter, operators: Operators) -> None:
    Signed = Annotated[Session, Depends(_signed_in(operators))]
    fleet, sessions = operators.fleet, operators.sessions

    @router.get("/plans")
    def every(session: Signed) -> Response:
        return pages.page("plans.html", session, {"plans": plans.every(fleet)})

    @router.get("/plans/{name}")
    def plan(session: Signed, name: str) -> Response:
        view = plans.find(fleet, name)
        return pages.page("plan.html", session, {"view": view})

    @router.post("/plans/{name}")
    def start(request: Request, session: Signed, name: str, form: FormOf) -> Response:
        require_may_act(request, session, form)
        job_id = plans.start(fleet, name, session.who, form)
        response = RedirectResponse(f"/jobs/{job_id}", 303)
        sessions.say(response, f"Started from {name}.")
        return response


def _acting(router: APIRouter, operators: Operators) -> None:
    Signed = Annotated[Session, Depends(_signed_in(operators))]
    database, sessions = operators.fleet.database, operators.sessions

    @router.get("/jobs/{job_id}/{name}")
    def confirm(session: Signed, job_id: Number, name: str, percent: Percent = 100) -> Response:
        """Show what the act will do, with the form that does it; or why it may not be done."""
        if name not in CONFIRMED:
            raise NotFound("there is nothing at this address", next_step=f"see /jobs/{job_id}")
        with database.begin() as connection:
            job = jobs.get(connection, job_id)
            share = percent if name == "cutover" else None
            question = ask(connection, job, name, moves.of_job(connection, job_id), share)
        return pages.page("confirm.html", session, {"job": job, "question": question})

    @router.post("/jobs/{job_id}/{name}")
    def do(request: Request, session: Signed, job_id: Number, name: str, form: FormOf) -> Response:
        if name not in ACTS:
            raise NotFound("there is nothing at this address", next_step=f"see /jobs/{job_id}")
        require_may_act(request, session, form)
        try:
            message = act(operators.fleet, job_id, name, session.who, form)
        except MuchLeftBehind as many:
            with database.begin() as connection:
                job = jobs.get(connection, job_id)
            return pages.page("confirm.html", session, {"job": job, "question": much_left_behind(name, many, form)})
        response = RedirectResponse(f"/jobs/{job_id}", 303)
        sessions.say(response, message)
        return response
