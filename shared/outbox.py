"""Database to log: state and its events commit together, and are published in order, by one.

A service appends records to the table `outbox` in the transaction that changes its state. A relay
publishes them to Kafka. The promises, and what each rests on:

* **Never for a state that was rolled back; never lost.** The record is a row of the same commit. It
  stays unpublished until Kafka has confirmed it, however often the relay dies.
* **In order per key.** `append` locks (topic, key) before it draws ids, until the commit: ids of
  one key are in commit order, and the relay publishes in order of ids.
* **Never by two at once.** A relay holds the lease row, told by the database's clock, and publishes
  in Kafka transactions under one fixed transactional id per outbox. A successor first takes the
  lease (after `LEASE_SECONDS` without a heartbeat), then starts its producer, which aborts what the
  predecessor left open and fences it for good, and only then reads what is unpublished. So even a
  predecessor that was stopped with sends in flight, and continues, appends nothing, and ends.
* **Confirmed is told.** `wait_published` answers in whichever process the relay runs.

Where they end: a crash between Kafka's commit and `published_at` publishes a batch again, with the
same `ce_id` at new offsets and before anything newer: readers drop repeats by id or version. Order
is promised per key, not between keys. While Kafka is away, rows wait; while Postgres is, nothing
can be appended either.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import asyncpg
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared import kafka
from shared.clock import Clock, SystemClock
from shared.errors import FencedError, InvalidError, UnavailableError
from shared.events import Event, Headers, headers
from shared.faultpoint import point
from shared.postgres import Connection, Pool, connect, open_pool, translated
from shared.topics import Topic

log = logging.getLogger(__name__)

SCHEMA_SQL: Final = """\
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    value bytea,
    headers jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
CREATE TABLE outbox_lease (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    holder text NOT NULL,
    epoch bigint NOT NULL,
    renewed_at timestamptz NOT NULL
);
INSERT INTO outbox_lease (holder, epoch, renewed_at) VALUES ('nobody yet', 0, '-infinity');
"""
"""What a service's migration must contain, word for word. A null `value` is a tombstone."""

RECORD_BYTES_MAX: Final = 131_072
"""Largest value; a larger one is refused when appended, since it would hold up all behind it."""
BATCH_RECORDS_MAX: Final = 1_000
LEASE_SECONDS: Final = 3.0
HEARTBEAT_SECONDS: Final = 1.0
STANDBY_SECONDS: Final = 0.5
POLL_SECONDS: Final = 1.0
"""How long a notification that got lost can delay a row or a waiter."""
DELIVERY_SECONDS: Final = 8.0
"""How long Kafka may take for a batch; less than its own transaction time-out of 10 s, so that a
slow Kafka leads to a retry and not to a fence."""
STATEMENT_SECONDS: Final = 2.0
HOUSEKEEPING_SECONDS: Final = 5.0
PURGE_ROWS_MAX: Final = 1_000
RETRY_SECONDS_MAX: Final = 2.0

# Held until the transaction ends: ids of one key are drawn in commit order.
_LOCK_KEYS: Final = "SELECT pg_advisory_xact_lock(lock) FROM unnest($1::bigint[]) AS lock"
_APPEND: Final = """
INSERT INTO outbox (topic, key, value, headers)
SELECT topic, key, value, headers
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::jsonb[])
    WITH ORDINALITY AS record (topic, key, value, headers, place)
ORDER BY place
RETURNING id"""
_TELL_APPENDED: Final = "SELECT pg_notify('outbox_new_' || current_schema(), '')"

_UNPUBLISHED: Final = """
SELECT id, topic, key, value, headers FROM outbox
WHERE published_at IS NULL ORDER BY id LIMIT $1"""
# One statement, so that a process stopped at any moment leaves no row locked.
_MARK_PUBLISHED: Final = """
WITH marked AS (
    UPDATE outbox SET published_at = clock_timestamp()
    WHERE id = ANY($1::bigint[]) AND published_at IS NULL RETURNING created_at
)
SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8,
    pg_notify('outbox_done_' || current_schema(), '')
FROM marked"""
_ANY_UNPUBLISHED: Final = (
    "SELECT EXISTS (SELECT FROM outbox WHERE id = ANY($1::bigint[]) AND published_at IS NULL)"
)
_BACKLOG: Final = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
FROM outbox WHERE published_at IS NULL"""
# Looks at no more than the oldest rows, so that it costs the same whatever is kept.
_PURGE: Final = """
DELETE FROM outbox WHERE id IN (
    SELECT id FROM (SELECT id, published_at FROM outbox ORDER BY id LIMIT $2) AS oldest
    WHERE published_at < clock_timestamp() - make_interval(secs => $1)
)"""

# All by the database's clock: the processes' own need not agree.
_TAKE_LEASE: Final = """
UPDATE outbox_lease SET holder = $1, epoch = epoch + 1, renewed_at = clock_timestamp()
WHERE renewed_at < clock_timestamp() - make_interval(secs => $2)
RETURNING epoch"""
_RENEW_LEASE: Final = (
    "UPDATE outbox_lease SET renewed_at = clock_timestamp() WHERE epoch = $1 RETURNING epoch"
)
_GIVE_LEASE_BACK: Final = "UPDATE outbox_lease SET renewed_at = '-infinity' WHERE epoch = $1"


# --- append ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """One record to publish; `value` None is a tombstone."""

    topic: str
    key: str
    value: bytes | None
    headers: Headers


def record_of(
    topic: Topic,
    key: str,
    event: Event,
    *,
    source: str,
    occurred_at: float,
    traceparent: str | None = None,
) -> OutboxRecord:
    """The record of `event`, with a `ce_id` of its own that outlives every republication.

    Raises:
        ValueError: `topic` is not for such events.
    """
    if type(event) not in topic.schemas:
        raise ValueError(f"{topic.name} holds no {type(event).__name__}: see shared/topics.py")
    attributes = headers(event, source=source, occurred_at=occurred_at, traceparent=traceparent)
    return OutboxRecord(topic.name, key, msgspec.json.encode(event), attributes)


async def append(connection: Connection, records: Sequence[OutboxRecord]) -> list[int]:
    """Append `records` within the caller's transaction; they are published once it has committed.

    Call it last in the transaction: from here to the commit, others that append for the same keys
    wait. Calling it twice in one transaction can deadlock with another that does; Postgres then
    ends one of them, which may be retried.

    Returns:
        Their ids, for `Relay.wait_published`, in the order given.

    Raises:
        InvalidError: a value is larger than `RECORD_BYTES_MAX`.
        RuntimeError: there is no transaction.
    """
    if not connection.is_in_transaction():
        raise RuntimeError("append needs the transaction of the change that it tells")
    largest = max((len(record.value or b"") for record in records), default=0)
    if largest > RECORD_BYTES_MAX:
        raise InvalidError(f"A record of {largest} bytes; {RECORD_BYTES_MAX} can be published.")
    locks = sorted({_lock_of(record.topic, record.key) for record in records})
    await connection.execute(_LOCK_KEYS, locks)
    rows = await connection.fetch(
        _APPEND,
        [record.topic for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [_headers_to_json(record.headers) for record in records],
    )
    await connection.execute(_TELL_APPENDED)
    return [row["id"] for row in rows]


def _lock_of(topic: str, key: str) -> int:
    digest = hashlib.blake2b(f"{topic}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def _headers_to_json(pairs: Headers) -> str:
    return msgspec.json.encode([(name, value.decode()) for name, value in pairs]).decode()


_HEADERS: Final = msgspec.json.Decoder(list[tuple[str, str]])


def _headers_from_json(text: str) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in _HEADERS.decode(text)]


# --- relay ----------------------------------------------------------------------------------------


class Log(Protocol):
    """Where a relay publishes; one per term, since opening it fences the predecessor's."""

    async def publish(self, records: Sequence[OutboxRecord]) -> None:
        """All of `records` in their order, or none.

        Raises:
            FencedError: a successor publishes now.
            UnavailableError: it may have happened or not; only a new `Log` can go on.
        """
        ...


LogOpener = Callable[[], AbstractAsyncContextManager[Log]]


class RelayMetrics:
    """Is everything published, how soon, and who publishes?"""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        name = f"{service}_outbox"
        self.unpublished = Gauge(
            f"{name}_unpublished_rows", "Rows that Kafka has not confirmed", registry=registry
        )
        self.oldest = Gauge(
            f"{name}_oldest_unpublished_seconds", "Age of the oldest of them", registry=registry
        )
        self.published = Counter(f"{name}_published_total", "Rows published", registry=registry)
        self.latency = Histogram(
            f"{name}_publish_seconds",
            "From append to confirmation, of the oldest row of each batch",
            registry=registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
        )
        self.takeovers = Counter(
            f"{name}_takeovers_total", "Times this process took the lease", registry=registry
        )
        self.retries = Counter(
            f"{name}_retries_total", "Failures of Kafka or Postgres survived", registry=registry
        )


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What a relay needs to know.

    Attributes:
        bootstrap: Kafka's `host:port`.
        database_url: of the service's Postgres.
        schema: the service's; names its lease, its channels and its transactional id.
        holder: this process, for people who look at the lease row.
        keep_seconds: how long published rows stay, for people who look at the table.
    """

    bootstrap: str
    database_url: str = field(repr=False)
    schema: str
    holder: str
    keep_seconds: float = 86_400.0


@asynccontextmanager
async def open_relay(
    settings: RelaySettings, metrics: RelayMetrics, clock: Clock | None = None
) -> AsyncIterator["Relay"]:
    """A relay with connections of its own, so that busy requests cannot cost it the lease."""
    async with open_pool(
        settings.database_url,
        schema=settings.schema,
        application=f"{settings.schema} outbox",
        size_max=4,
    ) as pool:
        opener = kafka_log(settings.bootstrap, f"portico.outbox.{settings.schema}")
        yield Relay(pool, settings, opener, metrics, clock or SystemClock())


class Relay:
    """Publishes the outbox while it holds the lease; until then it stands by."""

    def __init__(
        self,
        pool: Pool,
        settings: RelaySettings,
        open_log: LogOpener,
        metrics: RelayMetrics,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._open_log = open_log
        self._metrics = metrics
        self._clock = clock
        self._lease = _Lease(pool, settings.holder, clock, metrics)
        self._bell = _Bell(settings, clock)
        self._asking = asyncio.Lock()  # of the pool's four connections, waiters share one

    @property
    def is_holder(self) -> bool:
        """Whether this process is the one that publishes."""
        return self._lease.is_valid

    async def run(self) -> None:
        """Publish whenever this process holds the lease; a task for the whole life of the process.

        Raises:
            FencedError: a successor publishes now: the process must end.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._bell.listen(), name="outbox bell")
                group.create_task(self._lease.keep(), name="outbox lease")
                group.create_task(self._keep_house(), name="outbox housekeeping")
                group.create_task(self._serve_terms(), name="outbox publishing")
        finally:
            await self._lease.give_back()

    async def wait_published(self, ids: Sequence[int], timeout_seconds: float) -> bool:
        """Whether Kafka has confirmed the rows `ids` of a committed transaction, soon enough.

        False says only that it is not known yet: the change stands and will be published.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    done = self._bell.done
                    if not await self._is_waiting(ids):
                        return True
                    await _rung_or_over(done)
        except (TimeoutError, UnavailableError):
            return False

    async def _is_waiting(self, ids: Sequence[int]) -> bool:
        async with self._asking:
            with translated("asking what is published"):
                return bool(await self._pool.fetchval(_ANY_UNPUBLISHED, ids))

    async def _serve_terms(self) -> None:
        """Start anew after every failure: a new `Log` ends what the old one left open."""
        failures = 0
        while True:
            await self._lease.wait_valid()
            try:
                async with self._open_log() as log_of_term:
                    await self._lease.renew()
                    while True:
                        await self._turn(log_of_term)
                        failures = 0
            except UnavailableError as error:
                failures += 1
                self._metrics.retries.inc()
                log.warning("outbox waits", extra={"reason": error.message, "failures": failures})
            await self._clock.sleep(_pause_after(failures))

    async def _turn(self, log_of_term: Log) -> None:
        """Publish and mark one batch, or wait until there may be one."""
        await self._lease.wait_valid()
        new = self._bell.new
        rows = await self._unpublished()
        if not rows:
            await _rung_or_over(new)
            return
        await log_of_term.publish([_record_of_row(row) for row in rows])
        await self._mark_published([row["id"] for row in rows])

    async def _unpublished(self) -> list[asyncpg.Record]:
        with translated("reading the outbox"):
            return await self._pool.fetch(_UNPUBLISHED, BATCH_RECORDS_MAX)

    async def _mark_published(self, ids: Sequence[int]) -> None:
        with translated("marking what is published"):
            age = await self._pool.fetchval(_MARK_PUBLISHED, ids)
        point("outbox.after_mark")
        self._metrics.published.inc(len(ids))
        if age is not None:
            self._metrics.latency.observe(age)

    async def _keep_house(self) -> None:
        while True:
            try:
                await self._measure()
                if self._lease.is_valid:
                    await self._purge()
            except UnavailableError as error:
                log.warning("outbox not measured", extra={"reason": error.message})
            await self._clock.sleep(HOUSEKEEPING_SECONDS)

    async def _measure(self) -> None:
        with translated("measuring the outbox"):
            rows, age = await self._pool.fetchrow(_BACKLOG) or (0, 0.0)
        self._metrics.unpublished.set(rows)
        self._metrics.oldest.set(age)

    async def _purge(self) -> None:
        """Delete what is old, in bounded steps."""
        with translated("purging the outbox"):
            full = f"DELETE {PURGE_ROWS_MAX}"
            keep = self._settings.keep_seconds
            while await self._pool.execute(_PURGE, keep, PURGE_ROWS_MAX) == full:
                pass


def _pause_after(failures: int) -> float:
    longest = min(RETRY_SECONDS_MAX, 0.1 * 2.0 ** min(failures, 8))
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 - spreads load, protects nothing


async def _rung_or_over(rung: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(POLL_SECONDS):
            await rung.wait()


def _record_of_row(row: asyncpg.Record) -> OutboxRecord:
    return OutboxRecord(row["topic"], row["key"], row["value"], _headers_from_json(row["headers"]))


class _Lease:
    """Who may publish: one row, renewed every second, free after three without renewal.

    A session's advisory lock would not do: a stopped process keeps its session, and so the lock.
    """

    def __init__(self, pool: Pool, holder: str, clock: Clock, metrics: RelayMetrics) -> None:
        self._pool = pool
        self._holder = holder
        self._clock = clock
        self._metrics = metrics
        self._epoch: int | None = None
        self._valid_until = 0.0
        self._changed = asyncio.Event()

    @property
    def is_valid(self) -> bool:
        """Whether nobody else can have taken it yet, as far as this process's clock can tell."""
        return self._epoch is not None and self._clock.monotonic() < self._valid_until

    async def wait_valid(self) -> None:
        """Wait until this process holds it."""
        while not self.is_valid:
            self._changed.clear()
            await self._changed.wait()

    async def keep(self) -> None:
        """Take it as soon as it is free, and renew it from then on.

        Raises:
            FencedError: it was lost to a successor.
        """
        while True:
            try:
                await (self.take() if self._epoch is None else self.renew())
            except UnavailableError as error:
                log.warning("outbox lease not renewed", extra={"reason": error.message})
            is_holder = self._epoch is not None
            await self._clock.sleep(HEARTBEAT_SECONDS if is_holder else STANDBY_SECONDS)

    async def take(self) -> None:
        """Take it if nobody holds it."""
        asked_at = self._clock.monotonic()
        epoch: int | None = await self._ask("take", _TAKE_LEASE, self._holder, LEASE_SECONDS)
        if epoch is not None:
            log.info("outbox lease taken", extra={"epoch": epoch})
            self._metrics.takeovers.inc()
            self._epoch = epoch
            self._extend(asked_at)

    async def renew(self) -> None:
        """Prove that it is still ours, and extend it.

        Raises:
            FencedError: a successor has it.
        """
        asked_at = self._clock.monotonic()
        epoch = await self._ask("renew", _RENEW_LEASE, self._epoch)
        if epoch is None:
            self._valid_until = 0.0
            raise FencedError("The outbox lease was taken by a successor.")
        self._extend(asked_at)

    async def give_back(self) -> None:
        """Let a successor start at once; if that fails, it starts when the lease runs out."""
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            with contextlib.suppress(UnavailableError):
                await self._ask("give back", _GIVE_LEASE_BACK, epoch)

    async def _ask(self, what: str, statement: str, *arguments: object) -> Any:
        with translated(f"{what} the outbox lease"):
            async with asyncio.timeout(STATEMENT_SECONDS):
                return await self._pool.fetchval(statement, *arguments)

    def _extend(self, asked_at: float) -> None:
        self._valid_until = asked_at + LEASE_SECONDS
        self._changed.set()


class _Bell:
    """Tells of rows appended (`new`) and confirmed (`done`) by any process.

    Both are replaced when rung: take one before looking at the table, then wait on it. A ring that
    gets lost with a connection costs a waiter `POLL_SECONDS`, never a row.
    """

    def __init__(self, settings: RelaySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.new = asyncio.Event()
        self.done = asyncio.Event()

    async def listen(self) -> None:
        """Keep a connection that listens."""
        while True:
            try:
                await self._listen_once()
            except UnavailableError as error:
                log.warning("outbox bell", extra={"reason": error.message})
            await self._clock.sleep(_pause_after(3))

    async def _listen_once(self) -> None:
        settings = self._settings
        connection = await connect(
            settings.database_url, schema=settings.schema, application=f"{settings.schema} bell"
        )
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            with translated("listening for the outbox"):
                await connection.add_listener(f"outbox_new_{settings.schema}", self._ring_new)
                await connection.add_listener(f"outbox_done_{settings.schema}", self._ring_done)
            self._ring_new()
            self._ring_done()
            await ended.wait()
        finally:
            connection.terminate()

    def _ring_new(self, *_: object) -> None:
        self.new, rung = asyncio.Event(), self.new
        rung.set()

    def _ring_done(self, *_: object) -> None:
        self.done, rung = asyncio.Event(), self.done
        rung.set()


# --- Kafka ----------------------------------------------------------------------------------------


def kafka_log(bootstrap: str, transactional_id: str) -> LogOpener:
    """Opens logs that publish each batch in one Kafka transaction under `transactional_id`."""

    @asynccontextmanager
    async def open_log() -> AsyncIterator[Log]:
        async with kafka.open_producer(
            bootstrap, client_id=transactional_id, transactional_id=transactional_id
        ) as producer:
            yield _KafkaLog(producer)

    return open_log


class _KafkaLog:
    def __init__(self, producer: kafka.Producer) -> None:
        self._producer = producer

    async def publish(self, records: Sequence[OutboxRecord]) -> None:
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                with kafka.translated("publishing the outbox"):
                    await self._in_transaction(records)
        except TimeoutError as error:
            raise UnavailableError("publishing the outbox: Kafka is too slow") from error

    async def _in_transaction(self, records: Sequence[OutboxRecord]) -> None:
        """Commit only what Kafka has confirmed: aiokafka would commit around a failed batch."""
        await self._producer.begin_transaction()
        point("outbox.before_send")
        sent: list[asyncio.Future[Any]] = []
        for record in records:
            confirmation = await self._producer.send(
                record.topic, record.value, record.key.encode(), headers=record.headers
            )
            sent.append(kafka.droppable(confirmation))
            point("outbox.mid_send")
        await asyncio.wait(sent)
        for future in sent:
            future.result()
        point("outbox.before_commit")
        await self._producer.commit_transaction()
        point("outbox.after_commit")
