"""Ask for the leave of the operator's hooks, and of a second person, before an act.

The dispatcher runs hooks; acts wait for their answers.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from orchestrator.core.hooks import POLICY, Hook, asked, held, verb, way_on
from orchestrator.core.model import Job
from orchestrator.core.two_persons import TwoPersons, alone, other_person, person_of
from orchestrator.ledger import consents, continuity, hooks, jobs, leadership
from orchestrator.ledger.consents import Agreement
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused, in_a_sentence

# A request of a browser may wait so long. A hook that takes longer is answered meanwhile, and the person asks again.
_WAITS_S = 20.0
_TAKEN_WITHIN_S = 3.0
_LOOKS_EVERY_S = 0.1

Result = TypeVar("Result")


class LeaveMissing(Refused):
    """A hook holds the act, or the lack of a second person. `call` is the question that no hook has answered yet."""

    def __init__(self, message: str, job_id: int | None, next_step: str, code: str, call: int | None = None) -> None:
        super().__init__(message, next_step=next_step, code=code)
        self.job_id, self.call = job_id, call


def require(connection: sa.Connection, job: Job, hook: Hook, who: str, percent: int | None = None) -> hooks.Call | None:
    """Return the hook's answer that allows this act, for `use`; None if there is no such hook.

    Raises LeaveMissing otherwise, with a new question to the hook on record: commit it. A policy puts none after a
    refusal. Raises Busy on a job table that was put back: it may know of fewer hooks than there are.
    """
    continuity.require_known_server(connection)
    if hooks.timeout_s(connection, hook) is None:
        return None
    call = hooks.latest(connection, job.id, hook, percent)
    if call is not None and call.answer == hooks.ALLOWED and call.fresh:
        return call
    if call is not None and call.answer == hooks.REFUSED and who == POLICY:
        raise _refused(call)
    waits = call is not None and call.answer == hooks.ASKED
    call_id = call.id if call is not None and waits else hooks.ask(connection, job.id, hook, percent, who)
    step = f"once it has answered: `{verb(job.id, hook, percent)}`"
    raise LeaveMissing(asked(hook, percent), job.id, step, "hook-asked", call_id)


def require_two(
    connection: sa.Connection, act: TwoPersons, subject: str, who: str, step: str, job_id: int | None = None
) -> Agreement | None:
    """Return the agreement of two persons, for `use`; None if one is enough for this act.

    Raises LeaveMissing otherwise, with who asked on record: commit it. Raises Refused, and records nothing, if `who`
    names no person. `step`: what the second person types. Raises Busy as `require` does.
    """
    continuity.require_known_server(connection)
    if not consents.needed(connection, act):
        return None
    asked_by = consents.asked(connection, act, subject)
    other = other_person(who, asked_by)
    if other is not None:
        return Agreement(act, subject, first=other, second=who)
    if who == POLICY:
        raise Refused(alone(act, asked_by), code="second-person", next_step=f"two persons ask for it: `{step}`")
    person = person_of(who)
    if person is None:
        raise Refused(
            f"two persons have to ask for this {act}, and {who!r} names none of them",
            code="no-person",
            next_step="use a token with your name, made by `vecfleet token create --role operator --user NAME`, "
            f"or type `{step}`",
        )
    if person not in map(person_of, asked_by):
        consents.ask(connection, act, subject, who, job_id)
        asked_by = [who]
    raise LeaveMissing(alone(act, asked_by), job_id, f"somebody else asks for it, too: `{step}`", "second-person")


def use(connection: sa.Connection, job: Job, allowed: hooks.Call | None, agreed: Agreement | None = None) -> None:
    """Use up what allows an act on a job once nothing else holds it, in the act's transaction."""
    if allowed is not None:
        hooks.use(connection, allowed)
    use_two(connection, agreed, job.id)
    if way_on(job.id, job.reason) is not None:
        jobs.set_reason(connection, job.id, None)


def use_two(connection: sa.Connection, agreed: Agreement | None, job_id: int | None = None) -> None:
    """Use up the agreement of two persons, in the act's transaction. None: one was enough."""
    if agreed is not None:
        consents.use(connection, agreed, job_id)


def require_no_hook(connection: sa.Connection, hook: Hook) -> None:
    """Refuse an act that deletes and belongs to no job where the hook holds clean-ups: it is asked about jobs alone."""
    continuity.require_known_server(connection)
    if hooks.timeout_s(connection, hook) is not None:
        raise Refused(
            f"the hook {hook} holds what deletes, and cannot be asked about this: it belongs to no job",
            code="hook-unaskable",
            next_step=f"if it is meant, start the dispatcher with a file without {hook}, and put it back afterwards",
        )


def with_leave(database: Database, act: Callable[[sa.Connection], Result]) -> Result:
    """Do an act in a transaction; if a hook must be asked first, wait for its answer and do it then.

    Dies while it waits: the answer is on record, and the same act goes on with it for some minutes.
    """
    try:
        return _attempt(database, act)
    except LeaveMissing as question:
        if question.call is None:
            raise
        _wait(database, question, question.call)
    return _attempt(database, act)


def _attempt(database: Database, act: Callable[[sa.Connection], Result]) -> Result:
    """Do the act, or commit the question that it puts, with the reason why the job waits."""
    with database.begin() as connection:
        try:
            return act(connection)
        except LeaveMissing as question:
            if question.job_id is not None:
                jobs.set_reason(connection, question.job_id, question.message)
            put = question
    raise put


def _wait(database: Database, question: LeaveMissing, call_id: int) -> None:
    """Return once the hook allows it. Raises LeaveMissing with its words, or if it has not answered."""
    with database.begin() as connection:
        call = hooks.get(connection, call_id)
        seconds = min((hooks.timeout_s(connection, call.hook) or 0.0) + _TAKEN_WITHIN_S, _WAITS_S)
    deadline = time.monotonic() + seconds
    while call.answer == hooks.ASKED and time.monotonic() < deadline:
        time.sleep(_LOOKS_EVERY_S)
        with database.begin() as connection:
            call = hooks.get(connection, call_id)
    if call.answer == hooks.REFUSED:
        raise _refused(call)
    if call.answer == hooks.ASKED:
        with database.begin() as connection:
            led = leadership.seconds_left(connection)
        if led is None or led <= 0:
            question.next_step = f"`vecfleet dispatcher`, which asks it; {in_a_sentence(question.next_step or '')}"
        raise question


def _refused(call: hooks.Call) -> LeaveMissing:
    step = verb(call.job_id, call.hook, call.percent)  # which asks the hook again
    return LeaveMissing(held(call.hook, call.percent, call.words or ""), call.job_id, step, "hook-refused")
