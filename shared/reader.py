"""Reader: one partner's records of several types, from a place in the past to the live end.

It takes each type's records where they are: from the shared ring while its place is covered there,
and by fetches of its own while it is behind. The change between the two is a comparison of offsets,
so nothing is lost, repeated or reordered within a type. Order between types is not promised.

A reader is pulled: it holds no more than the batch it returns and, while behind, what one fetch of
each of its partitions brings. A read that is cancelled has read nothing: places move only in the
last step, which does not wait.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from shared.clock import Clock
from shared.cursor import CursorStamp
from shared.errors import GoneError, InvalidError, UnavailableError
from shared.events import Event
from shared.faultpoint import point
from shared.kafka import TopicPartition
from shared.ring import LogRecord, Recent, Ring, Wake

BEHIND_WAIT_SECONDS: Final = 0.1
"""How long a reader that is behind waits for its own fetch before it looks at its live types."""

Check = Callable[[type[Event], bytes | None, bytes | None], object]
"""Proves a record's value and key by its schema, or raises `InvalidError`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What readers may take. Sizes are bytes.

    Attributes:
        ring_bytes_max: of each partition's ring.
        batch_bytes_max: of the values of one batch from the rings; one record always fits.
        catch_up_readers_max: how many readers may be behind the rings at once.
        catch_up_wait_seconds: how long one that falls behind while reading waits for that.
        topic_check_seconds: how often it is checked that the topics are still the same.
    """

    ring_bytes_max: int = 2 * 1024 * 1024
    batch_bytes_max: int = 1024 * 1024
    catch_up_readers_max: int = 8
    catch_up_wait_seconds: float = 30.0
    topic_check_seconds: float = 1.0


class TailRecord(NamedTuple):
    """One record as it came in.

    `timestamp` is when the log took it, milliseconds since the epoch; `cursor` goes on behind it.
    """

    type: str
    value: bytes
    offset: int
    timestamp: int
    cursor: str


class Batch(NamedTuple):
    """What one read found; `cursor` goes on behind all of it, also behind other partners' records.

    `records` are in order within each type.
    """

    records: list[TailRecord]
    cursor: str


class PositionGoneError(GoneError):
    """The place asked for cannot be served any more; `oldest` is the cursor of the oldest that can.

    Types whose place is still there keep it in `oldest`.
    """


class Fetched(NamedTuple):
    """What a fetch of one partition brought: all records up to `position`."""

    records: Sequence[LogRecord]
    position: int


class CatchUp(Protocol):
    """The fetches of one reader that is behind."""

    async def fetch(
        self, wanted: Mapping[TopicPartition, int], *, records_max: int, wait_seconds: float
    ) -> Mapping[TopicPartition, Fetched]:
        """What follows the given offsets, at most `records_max` records; cancelled, it lost none.

        Raises:
            GoneError: the log does not hold one of the offsets any more.
            UnavailableError: Kafka does not answer.
        """
        ...


class Source(Protocol):
    """What a reader needs of the tail that opened it."""

    def catch_up(
        self, partitions: Sequence[TopicPartition]
    ) -> AbstractAsyncContextManager[CatchUp]:
        """Fetches of its own for a reader."""
        ...

    async def gone(
        self, network_id: int, network_affiliate_id: int, offsets: Mapping[str, int | None]
    ) -> PositionGoneError:
        """The error that names the oldest place of these types; None where the place is gone."""
        ...

    def skipped(self, type_name: str, partition: TopicPartition, offset: int, reason: str) -> None:
        """Take note of a record that does not follow its schema."""
        ...

    def left(self, reader: "Reader") -> None:
        """Take note that a reader closed."""
        ...


class Slots:
    """How many readers may be behind at once."""

    def __init__(self, count_max: int) -> None:
        self.taken = 0
        self._count_max = count_max
        self._waiting: set[Wake] = set()

    def take(self) -> bool:
        """Take one if any is free."""
        if self.taken >= self._count_max:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """Give one back, and wake who waits for it."""
        self.taken -= 1
        for wake in tuple(self._waiting):
            wake()

    def wait(self, wake: Wake) -> None:
        """Call `wake` whenever one is given back."""
        self._waiting.add(wake)

    def leave(self, wake: Wake) -> None:
        """Undo `wait`."""
        self._waiting.discard(wake)


@dataclass(frozen=True, slots=True)
class Track:
    """One type of a reader, by its name: the records of the reader's key in one partition."""

    name: str
    schema: type[Event]
    partition: TopicPartition
    ring: Ring


class Reader:
    """Reads one partner's records; made by `Tail.open`, closed by `aclose`. For one task at a time.

    Args:
        network_id: the partner's network.
        network_affiliate_id: the partner.
        tracks: its types.
        offsets: the next record of each of them.
        stamp: makes cursors of offsets in that order.
        source: the tail.
        slots: shared by all readers of the tail.
        check: proves each record before it is given out.
        clock: the time.
        limits: sizes and times.
    """

    def __init__(
        self,
        network_id: int,
        network_affiliate_id: int,
        tracks: Sequence[Track],
        offsets: Sequence[int],
        *,
        stamp: CursorStamp,
        source: Source,
        slots: Slots,
        check: Check,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.partner = (network_id, network_affiliate_id)
        self._key = b"%d:%d" % self.partner
        self._tracks = tuple(tracks)
        self._offsets = list(offsets)
        self._turns = list(range(len(self._tracks)))
        self._stamp = stamp
        self._source = source
        self._slots = slots
        self._check = check
        self._clock = clock
        self._limits = limits
        self._woken = asyncio.Event()
        self._wake: Wake = self._woken.set
        self._own = AsyncExitStack()
        self._catch_up: CatchUp | None = None
        self._has_slot = False
        self._waits_since: float | None = None
        for track in self._tracks:
            track.ring.follow(self._key, self._wake)

    @property
    def types(self) -> tuple[str, ...]:
        """The types it reads."""
        return tuple(track.name for track in self._tracks)

    @property
    def cursor(self) -> str:
        """Where the next read begins."""
        return self._stamp.text(self._offsets)

    @property
    def is_behind(self) -> bool:
        """Whether any type has fallen out of its ring."""
        return bool(self._behind())

    @property
    def lag(self) -> int:
        """Offsets up to the live end, all partners' records and markers counted."""
        ends = (track.ring.end for track in self._tracks)
        return sum(max(0, end - offset) for end, offset in zip(ends, self._offsets, strict=True))

    def reserve(self) -> bool:
        """Take a place among the readers that are behind, if this one is; False if none is free."""
        if not self._has_slot and self.is_behind:
            self._has_slot = self._slots.take()
            return self._has_slot
        return True

    async def read(self, *, records_max: int = 1_000, wait_seconds: float = 1.0) -> Batch:
        """The next records, as soon as there are any; an empty batch after `wait_seconds`.

        Args:
            records_max: at most so many records.
            wait_seconds: 0 looks at the rings and does not wait for news.

        Raises:
            PositionGoneError: retention or a recreated topic has taken what comes next.
            UnavailableError: Kafka does not answer, or this reader fell behind and too many are.
        """
        self._woken.clear()
        if any(track.ring.is_closed for track in self._tracks):
            raise await self._gone()
        behind = self._behind()
        if not behind:
            await self._release()
            return await self._read_live(records_max, wait_seconds)
        budget = records_max if len(behind) == len(self._tracks) else max(1, records_max // 2)
        fetched = await self._fetch(behind, budget, min(wait_seconds, BEHIND_WAIT_SECONDS))
        found: list[TailRecord] = []
        for index in behind:
            self._take(index, fetched.get(self._tracks[index].partition), found)
        self._take_live(records_max - len(found), found)
        return Batch(found, self.cursor)

    async def aclose(self) -> None:
        """Give back what it holds; the place is kept in `cursor`."""
        for track in self._tracks:
            track.ring.leave(self._key, self._wake)
        self._source.left(self)
        await self._release()

    def interrupt(self) -> None:
        """Let a waiting `read` return at once; gentler than to cancel it."""
        self._wake()

    def _behind(self) -> list[int]:
        return [
            index
            for index, (track, offset) in enumerate(zip(self._tracks, self._offsets, strict=True))
            if not track.ring.covers(offset)
        ]

    async def _gone(self) -> PositionGoneError:
        offsets = {
            track.name: None if track.ring.is_closed else offset
            for track, offset in zip(self._tracks, self._offsets, strict=True)
        }
        return await self._source.gone(*self.partner, offsets)

    # --- live -------------------------------------------------------------------------------------

    async def _read_live(self, records_max: int, wait_seconds: float) -> Batch:
        found: list[TailRecord] = []
        self._take_live(records_max, found)
        if not found and wait_seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._woken.wait()
            self._take_live(records_max, found)
        return Batch(found, self.cursor)

    def _take_live(self, records_max: int, found: list[TailRecord]) -> None:
        """Take what the rings hold, each time from another type first, so that none starves."""
        self._turns.append(self._turns.pop(0))
        most = len(found) + records_max
        bytes_left = self._limits.batch_bytes_max
        for index in self._turns:
            track, offset = self._tracks[index], self._offsets[index]
            if track.ring.is_closed or not track.ring.covers(offset):
                continue
            if len(found) >= most or bytes_left <= 0:
                return
            recent, position = track.ring.read(
                self._key, offset, records_max=most - len(found), bytes_max=bytes_left
            )
            bytes_left -= sum(len(record.value or b"") for record in recent)
            self._give(index, [item for item in recent if self._is_known_valid(track, item)], found)
            self._offsets[index] = position

    # --- behind -----------------------------------------------------------------------------------

    async def _fetch(
        self, behind: Sequence[int], records_max: int, wait_seconds: float
    ) -> Mapping[TopicPartition, Fetched]:
        if not self._may_catch_up():
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._woken.wait()
            return {}
        if self._catch_up is None:
            partitions = [track.partition for track in self._tracks]
            opened = self._source.catch_up(partitions)
            self._catch_up = await self._own.enter_async_context(opened)
        wanted = {self._tracks[index].partition: self._offsets[index] for index in behind}
        try:
            fetched = await self._catch_up.fetch(
                wanted, records_max=records_max, wait_seconds=wait_seconds
            )
        except GoneError as error:
            raise await self._out_of_range(behind) from error
        point("tail.fetched")
        return fetched

    def _may_catch_up(self) -> bool:
        """Whether there is a place for one more reader that is behind.

        Raises:
            UnavailableError: there was none for too long.
        """
        if self.reserve():
            self._waits_since = None
            self._slots.leave(self._wake)
            return True
        now = self._clock.monotonic()
        self._waits_since = now if self._waits_since is None else self._waits_since
        if now - self._waits_since > self._limits.catch_up_wait_seconds:
            raise UnavailableError("too many readers are catching up", retry_after_seconds=5)
        self._slots.wait(self._wake)
        return False

    def _take(self, index: int, fetched: Fetched | None, found: list[TailRecord]) -> None:
        if fetched is None:
            return
        track, key, is_valid = self._tracks[index], self._key, self._is_valid
        mine = [item for item in fetched.records if item.key == key and is_valid(track, item)]
        self._give(index, mine, found)
        self._offsets[index] = max(self._offsets[index], fetched.position)

    async def _out_of_range(self, behind: Sequence[int]) -> PositionGoneError:
        """The error for fetches that the log refused: whatever is too old there starts anew."""
        offsets: dict[str, int | None] = {
            track.name: offset for track, offset in zip(self._tracks, self._offsets, strict=True)
        }
        return await self._source.gone(*self.partner, offsets)

    async def _release(self) -> None:
        """Give back the fetches of its own and the place among those that are behind."""
        self._slots.leave(self._wake)
        if self._has_slot:
            self._has_slot = False
            self._slots.give_back()
        if self._catch_up is not None:
            self._catch_up = None
            await self._own.aclose()
            point("tail.switched")

    # --- either -----------------------------------------------------------------------------------

    def _is_valid(self, track: Track, record: LogRecord) -> bool:
        try:
            self._check(track.schema, record.key, record.value)
        except InvalidError as error:
            self._source.skipped(track.name, track.partition, record.offset, error.message)
            return False
        return True

    def _is_known_valid(self, track: Track, record: Recent) -> bool:
        if record.is_valid is None:
            record.is_valid = self._is_valid(track, record)
        return record.is_valid

    def _give(self, index: int, records: Iterable[LogRecord], found: list[TailRecord]) -> None:
        """Give records out; the place moves behind each, and its cursor says so."""
        name, offsets, text = self._tracks[index].name, self._offsets, self._stamp.text
        for record in records:
            offset = record.offset
            offsets[index] = offset + 1
            found.append(
                TailRecord(name, record.value or b"", offset, record.timestamp, text(offsets))
            )
