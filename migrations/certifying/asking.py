"""Ask every question: make a scratch index, ask what is asked in it, delete it, make the next."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from migrations.certifying import documents, freshness, listing, miniature, refusals, sparse, vectors
from migrations.certifying.metering import Meter
from migrations.certifying.opening import Opening
from migrations.certifying.question import Asker, NotShown, Question, Scratch
from migrations.certifying.runs import Run, Runs
from vecfleet.errors import BadInput, NeedsOperator, StoreError, Transient
from vecfleet.stores.base import Usage
from vecfleet.stores.pinecone.store import PineconeStore

QUESTIONS: tuple[Question, ...] = (
    *vectors.QUESTIONS,
    *listing.QUESTIONS,
    *refusals.QUESTIONS,
    *freshness.QUESTIONS,
    *sparse.QUESTIONS,
    *documents.QUESTIONS,
    *miniature.QUESTIONS,
)
USUAL = Usage(read_units=1_500.0, write_units=2_000.0)
"""More than all questions take of a service whose reads show at once."""

_UNSHOWN = "what was written did not show within the freshness wait"
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, struct.error)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its answer, or with why it has none."""

    question: Question
    answer: str | None
    why: str | None = None

    @property
    def differs(self) -> bool:
        return self.answer is not None and self.answer != self.question.belief


def require_budget(meter: Meter) -> None:
    """Raise BadInput if the questions cost more than the budget even where all goes well."""
    usual = meter.priced(USUAL)
    if usual > meter.budget:
        raise BadInput(
            f"the questions cost up to ${usual:.3f} by the prices of the settings, more than the budget of "
            f"${meter.budget:.3f}; nothing was created",
            next_step=f"give --budget {ceil(100 * usual) / 100:.2f} or more",
        )


def ask_all(
    store: PineconeStore,
    run: Run,
    runs: Runs,
    meter: Meter,
    tell: Callable[[Answered], object],
    questions: Sequence[Question] = QUESTIONS,
) -> list[Answered]:
    """Ask the questions, each within the budget, and return all of them, answered or not. `tell` hears of each.

    An error of the service ends no more than its question, or those of the index that cannot be created. If this dies
    at any line, or an index cannot be deleted, the run's file names what is left, and `clean` deletes it.
    """
    answers: list[Answered] = []
    opening = Opening(store, run, runs, meter, left=set())

    def settle(answered: Answered) -> None:
        answers.append(answered)
        tell(answered)

    with runs.held(run):
        runs.note(run)
        try:
            for scratch in Scratch:
                asked = [question for question in questions if question.of is scratch]
                if asked:
                    _ask_in(scratch, asked, opening, settle)
        finally:
            if not opening.left:
                runs.end(run)
    return answers


def _ask_in(scratch: Scratch, asked: Sequence[Question], opening: Opening, settle: Callable[[Answered], None]) -> None:
    """Ask questions in one scratch index."""

    def give_up(why: str) -> None:
        for question in asked:
            settle(Answered(question, None, why))

    if opening.meter.exhausted is not None:
        return give_up(opening.meter.exhausted)
    try:
        with opening.opened(scratch) as asker:
            for question in asked:
                settle(_answered(question, asker))
    except NotShown:
        give_up(_UNSHOWN)
    except StoreError as error:  # of the opening: a question settles its own
        give_up(error.message)
    return None


def _answered(question: Question, asker: Asker) -> Answered:
    if asker.meter.exhausted is not None:
        return Answered(question, None, asker.meter.exhausted)
    try:
        return Answered(question, question.ask(asker))
    except NotShown:
        return Answered(question, _UNSHOWN)
    except (Transient, NeedsOperator) as error:
        return Answered(question, None, error.message)
    except StoreError as error:
        return Answered(question, f"refused ({error.code})")
    except _UNREADABLE as error:
        return Answered(question, f"an answer that cannot be read ({type(error).__name__})")
