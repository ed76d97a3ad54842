"""Routes of the fleet's HTTP API that change nothing: jobs, plans, reports, erasures, fillings.

A dry run reads the sources as an `apply` does, for read units of the account: it is for who may apply.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from migrations.estimating import Prices
from orchestrator.bootstrap import Fleet
from orchestrator.core.progress import progress
from orchestrator.core.reading import summary
from orchestrator.core.waiting import rests
from orchestrator.ledger import audit, deletions, erasures, index_acts, jobs, parked, status
from orchestrator.services import apply as applying
from orchestrator.services import report as reports
from orchestrator.web import plans
from orchestrator.web.applications import Number
from orchestrator.web.sampling import Sampler
from vecfleet.fleet.models import Erasure, Jobs, JobSummary, Plans, PlanSummary, State, Status
from vecfleet.tenancy.api.users import user_of
from vecfleet.tenancy.tokens import TokenFile

READ = "read"
_ACTS_SHOWN = 500
Limit = Annotated[int, Query(ge=0, le=1_000)]


def add(router: APIRouter, parts: Fleet, sampler: Sampler, tokens: TokenFile) -> None:
    _jobs(router, parts, sampler, tokens)
    _plans(router, parts)

    @router.get("/erasures/{number}")
    def read_erasure(number: Number) -> Erasure:
        """Return an erasure's certificate, once everything of the tenant is gone."""
        with parts.database.begin() as connection:
            return Erasure(erasure=number, certificate=erasures.certificate_of(connection, number))

    @router.get("/fillings")
    def list_fillings() -> dict[str, Any]:
        """List what the service fills before a job begins there, given up or not; asks the service nothing."""
        with parts.database.begin() as connection:
            return {"fillings": [filling.to_json() for filling in index_acts.fillings(connection)]}


def _names_ids(tokens: TokenFile) -> Callable[[Request], Coroutine[Any, Any, bool]]:
    async def told(request: Request) -> bool:
        return user_of(request, tokens).get("role") != READ

    return told


def _jobs(router: APIRouter, parts: Fleet, sampler: Sampler, tokens: TokenFile) -> None:
    database = parts.database
    NamesIds = Annotated[bool, Depends(_names_ids(tokens))]

    @router.get("/jobs")
    def list_jobs(
        state: Annotated[Sequence[State], Query()] = (), limit: Annotated[int | None, Query(ge=1, le=1_000)] = None
    ) -> Jobs:
        """List the jobs, or those in one of these states, the newest first."""
        with database.begin() as connection:
            return Jobs(jobs=[JobSummary(**summary(*row)) for row in status.every(connection, state, limit)])

    @router.get("/jobs/{job}")
    def read_status(job: Number, namespaces: Limit = 50) -> Status:
        """Say how far a job is, why it waits, and what to do next."""
        with database.begin() as connection:
            reading = status.reading(connection, job, namespaces=namespaces)
        seen = progress(
            reading,
            broker_answers=sampler.broker_answers,
            freshness_wait_s=parts.settings.freshness_wait_seconds,
        )
        return Status(**seen.to_json(), rests=rests(reading))

    @router.get("/jobs/{job}/parked")
    def list_parked(job: Number, names_ids: NamesIds, limit: Limit = 100) -> dict[str, Any]:
        """List what is set aside until somebody decides: by reason, record by record, batch by batch.

        A token of the role `read` gets no records, for it sees no ids.
        """
        with database.begin() as connection:
            jobs.get(connection, job)
            return {
                "reasons": [group.to_json() for group in parked.groups(connection, job)],
                "records_in_all": parked.count(connection, job),
                "records": [record.to_json() for record in parked.records(connection, job, limit if names_ids else 0)],
                "batches": [batch.to_json() for batch in parked.batches(connection, job)],
            }

    @router.get("/jobs/{job}/report")
    def read_report(job: Number, names_ids: NamesIds) -> dict[str, Any]:
        """Sum a job up: moved and verified, before and after, cost against estimate, the way back.

        A token of the role `read` is told how many records differ or are parked, and not their ids.
        """
        prices = Prices.of(parts.settings)
        return reports.to_json(reports.build(database, parts.store_named, prices, job, names_ids=names_ids))

    @router.get("/jobs/{job}/evidence")
    def list_evidence(job: Number) -> dict[str, Any]:
        """Say on which looks the deletion of each source rests."""
        with database.begin() as connection:
            jobs.get(connection, job)
            return {"sources": [source.to_json() for source in deletions.of_job(connection, job)]}

    @router.get("/jobs/{job}/acts")
    def list_acts(job: Number) -> dict[str, Any]:
        """List the last acts on a job, the newest first."""
        with database.begin() as connection:
            jobs.get(connection, job)
            acts = audit.of_job(connection, job, _ACTS_SHOWN)
        return {"acts": [{"at": act.at, "who": act.who, "did": act.action, "facts": act.payload} for act in acts]}


def _plans(router: APIRouter, parts: Fleet) -> None:
    @router.get("/plans")
    def list_plans() -> Plans:
        """List the plan files of the fleet, the newest first."""
        return Plans(plans=[_summary(view) for view in plans.every(parts)])

    @router.get("/plans/{name}")
    def read_plan(name: str) -> dict[str, Any]:
        """Return a plan: every move, the policies, the warnings, the estimate, and its digest."""
        return plans.usable(parts, name).model_dump(mode="json")


def add_spending(router: APIRouter, parts: Fleet) -> None:
    """Add the look that reads whole namespaces."""

    @router.get("/plans/{name}/dry-run")
    def try_plan(name: str) -> dict[str, Any]:
        """Check a plan against the world as it is now; 409 with every objection where it does not fit."""
        checked = applying.check(parts, plans.usable(parts, name))
        moves = [move.model_dump(mode="json") for move in checked.moves]
        return {"moves": moves, "estimate": checked.plan.estimate.model_dump(mode="json")}


def _summary(view: plans.PlanView) -> PlanSummary:
    plan = view.plan
    return PlanSummary(
        name=view.name,
        digest=plan.digest if plan else None,
        recipe=plan.recipe if plan else None,
        source_index=plan.source.typed if plan else None,
        target_index=plan.target.typed if plan else None,
        namespaces=len(plan.moves) if plan else None,
        records=plan.records if plan else None,
        made_at=view.made_at,
        trouble=view.trouble,
    )
