"""Pages at which a table breaks first, drawn as the service draws them: long names, long reasons, every kind of job."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from job_table import ELSEWHERE, plan_of, planned

from orchestrator.core.model import Move
from orchestrator.core.progress import progress
from orchestrator.core.reading import ClientGroup, JobRow, ParkedGroup, Reading, Totals
from orchestrator.core.states import BatchKind, JobState, MoveState
from orchestrator.ledger.audit import Act
from orchestrator.ledger.dashboards import Cell, Throughput
from orchestrator.ledger.parked import Parked, ParkedBatch
from orchestrator.web import pages
from orchestrator.web.acting import Confirmation
from orchestrator.web.fleet_health import FleetHealth, WorkerHealth
from orchestrator.web.offering import actions
from orchestrator.web.plans import PlanView
from orchestrator.web.sampling import Sample
from orchestrator.web.searching import Wish
from orchestrator.web.sessions import Session
from orchestrator.web.views import JobView
from tests.core.readings import NOW, STARTED, job

WHO = "giovanna.della-valle@a-company-with-a-long-name.example"
LONG = "customer-eeeed554-9180-4229-a9af-0f8dd2c69e9b-production-eu-central"
UNBROKEN = "tenant" + 15 * "0123456789"  # there is no place where its line would end
NAMES = ("short", LONG, UNBROKEN)
REASON = (
    "the service refused the batch: the target is locked by another operation of this project since this morning; "
    f"first seen at {UNBROKEN}; ask its owner to unlock it, then `vecfleet retry 7 failed`"
)
SESSION = Session(WHO, True, "a proof")


def every() -> Iterator[tuple[str, str]]:
    """Yield each page: its name, its HTML."""
    for name, template, shown in _pages():
        yield name, pages.text(template, session=SESSION, **shown)


def _pages() -> Iterator[tuple[str, str, dict[str, Any]]]:
    looks = {state: _look(state) for state in JobState}
    rows = [(look.progress.reading.job, look.progress.reading.totals) for look in looks.values()]
    yield "jobs", "jobs.html", {"jobs": rows, "wish": Wish(), "fillings": ()}
    for state, look in looks.items():
        of_page = {"look": look, "may_act": True, "said": "1 batch was released to run again.", "tasks": "/flower"}
        yield f"job, {state}", "job.html", of_page
    look = looks[JobState.NEEDS_ATTENTION]
    of_it, moves = look.progress.reading.job, look.progress.reading.page
    yield "namespaces", "namespaces.html", {"job": of_it, "moves": moves, "more": 200, "state": "", "after": 0}
    yield "audit trail", "audit.html", {"job": of_it, "acts": look.acts, "shown": 500}
    batch = {"job_id": 7, "history": _history()}
    yield "batch", "batch.html", batch
    of_namespace = {"move": moves[2], "targets": (), "evidence": (), "batches": _history().rows}
    yield "namespace", "namespace.html", {"job_id": 7, **of_namespace}
    plan = plan_of(*(planned(name, f"creator_ana_twin_{name}", 1_000_000) for name in NAMES), target=ELSEWHERE)
    views = (PlanView(f"{LONG}.yaml", plan, None), PlanView("broken.yaml", None, REASON))
    yield "plans", "plans.html", {"plans": views}
    for view in views:
        policies = view.plan.policies.model_dump(mode="json") if view.plan else {}
        yield f"plan {view.name}", "plan.html", {"view": view, "policies": policies}
    told = [WorkerHealth(LONG, 4_711, f"vecfleet@{UNBROKEN}", 8, 12, NOW), WorkerHealth(LONG, 1, None, None, 3, NOW)]
    health = FleetHealth(tuple(told), True, 1_200)
    yield "workers", "workers.html", {"health": health, "most_queried": [(name, 1_000_000) for name in NAMES]}
    rows_of = tuple((name, "1,000,000", "the whole namespace, if nothing else is in it") for name in NAMES)
    will = f"This deletes from the index {LONG} what job 7 copied and verified. {REASON}"
    for objections in ((), (REASON, REASON)):
        question = Confirmation("cleanup", "Clean up", will, rows_of, 10, LONG, "Delete them", objections)
        yield f"question, {len(objections)} objections", "confirm.html", {"job": of_it, "question": question}
    refused = {"objections": (REASON,), "code": "x", "next_step": REASON, "job_id": 7, "status": 409}
    yield "refusal", "refused.html", refused


def _job(state: JobState) -> JobRow:
    ended = state in (JobState.CLEANED, JobState.FINISHED, JobState.CANCELLED, JobState.ROLLED_BACK)
    return job(
        state,
        id=7 + 100 * list(JobState).index(state),
        policies=plan_of(planned("s", "t"), writers="delta").policies,
        recipe="index",
        source="digital-twin-brain-of-production",
        target=f"pgvector:{LONG}",
        created_by=WHO,
        reason=REASON,
        ended_at=STARTED + timedelta(hours=5) if ended else None,
        cut_over_percent=100 if state in (JobState.CUT_OVER, JobState.CLEANING, JobState.CLEANED) else 0,
    )


def _moves(state: JobState) -> tuple[Move, ...]:
    bad = state is JobState.NEEDS_ATTENTION
    states = (MoveState.PARKED, MoveState.COPYING, MoveState.VERIFIED) if bad else 3 * (MoveState.CLEANED,)
    counts = {"planned": 1_000_000, "listed": 1_000_000, "written": 995_000, "identical": 0, "gone": 0, "erased": 0}
    parked = {"parked": 1_000 if bad else 0, "left_behind": 4_000 if bad else 0, "deleted": 0}
    none = dict.fromkeys(("creator", "twin", "last_id", "page_token", "clean_mode", "proof_lsn"))
    rest = {"job_id": 7, "prefix": "", "listed_all": True, "batches": 200, "open_batches": 0}
    return tuple(
        Move(
            id=n,
            seq=n,
            source=name,
            to=f"creator_ana_twin_{name}",
            state=standing,
            reason=REASON if bad else None,
            **counts,
            **parked,
            **none,
            **rest,
        )
        for n, (name, standing) in enumerate(zip(NAMES, states, strict=True), 1)
    )


def _look(state: JobState) -> JobView:
    bad = state is JobState.NEEDS_ATTENTION
    moves = _moves(state)
    summed = {name: sum(getattr(move, name) for move in moves) for name in _COUNTS}
    totals = Totals(namespaces={move.state: 1 for move in moves}, expected=3_000_000, **summed)
    groups = [
        ParkedGroup("copy", REASON, 2, 2, 200, 1, UNBROKEN),
        ParkedGroup("record", REASON, 900, 500, 900, 3, None),
    ]
    clients = [ClientGroup(f"token of {WHO}", UNBROKEN, 1_200, freezes, NOW) for freezes in (True, False)]
    seen = Reading(
        now=NOW, job=_job(state), totals=totals, targets={"verified": 3},
        undecided=500 if bad else 0, parked_batches=2 if bad else 0, left=0, leased=1, unanswered=0,
        unanswered_since=None, waiting=(), led=False, page=moves, reasons=groups if bad else (), more_reasons=4,
        clients=clients,
        confirmations=(f"vecfleet set 7 missing 4 --target {UNBROKEN}",) if bad else (),
    )  # fmt: skip
    offered = actions(seen, 400 if bad else 0)
    batch = ParkedBatch(42, BatchKind.COPY, UNBROKEN, 3, 100, "PermissionDeniedException", REASON, 5)
    records = [Parked(f"{name}#{n}", name, REASON, None if n % 2 else WHO, None) for n, name in enumerate(NAMES)]
    return JobView(
        progress=progress(seen),
        cells=tuple(Cell(move.state, move.done, move.listed, move.parked, 0) for move in moves),
        batches=(batch, replace(batch, id=43)) if bad else (),
        records=tuple(records) if bad else (),
        shadow=None,
        acts=tuple(_acts()),
        comments=(Act(NOW, WHO, "comment", {"text": REASON}, True),),
        throughput=Throughput(NOW, 60.0, (100.0, 5_000.0, 120_000.0), NOW + timedelta(minutes=3)),
        samples=(Sample(0.5, True), Sample(0.7, False), Sample(0.6, False)),
        actions=tuple(replace(one, against=(REASON,) if one.name in ("cleanup", "finish") else ()) for one in offered),
        against_retry=(),
        decided=400 if bad else 0,
    )


_COUNTS = ("planned", "listed", "written", "identical", "gone", "parked", "left_behind", "erased", "deleted")


def _acts() -> Iterator[Act]:
    """Yield an act with each kind of payload: lists and dictionaries, nothing, what was erased."""
    yield Act(NOW, WHO, "clean up", {"sources": [f"{LONG}-{n}" for n in range(30)], "by_ids": 0}, False)
    yield Act(NOW, WHO, "park accept", {"records": 4_000, "batches": [41, 42]}, True)
    yield Act(NOW, "fleet", "late write", {"batch": 42, "targets": []}, True)
    yield Act(NOW, WHO, "roll back", {"changed": None}, True)
    yield Act(NOW, "ana", "set", {"lever": "budget", "value": 3.0, "target": UNBROKEN}, True)
    yield Act(NOW, "ana", "comment", None, True)
    yield Act(NOW, "ana", "applied", {"plan": f"sha256:{64 * 'a'}", "moves": 3, "options": {"exclusive": True}}, True)


def _history() -> Any:
    batch = {"id": 42, "kind": "copy", "seq": 3, "size": 100, "attempts": 5, "busy_ms": 1_234_567, "error_text": REASON}
    costs = {"requests": 12, "read_units": 34.0, "write_units": 5_678.0, "egress_bytes": 9_999_999, "found": None}
    rest = {"error_class": "PermissionDeniedException", "first_leased_at": NOW, "done_at": None, "state": "parked"}
    row = SimpleNamespace(**batch, **costs, **rest)
    record = Parked(UNBROKEN, LONG, REASON, WHO, NOW)
    lines = [f"2026-02-11 18:30:00 [warning] batch parked job=7 batch=42 why={REASON}"]
    done = SimpleNamespace(**{**vars(row), "id": 99, "state": "done", "done_at": NOW, "error_text": None})
    of = {"rows": (row, done), "lines": lines, "parked": (record,), "against_retry": (REASON,), "retries": "failed"}
    return SimpleNamespace(batch=row, **of)
