"""Routes of the fleet's HTTP API that act. Each calls one function of `services`, once for each key of its sender."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel

from orchestrator.bootstrap import Fleet
from orchestrator.ledger import erasures
from orchestrator.ledger.database import Database
from orchestrator.ledger.request_keys import KeyedRequest
from orchestrator.services import acts, cut_over, fillings, forget, keyed_acts, left_behind
from orchestrator.services import apply as applying
from orchestrator.services.left_behind import MuchLeftBehind
from orchestrator.web import plans
from orchestrator.web.acting import require_typed
from orchestrator.web.applications import Number, called
from vecfleet import names
from vecfleet.errors import BadInput, Refused
from vecfleet.fleet import models
from vecfleet.fleet.models import KEY_HEADER, REPLAYED_HEADER, Act
from vecfleet.names import Tenant
from vecfleet.tenancy.api.problems import Refusal
from vecfleet.tenancy.api.users import user_of
from vecfleet.tenancy.guard import ADMIN
from vecfleet.tenancy.tokens import TokenFile

OPERATE, APPROVE = "operate", "approve"
# Levers that say how much a deletion may find missing, or that lost commits lost nothing.
_PERMITTING = ("missing", "doubt")
_KEY = Header(
    alias=KEY_HEADER,
    pattern=r"^[!-~]{1,200}$",
    description="chosen by the sender, a new one for each act, as a UUID. The same request under the same key is done "
    "once; it is answered again for seven days.",
)


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of a request to act, and its key. `response` is told whether its answer was given before.

    `approves`: the token is for what moves readers, leaves records behind or deletes.
    """

    who: str
    token: str
    approves: bool
    key: str
    asked: str
    response: Response

    def require_approval(self, because: str) -> None:
        """Refuse what leads to a deletion or to a move of readers to a token that only steers. Raises Refusal."""
        if not self.approves:
            raise Refusal(
                403,
                f"{because}: this is for tokens of the role `{APPROVE}`",
                next_step=f"vecfleet token create --role {APPROVE}",
            )

    def once(
        self,
        database: Database,
        act: Callable[[str], object],
        body: BaseModel | None = None,
        again: Callable[[], object] | None = None,
    ) -> Act:
        """Do the act in this sender's name, once for its key: see `services.keyed_acts`."""
        request = KeyedRequest.of(self.token, self.key, f"{self.asked}\0{body.model_dump_json() if body else ''}")
        answered = keyed_acts.once(database, request, lambda: act(self.who), again)
        if answered.replayed:
            self.response.headers[REPLAYED_HEADER] = "true"
        answer = answered.answer
        return Act(
            act=answer.act, job=answer.job_id, did=answer.action, who=answer.who, at=answer.at, facts=answer.facts
        )


def _sender_of(tokens: TokenFile) -> Callable[..., Coroutine[Any, Any, Sender]]:
    async def sender(request: Request, response: Response, key: Annotated[str, _KEY]) -> Sender:
        user = user_of(request, tokens)
        approves = user.get("role") in (APPROVE, ADMIN)
        return Sender(called(user), user["token"], approves, key, f"{request.method} {request.url.path}", response)

    return sender


def add_operating(router: APIRouter, parts: Fleet, tokens: TokenFile) -> None:
    """Add what steers a job and begins no deletion."""
    By = Annotated[Sender, Depends(_sender_of(tokens))]
    database = parts.database

    @router.post("/jobs", status_code=201)
    def apply(body: models.Start, by: By) -> Act:
        """Start a job from a plan file that was read. The fleet does the work."""

        def start(who: str) -> int:
            plan = plans.reviewed(parts, body.plan, body.digest)
            if "auto" in (plan.policies.cut_over, plan.policies.clean_up):
                by.require_approval("the plan moves readers or deletes its sources by itself")
            return applying.apply(parts, plan, who=who, no_backup=body.no_backup)

        return by.once(database, start, body)

    @router.post("/jobs/{job}/pause")
    def pause(job: Number, by: By) -> Act:
        """Start no new batch; those under way finish, then the job is paused."""
        return by.once(database, lambda who: acts.pause(database, job, who))

    @router.post("/jobs/{job}/resume")
    def resume(job: Number, by: By) -> Act:
        """Continue a paused job where it stopped."""
        return by.once(database, lambda who: acts.resume(database, job, who))

    @router.post("/jobs/{job}/retry")
    def retry(job: Number, body: models.Retry, by: By) -> Act:
        """Run parked batches again, copy parked records again, or both."""
        if body.batches and body.what != "failed":
            raise BadInput("`batches` names parked batches", next_step="send it with `what`: `failed`")
        return by.once(database, lambda who: acts.retry(database, job, who, body.what, body.batches), body)

    @router.post("/jobs/{job}/verify")
    def verify(job: Number, body: models.Verify, by: By) -> Act:
        """Check every target again: list it, read its records back and, if asked, compare queries with its sources."""
        return by.once(database, lambda who: acts.verify(database, job, who, body.level), body)

    @router.post("/jobs/{job}/pass")
    def another_pass(job: Number, by: By) -> Act:
        """Read every source once more, where the plan lets writers go on; then verify again."""
        return by.once(database, lambda who: acts.another_pass(database, job, who))

    @router.post("/jobs/{job}/set")
    def set_lever(job: Number, body: models.SetLever, by: By) -> Act:
        """Change how hard a job works while it runs. What may be missing before a deletion is for the role approve."""
        if body.lever in _PERMITTING:
            by.require_approval("it says which differences stop no deletion")
        return by.once(
            database, lambda who: acts.set_lever(database, job, who, body.lever, body.value, body.target), body
        )

    @router.post("/jobs/{job}/comment")
    def comment(job: Number, body: models.Comment, by: By) -> Act:
        """Say something about a job, in its audit trail."""
        return by.once(database, lambda who: acts.comment(database, job, who, body.text), body)

    @router.post("/jobs/{job}/reverse")
    def reverse(job: Number, by: By) -> Act:
        """Move all readers back to the old side."""
        return by.once(
            database,
            lambda who: cut_over.reverse(parts, job, who),
            again=lambda: cut_over.lead_aliases(parts, job),
        )

    @router.post("/jobs/{job}/take-back")
    def take_back(job: Number, body: models.TakeBack, by: By) -> Act:
        """Take back that records stay behind, until clean-up: they wait for a decision again."""
        chosen = None if body.records == "all" else body.records
        return by.once(database, lambda who: left_behind.undo(database, job, who, chosen), body)

    @router.post("/jobs/{job}/finish")
    def finish(job: Number, by: By) -> Act:
        """End a verified job and keep both sides. Nothing is deleted."""
        return by.once(database, lambda who: acts.finish(database, job, who))

    @router.post("/jobs/{job}/cancel")
    def cancel(job: Number, by: By) -> Act:
        """Give a job up. What was written stays until `rollback`."""
        return by.once(database, lambda who: acts.cancel(database, job, who))


def add_approving(router: APIRouter, parts: Fleet, tokens: TokenFile) -> None:
    """Add what moves readers, leaves records behind, or deletes."""
    By = Annotated[Sender, Depends(_sender_of(tokens))]
    database = parts.database

    @router.post("/jobs/{job}/cutover")
    def cut_over_readers(job: Number, body: models.CutOver, by: By) -> Act:
        """Move readers, and aliases they use, to the new side, so many per cent of the twins."""
        return by.once(
            database,
            lambda who: cut_over.cut_over(parts, job, who, body.percent),
            body,
            again=lambda: cut_over.lead_aliases(parts, job),
        )

    @router.post("/jobs/{job}/leave-behind")
    def leave_behind(job: Number, body: models.LeaveBehind, by: By) -> Act:
        """Let parked records, or those of whole parked batches, stay behind in their source."""
        return by.once(database, lambda who: _leave_behind(parts, job, who, body), body)

    @router.post("/jobs/{job}/cleanup")
    def clean_up(job: Number, body: models.CleanUp, by: By) -> Act:
        """Delete the sources; every record is read on both sides once more right before."""

        def begin(who: str) -> None:
            require_typed(parts, job, "cleanup", body.index)
            acts.clean_up(database, job, who, by_ids=body.by_ids)

        return by.once(database, begin, body)

    @router.post("/jobs/{job}/rollback")
    def roll_back(job: Number, body: models.RollBack, by: By) -> Act:
        """Remove what the job wrote, before clean-up; what changed since is never removed."""

        def begin(who: str) -> None:
            require_typed(parts, job, "rollback", body.index)
            cut_over.roll_back(parts, job, who, body.changed)

        return by.once(database, begin, body)

    @router.post("/fillings/give-up")
    def give_up(body: models.GiveUp, by: By) -> Act:
        """Give up a filling of which nobody can know whether it is over: certificates name its index from then on."""
        return by.once(database, lambda who: fillings.give_up(parts, body.index, who), body)


def _leave_behind(parts: Fleet, job: int, who: str, body: models.LeaveBehind) -> None:
    if (body.records is None) == (body.batches is None):
        raise BadInput("it is unclear which records are meant", next_step='send `records` or `batches`: ids, or "all"')
    if body.confirmed:
        require_typed(parts, job, "accept", body.index or "")
    try:
        if body.batches is not None:
            batch_ids = None if body.batches == "all" else body.batches
            left_behind.accept_batches(parts.database, job, who, batch_ids, body.confirmed)
        else:
            record_ids = None if body.records == "all" else body.records
            left_behind.accept_records(parts.database, job, who, record_ids, body.confirmed)
    except MuchLeftBehind as many:
        step = f"send it again with `confirmed`: {many.count} and `index`: {many.index!r}"
        raise Refused(many.message, code=many.code, next_step=step, objections=many.objections) from many


def add_forgetting(router: APIRouter, parts: Fleet, tokens: TokenFile) -> None:
    """Add the erasure of tenants, which takes a minute or more."""
    By = Annotated[Sender, Depends(_sender_of(tokens))]

    @router.post("/erasures")
    def erase(body: models.Erase, by: By) -> models.Erasure:
        """Erase a creator, or one twin, everywhere: indexes, exports, our own tables and logs; and certify it.

        It is answered when it is over. The same request under its key is answered with 409 until then.
        """
        names.build(body.creator, body.twin)
        left: list[str] = []

        def forget_tenant(who: str) -> None:
            places = forget.reach(parts, body.indexes)
            left.extend(forget.erase(parts, Tenant(body.creator, body.twin), who, places).left)

        number = int((by.once(parts.database, forget_tenant, body).facts or {})["erasure"])
        with parts.database.begin() as connection:
            certificate = erasures.certificate_of(connection, number)
        if certificate is None and not left:
            raise Refused(
                f"erasure {number} is under way, left something, or was interrupted",
                code="erasure-unfinished",
                next_step=f"GET /api/v1/erasures/{number} has its certificate once it is over; else erase again under "
                "a new key: what is gone already is no error",
            )
        return models.Erasure(erasure=number, certificate=certificate, left=left)
