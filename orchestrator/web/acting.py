"""Acts that a person may do on the page. Each is one of the command line's, and its guard has the last word."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from orchestrator.bootstrap import Fleet
from orchestrator.core.following import of_readers
from orchestrator.core.guards import DWELLS_FROM_PERCENT
from orchestrator.core.model import Job, Move
from orchestrator.core.wording import (
    after_clean_up,
    counted,
    duration,
    given_up,
    leading,
    not_found_by_readers,
    to_be_dropped,
)
from orchestrator.ledger import clients, jobs
from orchestrator.ledger import moves as moving
from orchestrator.ledger.routes import JobRoute
from orchestrator.services import acts, cut_over, left_behind, refusals
from orchestrator.services.left_behind import MuchLeftBehind
from vecfleet.errors import BadInput, Refused

_LEVER = re.compile(r"([a-z]+) ([0-9]{1,12})(?: (.+))?", re.DOTALL)
_LARGEST, _DIGITS = 2**63 - 1, 19  # the job table counts in 8 bytes


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that was sent."""

    fields: Mapping[str, Sequence[str]]

    def one(self, name: str) -> str:
        """Return the first value of a field; empty where it is absent."""
        return next(iter(self.fields.get(name, ())), "")

    def number(self, name: str) -> int:
        """Return the number in a field. Raises BadInput."""
        value = self.one(name)
        if not value.isascii() or not value.isdigit() or len(value) > _DIGITS or int(value) > _LARGEST:
            raise BadInput(f"{name} is not a number", next_step="load the page again, and try once more")
        return int(value)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An act's effect, and the word to type before it; no word where a yes is enough.

    `objections` are the guard's; with any of them, the act cannot be done now, and `next_step` says what can.
    """

    name: str
    title: str
    will: str
    rows: tuple[tuple[str, str, str], ...]
    more: int
    type: str | None
    label: str
    objections: tuple[str, ...] = ()
    option: tuple[str, str, str] | None = None
    """A box to tick: its name, its value, what it means."""
    hidden: Mapping[str, str] = field(default_factory=dict)
    """Fields of the form that asked for this, sent again with the word typed."""
    next_step: str | None = None

    @property
    def deletes(self) -> bool:
        """Say whether the act deletes records."""
        return self.name in DELETING


_ROWS = 200


def ask(
    connection: sa.Connection, job: Job, name: str, moves: Sequence[Move], percent: int | None = None
) -> Confirmation:
    """Build the question before one of the CONFIRMED acts. `percent` is the share of readers that a cut-over is for."""
    question, refusal = _question(connection, job, name, moves, percent), _refusal(connection, job, name, percent)
    if refusal is None:
        return question
    return replace(question, objections=_objections(refusal), next_step=refusal.next_step)


def _question(
    connection: sa.Connection, job: Job, name: str, moves: Sequence[Move], percent: int | None
) -> Confirmation:
    written = sum(move.written for move in moves)
    match name:
        case "cutover" if percent is not None:
            follow = of_readers(clients.groups(connection), refusals.now(connection))
            return _before_readers_move(job, sum(move.left_behind for move in moves), percent, follow)
        case "cleanup":
            rows = [(move.source, f"{move.written:,}", _how(move)) for move in moves]
            return Confirmation(
                name,
                "Clean up: delete the old namespaces",
                f"This deletes from the index {job.plan.source.typed} what job {job.id} copied and verified, each "
                f"record read on both sides once more right before. Way back: {after_clean_up(job.way_back, job.id)}.",
                tuple(rows[:_ROWS]),
                len(rows) - len(rows[:_ROWS]),
                job.plan.source.typed,
                "Delete them",
                option=("by_ids", "yes", "Delete record by record, even if a whole namespace could go"),
            )
        case "finish":
            return Confirmation(
                name,
                "Finish: keep both sides",
                f"This ends job {job.id} for good. Nothing is deleted: what it wrote stays at its targets, its sources "
                "stay as they are, and other jobs may use all of them.",
                (),
                0,
                None,
                "Finish the job",
            )
        case "rollback":
            targets = moving.targets_of_job(connection, job.id)
            return Confirmation(
                name,
                "Roll back: remove what the job wrote",
                f"This deletes from the index {job.plan.target.typed} up to {counted(written, 'record', 'records')} "
                f"that job {job.id} wrote, "
                f"each only if nobody changed it since, and {to_be_dropped(targets)}",
                (),
                0,
                job.plan.target.typed,
                "Remove them",
                option=(
                    "changed",
                    "keep",
                    "Records that changed since they were written stay; without this, they stop it",
                ),
            )
        case _:
            return Confirmation(
                name,
                "Cancel: give the job up for good",
                given_up(job.id, written, deleting=refusals.cleaned_any(connection, job)),
                (),
                0,
                None,
                "Cancel the job",
            )


def _before_readers_move(job: Job, left: int, percent: int, follow: str) -> Confirmation:
    where = f"the new namespaces for about {percent} % of the routes, and the old ones for the others"
    dwell = job.plan.policies.dwell_seconds
    watched = dwell and DWELLS_FROM_PERCENT <= percent < 100
    unwatched = dwell and percent == 100 and not job.cut_over_percent
    sentences = [
        f"Clients that ask for the routes then get {'the new namespaces for all' if percent == 100 else where}.",
        f"{follow[0].upper()}{follow[1:]}.",
        *([f"These readers are watched for {duration(dwell)} before others may follow."] if watched else []),
        *(["They move at once, and none is watched first."] if unwatched else []),
        *([f"{not_found_by_readers(left)}."] if left else []),
        "Nothing is copied or deleted.",
        f"Way back, until a clean-up begins: `vecfleet reverse {job.id}`, or its button here.",
    ]
    return Confirmation(
        "cutover",
        f"Cut over: move {percent} % of the readers",
        " ".join(sentences),
        (),
        0,
        None,
        f"Move {percent} % of the readers",
        hidden={"percent": str(percent), "since": str(job.cut_over_percent)},
    )


def much_left_behind(name: str, many: MuchLeftBehind, form: Form) -> Confirmation:
    """Build the question before more than a few records are left behind."""
    return Confirmation(
        name,
        "Leave records behind",
        f"{'; '.join(many.objections)}. They remain in the index {many.index}, no target gets them, and readers that "
        "move do not find them. Until clean-up this can be taken back.",
        (),
        0,
        many.index,
        f"Leave {counted(many.count, 'record', 'records')} behind",
        hidden={
            "confirmed": str(many.count),
            **{field: form.one(field) for field in ("record", "batch") if form.one(field)},
        },
    )


def against(
    connection: sa.Connection, job: Job, name: str, percent: int | None = None, *, glance: bool = False
) -> tuple[str, ...]:
    """Return the objections of an act's guard right now, as the guard would tell them; empty where it may be done.

    `percent` is the share of readers that a cut-over is for. At a `glance` no namespace is read, so there may be more
    objections.
    """
    refusal = _refusal(connection, job, name, percent, glance=glance)
    return _objections(refusal) if refusal is not None else ()


def _objections(refusal: Refused) -> tuple[str, ...]:
    return refusal.objections or (refusal.message,)


def _refusal(
    connection: sa.Connection, job: Job, name: str, percent: int | None = None, *, glance: bool = False
) -> Refused | None:
    try:
        if glance and name in _AT_A_GLANCE:
            _AT_A_GLANCE[name](connection, job)
        elif percent is not None:
            refusals.cut_over(connection, job, percent)
        elif name in _GUARDS:
            _GUARDS[name](connection, job)
    except Refused as refusal:
        return refusal
    return None


_GUARDS: Mapping[str, Callable[[sa.Connection, Job], None]] = {
    "pause": refusals.pause,
    "resume": refusals.resume,
    "retry": refusals.retry,
    "undo": refusals.undo_left_behind,
    "verify": refusals.verify,
    "pass": refusals.another_pass,
    "reverse": refusals.reverse,
    "cleanup": refusals.clean_up,
    "rollback": refusals.roll_back,
    "finish": refusals.finish,
    "cancel": refusals.cancel,
}
_AT_A_GLANCE: Mapping[str, Callable[[sa.Connection, Job], None]] = {
    "cleanup": refusals.clean_up_by_state,
    "cutover": lambda connection, job: None,  # the page offers it only in the one state that permits it
}


def _how(move: Move) -> str:
    return "record by record" if move.keeps_some else "the whole namespace, if nothing else is in it"


def require_typed(parts: Fleet, job_id: int, name: str, typed: str) -> None:
    """Refuse unless what was typed is the name of the index from which this act may take records."""
    with parts.database.begin() as connection:
        job = jobs.get(connection, job_id)
    wanted = job.plan.target.typed if name == "rollback" else job.plan.source.typed
    if typed.strip() != wanted:
        raise Refused(
            f"nothing was changed: what was typed is not {wanted}",
            code="other-name-typed",
            next_step="go back, and type the index's name",
        )


def _pause(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    acts.pause(parts.database, job_id, who)
    return "Asked to pause: no new batch begins, and those under way finish."


def _resume(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    acts.resume(parts.database, job_id, who)
    return "Resumed."


def _retry(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    only = [form.number("batch")] if form.one("batch") else None
    choice = "failed" if only else form.one("what")
    if choice not in ("failed", "parked", "all"):
        raise BadInput(f"there is nothing called {choice!r} to retry", next_step="`failed`, `parked` or `all`")
    count = acts.retry(parts.database, job_id, who, choice, only)
    return f"{counted(count, 'batch was', 'batches were')} released to run again."


def _accept(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    record, confirmed = form.one("record"), _confirmed(parts, job_id, "accept", form)
    count = left_behind.accept_records(parts.database, job_id, who, [record] if record else None, confirmed)
    return _left_behind(count)


def _accept_batch(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    confirmed = _confirmed(parts, job_id, "accept-batch", form)
    return _left_behind(left_behind.accept_batches(parts.database, job_id, who, [form.number("batch")], confirmed))


def _confirmed(parts: Fleet, job_id: int, name: str, form: Form) -> int:
    """Return how many records the person confirmed by typing the name of their index. Raises Refused."""
    if not form.one("confirmed"):
        return 0
    require_typed(parts, job_id, name, form.one("typed"))
    return form.number("confirmed")


def _left_behind(count: int) -> str:
    return f"{counted(count, 'record stays', 'records stay')} behind; until clean-up you can take that back."


def _undo(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    record = form.one("record")
    count = left_behind.undo(parts.database, job_id, who, [record] if record else None)
    return f"{counted(count, 'record waits', 'records wait')} for a decision again."


def _comment(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    acts.comment(parts.database, job_id, who, form.one("text"))
    return "Your comment is in the audit trail."


def _verify(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    return f"{counted(acts.verify(parts.database, job_id, who), 'target is', 'targets are')} checked again."


def _another_pass(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    number = acts.another_pass(parts.database, job_id, who)
    return f"Pass {number} begins: the sources are read again, then the targets are verified again."


def _set(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    """Set a lever as a command of `next:` says: `missing 4 TARGET`."""
    wish = _LEVER.fullmatch(form.one("lever"))
    if wish is None:
        raise BadInput("this needs a lever and its value", next_step="load the page again, and try once more")
    lever, value, target = wish.groups()
    acts.set_lever(parts.database, job_id, who, lever, float(value), target)
    return f"{lever}{f' at {target}' if target else ''} is now {value}."


def _cut_over(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    sides = _sides(cut_over.cut_over(parts, job_id, who, form.number("percent"), since=form.number("since")))
    with parts.database.begin() as connection:
        left = sum(move.left_behind for move in moving.of_job(connection, job_id))
    return f"{sides} But {not_found_by_readers(left)}." if left else sides


def _reverse(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    return _sides(cut_over.reverse(parts, job_id, who))


def _sides(routes: Sequence[JobRoute]) -> str:
    return leading([route.side for route in routes], sum(len(route.aliases) for route in routes)) + "."


def _clean_up(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    require_typed(parts, job_id, "cleanup", form.one("typed"))
    acts.clean_up(parts.database, job_id, who, by_ids=bool(form.one("by_ids")))
    return "Clean-up has begun."


def _roll_back(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    require_typed(parts, job_id, "rollback", form.one("typed"))
    cut_over.roll_back(parts, job_id, who, form.one("changed") or None)
    return "The rollback has begun."


def _finish(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    acts.finish(parts.database, job_id, who)
    return "The job is finished. Both sides stay."


def _cancel(parts: Fleet, job_id: int, who: str, form: Form) -> str:
    acts.cancel(parts.database, job_id, who)
    return "The job is being cancelled."


ACTS: Mapping[str, Callable[[Fleet, int, str, Form], str]] = {
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "accept": _accept,
    "accept-batch": _accept_batch,
    "undo": _undo,
    "comment": _comment,
    "verify": _verify,
    "pass": _another_pass,
    "set": _set,
    "cutover": _cut_over,
    "reverse": _reverse,
    "cleanup": _clean_up,
    "rollback": _roll_back,
    "finish": _finish,
    "cancel": _cancel,
}
CONFIRMED = frozenset({"cutover", "cleanup", "rollback", "finish", "cancel"})
DELETING = frozenset({"cleanup", "rollback"})


def act(parts: Fleet, job_id: int, name: str, who: str, form: Form) -> str:
    """Do one of the ACTS in this person's name. Return what to tell them. Raises Refused in the guard's words."""
    return ACTS[name](parts, job_id, who, form)
