"""One budget for a run that may ask several endpoints, each with prices of its own."""

from core.domain.explanation import Number
from core.domain.llm import Usage
from core.domain.views_explain import Spending
from core.llm.budget import Budget, Limits, Reservation
from core.llm.prices import PriceTable


class Purse:
    """What a run has spent and set aside, over all its endpoints and attempts."""

    def __init__(self, limits: Limits, *, spent: Spending) -> None:
        self.limits = limits
        self.cost = spent.cost or 0.0
        self.tokens = spent.prompt_tokens + spent.completion_tokens
        self.requests = spent.requests - spent.from_cache

    def allows(self, *, cost: Number, tokens: int) -> bool:
        """Whether one more request, which may use so much, stays within the limits."""
        return (
            _within(self.cost + cost, self.limits.cost)
            and _within(self.tokens + tokens, self.limits.tokens)
            and _within(self.requests + 1, self.limits.requests)
        )

    def put(self, *, cost: Number, tokens: int) -> None:
        """Set aside, or give back what was set aside and not used."""
        self.cost += cost
        self.tokens += tokens


class PurseBudget(Budget):
    """One endpoint's way to the purse."""

    def __init__(self, purse: Purse, *, prices: PriceTable, model: str) -> None:
        super().__init__(purse.limits, prices=prices, model=model)
        self._purse = purse

    def reserve(self, most: Usage) -> Reservation | None:
        """Set aside the most a request may use; None when that would pass a limit."""
        cost = self._prices.cost(self._model, most) or 0.0
        tokens = most.prompt + most.completion
        if self.lacks_a_price:
            return None
        if not self._purse.allows(cost=cost, tokens=tokens):
            return None
        self._purse.put(cost=cost, tokens=tokens)
        self._purse.requests += 1
        return Reservation(tokens=tokens, cost=cost)

    def settle(self, reservation: Reservation, used: Usage) -> None:
        """Replace what was set aside by what was used."""
        cost = self._prices.cost(self._model, used) or 0.0
        tokens = used.prompt + used.completion
        self._purse.put(cost=cost - reservation.cost, tokens=tokens - reservation.tokens)


def _within(value: Number, limit: Number | None) -> bool:
    return limit is None or value <= limit
