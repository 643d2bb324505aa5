"""Wires the key service: store, vault, relay, projection, upkeep and API, in order of need."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from services.keys import partners
from services.keys.access.handlers import AccessHandlers
from services.keys.api import Areas, create_app
from services.keys.config import KeysSettings
from services.keys.handlers import Handlers
from services.keys.issuing import Issuing
from services.keys.lapsing import Lapsing
from services.keys.master_keys.holding import Holding
from services.keys.master_keys.source import Source
from services.keys.master_keys.store import MasterKeysStore
from services.keys.metrics import KeysMetrics
from services.keys.portal.handlers import PortalHandlers
from services.keys.portal.store import PortalStore
from services.keys.sealing import Sealing
from services.keys.shares.credentials import Passphrases
from services.keys.shares.handlers import ShareHandlers
from services.keys.shares.names import NetworkNames
from services.keys.shares.purge import Purge
from services.keys.shares.store import ShareStore
from services.keys.staff import Permits
from services.keys.store import PartnerChange, Store
from services.keys.table.handlers import TableHandlers
from services.keys.table.store import TableStore
from services.keys.telling import Confirmations
from services.keys.upkeep import Upkeep
from services.keys.usage import projection as usage
from services.keys.usage.domain import DoorEvent
from services.keys.usage.store import Usages
from services.keys.vault import Vault
from shared import topics
from shared.clock import SystemClock
from shared.config import load
from shared.events import KeyState, NetworkProfile, NetworkState, PartnerAccess, partner_key
from shared.http import AsgiApp, IdentityCheck
from shared.identity import IdentitySigner
from shared.outbox import Relay, RelayMetrics, RelaySettings, open_relay
from shared.postgres import Pool, migrate, open_pool
from shared.projection import PostgresSink, Projection, ProjectionMetrics
from shared.replica import Replica, ReplicaCollector
from shared.runtime import Lifecycle, Service
from shared.tokens import TokenVerifier

CLOCK: Final = SystemClock()


def build() -> Service:
    """The service, by the environment; opens nothing."""
    settings = load(KeysSettings)
    metrics = KeysMetrics()
    source = Source(settings.master_key, settings.master_key_file)
    source.read()  # what is wrong here or below is told before anything is opened
    tokens = TokenVerifier(settings, CLOCK)
    signer = IdentitySigner(settings.identity_secrets.get_secret_value())

    @asynccontextmanager
    async def open_(lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        async with AsyncExitStack() as stack:
            areas = await _opened(stack, lifecycle, settings, source, metrics)
            yield create_app(areas, IdentityCheck(signer, CLOCK), tokens)

    return Service("keys", settings, open_, metrics.render)


async def _opened(
    stack: AsyncExitStack,
    lifecycle: Lifecycle,
    settings: KeysSettings,
    source: Source,
    metrics: KeysMetrics,
) -> Areas:
    pool = await stack.enter_async_context(
        open_pool(
            settings.database_url.get_secret_value(),
            schema=settings.db_schema,
            application="portico-keys",
        )
    )
    await migrate(pool, "services.keys.migrations")
    store, vault = Store(pool), Vault(source.read())
    await _hold_master_keys(
        stack, lifecycle, Holding(vault, source, MasterKeysStore(pool), CLOCK, metrics)
    )
    relay = await _relay(stack, settings, metrics)
    lifecycle.run_task("relay", relay.run)
    projections = ProjectionMetrics(metrics.registry, "keys")
    _project(lifecycle, pool, settings, projections)
    await _follow_use(stack, lifecycle, settings, metrics, projections)
    profiles = _profiles(settings)
    _keep_up(lifecycle, store, relay, settings, metrics, profiles=profiles)
    lifecycle.run_task("purge of links", Purge(ShareStore(pool), CLOCK).run)
    return _areas(pool, Sealing(vault), relay, settings, metrics, profiles=profiles)


async def _hold_master_keys(stack: AsyncExitStack, lifecycle: Lifecycle, holding: Holding) -> None:
    await holding.start()
    stack.push_async_callback(holding.leave)
    lifecycle.run_task("master keys", holding.run)
    lifecycle.ready_when("master keys", holding.missing)


def _areas(
    pool: Pool,
    sealing: Sealing,
    relay: Relay,
    settings: KeysSettings,
    metrics: KeysMetrics,
    *,
    profiles: Replica[NetworkProfile],
) -> Areas:
    store = Store(pool)
    permits = Permits(store, CLOCK, metrics)
    confirmations = Confirmations(relay, metrics, settings.confirm_seconds)
    return Areas(
        issuing=Issuing(store, sealing, permits, confirmations, CLOCK),
        keys=Handlers(store, sealing, permits, confirmations, CLOCK),
        access=AccessHandlers(store, permits, confirmations, CLOCK),
        table=TableHandlers(TableStore(pool), store, Usages(pool), permits, CLOCK),
        shares=ShareHandlers(
            ShareStore(pool),
            sealing,
            permits,
            confirmations,
            Passphrases(),
            CLOCK,
            NetworkNames(profiles).of,
            settings.public_url,
        ),
        portal=PortalHandlers(PortalStore(pool), sealing, permits, confirmations, CLOCK),
    )


async def _relay(stack: AsyncExitStack, settings: KeysSettings, metrics: KeysMetrics) -> Relay:
    relay_settings = RelaySettings(
        bootstrap=settings.kafka_bootstrap,
        database_url=settings.database_url.get_secret_value(),
        schema=settings.db_schema,
        holder=f"keys-{uuid.uuid4().hex[:8]}",
    )
    relay_metrics = RelayMetrics(metrics.registry, "keys")
    return await stack.enter_async_context(open_relay(relay_settings, relay_metrics, CLOCK))


def _project(
    lifecycle: Lifecycle, pool: Pool, settings: KeysSettings, metrics: ProjectionMetrics
) -> None:
    projection: Projection[PartnerChange] = Projection(
        settings.kafka_bootstrap,
        group=f"{settings.db_schema}.partners",
        topics=(partners.TOPIC,),
        check=partners.check_partner,
        sink=PostgresSink(pool, "partners", partners.partner_writer(CLOCK)),
        metrics=metrics,
    )
    lifecycle.run_task("partners", projection.run)
    lifecycle.ready_when("partners", projection.missing)
    lifecycle.on_drain(projection.drain)


async def _follow_use(
    stack: AsyncExitStack,
    lifecycle: Lifecycle,
    settings: KeysSettings,
    metrics: KeysMetrics,
    projections: ProjectionMetrics,
) -> None:
    """Last use, on connections of its own and asked by no readiness: it may lag, staff may not."""
    pool = await stack.enter_async_context(
        open_pool(
            settings.database_url.get_secret_value(),
            schema=settings.db_schema,
            application="portico-keys-usage",
            size_max=usage.CONNECTIONS_MAX,
        )
    )

    def projection() -> Projection[DoorEvent]:
        return Projection(
            settings.kafka_bootstrap,
            group=f"{settings.db_schema}.usage",
            topics=usage.TOPICS,
            check=usage.check_door_event,
            sink=PostgresSink(pool, "usage", usage.usage_writer(CLOCK)),
            metrics=projections,
            limits=usage.limits(settings.usage_seconds),
        )

    last_use = usage.LastUse(projection, Usages(pool), metrics.usage_failures, CLOCK)
    lifecycle.run_task("last use", last_use.run)
    lifecycle.run_task("forgetting of uses", last_use.forget)
    lifecycle.on_drain(last_use.drain)


def _keep_up(
    lifecycle: Lifecycle,
    store: Store,
    relay: Relay,
    settings: KeysSettings,
    metrics: KeysMetrics,
    *,
    profiles: Replica[NetworkProfile],
) -> None:
    """The comparison of tables and topics; an unreadable record is one that has to be replaced."""
    common: dict[str, Any] = {"clock": CLOCK, "client_id": "keys", "unreadable": "withhold"}
    bootstrap = settings.kafka_bootstrap
    keys = Replica(
        bootstrap, topics.KEYS_STATE, KeyState, key_of=lambda state: state.key_id, **common
    )
    access = Replica(bootstrap, topics.PARTNERS_ACCESS, PartnerAccess, key_of=_partner_of, **common)
    networks = Replica(
        bootstrap,
        topics.NETWORKS_STATE,
        NetworkState,
        key_of=lambda state: str(state.network_id),
        **common,
    )
    replicas = (keys, access, networks)
    for replica in (*replicas, profiles):
        lifecycle.run_task(f"replica {replica.topic.name}", replica.run)
    metrics.registry.register(ReplicaCollector((*replicas, profiles)))
    upkeep = Upkeep(
        store,
        replicas,
        lambda: relay.is_holder,
        clock=CLOCK,
        metrics=metrics,
        pause_seconds=settings.reconcile_seconds,
        keep_seconds=settings.ended_keep_seconds,
    )
    lifecycle.run_task("upkeep", upkeep.run)
    lifecycle.run_task("lapsing", Lapsing(store, lambda: relay.is_holder, CLOCK).run)


def _profiles(settings: KeysSettings) -> Replica[NetworkProfile]:
    """The networks' names; an unreadable record leaves the name before it."""
    return Replica(
        settings.kafka_bootstrap,
        topics.NETWORK_PROFILE,
        NetworkProfile,
        key_of=lambda profile: str(profile.network_id),
        clock=CLOCK,
        client_id="keys",
        unreadable="keep",
    )


def _partner_of(access: PartnerAccess) -> str:
    return partner_key(access.network_id, access.network_affiliate_id)
