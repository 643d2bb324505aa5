"""Ring: the recent records of one partition in memory, shared by all who follow it live. Pure.

It covers the offsets from `start` up to `end`: every committed record in between is in it, and
those alone. Appending beyond its size in bytes lets the oldest go, and moves `start`. A reader
whose place is before `start` has fallen out and reads Kafka itself until it is back. Records are
found by their key, so what a reader costs does not grow with the traffic of other partners.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, Protocol

ENTRY_OVERHEAD_BYTES: Final = 250
"""What Python takes to hold one record, beside its key and value (measured, rounded up)."""

_offset = attrgetter("offset")

Wake = Callable[[], object]
"""Told that a record of the followed key has come, or that the ring was closed."""


class LogRecord(Protocol):
    """What is read of a record of the log; `timestamp` is milliseconds since the epoch."""

    @property
    def offset(self) -> int: ...  # noqa: D102 - Kafka's

    @property
    def timestamp(self) -> int: ...  # noqa: D102

    @property
    def key(self) -> bytes | None: ...  # noqa: D102

    @property
    def value(self) -> bytes | None: ...  # noqa: D102


class Recent:
    """One record in a ring; `is_valid` is None until somebody has checked it."""

    __slots__ = ("is_valid", "key", "offset", "timestamp", "value")

    def __init__(self, record: LogRecord) -> None:
        self.offset = record.offset
        self.timestamp = record.timestamp
        self.key = record.key
        self.value = record.value
        self.is_valid: bool | None = None

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return len(self.key or b"") + len(self.value or b"") + ENTRY_OVERHEAD_BYTES


class Ring:
    """The recent records of one partition.

    Args:
        start: the offset from which on it will hold every record.
        bytes_max: how much it may take; the newest record stays, however large.
    """

    def __init__(self, start: int, *, bytes_max: int) -> None:
        self.start = start
        self.end = start
        self.is_closed = False
        self.bytes = 0
        self._bytes_max = bytes_max
        self._records: deque[Recent] = deque()
        self._by_key: dict[bytes | None, deque[Recent]] = {}
        self._followers: dict[bytes, set[Wake]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def covers(self, offset: int) -> bool:
        """Whether a reader at `offset` finds all that follows here, now or once it arrives."""
        return offset >= self.start

    def append(self, records: Iterable[LogRecord], end: int) -> None:
        """Take the records from `self.end` up to `end`, and wake who follows their keys.

        Args:
            records: all committed ones of that stretch, in order.
            end: the offset behind it; may lie behind markers that are no records.
        """
        touched: set[bytes] = set()
        for record in records:
            recent = Recent(record)
            self._records.append(recent)
            self._by_key.setdefault(recent.key, deque()).append(recent)
            self.bytes += recent.size
            if recent.key in self._followers:
                touched.add(recent.key)
        self.end = max(self.end, end)
        self._let_go()
        for key in touched:
            self._wake(key)

    def read(
        self, key: bytes, offset: int, *, records_max: int, bytes_max: int
    ) -> tuple[Sequence[Recent], int]:
        """The records of `key` from `offset` on, and the offset at which to go on.

        At least one record is given if there is one, however large; `offset` must be covered.
        """
        held = self._by_key.get(key)
        if held is None:
            return (), max(offset, self.end)
        first = bisect_left(held, offset, key=_offset)
        chosen: list[Recent] = []
        size = 0
        for recent in islice(held, first, None):
            size += len(recent.value or b"")
            if chosen and (len(chosen) >= records_max or size > bytes_max):
                return chosen, recent.offset
            chosen.append(recent)
        return chosen, max(offset, self.end)

    def follow(self, key: bytes, wake: Wake) -> None:
        """Call `wake` whenever a record of `key` comes."""
        self._followers.setdefault(key, set()).add(wake)

    def leave(self, key: bytes, wake: Wake) -> None:
        """Undo `follow`."""
        followers = self._followers.get(key)
        if followers is not None:
            followers.discard(wake)
            if not followers:
                del self._followers[key]

    def close(self) -> None:
        """The partition is not the one it was: nobody may go on here."""
        self.is_closed = True
        for key in list(self._followers):
            self._wake(key)

    def _wake(self, key: bytes) -> None:
        for wake in tuple(self._followers[key]):
            wake()

    def _let_go(self) -> None:
        while self.bytes > self._bytes_max and len(self._records) > 1:
            oldest = self._records.popleft()
            self.bytes -= oldest.size
            self.start = oldest.offset + 1
            held = self._by_key[oldest.key]
            held.popleft()
            if not held:
                del self._by_key[oldest.key]
