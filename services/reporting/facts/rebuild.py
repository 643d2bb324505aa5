"""Rebuild: the facts are made anew from the log, beside the ones that partners read.

The next generation gets what the log no longer holds from the present one, and everything else from
the log. Once it has caught up, writes are held for a moment, the rest of the log is read, and the
next generation takes the place of the present one: a query sees one of them, whole. Killed at any
moment, the generation that is read stays, and what was begun is dropped at the next start.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from services.reporting.facts.generations import Generations
from services.reporting.facts.operations import Progress
from services.reporting.facts.replay import Fact, Positions, Replay
from services.reporting.facts.tables import CHANGES, TABLE_OF_TOPIC
from shared.clickhouse import ClickHouse
from shared.errors import InvalidError, UnavailableError
from shared.faultpoint import point
from shared.kafka import TopicPartition
from shared.sinks import spliced

log = logging.getLogger(__name__)

NEAR_RECORDS: Final = 2_000
"""So close to the end of the log, the rest is read while writes are held."""
INSERT_BYTES_MAX: Final = 16 * 1024 * 1024
COPY_SECONDS_MAX: Final = 3_600.0

_TOPIC_OF_TABLE: Final = {
    **{table: topic for topic, table in TABLE_OF_TOPIC.items()},
    CHANGES: "tracking.conversions.v1",
}
_TABLES: Final = (
    "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'"
)

Prepare = Callable[[ClickHouse], Awaitable[None]]
OpenReplay = Callable[[], AbstractAsyncContextManager[Replay]]


class Rebuild:
    """Makes the next generation and switches to it.

    Args:
        clickhouse: the generation that is read.
        generations: which one that is.
        prepare: makes the tables of a generation.
        open_replay: opens a reader of the log.
    """

    def __init__(
        self,
        clickhouse: ClickHouse,
        generations: Generations,
        prepare: Prepare,
        open_replay: OpenReplay,
    ) -> None:
        self._clickhouse = clickhouse
        self._generations = generations
        self._prepare = prepare
        self._open_replay = open_replay

    async def run(self, progress: Progress) -> None:
        """Do it all; the present generation is dropped at the end.

        Raises:
            UnavailableError: Kafka or ClickHouse does not answer; nothing has changed.
        """
        await self._generations.drop_others()
        following = self._generations.following()
        async with self._clickhouse.beside(following) as beside, self._open_replay() as replay:
            await self._prepare(beside)
            begins = await replay.begins()
            progress.step("copying what the log no longer holds")
            await self._copy(beside, dict.fromkeys(begins, 0), begins)
            progress.step("replaying the log", total=_between(begins, await replay.ends()))
            positions = dict(begins)
            await self._catch_up(beside, replay, positions, progress)
            point("rebuild.before_switch")
            progress.step("switching")
            async with self._clickhouse.writes_held():
                await self._read(beside, replay, positions, await replay.ends(), progress)
                await self._copy(beside, begins, await replay.begins())
                await self._copy_others(beside)
                await self._generations.switch(beside)
        point("rebuild.after_switch")
        try:
            await self._clickhouse.reads_ended()
            await self._generations.drop_others()
        except UnavailableError as error:  # the next start or rebuild drops it
            log.warning("old_generation_kept", extra={"reason": error.message})

    async def _catch_up(
        self, beside: ClickHouse, replay: Replay, positions: Positions, progress: Progress
    ) -> None:
        while _between(positions, ends := await replay.ends()) > NEAR_RECORDS:
            await self._read(beside, replay, positions, ends, progress)

    async def _read(
        self,
        beside: ClickHouse,
        replay: Replay,
        positions: Positions,
        ends: Mapping[TopicPartition, int],
        progress: Progress,
    ) -> None:
        """Bring the log from `positions` up to `ends` into the next generation."""
        waiting: list[Fact] = []
        size = 0
        async for records in replay.read(positions, ends):
            waiting += records
            size += sum(len(record.value or b"") for record in records)
            if size >= INSERT_BYTES_MAX:
                await _insert_all(beside, waiting)
                waiting, size = [], 0
            progress.advance(len(records))
            point("rebuild.mid_replay")
        await _insert_all(beside, waiting)

    async def _copy(self, beside: ClickHouse, since: Positions, until: Positions) -> None:
        """Copy the rows whose records lie between two places of the log."""
        for table, topic in _TOPIC_OF_TABLE.items():
            between = _is_between(topic, since, until)
            if between:
                await self._copy_table(beside, table, f"WHERE {between}")

    async def _copy_others(self, beside: ClickHouse) -> None:
        """Copy the tables that are not made of the tracking topics; they are small."""
        names = await self._clickhouse.query(_TABLES, {"database": self._clickhouse.database})
        for (table,) in names:
            if table not in _TOPIC_OF_TABLE:
                await self._copy_table(beside, table, "")

    async def _copy_table(self, beside: ClickHouse, table: str, where: str) -> None:
        source = f"{self._clickhouse.database}.{table}"
        await beside.command(
            f"INSERT INTO {table} SELECT * FROM {source} {where}"  # noqa: S608 - our own words
            " SETTINGS max_partitions_per_insert_block = 0",
            seconds=COPY_SECONDS_MAX,
        )


def _is_between(topic: str, since: Positions, until: Positions) -> str:
    """SQL that holds for rows of `topic` from `since` up to `until`; empty if there can be none."""
    return " OR ".join(
        f"(_partition = {each.partition} AND _offset >= {since[each]} AND _offset < {until[each]})"
        for each in until
        if each.topic == topic and since[each] < until[each]
    )


def _between(since: Mapping[TopicPartition, int], until: Mapping[TopicPartition, int]) -> int:
    return sum(max(0, until[each] - since[each]) for each in until)


async def _insert_all(beside: ClickHouse, records: Sequence[Fact]) -> None:
    by_table: dict[str, list[Fact]] = {}
    for record in records:
        by_table.setdefault(TABLE_OF_TOPIC[record.topic], []).append(record)
    for table, rows in by_table.items():
        await _insert(beside, table, rows)


async def _insert(beside: ClickHouse, table: str, records: Sequence[Fact]) -> None:
    """Insert `records`; a row that the store refuses was put aside by the projection too."""
    try:
        await beside.insert(table, b"\n".join(_rows(records)))
    except InvalidError:
        if len(records) > 1:
            middle = len(records) // 2
            await _insert(beside, table, records[:middle])
            await _insert(beside, table, records[middle:])


def _rows(records: Sequence[Fact]) -> Iterator[bytes]:
    return (spliced(each.value, each.partition, each.offset, each.timestamp) for each in records)
