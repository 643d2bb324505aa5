"""Fair turns: who wants a slot gets one in turn with the others, however much each of them wants.

A slot that becomes free goes to the next one in a ring of those who wait; nobody holds more than
`each_max` at once, so one slot is always for others. Within one's own requests the order is that of
asking. Nothing is decided by how long a turn takes: a slow one delays others by itself only.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Hashable
from typing import Final

from shared.errors import OverloadedError

WAITING_EACH_MAX: Final = 32
"""How many requests of one may wait; more are refused at once."""
WAIT_SECONDS_MAX: Final = 15.0

_Waiter = asyncio.Future[None]


class Turns:
    """Slots that are shared fairly.

    Args:
        slots: how many turns run at once.
        each_max: how many of them one may have; all but one by default.
        wait_seconds_max: how long one waits before being refused.
    """

    def __init__(
        self,
        slots: int,
        *,
        each_max: int | None = None,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        self._free = slots
        self._each_max = each_max or max(1, slots - 1)
        self._wait_seconds_max = wait_seconds_max
        self._running: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[_Waiter]] = {}
        """The ring: who was served last stands last."""

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    async def take(self, who: Hashable) -> None:
        """Wait for a slot; `give_back` returns it.

        Raises:
            OverloadedError: too many requests of `who` wait, or this one waited for too long.
        """
        queue = self._waiting.setdefault(who, deque())
        if len(queue) >= WAITING_EACH_MAX:
            raise OverloadedError(
                f"{WAITING_EACH_MAX} of your requests wait already; let them end before asking more"
            )
        mine: _Waiter = asyncio.get_running_loop().create_future()
        queue.append(mine)
        self._serve()
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                await mine
        except TimeoutError as error:
            self._forget(who, mine)
            raise OverloadedError(
                "Your request waited for its turn for too long; ask again later, or for fewer "
                "things at once"
            ) from error
        except asyncio.CancelledError:
            self._forget(who, mine)
            raise

    def give_back(self, who: Hashable) -> None:
        """End a turn."""
        self._free += 1
        self._running[who] -= 1
        if not self._running[who]:
            del self._running[who]
        self._serve()

    def _forget(self, who: Hashable, mine: _Waiter) -> None:
        """`mine` does not want a slot any more, or was given one that nobody will use."""
        if mine.done() and not mine.cancelled():
            self.give_back(who)
            return
        queue = self._waiting.get(who, deque())
        if mine in queue:
            queue.remove(mine)
        if not queue:
            self._waiting.pop(who, None)

    def _serve(self) -> None:
        """Hand free slots to those who wait: to the first in the ring with the least running."""
        while self._free and (able := self._able()):
            who = min(able, key=lambda each: self._running[each])
            queue = self._waiting.pop(who)
            waiter = queue.popleft()
            if queue:
                self._waiting[who] = queue
            if not waiter.done():  # else: its task is cancelled and has not run since
                waiter.set_result(None)
                self._free -= 1
                self._running[who] += 1

    def _able(self) -> list[Hashable]:
        """Those in the ring, in its order, that may have one more."""
        return [who for who in self._waiting if self._running[who] < self._each_max]
