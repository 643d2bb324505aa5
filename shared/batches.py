"""What a projection decides without I/O: when a batch closes, what is fresh, when to stop.

Everything here is synchronous and takes the time as an argument, so that histories of any length
can be tried in milliseconds.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from shared.events import Envelope, envelope
from shared.kafka import Record

E = TypeVar("E")

MARKS_MAX: Final = 64
"""Fetches remembered until what they found is stored."""


class Item(NamedTuple, Generic[E]):
    """One checked record: the event in it, and the record with its original bytes and headers."""

    event: E
    record: Record[bytes, bytes]

    @property
    def envelope(self) -> Envelope:
        """The record's CloudEvents attributes.

        Raises:
            InvalidError: the record lacks them; it is dead-lettered.
        """
        return envelope(self.record.headers)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition begins after an assignment.

    Attributes:
        offset: the first offset to apply; None for the group's committed one, else the earliest.
        attempts: how often a process died while applying what begins here.
        suspect_until: end (exclusive) of the range it died in; 0 if there is none.
        rewind_seconds: how far before a committed offset to begin, by append time.
    """

    offset: int | None = None
    attempts: int = 0
    suspect_until: int = 0
    rewind_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a projection; every wait and every buffer in it has one here.

    Attributes:
        records_max: a batch closes with this many records,
        bytes_max: or this many bytes of values,
        age_seconds_max: or when its first record has waited this long.
        retry_seconds_max: how long an unavailable store is retried in place before the process
            ends.
        revoke_seconds_max: how long all partitions together may finish their batches when the
            group rebalances or the process stops.
        stall_seconds_max: how long a busy task may make no progress.
        letters_ratio_max: the part of the last `letters_window` records that may be dead letters.
        letters_run_max: how many dead letters may follow one another in a partition.
        attempts_max: how often a record may kill the process before it is a dead letter.
        lag_seconds: pause between two readings of the lag.
    """

    records_max: int = 5_000
    bytes_max: int = 8 * 1024 * 1024
    age_seconds_max: float = 0.25
    retry_seconds_max: float = 60.0
    revoke_seconds_max: float = 5.0
    stall_seconds_max: float = 120.0
    letters_ratio_max: float = 0.1
    letters_window: int = 1_000
    letters_run_max: int = 50
    attempts_max: int = 3
    lag_seconds: float = 5.0


class Batcher:
    """Holds a partition's records until a batch of them closes.

    A batch never exceeds `records_max`, and exceeds `bytes_max` only if its one record does.
    Batches of all partitions come of age at the same ticks of the clock, at most
    `age_seconds_max` after their first record arrived, so that a sink can write them together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: deque[Record[bytes, bytes]] = deque()
        self._bytes = 0
        self.due_at: float | None = None

    def __len__(self) -> int:
        return len(self._records)

    def offer(self, records: Sequence[Record[bytes, bytes]], now: float) -> None:
        """Take in `records`, which follow those held."""
        if not records:
            return
        self._records.extend(records)
        self._bytes += sum([_size(record) for record in records])
        if self.due_at is None:
            self.due_at = self._next_tick(now)

    def is_ready(self, now: float) -> bool:
        """Whether a batch has closed."""
        if self.due_at is None:
            return False
        return (
            now >= self.due_at
            or len(self._records) >= self._limits.records_max
            or self._bytes >= self._limits.bytes_max
        )

    def take(self, now: float, records_max: int | None = None) -> list[Record[bytes, bytes]]:
        """Hand out the oldest batch, closed or not; the rest ages anew from `now`."""
        count_max = min(records_max or self._limits.records_max, self._limits.records_max)
        if len(self._records) <= count_max and self._bytes <= self._limits.bytes_max:
            whole = list(self._records)
            self.clear()
            return whole
        batch: list[Record[bytes, bytes]] = []
        held = 0
        while self._records and len(batch) < count_max:
            size = _size(self._records[0])
            if batch and held + size > self._limits.bytes_max:
                break
            held += size
            batch.append(self._records.popleft())
        self._bytes -= held
        self.due_at = self._next_tick(now) if self._records else None
        return batch

    def clear(self) -> None:
        """Forget everything held."""
        self._records.clear()
        self._bytes = 0
        self.due_at = None

    @property
    def is_full(self) -> bool:
        """Whether two batches wait: intake should pause."""
        return (
            len(self._records) >= 2 * self._limits.records_max
            or self._bytes >= 2 * self._limits.bytes_max
        )

    @property
    def is_low(self) -> bool:
        """Whether less than one batch waits: intake may resume."""
        return (
            len(self._records) < self._limits.records_max and self._bytes < self._limits.bytes_max
        )

    def _next_tick(self, now: float) -> float:
        age = self._limits.age_seconds_max
        return (now // age + 1) * age if age > 0 else now


def _size(record: Record[bytes, bytes]) -> int:
    return len(record.value) if record.value is not None else 0


class Freshness:
    """Up to which log time everything of one partition is stored; never ahead of the truth.

    Two facts tell. A fetch that was sent after moment T and found the log's end at E proves that
    whatever is at E or later was appended after T: once everything before E is stored, everything
    appended until T is. And a stored record proves it for everything appended before it. The only
    assumption is that the clocks of broker and service agree.
    """

    def __init__(self, start: int) -> None:
        """Begin knowing that everything before offset `start` is stored."""
        self._marks: deque[tuple[int, int]] = deque()
        self._polled_at: int | None = None
        self._through = 0
        self._stored = start

    @property
    def through_ms(self) -> int:
        """Milliseconds since the epoch; 0 while nothing is known."""
        return self._through

    def polled(self, at_ms: int | None, end: int | None) -> None:
        """A fetch answered at `at_ms` that the log's stable end was `end`.

        It was sent after the one before had been answered, which is the moment it proves.
        """
        if at_ms is None or end is None or at_ms == self._polled_at:
            return
        sent_after, self._polled_at = self._polled_at, at_ms
        if sent_after is None:
            return
        if len(self._marks) >= MARKS_MAX:
            self._marks.pop()
        self._marks.append((sent_after, end))
        self._settle()

    def stored(self, next_offset: int, appended_ms: int | None = None) -> None:
        """Everything before `next_offset` is stored; its last record was appended then."""
        self._stored = max(self._stored, next_offset)
        if appended_ms is not None:
            self._through = max(self._through, appended_ms - 1)
        self._settle()

    def _settle(self) -> None:
        while self._marks and self._marks[0][1] <= self._stored:
            self._through = max(self._through, self._marks.popleft()[0])


class LetterBudget:
    """How many records may be refused before the fault is taken to be ours.

    A projection that refuses much of what it reads would empty its topic into the dead letters; it
    stops instead.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._recent: deque[bool] = deque(maxlen=limits.letters_window)
        self._refused = 0
        self._runs: dict[tuple[str, int], int] = {}

    def accepted(self, partition: tuple[str, int], count: int = 1) -> None:
        """`count` records of `partition` passed the check."""
        if count <= 0:
            return
        self._runs[partition] = 0
        for _ in range(min(count, self._limits.letters_window)):
            self._note(refused=False)

    def refused(self, partition: tuple[str, int]) -> str | None:
        """One record of `partition` is to be a dead letter.

        Returns:
            Why it must not be, if a limit is passed; else None.
        """
        run = self._runs[partition] = self._runs.get(partition, 0) + 1
        self._note(refused=True)
        if run > self._limits.letters_run_max:
            return f"{run} records in a row were refused"
        allowed = self._limits.letters_ratio_max * self._limits.letters_window
        if self._refused > allowed:
            return (
                f"{self._refused} of the last {self._limits.letters_window} records were refused, "
                f"{allowed:.0f} are allowed"
            )
        return None

    def _note(self, *, refused: bool) -> None:
        if len(self._recent) == self._recent.maxlen:
            self._refused -= self._recent[0]
        self._recent.append(refused)
        self._refused += refused


def halves(
    items: Sequence[E], offset_of: Callable[[E], int], next_offset: int
) -> list[tuple[Sequence[E], int]]:
    """`items` as two runs in order, each with the offset that follows it.

    The first run ends where the second begins, so that gaps of the log belong to one of them.
    """
    middle = len(items) // 2
    return [(items[:middle], offset_of(items[middle])), (items[middle:], next_offset)]
