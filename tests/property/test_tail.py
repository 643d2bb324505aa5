"""Protects the tail's promise: each record of a partner once and in order, whatever happens.

A log is appended to with aborted stretches and markers, a shared consumer feeds rings of a few
records at its own pace, and readers read, lag, are cancelled and resume elsewhere by any cursor they
have seen; all in an order that hypothesis chooses. The model is the list of committed records.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from shared.clock import ManualClock
from shared.cursor import Cursor, CursorStamp, tag_of
from shared.errors import GoneError, InvalidError
from shared.events import Event
from shared.kafka import TopicPartition
from shared.reader import Fetched, Limits, PositionGoneError, Reader, Slots, Track
from shared.ring import ENTRY_OVERHEAD_BYTES, Ring

TYPES = ("clicks", "conversions")
PARTITIONS = {name: TopicPartition(name, 0) for name in TYPES}
IDS = {tag_of(name): name[:8].encode().ljust(8) for name in TYPES}
PARTNER = (1, 2)
KEY = b"1:2"
OTHER = b"1:3"
INVALID = b"invalid"


@dataclass(frozen=True)
class LogRecord:
    """A record as Kafka gives it."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int = 0


@dataclass
class Partition:
    """One partition: committed records, and offsets that are none (aborted, markers)."""

    records: list[LogRecord] = field(default_factory=list)
    end: int = 0
    start: int = 0

    def append(self, key: bytes, value: bytes) -> None:
        self.records.append(LogRecord(self.end, key, value))
        self.end += 1

    def between(self, first: int, last: int) -> list[LogRecord]:
        return [record for record in self.records if first <= record.offset < last]


def _check(_schema, _key, value) -> None:
    if value == INVALID:
        raise InvalidError("invalid")


class World:
    """The log, the shared fetches, and what a tail does for its readers."""

    def __init__(self, ring_records: int, slots: int) -> None:
        self.log = {name: Partition() for name in TYPES}
        self.limits = Limits(ring_bytes_max=ring_records * (ENTRY_OVERHEAD_BYTES + 10))
        self.rings = {name: self._ring(0) for name in TYPES}
        self.slots = Slots(slots)
        self.numbers = iter(range(10_000))
        self.skips: list[tuple[str, int]] = []

    def _ring(self, start: int) -> Ring:
        return Ring(start, bytes_max=self.limits.ring_bytes_max)

    def append(self, name: str, what: str) -> None:
        """One more offset: a record of ours or of another partner, one that is invalid, or none."""
        log, value = self.log[name], b"%d" % next(self.numbers)
        if what == "marker":
            log.end += 1
        else:
            log.append(OTHER if what == "other" else KEY, INVALID if what == "invalid" else value)

    def feed(self, name: str, count: int) -> None:
        """The shared consumer fetches `count` more offsets of a type."""
        ring, log = self.rings[name], self.log[name]
        end = min(log.end, ring.end + count)
        ring.append(log.between(ring.end, end), end)

    def reader(self, offsets: list[int]) -> Reader:
        tracks = [Track(name, Event, PARTITIONS[name], self.rings[name]) for name in TYPES]
        return Reader(
            *PARTNER,
            tracks,
            offsets,
            stamp=CursorStamp(*PARTNER, IDS),
            source=self,
            slots=self.slots,
            check=_check,
            clock=ManualClock(),
            limits=self.limits,
        )

    @asynccontextmanager
    async def catch_up(self, partitions):
        yield OwnFetches(self)

    async def gone(self, network_id, partner_id, offsets) -> PositionGoneError:
        return PositionGoneError("gone", "oldest")

    def skipped(self, name, partition, offset, reason) -> None:
        self.skips.append((name, offset))

    def left(self, reader) -> None:
        pass


class OwnFetches:
    """Fetches of one reader: at most `records_max` records, and sometimes none."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(self, wanted, *, records_max, wait_seconds):
        await asyncio.sleep(0)
        fetched = {}
        for partition, offset in wanted.items():
            log = self._world.log[partition.topic]
            if offset < log.start:
                raise GoneError("gone")
            records = log.between(offset, log.end)[:records_max]
            records_max -= len(records)
            position = (
                records[-1].offset + 1 if records else offset if records_max <= 0 else log.end
            )
            fetched[partition] = Fetched(records, position)
        return fetched


name_of_type = st.sampled_from(TYPES)
index = st.integers(0, 2)
appends = st.tuples(
    st.just("append"),
    name_of_type,
    st.lists(st.sampled_from(["ours", "ours", "ours", "other", "invalid", "marker"]), max_size=6),
)
steps = st.one_of(
    appends,
    st.tuples(st.just("feed"), name_of_type, st.integers(1, 8)),
    st.tuples(st.just("read"), index, st.integers(1, 5)),
    st.tuples(st.just("cancel"), index),
    st.tuples(st.just("resume"), index, st.integers(0, 3)),
)
histories = st.lists(steps, min_size=30, max_size=120)


class Client:
    """A partner's program: what it has received, and the reader of its present connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history: list[tuple[str, str, int, bytes] | tuple[str]] = []
        self.reader = world.reader([0, 0])
        self.first = self.reader.cursor

    async def read(self, records_max: int) -> None:
        batch = await self.reader.read(records_max=records_max, wait_seconds=0)
        assert len(batch.records) <= records_max
        self._receive(batch)

    def _receive(self, batch) -> None:
        for record in batch.records:
            self.history.append((record.cursor, record.type, record.offset, record.value))
        self.history.append((batch.cursor,))

    async def cancel(self) -> None:
        """A read that is cancelled while it waits has read nothing."""
        before = self.reader.cursor
        reading = asyncio.ensure_future(self.reader.read(records_max=3, wait_seconds=0))
        await asyncio.sleep(0)
        if not reading.done():
            reading.cancel()
            await asyncio.wait([reading])
            assert self.reader.cursor == before
        else:
            self._receive(reading.result())

    async def resume(self, back: int) -> None:
        """The connection is cut, `back` items before the last were the last to arrive."""
        if back:
            del self.history[-back:]
        cursor = self.history[-1][0] if self.history else self.first
        await self.reader.aclose()
        places = Cursor.decode(cursor).places
        self.reader = self.world.reader([places[tag_of(name)].offset for name in TYPES])

    def values(self, name: str) -> list[tuple[int, bytes]]:
        return [item[2:] for item in self.history if len(item) > 1 and item[1] == name]


async def _take(world: World, clients: list[Client], step: tuple) -> None:
    match step:
        case ("append", name, what):
            for item in what:
                world.append(name, item)
        case ("feed", name, count):
            world.feed(name, count)
        case ("read", index, records_max):
            await clients[index].read(records_max)
        case ("cancel", index):
            await clients[index].cancel()
        case ("resume", index, back):
            await clients[index].resume(back)


async def _play(history: list[tuple], ring_records: int, slots: int) -> None:
    world = World(ring_records, slots)
    clients = [Client(world) for _ in range(3)]
    for step in history:
        await _take(world, clients, step)
        assert 0 <= world.slots.taken <= slots
    for name in TYPES:
        world.feed(name, 1_000)
    while any(client.reader.lag or client.reader.is_behind for client in clients):
        for client in clients:
            await client.read(5)
    for client in clients:
        for name in TYPES:
            committed = [
                (record.offset, record.value)
                for record in world.log[name].records
                if record.key == KEY and record.value != INVALID
            ]
            assert client.values(name) == committed
        await client.reader.aclose()
    assert world.slots.taken == 0


@given(histories, st.integers(1, 8), st.integers(1, 3))
def test_every_history_gives_each_record_once_and_in_order(history, ring_records, slots):
    """No gap, no repeat, no reorder: through lag, switches, cancelled reads and resumption."""
    asyncio.run(_play(history, ring_records, slots))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 2_000))
def test_a_ring_holds_no_more_than_its_bytes_and_the_newest(sizes, bytes_max):
    """Memory is bounded whatever comes; what the ring covers, it holds."""
    ring = Ring(0, bytes_max=bytes_max)
    records = [LogRecord(offset, KEY, b"x" * size) for offset, size in enumerate(sizes)]
    for record in records:
        ring.append([record], record.offset + 1)
        assert ring.bytes <= bytes_max or len(ring) == 1
        held, position = ring.read(KEY, ring.start, records_max=10_000, bytes_max=10**9)
        assert [item.offset for item in held] == list(range(ring.start, ring.end))
        assert position == ring.end == record.offset + 1


def test_retention_under_a_reader_that_is_behind_is_named():
    """What retention has taken is an error that says where to go on, never a silent gap."""

    async def play() -> str:
        world = World(ring_records=1, slots=1)
        for number in range(5):
            world.log["clicks"].append(KEY, b"%d" % number)
        world.feed("clicks", 5)
        world.log["clicks"].start = 3
        reader = world.reader([0, 0])
        try:
            await reader.read()
        except PositionGoneError as error:
            return error.oldest
        finally:
            await reader.aclose()
        return ""

    assert asyncio.run(play()) == "oldest"


def test_an_invalid_record_is_left_out_and_counted():
    """What fails its check reaches nobody, and does not stop what follows."""

    async def play() -> tuple[list[bytes], list[tuple[str, int]]]:
        world = World(ring_records=10, slots=1)
        for value in (b"1", INVALID, b"2"):
            world.log["clicks"].append(KEY, value)
        world.feed("clicks", 3)
        readers = [world.reader([0, 0]), world.reader([0, 0])]
        batches = [await reader.read() for reader in readers]
        for reader in readers:
            await reader.aclose()
        return [record.value for batch in batches for record in batch.records], world.skips

    values, skips = asyncio.run(play())
    assert values == [b"1", b"2"] * 2
    assert skips == [("clicks", 1)]  # checked once for all live readers
