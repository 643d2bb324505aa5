"""Protects partners from one another: however much one asks, the others have their turn."""

import asyncio

import pytest

from shared.errors import OverloadedError
from shared.turns import WAITING_EACH_MAX, Turns


async def _asked(turns: Turns, who: str, order: list[str]) -> None:
    await turns.take(who)
    order.append(who)


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_who_asks_much_takes_turns_with_one_who_asks_little():
    """A partner with ten reports waiting is served once before another's only one, not ten times."""
    turns, order = Turns(1), []
    await turns.take("first")
    asking = [asyncio.ensure_future(_asked(turns, "greedy", order)) for _ in range(10)]
    await _settle()
    asking.append(asyncio.ensure_future(_asked(turns, "modest", order)))
    await _settle()
    for who in ["first", *("greedy",), *("modest",), *["greedy"] * 9]:
        turns.give_back(who)
        await _settle()
    assert order == ["greedy", "modest", *["greedy"] * 9]


async def test_one_slot_is_always_for_others():
    """Year-long reports of one partner never hold all slots."""
    turns, order = Turns(3), []
    asking = [asyncio.ensure_future(_asked(turns, "greedy", order)) for _ in range(5)]
    await _settle()
    assert order == ["greedy"] * 2
    await asyncio.wait_for(turns.take("modest"), 1)
    assert turns.waiting == 3
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert turns.waiting == 0


async def test_who_gives_up_leaves_no_slot_behind():
    """Cancelled while waiting, and cancelled in the very moment of being served."""
    turns, order = Turns(1), []
    await turns.take("a")
    waiting = asyncio.ensure_future(_asked(turns, "b", order))
    served = asyncio.ensure_future(_asked(turns, "c", order))
    await _settle()
    waiting.cancel()
    turns.give_back("a")  # b is cancelled and has not run since: c is served, and is cancelled too
    served.cancel()
    await asyncio.wait((waiting, served))
    assert order == []
    await asyncio.wait_for(turns.take("d"), 1)


async def test_a_wait_has_an_end_with_a_text_that_helps():
    """And the slot goes to the next one."""
    turns = Turns(1, wait_seconds_max=0.01)
    await turns.take(None)
    with pytest.raises(OverloadedError, match="ask again later"):
        await turns.take("b")
    assert turns.waiting == 0
    turns.give_back(None)
    await turns.take("b")


async def test_the_line_of_one_is_bounded():
    """More are refused at once, and only theirs."""
    turns, order = Turns(1), []
    await turns.take("first")
    asking = [asyncio.ensure_future(_asked(turns, "a", order)) for _ in range(WAITING_EACH_MAX)]
    await _settle()
    with pytest.raises(OverloadedError, match="wait already"):
        await turns.take("a")
    other = asyncio.ensure_future(turns.take("b"))
    await _settle()
    assert turns.waiting == WAITING_EACH_MAX + 1
    for task in (*asking, other):
        task.cancel()
    await asyncio.wait((*asking, other))
