"""The ledger: one row a request, sent or served from the cache."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from core.domain.explanation import FailureCode
from core.domain.llm import Purpose, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What became of one request.

    Attributes:
        item: what it was for, e.g. a feature id.
        model: name the server answered with, else the name asked for.
        attempts: times it was sent; failed ones may be billed too. 0 from the cache.
        cost: US dollars by the price table; None when no price is known.
        code: why it failed; None when it was answered.
        seconds: from the first attempt to the end, waits included.
    """

    purpose: Purpose
    item: str
    model: str
    usage: Usage
    attempts: int
    seconds: float
    cost: float | None
    price_version: str
    code: FailureCode | None
    request_id: str
    from_cache: bool


@runtime_checkable
class Ledger(Protocol):
    """Where rows go; a database or memory."""

    def add(self, row: LedgerRow) -> None:
        """Keep one row."""


class MemoryLedger:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []

    def add(self, row: LedgerRow) -> None:
        """Keep one row."""
        self.rows.append(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over rows; cost is None when no row's price is known."""

    requests: int
    from_cache: int
    failed: int
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


def totals(rows: Iterable[LedgerRow]) -> Totals:
    """Sums over rows."""
    kept = list(rows)
    costs = [row.cost for row in kept if row.cost is not None]
    return Totals(
        requests=len(kept),
        from_cache=sum(row.from_cache for row in kept),
        failed=sum(row.code is not None for row in kept),
        attempts=sum(row.attempts for row in kept),
        prompt_tokens=sum(row.usage.prompt for row in kept if not row.from_cache),
        completion_tokens=sum(row.usage.completion for row in kept if not row.from_cache),
        cost=sum(costs) if costs else None,
    )
