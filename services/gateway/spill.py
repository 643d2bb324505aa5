"""The refill that a full bucket could not take, by time. Pure.

Usage told late was admitted earlier: had it been known then, the bucket would not have been full,
and refill that ran over would have stayed in it. So what ran over since is given back, up to what
was admitted. At most `SPANS_MAX` stretches of time are kept apart, finer the less long ago. When
they are as many, a good part of them is joined at once, so that a request rarely pays for it.
"""

from collections import deque
from typing import Final

SPANS_MAX: Final = 96
SPAN_MICROSECONDS: Final = 10_000
"""What runs over within so long is one stretch, even if with pauses."""

_Span = tuple[int, int, float]
"""From, to, and how much ran over, evenly."""


class Spill:
    """What ran over one bucket."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: deque[_Span] = deque()

    def add(self, began: int, ended: int, units: float) -> None:
        """So much ran over between two moments, in microseconds, after all before."""
        spans = self._spans
        if spans and began - spans[-1][0] < SPAN_MICROSECONDS:
            first, _, before = spans[-1]
            spans[-1] = (first, ended, before + units)
            return
        spans.append((began, ended, units))
        self._run_together()

    def reclaim(self, since: int, wanted: float) -> float:
        """Take back up to `wanted` of what ran over after `since`, the earliest first."""
        got = 0.0
        kept: deque[_Span] = deque()
        for began, ended, units in self._spans:
            early, rest, began_late = _cut(began, ended, units, since)
            if early:
                kept.append((began, began_late, early))
            used = min(rest, wanted - got)
            got += used
            if rest > used:
                left = began_late + round((ended - began_late) * used / rest)
                kept.append((left, ended, rest - used))
        self._spans = kept
        self._run_together()
        return got

    def __len__(self) -> int:
        return len(self._spans)

    def _run_together(self) -> None:
        """Make room by joining neighbours, first those that are shortest for their age.

        So a stretch is short for its age, and what ran over in it is misplaced by little of that.
        """
        spans = list(self._spans)
        if len(spans) < SPANS_MAX:
            return
        now = spans[-1][1]
        shortest_first = sorted(
            range(len(spans) - 1),
            key=lambda at: (
                (spans[at + 1][1] - spans[at][0]) / (now - spans[at + 1][1] + SPAN_MICROSECONDS)
            ),
        )
        joined = [False] * len(spans)
        for at in shortest_first[: SPANS_MAX // 2]:
            if not joined[at] and not joined[at + 1]:
                joined[at] = joined[at + 1] = True
                began, _, units = spans[at]
                _, ended, more = spans[at + 1]
                spans[at : at + 2] = [(began, began, 0.0), (began, ended, units + more)]
        self._spans = deque(span for span in spans if span[2] > 0)


def _cut(began: int, ended: int, units: float, at: int) -> tuple[float, float, int]:
    """How much of a span lies before and after a moment, and where the later part begins."""
    if at <= began:
        return 0.0, units, began
    if at >= ended:
        return units, 0.0, ended
    early = units * (at - began) / (ended - began)
    return early, units - early, at
