"""The law of the lives that embed anew: what the service bills is on the account, and the account within the cap.

By the service's own count and by SQL of the tests' own.
"""

from collections.abc import Iterator

from tests.chaos.case import Case
from tests.chaos.fleet import ChaosFleet
from tests.chaos.model import PROBE
from tests.embedding_service import tokens_of

# The price of these lives is a dollar for each token: a sum of dollars is one of tokens.
A_DOLLAR_A_TOKEN = 1e6


def broken_bill(fleet: ChaosFleet, case: Case, job_id: int, *, set_back: bool) -> list[str]:
    """Return what is wrong with the bill. `set_back`: the job table is an older one and may lack requests."""
    if not case.embeds:  # the model's bill is still that of an earlier life of this fleet
        return []
    ((account,),) = fleet.sql(
        "SELECT (SELECT coalesce(sum(tokens + unanswered), 0) FROM embedding_cost) + "
        "(SELECT coalesce(sum(tokens), 0) FROM embedding WHERE vector IS NULL AND asked_at IS NOT NULL)"
    )
    ((cap, factor),) = fleet.sql(
        "SELECT (plan #>> '{policies,embedding,dollars_cap}')::float, budget_factor FROM job WHERE id = %s", job_id
    )
    # A plan asks with a word of its own, for which no job is billed.
    billed = sum(times * tokens_of(text) for text, times in fleet.model.billed.items() if text != PROBE)
    return list(misbilled(0 if set_back else billed, int(account), None if cap is None else cap * factor))


def misbilled(billed: int, account: int, allowed: float | None) -> Iterator[str]:
    if billed > account:
        yield f"the model billed {billed:,} tokens, and only {account:,} are on the account"
    if allowed is not None and account > allowed:
        yield f"the job may have been billed {account:,} tokens, and was allowed {allowed:,.0f}"
