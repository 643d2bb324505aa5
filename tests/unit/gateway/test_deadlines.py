"""Protects the one timer of all connections."""

from services.gateway.http1.deadlines import NEVER, Deadlines
from shared.clock import ManualClock


class Waiting:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.told = 0

    def on_deadline(self) -> None:
        self.told += 1
        self.deadline = NEVER


def test_whoever_waited_too_long_is_told_once():
    """At the first tick at or after its deadline; the others wait on."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    early, late, never = (
        Waiting(clock.monotonic() + 1),
        Waiting(clock.monotonic() + 5),
        Waiting(NEVER),
    )
    for waiting in (early, late, never):
        deadlines.add(waiting)
    clock.advance(0.9)
    deadlines.tick()
    assert early.told == 0
    clock.advance(0.1)
    deadlines.tick()
    deadlines.tick()
    assert (early.told, late.told, never.told) == (1, 0, 0)


def test_whoever_is_gone_is_told_nothing():
    """Nothing reaches a connection that has ended."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    gone = Waiting(clock.monotonic())
    deadlines.add(gone)
    deadlines.discard(gone)
    deadlines.tick()
    assert gone.told == 0


def test_the_time_and_the_date_are_as_of_the_last_tick():
    """Nobody asks the clock for each request."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    assert deadlines.date == b"date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    clock.advance(61)
    assert deadlines.now == clock.monotonic() - 61
    deadlines.tick()
    assert deadlines.now == clock.monotonic()
    assert deadlines.date == b"date: Thu, 01 Jan 2026 00:01:01 GMT\r\n"
