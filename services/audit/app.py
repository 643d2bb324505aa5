"""Wires the audit service: settings, store, projections, notary, feed and API, in order of need."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit import checkpoints, domain, handlers
from services.audit.api import build_api
from services.audit.config import AuditSettings
from services.audit.feed import Feed
from services.audit.metrics import AuditMetrics
from services.audit.notary import Due, Notary, Publish
from services.audit.store import Store, channel
from shared import events, topics
from shared.clock import SystemClock
from shared.config import load
from shared.events import Checkpoint
from shared.http import AsgiApp, IdentityCheck
from shared.identity import IdentitySigner
from shared.kafka import Producer, open_producer, translated
from shared.postgres import Pool, connect, migrate, open_pool
from shared.projection import PostgresSink, Projection, ProjectionMetrics
from shared.runtime import Lifecycle, Service
from shared.tokens import TokenVerifier

SOURCE = "portico/audit"
CLOCK = SystemClock()


def build() -> Service:
    """The service, by the environment; opens nothing."""
    settings = load(AuditSettings)
    metrics = AuditMetrics()
    key = checkpoints.load_signing_key(settings.signing_key_file)

    @asynccontextmanager
    async def open_(lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        async with AsyncExitStack() as stack:
            yield await _opened(stack, lifecycle, settings, key, metrics)

    return Service("audit", settings, open_, metrics.render)


async def _opened(
    stack: AsyncExitStack,
    lifecycle: Lifecycle,
    settings: AuditSettings,
    key: Ed25519PrivateKey,
    metrics: AuditMetrics,
) -> AsgiApp:
    pool = await stack.enter_async_context(
        open_pool(
            settings.database_url.get_secret_value(),
            schema=settings.db_schema,
            application="portico-audit",
        )
    )
    await migrate(pool, "services.audit.migrations")
    producer = await stack.enter_async_context(
        open_producer(settings.kafka_bootstrap, client_id="audit")
    )
    journal = checkpoints.Journal(settings.checkpoint_dir)
    journal.prepare()
    _project(lifecycle, pool, settings, metrics)
    lifecycle.run_task("notary", _notary(settings, key, journal, producer, metrics).run)
    feed = _feed(lifecycle, settings)
    answers = handlers.Handlers(
        store=Store(pool),
        feed=feed,
        journal=journal,
        public_key=key.public_key(),
        clock=CLOCK,
        metrics=metrics,
        heartbeat_seconds=settings.heartbeat_seconds,
        stream_seconds_max=settings.stream_seconds_max,
        verifying=asyncio.Lock(),
    )
    signer = IdentitySigner(settings.identity_secrets.get_secret_value())
    return build_api(answers, IdentityCheck(signer, CLOCK), TokenVerifier(settings, CLOCK))


def _project(
    lifecycle: Lifecycle, pool: Pool, settings: AuditSettings, metrics: AuditMetrics
) -> None:
    """The two projections: the trail, and what the anomaly worker found."""
    shared_metrics = ProjectionMetrics(metrics.registry, "audit")
    write_trail = handlers.trail_writer(channel(settings.db_schema), metrics)
    trail: Projection[domain.AuditedEvent] = Projection(
        settings.kafka_bootstrap,
        group=f"{settings.db_schema}.trail",
        topics=handlers.TRAIL_TOPICS,
        check=handlers.check_audited,
        sink=PostgresSink(pool, "trail", write_trail),
        metrics=shared_metrics,
    )
    anomalies: Projection[domain.Anomaly] = Projection(
        settings.kafka_bootstrap,
        group=f"{settings.db_schema}.anomalies",
        topics=(topics.AUDIT_ANOMALIES,),
        check=handlers.check_anomaly,
        sink=PostgresSink(pool, "anomalies", handlers.note_anomalies),
        metrics=shared_metrics,
    )
    for name, projection in (("trail", trail), ("anomalies", anomalies)):
        lifecycle.run_task(name, projection.run)
        lifecycle.ready_when(name, projection.missing)
        lifecycle.on_drain(projection.drain)


def _feed(lifecycle: Lifecycle, settings: AuditSettings) -> Feed:
    feed = Feed(
        settings.database_url.get_secret_value(),
        settings.db_schema,
        CLOCK,
        readers_max=settings.streams_max,
    )
    lifecycle.run_task("feed", feed.run)
    lifecycle.on_drain(feed.aclose)
    return feed


def _notary(
    settings: AuditSettings,
    key: Ed25519PrivateKey,
    journal: checkpoints.Journal,
    producer: Producer,
    metrics: AuditMetrics,
) -> Notary:
    async def connect_() -> asyncpg.Connection:
        return await connect(
            settings.database_url.get_secret_value(),
            schema=settings.db_schema,
            application="portico-audit-notary",
        )

    return Notary(
        connect_,
        _publisher(producer),
        journal,
        key,
        due=Due(settings.checkpoint_seconds, settings.checkpoint_entries),
        clock=CLOCK,
        metrics=metrics,
    )


def _publisher(producer: Producer) -> Publish:
    async def publish(checkpoint: Checkpoint) -> None:
        headers = events.headers(
            checkpoint,
            source=SOURCE,
            occurred_at=checkpoint.occurred_at,
            event_id=f"checkpoint-{checkpoint.network_id}-{checkpoint.sequence}",
        )
        with translated("publishing a checkpoint"):
            await producer.send_and_wait(
                topics.AUDIT_CHECKPOINTS.name,
                events.encode(checkpoint),
                key=str(checkpoint.network_id).encode(),
                headers=headers,
            )

    return publish
