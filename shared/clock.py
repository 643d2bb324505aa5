"""The only reader of the clock, so that decisions can be tested at any moment of time."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the platform sees it: wall clock for people, monotonic for durations."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never steps; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never steps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to; sleeping on it moves it."""

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._now = start

    def time(self) -> float:
        """Seconds since the epoch, as set."""
        return self._now

    def monotonic(self) -> float:
        """The same seconds: this clock never steps back."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds`."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Move time forward and let other tasks run once."""
        self._now += seconds
        await asyncio.sleep(0)


def utc(seconds: float) -> datetime:
    """The moment `seconds` after the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def rfc3339(seconds: float) -> str:
    """`seconds` after the epoch as RFC 3339 text in UTC with milliseconds, `…T12:00:00.250Z`."""
    return utc(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
