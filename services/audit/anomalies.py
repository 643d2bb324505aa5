"""Windowed detection on the gateway's summaries: the only file that imports faust.

Faust keeps each partner's counts in a table whose changelog is `audit.rate_limit_hits.v1`, so that
a worker that takes over knows them. What counts as an incident is `domain.RateLimitRule`. Only
summaries with refusals reach the table: it takes some thousand a second, not every call.

An incident is told once: its id follows from network, partner, rule and window; it is published
and confirmed before the state that knows of it is stored, and a record is acknowledged after both.
So a crash in between publishes the same event again under the same `ce_id`, and loses none; a
record that arrives again is known by its offset.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import faust
import msgspec

from services.audit import domain
from services.audit.config import AnomalySettings
from services.audit.metrics import AnomalyMetrics
from shared import topics
from shared.clock import Clock
from shared.errors import InvalidError, UnavailableError
from shared.events import AccessSummary, decode
from shared.faultpoint import point
from shared.kafka import partition_for

SWEEP_SECONDS: Final = 1.0
"""How often running incidents are asked whether they have ended."""
FORGET_SECONDS: Final = 3_600.0
"""How long a partner without hits is remembered, so that a late redelivery is not counted anew."""
STOP_SECONDS: Final = 3.0
SESSION_SECONDS: Final = 10.0
"""After how long without a heartbeat a dead worker's partitions go to another."""

Publish = Callable[[domain.Anomaly], Awaitable[None]]

_SOURCE: Final = topics.GATEWAY_ACCESS.name
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(domain.Hits)


class Detector:
    """The rules of one worker, running on faust within the process's own loop.

    Args:
        settings: of the worker.
        publish: returns once Kafka has confirmed the event.
        clock: the time, by which quiet is judged.
        metrics: of the worker.
    """

    def __init__(
        self, settings: AnomalySettings, publish: Publish, clock: Clock, metrics: AnomalyMetrics
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._metrics = metrics
        self._rule = domain.RateLimitRule(
            settings.rate_limit_hits, settings.window_seconds, settings.grace_seconds
        )
        self._state = asyncio.Lock()  # guards read, publish, write of the table
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app = _new_app(settings)
        self._table = _new_table(self._app)
        source = self._app.topic(_SOURCE, **_raw())
        self._app.agent(source, name="rate_limit_hits")(self._agent)

    def missing(self) -> str | None:
        """For `Lifecycle.ready_when`: what is missing, or None."""
        recovery = self._app.tables.recovery
        if self._app.rebalancing or self._app.in_recovery or not recovery.completed.is_set():
            return "the worker has no partitions assigned, or still reads its table"
        return None

    async def run(self) -> None:
        """Judge for as long as the process lives.

        Raises:
            Exception: whatever stopped the worker; nothing it had not finished is acknowledged.
        """
        async with self._started(), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="anomalies sweep")
            await self._failure

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[None]:
        try:
            await self._app.start()
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._app.stop()

    async def _agent(self, stream: Any) -> None:
        async for event in stream.noack().events():
            with _Failing(self._failure):
                await self._judge(event.key, event.value, event.message.offset)
            event.ack()

    async def _judge(self, key: bytes, value: bytes, offset: int) -> None:
        try:
            summary = decode(AccessSummary, value)
        except InvalidError:  # the trail's projection reads the same record and dead-letters it
            self._metrics.refused.inc()
            return
        if not (hits := domain.rate_limit_hits(summary)):
            return
        self._metrics.summaries.inc()
        partner = (summary.network_id, summary.network_affiliate_id)
        async with self._state:
            before = self._load(key)
            after, found = self._rule.count(
                partner, before, offset=offset, second=summary.second, hits=hits
            )
            await self._settle(key, before, after, found)

    async def _sweep(self) -> None:
        """Close what has been quiet, forget who has long been, and notice that faust gave up."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            if self._app.crashed or self._app.should_stop:
                raise RuntimeError(f"faust gave up: {self._app.crash_reason!r}")
            if self.missing() is None:
                async with self._state:
                    await self._close_quiet(self._clock.time())

    async def _close_quiet(self, now: float) -> None:
        for key in [key for key in self._table if self._is_ours(key)]:
            before = self._load(key)
            after, found = self._rule.settle(_partner(key), before, now=now)
            await self._settle(key, before, after, found)
            if after.incident is None and now - after.last_second > FORGET_SECONDS:
                del self._table[key]

    async def _settle(
        self,
        key: bytes,
        before: domain.Hits,
        after: domain.Hits,
        found: Sequence[domain.Anomaly],
    ) -> None:
        """Publish what was found, then store the state that knows of it."""
        for anomaly in found:
            await self._publish(anomaly)
            self._metrics.published.labels(type(anomaly).__name__).inc()
            point("anomalies.published")
        if after != before:
            self._table[key] = _ENCODER.encode(after)

    def _load(self, key: bytes) -> domain.Hits:
        value = self._table.get(key)
        return _DECODER.decode(value) if value else domain.Hits()

    def _is_ours(self, key: bytes) -> bool:
        """Whether the key's partition is assigned to this worker now."""
        place = self._table.partition_for_key(key)
        return any(
            assigned.topic == _SOURCE and assigned.partition == place
            for assigned in self._app.consumer.assignment()
        )


class _Table(faust.Table[bytes, bytes]):
    """Puts a key's state into the partition of its records, also when a sweep changes it."""

    def partition_for_key(self, key: bytes) -> int:
        partitions = self.app.consumer.topic_partitions(_SOURCE)
        if not partitions:
            raise UnavailableError(f"The partitions of {_SOURCE} are not known yet.")
        return partition_for(key, partitions)


class _Failing:
    """Tells `failure` what is raised within: faust would log it and go on with the next record."""

    def __init__(self, failure: asyncio.Future[None]) -> None:
        self._failure = failure

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not self._failure.done():
            self._failure.set_exception(error)


def _raw() -> dict[str, Any]:
    """Keys and values as bytes: our schemas check them, and the partition follows the same key."""
    return {
        "key_type": bytes,
        "value_type": bytes,
        "key_serializer": "raw",
        "value_serializer": "raw",
    }


def _new_app(settings: AnomalySettings) -> Any:
    for chatty in ("faust", "mode"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings.home.mkdir(parents=True, exist_ok=True)
    return faust.App(
        settings.app_id,
        broker=[f"kafka://{address}" for address in settings.kafka_bootstrap.split(",")],
        store="memory://",
        datadir=settings.home / "faust",
        autodiscover=False,
        web_enabled=False,
        Table=_Table,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 3,
        consumer_auto_offset_reset="earliest",
    )


def _new_table(app: Any) -> Any:
    changelog = app.topic(topics.AUDIT_RATE_LIMIT_HITS.name, **_raw())
    return app.Table(
        "rate_limit_hits",
        key_type=bytes,
        value_type=bytes,
        changelog_topic=changelog,
    )


def _partner(key: bytes) -> tuple[int, int]:
    network_id, _, network_affiliate_id = key.partition(b":")
    return int(network_id), int(network_affiliate_id)
