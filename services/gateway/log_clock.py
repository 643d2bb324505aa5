"""What time it is by the log's clock: moments that all gateways can compare. Pure.

Gateways' own clocks may differ by anything. But whoever publishes a record learns when the broker
stamped it, and that lay between sending and confirmation. Of the last minute's records, the latest
of the earliest and the earliest of the latest possible offsets enclose the true one; the middle is
wrong by at most half of what is between, usually a millisecond. If the log's clock is set, the
bounds contradict each other, and those of before are forgotten.
"""

from collections import deque
from typing import Final

SECONDS_REMEMBERED: Final = 60
STEP_SECONDS: Final = 0.005
"""By how much bounds may contradict each other, since stamps are whole milliseconds."""


class LogClock:
    """Converts between own monotonic seconds and the log's."""

    def __init__(self) -> None:
        self._bounds: deque[tuple[int, float, float]] = deque(maxlen=SECONDS_REMEMBERED)
        self.offset: float | None = None

    def sample(self, sent_at: float, stamped: float, confirmed_at: float) -> None:
        """Learn from a record of ours.

        Args:
            sent_at: monotonic seconds before it was sent.
            stamped: the log's time, in seconds.
            confirmed_at: monotonic seconds after it was confirmed.
        """
        second, lower, upper = int(confirmed_at), sent_at - stamped, confirmed_at - stamped
        if self._bounds and self._bounds[-1][0] == second:
            _, before, after = self._bounds.pop()
            self._bounds.append((second, max(lower, before), min(upper, after)))
        else:
            self._bounds.append((second, lower, upper))
        latest, earliest = self._enclosed(second)
        if latest > earliest + STEP_SECONDS:
            self._bounds.clear()
            self._bounds.append((second, lower, upper))
        else:
            lower, upper = latest, earliest
        self.offset = (lower + upper) / 2

    def _enclosed(self, second: int) -> tuple[float, float]:
        """The latest lower and the earliest upper bound of what is remembered."""
        while self._bounds[0][0] <= second - SECONDS_REMEMBERED:
            self._bounds.popleft()
        return max(one[1] for one in self._bounds), min(one[2] for one in self._bounds)

    def of_log(self, monotonic: float) -> float:
        """A moment of ours by the log's clock; 0 before the first sample."""
        return 0.0 if self.offset is None else monotonic - self.offset

    def of_ours(self, log_time: float) -> float:
        """A moment of the log by our monotonic clock; 0 before the first sample."""
        return 0.0 if self.offset is None else log_time + self.offset
