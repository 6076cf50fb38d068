from core.domain.llm import Usage
from core.domain.views_explain import Spending
from core.explaining.purse import Purse, PurseBudget
from core.llm.budget import Limits
from core.llm.prices import NO_PRICES, Price, PriceTable

MOST = Usage(prompt=60, completion=40)


def budget(purse, *, dollars=None):
    prices = NO_PRICES
    if dollars is not None:
        price = Price(prompt=dollars, completion=dollars)
        prices = PriceTable(version="1", prices={"m": price})
    return PurseBudget(purse, prices=prices, model="m")


def test_two_endpoints_share_one_limit_of_tokens():
    purse = Purse(Limits(tokens=250), spent=Spending())
    first, second = budget(purse), budget(purse)
    kept = first.reserve(MOST)
    assert kept is not None
    assert second.reserve(MOST) is not None
    assert first.reserve(MOST) is None
    first.settle(kept, Usage(prompt=10, completion=5))
    assert purse.tokens == 115
    assert first.reserve(MOST) is not None


def test_what_earlier_attempts_spent_counts():
    spent = Spending(requests=9, from_cache=4, prompt_tokens=100, completion_tokens=100, cost=1.0)
    purse = Purse(Limits(requests=6, cost=1.5), spent=spent)
    cheap = budget(purse, dollars=1.0)
    assert (purse.requests, purse.tokens, purse.cost) == (5, 200, 1.0)
    assert cheap.reserve(MOST) is not None
    assert cheap.reserve(MOST) is None  # the sixth request was the last


def test_a_limit_in_dollars_lets_nothing_pass_without_a_price():
    purse = Purse(Limits(cost=5.0), spent=Spending())
    assert budget(purse).reserve(MOST) is None
    dear = budget(purse, dollars=40_000.0)
    assert dear.reserve(MOST) is not None
    assert dear.reserve(MOST) is None
