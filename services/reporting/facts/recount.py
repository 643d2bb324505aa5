"""Recount: proves that the facts equal the log's, by a pass over Kafka that shares no counting.

Of every partition and table: how many facts there are, the sum of their amounts, and the sum of the
offsets of the records that stand, so that the wrong one of two records of an id shows too. The
facts are asked while writes are held; the log is read up to where they were. Facts whose record the
log no longer holds are not compared.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from services.reporting.facts.operations import Progress
from services.reporting.facts.replay import Fact, Positions, Replay
from services.reporting.facts.retention import Retention
from services.reporting.facts.tables import CHANGES, CONVERSIONS, TABLE_OF_TOPIC
from shared.clickhouse import ClickHouse
from shared.clock import Clock
from shared.errors import UnavailableError
from shared.kafka import TopicPartition

PASS_RECORDS_MAX: Final = 1_000_000
"""The log is read once for every so many records, each time for another part of the ids: that
bounds memory to some 300 MB."""
SECONDS_MAX: Final = 45.0
"""How long facts may be counted: writes wait meanwhile, and a minute of that ends the process."""
DAY: Final = 86_400
MICROS: Final = 1_000_000


@dataclass(slots=True)
class Count:
    """What is compared: `revenue` in millionths, `offsets` their sum."""

    facts: int = 0
    revenue: int = 0
    offsets: int = 0

    def add(self, revenue: int, offset: int) -> None:
        """One more fact."""
        self.facts += 1
        self.revenue += revenue
        self.offsets += offset


@dataclass(frozen=True, slots=True)
class _Standing:
    """The record of an id that stands: of the highest version, then the last."""

    version: int
    offset: int
    revenue: int


Counts = dict[tuple[str, int], Count]
"""By table and partition."""
OpenReplay = Callable[[], AbstractAsyncContextManager[Replay]]


class Recount:
    """Counts the facts and the log, and compares.

    Args:
        clickhouse: the facts.
        open_replay: opens a reader of the log.
        retention: facts past it are left out on both sides.
        clock: the time.
    """

    def __init__(
        self, clickhouse: ClickHouse, open_replay: OpenReplay, retention: Retention, clock: Clock
    ) -> None:
        self._clickhouse = clickhouse
        self._open_replay = open_replay
        self._days = retention.by_table()
        self._clock = clock

    async def run(self, progress: Progress) -> dict[str, Any]:
        """Both counts by table and partition, and whether all are equal.

        Raises:
            UnavailableError: Kafka or ClickHouse does not answer.
        """
        today = int(self._clock.time()) // DAY
        first_days = {table: today - days + 1 for table, days in self._days.items()}
        async with self._open_replay() as replay:
            begins = await replay.begins()
            progress.step("counting the facts")
            try:
                async with asyncio.timeout(SECONDS_MAX), self._clickhouse.writes_held():
                    ends = await self._ends(begins)
                    facts = await self._facts(begins, first_days)
                    passed_over = await self._older_than_log(begins)
            except TimeoutError as error:
                raise UnavailableError(
                    f"counting the facts takes longer than writes can wait ({SECONDS_MAX:g} "
                    "s); nothing was changed"
                ) from error
            total = sum(max(0, ends[each] - begins[each]) for each in begins)
            passes = max(1, math.ceil(total / PASS_RECORDS_MAX))
            progress.step("counting the log", total=total * passes)
            log: Counts = defaultdict(Count)
            for part in range(passes):
                ids = _Ids(part, passes, first_days, passed_over)
                async for records in replay.read(dict(begins), ends):
                    ids.take(records)
                    progress.advance(len(records))
                ids.count(log)
        return _compared(begins, facts, log)

    async def _ends(self, begins: Positions) -> dict[TopicPartition, int]:
        """How far the facts go in each partition; writes are held."""
        ends = dict(begins)
        for topic, table in TABLE_OF_TOPIC.items():
            source = CHANGES if table == CONVERSIONS else table  # every record of the log is there
            sql = f"SELECT _partition, max(_offset) + 1 FROM {source} GROUP BY _partition"  # noqa: S608
            for partition, end in await self._clickhouse.query(sql, seconds=SECONDS_MAX):
                where = TopicPartition(topic, partition)
                ends[where] = max(ends.get(where, 0), end)
        return ends

    async def _facts(self, begins: Positions, first_days: Mapping[str, int]) -> Counts:
        found: Counts = defaultdict(Count)
        for topic, table in TABLE_OF_TOPIC.items():
            sql = (
                "SELECT _partition, count(), sum(revenue), sum(toUInt128(_offset))"  # noqa: S608
                f" FROM {table} FINAL WHERE ({_since(topic, begins)})"
                f" AND toInt32(date) >= {first_days[table]} GROUP BY _partition"
            )
            for partition, facts, revenue, offsets in await self._clickhouse.query(
                sql, seconds=SECONDS_MAX
            ):
                found[table, partition] = Count(facts, int(revenue * MICROS), offsets)
        return found

    async def _older_than_log(self, begins: Positions) -> set[str]:
        """Conversions in the log whose standing record is older than it."""
        topic = next(topic for topic, table in TABLE_OF_TOPIC.items() if table == CONVERSIONS)
        since = _since(topic, begins)
        sql = (
            f"SELECT toString(conversion_id) FROM {CONVERSIONS} FINAL WHERE NOT ({since})"  # noqa: S608
            f" AND conversion_id IN (SELECT conversion_id FROM {CHANGES} WHERE {since})"
        )
        return {row[0] for row in await self._clickhouse.query(sql, seconds=SECONDS_MAX)}


class _Ids:
    """The standing record of each id of one part of them.

    Args:
        part: which part.
        parts: of how many.
        first_days: by table, the first day (since the epoch) that is compared.
        passed_over: conversions that are not.
    """

    def __init__(
        self, part: int, parts: int, first_days: Mapping[str, int], passed_over: set[str]
    ) -> None:
        self._part = part
        self._parts = parts
        self._first_days = first_days
        self._passed_over = passed_over
        self._standing: dict[tuple[str, int, int, int, int, str], _Standing] = {}

    def take(self, records: list[Fact]) -> None:
        """Note good records of the log, in its order."""
        for record in records:
            table = TABLE_OF_TOPIC[record.topic]
            body = msgspec.json.decode(record.value or b"")
            is_conversion = table == CONVERSIONS
            fact_id = body["conversion_id" if is_conversion else "transaction_id"]
            stamp = body["conversion_unix_timestamp" if is_conversion else "unix_timestamp"]
            is_mine = int(fact_id[-8:], 16) % self._parts == self._part
            day = stamp // DAY
            if is_mine and day >= self._first_days[table] and fact_id not in self._passed_over:
                partner = (body["network_id"], body["network_affiliate_id"])
                key = (table, record.partition, *partner, day, fact_id)
                self._note(key, record.offset, body)

    def _note(
        self, key: tuple[str, int, int, int, int, str], offset: int, body: Mapping[str, Any]
    ) -> None:
        version = body.get("version", 0)
        held = self._standing.get(key)
        if held is None or version >= held.version:
            micros = int(Decimal(repr(body.get("revenue", 0))) * MICROS)
            self._standing[key] = _Standing(version, offset, micros)

    def count(self, counts: Counts) -> None:
        """Add what stands."""
        for (table, partition, *_), standing in self._standing.items():
            counts[table, partition].add(standing.revenue, standing.offset)


def _since(topic: str, begins: Positions) -> str:
    """SQL that holds for rows whose record the log still has."""
    return " OR ".join(
        f"(_partition = {each.partition} AND _offset >= {begin})"
        for each, begin in begins.items()
        if each.topic == topic
    )


def _compared(begins: Positions, facts: Counts, log: Counts) -> dict[str, Any]:
    rows = list(_rows(begins, facts, log))
    return {"equal": all(row["equal"] for row in rows), "partitions": rows}


def _rows(begins: Positions, facts: Counts, log: Counts) -> Iterator[dict[str, Any]]:
    for each in sorted(begins):
        key = (TABLE_OF_TOPIC[each.topic], each.partition)
        stored, logged = facts.get(key, Count()), log.get(key, Count())
        yield {
            "table": key[0],
            "partition": key[1],
            "equal": stored == logged,
            "facts": asdict(stored),
            "log": asdict(logged),
        }
