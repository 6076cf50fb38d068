"""A hard limit on what a run may spend."""

from dataclasses import dataclass

from core.domain.explanation import Number
from core.domain.llm import Usage
from core.llm.prices import PriceTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most a run may spend; None means without limit.

    Attributes:
        cost: US dollars; of use only where the model's price is known.
        tokens: prompt and completion tokens together.
    """

    cost: float | None = None
    tokens: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Tokens and dollars set aside for one request."""

    tokens: int
    cost: float


class Budget:
    """Counts what was spent and what is set aside; nothing starts that could pass a limit.

    Each request sets aside the most it may use before it is sent, so that requests under way at
    the same time cannot pass the limit together.
    """

    def __init__(self, limits: Limits, *, prices: PriceTable, model: str) -> None:
        self._limits = limits
        self._prices = prices
        self._model = model
        self.spent_cost = 0.0
        self.spent_tokens = 0
        self.requests = 0
        self._reserved_cost = 0.0
        self._reserved_tokens = 0

    @property
    def lacks_a_price(self) -> bool:
        """Whether the limit is in dollars and nobody knows what a request costs."""
        priced = self._prices.cost(self._model, Usage()) is not None
        return self._limits.cost is not None and not priced

    def reserve(self, most: Usage) -> Reservation | None:
        """Set aside the most a request may use; None when that would pass a limit."""
        tokens = most.prompt + most.completion
        cost = self._prices.cost(self._model, most) or 0.0
        limits = self._limits
        if self.lacks_a_price:
            return None
        over = (
            _over(self.spent_cost + self._reserved_cost + cost, limits.cost)
            or _over(self.spent_tokens + self._reserved_tokens + tokens, limits.tokens)
            or _over(self.requests + 1, limits.requests)
        )
        if over:
            return None
        self._reserved_cost += cost
        self._reserved_tokens += tokens
        self.requests += 1
        return Reservation(tokens=tokens, cost=cost)

    def settle(self, reservation: Reservation, used: Usage) -> None:
        """Replace what was set aside by what was used."""
        self._reserved_cost -= reservation.cost
        self._reserved_tokens -= reservation.tokens
        self.spent_tokens += used.prompt + used.completion
        self.spent_cost += self._prices.cost(self._model, used) or 0.0


def _over(value: Number, limit: Number | None) -> bool:
    return limit is not None and value > limit
