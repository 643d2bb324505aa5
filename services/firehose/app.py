"""The firehose's composition root: the only file of it that opens anything."""

import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.firehose.api import Abortable, FirehoseApp
from services.firehose.config import FirehoseSettings
from services.firehose.handlers import Firehose
from services.firehose.metrics import FirehoseMetrics
from services.firehose.sessions import SessionLog
from services.firehose.stream import Pace
from shared.access import AccessReplicas, AccessTable, parse_proxies
from shared.clock import SystemClock
from shared.config import load
from shared.http import AsgiApp, BugAnswers
from shared.runtime import Lifecycle, Service
from shared.tail import Limits, Tail
from shared.topics import (
    FIREHOSE_SESSIONS,
    KEYS_STATE,
    NETWORKS_STATE,
    PARTNERS_ACCESS,
    TRACKING,
    Topic,
)


def build(
    settings: FirehoseSettings | None = None,
    *,
    keys: Topic = KEYS_STATE,
    partners: Topic = PARTNERS_ACCESS,
    networks: Topic = NETWORKS_STATE,
    tracking: Mapping[str, Topic] = TRACKING,
    sessions: Topic = FIREHOSE_SESSIONS,
) -> Service:
    """The firehose, not yet open.

    Args:
        settings: read from the environment if none are given.
        keys: where key states are read.
        partners: where partners' access is read.
        networks: where budgets are read.
        tracking: where events are read, by type.
        sessions: where openings and ends are recorded.

    Raises:
        SetupError: a setting is missing or wrong.
    """
    settings = load(FirehoseSettings) if settings is None else settings
    metrics = FirehoseMetrics()
    clock = SystemClock()
    name = f"firehose-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    replicas = AccessReplicas(
        settings.kafka_bootstrap,
        clock=clock,
        client_id=name,
        keys=keys,
        partners=partners,
        networks=networks,
    )
    tail = Tail(
        settings.kafka_bootstrap,
        tracking,
        clock=clock,
        client_id=name,
        limits=_limits(settings),
    )
    session_log = SessionLog(
        settings.kafka_bootstrap,
        sessions,
        clock=clock,
        client_id=name,
        records_max=settings.sessions_max,
    )
    metrics.observe(replicas, tail, lambda: session_log.waiting)
    firehose = Firehose(
        AccessTable.over(replicas, stale_seconds=settings.stale_seconds),
        tail,
        session_log,
        metrics,
        clock,
        pace=_pace(settings),
        streams_per_partner_max=settings.streams_per_partner_max,
    )
    app = FirehoseApp(firehose, metrics, trusted=parse_proxies(settings.trusted_proxies))

    @asynccontextmanager
    async def opened(lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        replicas.register(lifecycle)
        lifecycle.run_task("tail", tail.run)
        lifecycle.ready_when("tail", tail.missing)
        lifecycle.run_task("session records", session_log.run)
        lifecycle.run_task("judge streams", firehose.judge_all)
        lifecycle.on_drain(firehose.drain)
        yield Abortable(BugAnswers(app))

    return Service("firehose", settings, opened, metrics.render)


def _limits(settings: FirehoseSettings) -> Limits:
    return Limits(
        ring_bytes_max=settings.ring_bytes_max,
        catch_up_readers_max=settings.catch_up_readers_max,
        catch_up_wait_seconds=settings.stall_seconds,
        topic_check_seconds=settings.topic_check_seconds,
    )


def _pace(settings: FirehoseSettings) -> Pace:
    return Pace(
        batch_records_max=settings.batch_records_max,
        heartbeat_seconds=settings.heartbeat_seconds,
        stall_seconds=settings.stall_seconds,
    )
