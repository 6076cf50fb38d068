import asyncio

import pytest

from core.errors import Cancelled
from worker.explain.side_by_side import side_by_side


def run(items, do, *, places=3, check=lambda: None):
    asyncio.run(asyncio.wait_for(side_by_side(items, do, places=places, check=check), 10))


def test_every_item_is_done_once_and_no_more_than_the_places_at_once():
    done, under_way, most = [], 0, 0

    async def do(item):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        done.append(item)

    run(range(20), do)
    assert sorted(done) == list(range(20))
    assert most == 3


def test_the_first_error_stops_all():
    begun = []

    async def do(item):
        begun.append(item)
        if item == 2:
            raise ValueError(f"item {item}")
        await asyncio.sleep(5)

    with pytest.raises(ValueError, match="item 2"):
        run(range(20), do)
    assert begun == [0, 1, 2]


def test_a_wish_to_stop_is_heard_while_items_wait():
    def check():
        raise Cancelled("The job was asked to stop.")

    async def do(_):
        await asyncio.sleep(5)

    with pytest.raises(Cancelled):
        run(range(3), do, check=check)


def test_nothing_to_do_ends_at_once():
    async def do(_):
        raise AssertionError

    run([], do)
