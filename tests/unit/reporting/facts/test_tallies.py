"""Protects what counts: a tally is judged by all of its bits that are asked for, and no others."""

import pytest

from services.reporting.facts.tables import Word
from services.reporting.facts.tallies import (
    AMOUNT,
    DUPLICATE,
    EVENT,
    INVALID,
    REDIRECTED,
    STATUSES,
    UNIQUE,
    VIEW_THROUGH,
    currency,
    currency_of,
    which,
)

APPROVED, HELD = (STATUSES.index(status) + 1 for status in ("approved", "on_hold"))
EURO = currency("EUR") << 8


@pytest.mark.parametrize(
    ("meant", "tallies", "others"),
    [
        (which(), [0, UNIQUE, EURO | AMOUNT], []),
        (which(outcomes=[DUPLICATE]), [DUPLICATE, DUPLICATE | AMOUNT], [UNIQUE, INVALID]),
        (which(outcomes=[UNIQUE, DUPLICATE], redirected=True), [1 | REDIRECTED], [0, 2 | 8]),
        (which(statuses=["approved", "on_hold"]), [APPROVED, HELD | EVENT], [0, 2]),
        (which(statuses=[]), [], [0, APPROVED]),
        (
            which(statuses=["approved"], event=False, view_through=True),
            [APPROVED | VIEW_THROUGH],
            [APPROVED, APPROVED | VIEW_THROUGH | EVENT],
        ),
        (which(amount=True), [AMOUNT, EURO | AMOUNT | INVALID], [0, EURO]),
    ],
)
def test_what_is_meant_is_what_has_all_that_was_asked_for(meant, tallies, others) -> None:
    """Whatever else a tally says, its currency among it."""
    for extra in (0, EURO):
        assert [meant.holds(tally | extra) for tally in tallies] == [True] * len(tallies)
        assert [meant.holds(tally | extra) for tally in others] == [False] * len(others)


@pytest.mark.parametrize(
    ("meant", "sql"),
    [
        (which(), ""),
        (which(outcomes=[INVALID]), "bitAnd(t, 7) = 2"),
        (which(outcomes=[UNIQUE, DUPLICATE]), "bitAnd(t, 7) IN (0, 1)"),
        (which(statuses=[]), "0"),
    ],
)
def test_the_engine_is_asked_the_same(meant, sql) -> None:
    """By the same mask and values."""
    assert meant.sql("t") == sql


def test_a_currency_is_its_letters() -> None:
    """Behind all other bits."""
    assert currency_of(EURO | 0xFF) == currency("EUR") != currency("USD")


def test_a_word_is_read_as_it_is_made() -> None:
    """A name may be of digits, or empty."""
    assert Word.read(f"{7:010}{42:020}12 pairs") == Word(7, 42, "12 pairs")
    assert Word.read(f"{2**32 - 1:010}{2**64 - 1:020}") == Word(2**32 - 1, 2**64 - 1, "")
