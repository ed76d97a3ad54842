"""The budget of a run: no call is sent whose most would exceed it."""

from collections.abc import Callable
from typing import TypeVar

from migrations.estimating import Prices
from vecfleet.errors import CostCapReached
from vecfleet.stores.base import Usage

T = TypeVar("T")


class Meter:
    """Adds up what calls cost, by the price table of the estimates. `unpriced`: what it has no price for."""

    def __init__(self, prices: Prices, budget: float) -> None:
        self.budget = budget
        self.spent = Usage()
        self.exhausted: str | None = None  # the sentence, once a call was not sent because it could exceed the budget
        self.unpriced: list[str] = []
        self._prices = prices

    @property
    def dollars(self) -> float:
        return self._prices.dollars(self.spent)

    def priced(self, usage: Usage) -> float:
        return self._prices.dollars(usage)

    def paid(self, most: Usage, call: Callable[[], tuple[T, Usage]]) -> T:
        """Make the call, and count what it tells of its cost; a call that fails counts as `most`.

        Raises CostCapReached, and sends nothing, if `most` would exceed the budget.
        """
        if self._prices.dollars(self.spent + most) > self.budget:
            self.exhausted = (
                f"the budget of ${self.budget:.4f} is reached: ${self.dollars:.4f} are spent, and the next call might "
                "cost more than is left"
            )
            raise CostCapReached(self.exhausted, next_step="run it again with a larger --budget")
        try:
            result, usage = call()
        except BaseException:
            self.spent += most
            raise
        self.spent += usage
        return result
