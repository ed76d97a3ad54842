"""Questions asked of an address, and their answers."""

from collections.abc import Sequence

from pydantic import SecretStr

from migrations.certifying.asking import QUESTIONS, Answered, ask_all
from migrations.certifying.metering import Meter
from migrations.certifying.question import Question
from migrations.certifying.runs import Run, Runs
from migrations.estimating import Prices
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore

BUDGET = 0.5
# A service that shows a write at once shows it at the first look; no look after this one would be another.
FRESHNESS_S = 0.2


def store_at(address: str, freshness_s: float = FRESHNESS_S) -> PineconeStore:
    key = SecretStr("a key")
    return PineconeStore(
        Settings(pinecone_api_key=key, pinecone_controller_host=address, freshness_wait_seconds=freshness_s)
    )


def asked(
    address: str,
    runs: Runs,
    questions: Sequence[Question] = QUESTIONS,
    meter: Meter | None = None,
    freshness_s: float = FRESHNESS_S,
) -> list[Answered]:
    store = store_at(address, freshness_s)
    meter = meter or Meter(Prices(), BUDGET)
    return ask_all(store, Run.new(store, "certify"), runs, meter, lambda _: None, questions)


def differing(answers: Sequence[Answered]) -> dict[str, str | None]:
    return {answered.question.id: answered.answer for answered in answers if answered.differs}


def unanswered(answers: Sequence[Answered]) -> dict[str, str | None]:
    return {answered.question.id: answered.why for answered in answers if answered.answer is None}
