"""Protects the replica over generated histories: its table is the topic's, and never claims more.

A fake consumer plays a log of values, stale and repeated ones, tombstones, offsets that nobody sees
(aborted records, transaction markers, gaps of compaction), in batches cut anywhere, with records
appended at any moment, answers that lie unread, and consumers that are lost.
"""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.clock import ManualClock
from shared.errors import UnavailableError
from shared.events import NetworkState
from shared.kafka import TopicPartition
from shared.replica import Replica
from shared.topics import NETWORKS_STATE

PARTITIONS = 2
KEYS = 4
TOPIC = NETWORKS_STATE.name


@dataclass(frozen=True)
class Entry:
    """What stands at one offset: a version, a tombstone (0), damaged bytes (-1), nothing (None)."""

    key: int
    version: int | None

    @property
    def value(self) -> bytes | None:
        """The record's value."""
        if self.version == -1:
            return b"{"
        return events.encode(_state(self.key, self.version)) if self.version else None


@dataclass(frozen=True)
class Turn:
    """What happens in one `getmany`."""

    appended: tuple[int, int]
    waits: tuple[float, float]
    answered: tuple[bool, bool]
    records_max: int
    lost: bool = False


def _state(key: int, version: int) -> NetworkState:
    return NetworkState(network_id=key + 1, version=version, granular_per_hour=version)


class Finished(Exception):  # noqa: N818 - no error
    """The script is over."""


@dataclass
class Log:
    """Entries by partition; an entry counts from when it was appended."""

    clock: ManualClock
    entries: list[list[Entry]]
    times: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])

    def append(self, partition: int, count: int) -> None:
        """Make the next `count` entries visible."""
        free = len(self.entries[partition]) - len(self.times[partition])
        self.times[partition] += [self.clock.monotonic()] * min(count, free)

    def end(self, partition: int) -> int:
        """The end offset."""
        return len(self.times[partition])


class FakeConsumer:
    """Plays a log as aiokafka does: one fetch under way a partition, answers drained in pieces."""

    def __init__(self, log: Log, script: Iterator[Turn], check) -> None:
        self.log = log
        self.script = script
        self.check = check
        self.places = [0] * PARTITIONS
        self.asked = [0] * PARTITIONS
        self.buffered: list[int | None] = [None] * PARTITIONS
        self.stable: list[int | None] = [None] * PARTITIONS
        self.stamps: list[int | None] = [None] * PARTITIONS

    @property
    def _client(self) -> "FakeConsumer":
        return self

    async def fetch_all_metadata(self) -> "FakeConsumer":
        return self

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(PARTITIONS))

    async def end_offsets(self, partitions):
        return {item: self.log.end(item.partition) for item in partitions}

    async def beginning_offsets(self, partitions):
        return dict.fromkeys(partitions, 0)

    def assign(self, partitions) -> None:
        pass

    def seek(self, partition, offset: int) -> None:
        self.asked[partition.partition] = self.log.end(partition.partition)

    async def position(self, partition) -> int:
        return self.places[partition.partition]

    def last_stable_offset(self, partition) -> int | None:
        return self.stable[partition.partition]

    def last_poll_timestamp(self, partition) -> int | None:
        return self.stamps[partition.partition]

    async def getmany(self, *, timeout_ms: int, max_records: int):
        self.check(self)
        turn = next(self.script, None)
        if turn is None:
            raise Finished
        if turn.lost:
            raise UnavailableError("lost")
        self.log.clock.advance(turn.waits[0])
        for number in range(PARTITIONS):
            self.log.append(number, turn.appended[number])
            if turn.answered[number] and self.buffered[number] is None:
                self._answer(number)
        self.log.clock.advance(turn.waits[1])
        self.check(self)
        drained = {n: self._drain(n, turn.records_max) for n in range(PARTITIONS)}
        return {TopicPartition(TOPIC, n): records for n, records in drained.items() if records}

    def _answer(self, number: int) -> None:
        self.stable[number] = self.asked[number]
        self.stamps[number] = (self.stamps[number] or 0) + 1
        if self.asked[number] > self.places[number]:
            self.buffered[number] = self.asked[number]
        else:
            self.asked[number] = self.log.end(number)

    def _drain(self, number: int, records_max: int):
        end = self.buffered[number]
        if end is None:
            return []
        found = []
        while self.places[number] < end and len(found) < records_max:
            entry = self.log.entries[number][self.places[number]]
            if entry.version is not None:
                key = str(entry.key + 1).encode()
                found.append(
                    SimpleNamespace(
                        key=key, value=entry.value, partition=number, offset=self.places[number]
                    )
                )
            self.places[number] += 1
        if self.places[number] == end:
            self.buffered[number] = None
            self.asked[number] = self.log.end(number)
        return found


class PlayedReplica(Replica[NetworkState]):
    """A replica whose consumers are fakes."""

    def __init__(self, log: Log, script: Iterator[Turn], *, check, **options) -> None:
        super().__init__(
            "unused", NETWORKS_STATE, NetworkState, clock=log.clock, client_id="t", **options
        )
        self.log = log
        self.script = script
        self.check = check

    @asynccontextmanager
    async def _consumer(self):
        yield FakeConsumer(self.log, self.script, self.check)

    async def _topic_id(self, consumer) -> bytes:
        return b"one topic"


def model(entries: list[Entry], *, withhold: bool) -> dict[str, int]:
    """The versions that a reader of `entries` should hold, by the plainest rule."""
    held: dict[str, int] = {}
    floors: dict[str, int] = {}
    for entry in entries:
        key = str(entry.key + 1)
        if entry.version is None or (entry.version == -1 and not withhold):
            continue
        if entry.version <= 0:
            floors[key] = max(held.pop(key, 0), floors.get(key, 0))
        elif entry.version >= held.get(key, floors.get(key, 0) + 1):
            held[key] = entry.version
    return held


versions = st.one_of(
    st.none(), st.just(0), st.just(-1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)
)


def _entries(partition: int):
    keys = st.integers(0, KEYS - 1).map(lambda key: key * PARTITIONS + partition)
    return st.lists(st.builds(Entry, keys, versions), max_size=24)


turns = st.builds(
    Turn,
    appended=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    waits=st.tuples(st.sampled_from([0.0, 0.05, 0.2, 60.0]), st.sampled_from([0.0, 0.05, 60.0])),
    answered=st.tuples(st.booleans(), st.booleans()),
    records_max=st.integers(1, 7),
    lost=st.integers(0, 12).map(lambda number: number == 0),
)
histories = st.tuples(*(_entries(number) for number in range(PARTITIONS)))


def play(log: Log, script: list[Turn], check=lambda *_: None, **options) -> PlayedReplica:
    """Run a replica through a script."""
    replica = PlayedReplica(log, iter(script), check=lambda c: check(replica, c), **options)
    with pytest.raises(Finished):
        asyncio.run(replica.run())
    return replica


def _held(replica: Replica[NetworkState]) -> dict[str, int]:
    return {key: value.version for key, value in replica.items()}


def _drained(turns_wanted: int) -> list[Turn]:
    everything = Turn((99, 99), (0.0, 0.0), (True, True), 99)
    return [everything] * turns_wanted


@pytest.mark.logs_errors
@given(histories, st.lists(turns, max_size=20), st.sampled_from(["keep", "withhold"]))
def test_the_table_is_what_the_topic_says(entries, script, unreadable):
    """Through batches cut anywhere, invisible offsets and lost consumers, nothing is missing."""
    log = Log(ManualClock(), list(entries))
    replica = play(log, script + _drained(6), unreadable=unreadable)
    wanted = model([*entries[0], *entries[1]], withhold=unreadable == "withhold")
    assert _held(replica) == wanted
    assert all(value.granular_per_hour == value.version for _, value in replica.items())


@pytest.mark.logs_errors
@given(histories, st.lists(turns, max_size=20), st.tuples(st.integers(0, 24), st.integers(0, 24)))
def test_it_is_ready_only_with_everything_that_was_there_at_its_start(entries, script, there):
    """A half-loaded table is never seen: before it is ready there is nothing, then all."""
    log = Log(ManualClock(), list(entries))
    for number in range(PARTITIONS):
        log.append(number, there[number])
    at_start = [log.end(number) for number in range(PARTITIONS)]

    def check(replica, consumer) -> None:
        if not replica.is_ready:
            assert not _held(replica)
        elif replica.counts.loads == 1:
            assert all(place >= end for place, end in zip(consumer.places, at_start, strict=True))

    calm = [turn for turn in script if not turn.lost]
    assert play(log, calm + _drained(6), check).is_ready


@pytest.mark.logs_errors
@given(histories, st.lists(turns, max_size=24))
def test_its_freshness_never_claims_what_it_has_not_applied(entries, script):
    """Whatever was appended longer ago than the freshness has been applied, at every moment."""
    log = Log(ManualClock(), list(entries))

    def check(replica, consumer) -> None:
        if replica.counts.loads != 1:
            return
        as_of = log.clock.monotonic() - replica.freshness_seconds()
        for number, place in enumerate(consumer.places):
            assert sum(time < as_of for time in log.times[number]) <= place

    play(log, [turn for turn in script if not turn.lost] + _drained(4), check)


@pytest.mark.logs_errors
@given(histories, st.lists(turns, max_size=16))
def test_changes_told_add_up_to_the_table(entries, script):
    """Whoever keeps an index by the changes has the same table, also across reloads."""
    index: dict[str, NetworkState] = {}

    def on_change(key, old, new) -> None:
        assert index.get(key) == old
        index.pop(key, None)
        if new is not None:
            index[key] = new

    log = Log(ManualClock(), list(entries))
    replica = play(log, script + _drained(6), unreadable="withhold", on_change=on_change)
    assert index == dict(replica.items())


@pytest.mark.logs_errors
@given(histories)
def test_compaction_changes_nothing(entries):
    """The last record of each key alone leads to the same table as the whole history of an owner.

    An owner's own history: versions grow, and a repeat comes only as the whole of a batch.
    """
    grown = [_grown(part) for part in entries]
    whole = play(Log(ManualClock(), grown), _drained(6))
    compacted = play(Log(ManualClock(), [_compacted(part) for part in grown]), _drained(6))
    assert _held(whole) == _held(compacted)


def _grown(entries: list[Entry]) -> list[Entry]:
    counts: dict[int, int] = {}
    result = []
    for entry in entries:
        counts[entry.key] = counts.get(entry.key, 0) + 1
        visible = entry.version is not None and entry.version != -1
        result.append(Entry(entry.key, entry.version and counts[entry.key] if visible else None))
    return result


def _compacted(entries: list[Entry]) -> list[Entry]:
    last = {entry.key: index for index, entry in enumerate(entries) if entry.version is not None}
    return [
        entry if last.get(entry.key) == index else Entry(entry.key, None)
        for index, entry in enumerate(entries)
    ]


def test_a_fetch_that_lay_unread_is_not_taken_for_fresh():
    """A process stopped for a minute wakes up with an old answer: it must not trust it."""
    log = Log(ManualClock(), [[Entry(0, 1)], []])
    stopped = Turn((1, 0), (60.0, 0.0), (True, True), 99)
    quick = Turn((0, 0), (0.05, 0.0), (True, True), 99)
    seen: list[float] = []

    script = [quick, stopped, quick, quick, quick]
    play(log, script, lambda replica, _: seen.append(replica.freshness_seconds()))
    ages = [round(age, 2) for age in seen[1::2]]
    assert max(ages[1:3]) >= 60.0
    assert ages[-1] < 1.0


@pytest.mark.logs_errors
def test_a_damaged_record_hides_a_key_until_a_newer_one_comes():
    """It may have been a revocation: neither the value before nor its repeat may come back."""
    damaged = [Entry(0, 5), Entry(0, -1)]
    withheld = play(Log(ManualClock(), [damaged, []]), _drained(4), unreadable="withhold")
    assert (withheld.get("1"), withheld.is_withheld("1")) == (None, True)
    assert withheld.counts.unreadable == 1
    repeated = [*damaged, Entry(0, 5)]
    again = play(Log(ManualClock(), [repeated, []]), _drained(4), unreadable="withhold")
    assert (again.get("1"), again.is_withheld("1")) == (None, True)
    healed = [*repeated, Entry(0, 6)]
    after = play(Log(ManualClock(), [healed, []]), _drained(4), unreadable="withhold")
    assert (_held(after), after.is_withheld("1")) == ({"1": 6}, False)
    kept = play(Log(ManualClock(), [damaged, []]), _drained(4), unreadable="keep")
    assert (_held(kept), kept.is_withheld("1")) == ({"1": 5}, False)


@pytest.mark.logs_errors
def test_a_value_under_anothers_key_is_unreadable():
    """A record in the wrong place proves nothing about that key."""
    log = Log(ManualClock(), [[Entry(0, 3)], []])
    replica = play(log, _drained(4), key_of=lambda state: f"other {state.network_id}")
    assert (len(replica), replica.counts.unreadable) == (0, 1)
