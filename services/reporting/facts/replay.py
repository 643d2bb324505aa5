"""Reads the tracking topics again, from the oldest record on, beside the projection.

It takes part in no group and commits nothing. A record that the projection has refused is passed
over here by the same checks; it is among the dead letters already.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from shared.errors import RejectedError
from shared.kafka import (
    Consumer,
    Record,
    TopicPartition,
    open_consumer,
    partitions_of,
    translated,
)
from shared.lane import require_home

POLL_MS: Final = 200
CHECKED_AT_ONCE: Final = 500
"""Records checked before partners get a turn of the loop."""

Positions = dict[TopicPartition, int]
Fact = Record[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Replay:
    """A reader of all partitions of the tracking topics; made by `open_replay`."""

    consumer: Consumer
    partitions: Sequence[TopicPartition]
    counts: Mapping[str, int]
    check: Callable[[Fact], None]

    async def begins(self) -> Positions:
        """The oldest offset that each partition still has."""
        with translated("reading the beginnings of topics"):
            return dict(await self.consumer.beginning_offsets(self.partitions))

    async def ends(self) -> Positions:
        """The offset behind the last record of each partition."""
        with translated("reading the ends of topics"):
            return dict(await self.consumer.end_offsets(self.partitions))

    async def read(
        self, positions: Positions, ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Fact]]:
        """The good records from `positions` up to `ends`; `positions` follow what was taken."""
        wanted = [each for each in self.partitions if positions[each] < ends[each]]
        self.consumer.assign(wanted)
        for each in wanted:
            self.consumer.seek(each, positions[each])
        while wanted:
            with translated("replaying the log"):
                polled = await self.consumer.getmany(*wanted, timeout_ms=POLL_MS)
            yield [
                record
                for each, records in polled.items()
                for record in await self._good(records, ends[each])
            ]
            for each in wanted:
                with translated("replaying the log"):
                    position = await self.consumer.position(each)
                positions[each] = min(position, ends[each])  # a fetch brings more than is wanted
            wanted = [each for each in wanted if positions[each] < ends[each]]

    async def _good(self, records: Sequence[Fact], end: int) -> list[Fact]:
        found = []
        for number, record in enumerate(records, start=1):
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)  # noqa: TID251 - a turn for others, no time
            if record.offset < end and self._is_good(record):
                found.append(record)
        return found

    def _is_good(self, record: Fact) -> bool:
        try:
            require_home(record, self.counts[record.topic])
            self.check(record)
        except RejectedError:
            return False
        return True


@asynccontextmanager
async def open_replay(
    bootstrap: str, topics: Sequence[str], check: Callable[[Fact], None]
) -> AsyncIterator[Replay]:
    """A reader of `topics`.

    Raises:
        SetupError: a topic does not exist.
        UnavailableError: Kafka does not answer.
    """
    async with open_consumer(bootstrap, client_id="reporting-replay") as consumer:
        partitions = await partitions_of(consumer, topics)
        counts = {each.topic: each.partition + 1 for each in partitions}
        yield Replay(consumer, partitions, counts, check)
