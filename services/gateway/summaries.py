"""What came to the door, told once a second to `gateway.access.v1`, never on a request's way.

A request is counted in memory; a task publishes each second's counts, one record per partner. What
is held is bounded: requests of further combinations are dropped from the summaries and counted as
dropped, by which the sums say what they lack. A stop publishes what is left; a crash loses the
last second, or what Kafka did not take.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator
from itertools import chain
from typing import Final

import msgspec

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.events import AccessCount, AccessSummary, encode, headers, partner_key
from shared.kafka import BatchBuilder, Producer, droppable, open_producer, partition_for, translated
from shared.topics import Topic

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 2.0
ADDRESSES_MAX: Final = 100
"""Addresses of unknown callers told one by one, those with most requests."""
UNKNOWN_ROWS_MAX: Final = 5_000
"""Combinations of unknown callers kept apart within a second; beyond, they only add to the rest."""
COUNTS_MAX: Final = 1_000
"""Counts in one record (about 200 KB); a partner with more in a second gets several records."""
SUMMARIES_AT_ONCE: Final = 20
"""Made between two looks at the network (half a millisecond)."""
UNKNOWN_KEY: Final = "-:-"
SOURCE: Final = "portico/gateway"


class Row(msgspec.Struct, frozen=True):
    """What requests that count together have in common."""

    key_id: str
    masked: str
    method: str
    endpoint: str
    status: int
    client_ip: str
    refusal: str


REST: Final = Row("", "", "", "", 401, "", "unknown")
"""Unknown callers beyond those told one by one."""

_Group = tuple[int, int, int]
"""Second, network, partner."""


class Tally:
    """Counts by second, partner and row. Pure.

    Args:
        gateway: this process, as the summaries name it.
        rows_max: rows held altogether; requests of further ones are dropped.
    """

    def __init__(self, gateway: str, *, rows_max: int) -> None:
        self.dropped = 0
        self._gateway = gateway
        self._rows_max = rows_max
        self._rows = 0
        self._groups: dict[_Group, Counter[Row]] = {}

    def add(self, second: int, network_id: int, network_affiliate_id: int, row: Row) -> None:
        """Count one request; network and partner 0 where the caller is not known."""
        name = (second, network_id, network_affiliate_id)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Counter()
        count = group.get(row)
        if count is None:
            self._add_row(group, row, is_known=network_id != 0)
        else:
            group[row] = count + 1

    def _add_row(self, group: Counter[Row], row: Row, *, is_known: bool) -> None:
        """Count the first request of a row, if there is room."""
        if not is_known and len(group) >= UNKNOWN_ROWS_MAX:
            row = REST
        elif self._rows >= self._rows_max:
            self.dropped += 1
            return
        self._rows += row not in group
        group[row] += 1

    def take(self, before: float) -> Iterator[AccessSummary]:
        """The summaries of all seconds earlier than `before`; they are forgotten here.

        They are made one by one as they are asked for: a thousand partners' take a while.
        """
        names = sorted(name for name in self._groups if name[0] < before)
        taken = [(name, self._groups.pop(name)) for name in names]
        self._rows -= sum(len(counts) for _, counts in taken)
        return (summary for name, counts in taken for summary in self._summaries(name, counts))

    def _summaries(self, name: _Group, counts: Counter[Row]) -> Iterator[AccessSummary]:
        second, network_id, network_affiliate_id = name
        if not network_id:
            counts = _loudest(counts)
        told = [_count(row, count) for row, count in counts.items()]
        for start in range(0, len(told), COUNTS_MAX):
            yield AccessSummary(
                gateway=self._gateway,
                second=second,
                network_id=network_id,
                network_affiliate_id=network_affiliate_id,
                counts=tuple(told[start : start + COUNTS_MAX]),
            )


def _loudest(counts: Counter[Row]) -> Counter[Row]:
    """The rows of the addresses with most requests, the others as one row."""
    by_address: Counter[str] = Counter()
    for row, count in counts.items():
        by_address[row.client_ip] += count
    by_address.pop(REST.client_ip, None)
    told = {address for address, _ in by_address.most_common(ADDRESSES_MAX)}
    result: Counter[Row] = Counter()
    for row, count in counts.items():
        result[row if row.client_ip in told else REST] += count
    return result


def _count(row: Row, count: int) -> AccessCount:
    return AccessCount(
        key_id=row.key_id,
        masked=row.masked,
        method=row.method,
        endpoint=row.endpoint,
        status=row.status,
        client_ip=row.client_ip,
        count=count,
        refusal=row.refusal,
    )


_Sent = tuple[int, Awaitable[object]]
"""How many records are on their way, and when they have arrived."""


class Reporter:
    """Publishes a tally, once a second and at the end.

    Args:
        bootstrap: Kafka's `host:port`.
        topic: where to.
        tally: what to publish.
        clock: the time.
        client_id: as Kafka logs it.
    """

    def __init__(
        self, bootstrap: str, topic: Topic, tally: Tally, *, clock: Clock, client_id: str
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._tally = tally
        self._clock = clock
        self._client_id = client_id
        self._told: Iterator[AccessSummary] = iter(())
        self._next: AccessSummary | None = None
        self._batches: dict[int, BatchBuilder] = {}
        self.confirmed = 0

    async def run(self) -> None:
        """Publish for ever; while Kafka is away, the tally fills to its bound."""
        while True:
            try:
                await self._publish()
            except UnavailableError as error:
                log.warning("access summaries wait for Kafka", extra={"reason": error.message})
            await self._clock.sleep(RETRY_SECONDS)

    async def _publish(self) -> None:
        async with open_producer(
            self._bootstrap, client_id=self._client_id, linger_ms=5
        ) as producer:
            try:
                while True:
                    await self._clock.sleep(INTERVAL_SECONDS)
                    await self._send(producer, before=int(self._clock.time()))
            except asyncio.CancelledError:
                with contextlib.suppress(TimeoutError, UnavailableError):
                    async with asyncio.timeout(FLUSH_SECONDS):
                        await self._send(producer, before=float("inf"))
                raise

    async def _send(self, producer: Producer, *, before: float) -> None:
        """Hand all to the producer, a few at a time, then wait for all confirmations."""
        self._told = chain(self._told, self._tally.take(before))
        sent: list[_Sent] = []
        with translated("publishing access summaries"):
            partitions = len(await producer.partitions_for(self._topic.name))
            for number in itertools.count(1):
                self._next = self._next or next(self._told, None)
                if self._next is None:
                    break
                await self._add(producer, self._next, partitions, sent)
                self._next = None
                if number % SUMMARIES_AT_ONCE == 0:
                    await self._clock.sleep(0)
            for partition in tuple(self._batches):
                await self._hand_over(producer, partition, sent)
            for records, confirmation in sent:
                await confirmation
                self.confirmed += records

    async def _add(
        self, producer: Producer, summary: AccessSummary, partitions: int, sent: list[_Sent]
    ) -> None:
        """Put a summary into the batch of its partition, after handing that over if it is full."""
        known = summary.network_id or summary.network_affiliate_id
        key = (
            partner_key(summary.network_id, summary.network_affiliate_id) if known else UNKNOWN_KEY
        ).encode()
        partition = partition_for(key, partitions)
        batch = self._batches.get(partition)
        if batch is not None and not _appended(batch, key, summary):
            await self._hand_over(producer, partition, sent)
            batch = None
        if batch is None:
            batch = self._batches[partition] = producer.create_batch()
            _appended(batch, key, summary)

    async def _hand_over(self, producer: Producer, partition: int, sent: list[_Sent]) -> None:
        """Hand a batch to the producer; it stays ours until that has taken it."""
        batch = self._batches[partition]
        confirmation = await producer.send_batch(batch, self._topic.name, partition=partition)
        sent.append((batch.record_count(), droppable(confirmation)))
        del self._batches[partition]


def _appended(batch: BatchBuilder, key: bytes, summary: AccessSummary) -> bool:
    """Put a summary into a batch; False if there is no room. An empty batch takes any."""
    told = headers(summary, source=SOURCE, occurred_at=float(summary.second))
    added = batch.append(timestamp=None, key=key, value=encode(summary), headers=told)
    return added is not None
