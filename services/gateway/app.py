"""The gateway's composition root: the only file of it that opens anything."""

import socket
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.gateway.access_log import AccessLog
from services.gateway.api import Gateway
from services.gateway.config import GatewaySettings
from services.gateway.handlers import Door, Limits
from services.gateway.http1.deadlines import Deadlines
from services.gateway.http1.server import Bounds, Server
from services.gateway.http1.upstream import Reach, open_pools
from services.gateway.http1.wire import HeadLimits
from services.gateway.metrics import GatewayMetrics
from services.gateway.pages import Pages
from services.gateway.summaries import Reporter, Tally
from services.gateway.usage import UsageExchange
from shared.access import AccessReplicas, AccessTable, parse_proxies
from shared.clock import Clock, SystemClock
from shared.config import load
from shared.errors import SetupError
from shared.events import Budget
from shared.http import OperationsAnswers
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
    metrics.observe_budgets(exchange.budgets)
    metrics.observe_summaries(lambda: reporter.confirmed, lambda: tally.dropped)
    access_log = _access_log(settings, clock, metrics)
    trusted, limits = parse_proxies(settings.trusted_proxies), _limits(settings)
    pages = Pages(clock, limits.token_budget, trusted)
    door = Door(
        AccessTable.over(replicas, stale_seconds=settings.stale_seconds),
        IdentitySigner(settings.identity_secrets.get_secret_value()),
        clock,
        trusted=trusted,
        limits=limits,
        shared=exchange.budgets,
    )

    @asynccontextmanager
    async def opened(lifecycle: Lifecycle) -> AsyncIterator[Server]:
        tls = _tls(settings)
        deadlines = Deadlines(clock)
        async with open_pools(_upstreams(settings), _reach(settings), deadlines) as pools:
            gateway = Gateway(
                door,
                pools,
                OperationsAnswers(lifecycle.missing, metrics.render),
                pages,
                tally=tally,
                metrics=metrics,
                clock=clock,
                deadlines=deadlines,
                access_log=access_log,
            )
            server = Server(gateway, _bounds(settings), deadlines, tls, trusted)
            metrics.observe_connections(server, pools)
            replicas.register(lifecycle)
            exchange.register(lifecycle)
            lifecycle.run_task("access summaries", reporter.run)
            _register(lifecycle, access_log)
            lifecycle.on_drain(gateway.drain)
            yield server

    return Service("gateway", settings, opened, metrics.render, shares_port=settings.reuse_port)


def _access_log(
    settings: GatewaySettings, clock: Clock, metrics: GatewayMetrics
) -> AccessLog | None:
    if not settings.access_log:
        return None
    access_log = AccessLog(settings.access_log, clock)
    metrics.observe_access_log(access_log)
    return access_log


def _register(lifecycle: Lifecycle, access_log: AccessLog | None) -> None:
    if access_log is not None:
        lifecycle.run_task("access log", access_log.run)


def _bounds(settings: GatewaySettings) -> Bounds:
    return Bounds(
        head=HeadLimits(
            target_max=settings.target_bytes_max, headers_max=settings.header_bytes_max
        ),
        connections_max=settings.connections_max,
        per_address_max=settings.connections_per_address_max,
        header_seconds=settings.header_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        silence_seconds=settings.silence_seconds,
        body_bytes_per_second_min=settings.body_bytes_per_second_min,
        drain_seconds=settings.drain_seconds,
    )


def _reach(settings: GatewaySettings) -> Reach:
    return Reach(
        connect_seconds=settings.connect_seconds,
        silence_seconds=settings.silence_seconds,
        links_max=settings.upstream_connections_max,
    )


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    """HTTPS with the certificate of the settings; None for plain HTTP.

    Raises:
        SetupError: the files cannot be read, or do not belong together.
    """
    if settings.tls_cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(
            f"GATEWAY_TLS_CERT_FILE, GATEWAY_TLS_KEY_FILE: no certificate with its key ({error})."
        ) from error
    return context


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
