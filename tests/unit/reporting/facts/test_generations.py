"""Protects the switch of generations where ClickHouse does not say whether it took effect."""

from typing import Any

import pytest

from services.reporting.facts.generations import Generations
from shared.clock import ManualClock
from shared.errors import UnavailableError


class _ClickHouse:
    """A database that takes a switch or not, confirms none, and is away for some questions."""

    database = "facts"

    def __init__(self, *, is_taken: bool, away: int) -> None:
        self._is_taken = is_taken
        self._away = away
        self._switched: list[tuple[int, str]] = []
        self.used: list[str] = []

    def use(self, database: str) -> None:
        self.used.append(database)

    async def command(self, sql: str) -> None:
        if sql.startswith("INSERT"):
            self._switched = [(2, "facts_g2")] if self._is_taken else []
            raise UnavailableError("no answer in time")

    async def query(self, _sql: str) -> list[Any]:
        self._away -= 1
        if self._away >= 0:
            raise UnavailableError("away")
        return self._switched


async def test_a_switch_that_was_not_confirmed_but_took_effect_is_followed() -> None:
    """What the next start will read is what is written from now on; that is waited for."""
    clickhouse: Any = _ClickHouse(is_taken=True, away=3)
    clock = ManualClock(0)
    generations = Generations(clickhouse, clock)
    await generations.switch(clickhouse)
    assert clickhouse.used == ["facts_g2"]
    assert (generations.current, generations.following()) == ("facts_g2", "facts_g3")
    assert clock.time() == 3


async def test_a_switch_that_did_not_take_effect_changes_nothing() -> None:
    clickhouse: Any = _ClickHouse(is_taken=False, away=0)
    generations = Generations(clickhouse, ManualClock(0))
    with pytest.raises(UnavailableError):
        await generations.switch(clickhouse)
    assert not clickhouse.used
    assert generations.current == "facts"
