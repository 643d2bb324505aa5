"""The gateway's composition root: the only file of it that opens anything."""

import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.gateway.api import Gateway
from services.gateway.config import GatewaySettings
from services.gateway.handlers import Door, Limits
from services.gateway.metrics import GatewayMetrics
from services.gateway.summaries import Reporter, Tally
from services.gateway.upstream import open_upstream
from services.gateway.usage import UsageExchange
from shared.access import AccessReplicas, AccessTable, parse_proxies
from shared.clock import SystemClock
from shared.config import load
from shared.events import Budget
from shared.http import AsgiApp, BugAnswers
from shared.identity import IdentitySigner
from shared.runtime import Lifecycle, Service
from shared.topics import (
    GATEWAY_ACCESS,
    GATEWAY_USAGE,
    KEYS_STATE,
    NETWORKS_STATE,
    PARTNERS_ACCESS,
    Topic,
)


def build(
    settings: GatewaySettings | None = None,
    *,
    keys: Topic = KEYS_STATE,
    partners: Topic = PARTNERS_ACCESS,
    networks: Topic = NETWORKS_STATE,
    access: Topic = GATEWAY_ACCESS,
    usage: Topic = GATEWAY_USAGE,
) -> Service:
    """The gateway, not yet open.

    Args:
        settings: read from the environment if none are given.
        keys: where key states are read.
        partners: where partners' access is read.
        networks: where budgets are read.
        access: where summaries go.
        usage: where gateways tell one another what they admit.

    Raises:
        SetupError: a setting is missing or wrong.
    """
    settings = load(GatewaySettings) if settings is None else settings
    metrics = GatewayMetrics()
    name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    clock = SystemClock()
    replicas = AccessReplicas(
        settings.kafka_bootstrap,
        clock=clock,
        client_id=f"gateway-{name}",
        keys=keys,
        partners=partners,
        networks=networks,
    )
    tally = Tally(name, rows_max=settings.summary_rows_max)
    reporter = Reporter(
        settings.kafka_bootstrap, access, tally, clock=clock, client_id=f"gateway-{name}"
    )
    exchange = UsageExchange(settings.kafka_bootstrap, usage, clock=clock, replica=name)
    metrics.observe_replicas(replicas)
    metrics.observe_usage(exchange.gauges())
    metrics.observe_summaries(lambda: reporter.confirmed, lambda: tally.dropped)
    door = Door(
        AccessTable.over(replicas, stale_seconds=settings.stale_seconds),
        IdentitySigner(settings.identity_secrets.get_secret_value()),
        clock,
        trusted=parse_proxies(settings.trusted_proxies),
        limits=_limits(settings),
        shared=exchange.budgets,
    )

    @asynccontextmanager
    async def opened(lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        async with open_upstream(
            connect_seconds=settings.connect_seconds,
            silence_seconds=settings.silence_seconds,
            connections_max=settings.upstream_connections_max,
        ) as upstream:
            gateway = Gateway(
                door,
                upstream,
                _upstreams(settings),
                silence_seconds=settings.silence_seconds,
                tally=tally,
                metrics=metrics,
                clock=clock,
            )
            replicas.register(lifecycle)
            exchange.register(lifecycle)
            lifecycle.run_task("access summaries", reporter.run)
            lifecycle.on_drain(gateway.drain)
            yield BugAnswers(gateway)

    return Service("gateway", settings, opened, metrics.render)


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(
        header_bytes_max=settings.header_bytes_max,
        body_bytes_max=settings.body_bytes_max,
        token_budget=Budget(rate=settings.token_rate, burst=settings.token_burst),
        guess_budget=Budget(rate=settings.guess_rate, burst=settings.guess_burst),
    )


def _upstreams(settings: GatewaySettings) -> dict[str, str]:
    """Base URLs by service; the firehose is a door of its own."""
    return {
        "keys": settings.upstream_keys.rstrip("/"),
        "reporting": settings.upstream_reporting.rstrip("/"),
        "audit": settings.upstream_audit.rstrip("/"),
    }
