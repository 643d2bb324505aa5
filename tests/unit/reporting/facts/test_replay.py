"""Protects the reading of the log for a rebuild: every record up to an end, none lost between two."""

from collections.abc import Mapping, Sequence

from services.reporting.facts.replay import Fact, Replay
from shared.kafka import Record, TopicPartition

HERE = TopicPartition("tracking.clicks.v1", 0)


class _Log:
    """A consumer that is given more than it asked for, as a fetch brings whole batches."""

    def __init__(self, records: int, each: int) -> None:
        self._records = records
        self._each = each
        self._at = 0

    def assign(self, _partitions: Sequence[TopicPartition]) -> None:
        pass

    def seek(self, _partition: TopicPartition, offset: int) -> None:
        self._at = offset

    async def position(self, _partition: TopicPartition) -> int:
        return self._at

    async def getmany(
        self, *_partitions: TopicPartition, timeout_ms: int
    ) -> Mapping[TopicPartition, list[Fact]]:
        assert timeout_ms
        until = min(self._at + self._each, self._records)
        found = [_record(offset) for offset in range(self._at, until)]
        self._at = until
        return {HERE: found}


def _record(offset: int) -> Fact:
    return Record(HERE.topic, 0, offset, 0, 0, b"1:10", b"{}", None, 0, 0, ())


async def test_what_a_fetch_brought_too_much_is_read_again() -> None:
    """The log grows while it is read, so a rebuild reads it in passes up to the end of the time."""
    replay = Replay(_Log(100, 30), [HERE], {HERE.topic: 1}, lambda _record: None)
    positions = {HERE: 0}
    read: list[int] = []
    for end in (10, 45, 46, 100):
        async for records in replay.read(positions, {HERE: end}):
            read += [record.offset for record in records]
        assert positions == {HERE: end}
    assert read == list(range(100))
