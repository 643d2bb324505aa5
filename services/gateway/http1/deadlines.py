"""One coarse timer for all connections: who takes too long is told within a tick.

A connection sets its `deadline` whenever it begins to wait for something: an assignment, no timer.
Four times a second all are looked at, some 50 ns each.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Final, Protocol

from shared.clock import Clock

TICK_SECONDS: Final = 0.25
NEVER: Final = math.inf


class Waiting(Protocol):
    """Something that waits.

    Attributes:
        deadline: by `Deadlines.now`, when it has waited too long; `NEVER` while it does not wait.
    """

    deadline: float

    def on_deadline(self) -> None:
        """It has waited too long; moves `deadline`, or ends."""
        ...


class Deadlines:
    """Ends what waits too long.

    Attributes:
        now: monotonic seconds, at most a tick old.
        date: the present time as a header line.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: set[Waiting] = set()
        self.now = clock.monotonic()
        self.date = b""
        self._next: asyncio.TimerHandle | None = None
        self._look()

    def add(self, waiting: Waiting) -> None:
        """Look after `waiting` from now on."""
        self._waiting.add(waiting)

    def discard(self, waiting: Waiting) -> None:
        """Look no more after `waiting`."""
        self._waiting.discard(waiting)

    def tick(self) -> None:
        """Tell all whose deadline has passed."""
        self._look()
        now = self.now
        for late in [waiting for waiting in self._waiting if waiting.deadline <= now]:
            late.on_deadline()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Tick on the running loop."""
        self._again(asyncio.get_running_loop())
        try:
            yield
        finally:
            if self._next is not None:
                self._next.cancel()

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = loop.call_later(TICK_SECONDS, self._again, loop)
        self.tick()

    def _look(self) -> None:
        self.now = self._clock.monotonic()
        self.date = f"date: {formatdate(self._clock.time(), usegmt=True)}\r\n".encode()
