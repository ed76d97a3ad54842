"""The law about the bill notices a request that is not on the account, and one too many."""

from tests.chaos.billing import misbilled
from tests.chaos.covering import covering
from tests.chaos.small_index import make_case
from tests.chaos.test_chaos import SEEDS


def test_a_bill_that_is_on_the_account_and_within_the_cap_breaks_no_law() -> None:
    assert list(misbilled(80, 90, 90.0)) == [] and list(misbilled(80, 90, None)) == []


def test_a_request_that_is_not_on_the_account_is_noticed() -> None:
    (said,) = misbilled(91, 90, None)
    assert said == "the model billed 91 tokens, and only 90 are on the account"


def test_a_request_too_many_is_noticed() -> None:
    (said,) = misbilled(80, 90, 89.0)
    assert said == "the job may have been billed 90 tokens, and was allowed 89"


def test_some_lives_that_are_always_lived_embed_with_a_cap() -> None:
    assert any(make_case(seed).is_capped for seed in covering(SEEDS))
