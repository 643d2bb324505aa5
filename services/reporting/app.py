"""Wires the reporting service: stores, projections and API, in order of need."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from services.reporting import operating, projections
from services.reporting.asking.answers import Through
from services.reporting.catalog import api as catalog_api
from services.reporting.catalog import handlers as catalog
from services.reporting.catalog import store as catalog_store
from services.reporting.catalog.domain import Change
from services.reporting.changes import api as changes_api
from services.reporting.changes.handlers import Changes, Horizon
from services.reporting.changes.store import ChangeStore
from services.reporting.config import ReportingSettings
from services.reporting.exports import api as exports_api
from services.reporting.exports.files import Folder
from services.reporting.exports.handlers import Exports
from services.reporting.exports.store import ExportStore, WorkStore
from services.reporting.exports.worker import LOW_PRIORITY, Bounds, Worker
from services.reporting.facts.generations import Generations
from services.reporting.meta import api as meta_api
from services.reporting.meta.handlers import Lists
from services.reporting.metrics import ReportingMetrics
from services.reporting.referrals import api as referrals_api
from services.reporting.referrals.handlers import Referrals
from services.reporting.referrals.store import ReferralStore
from services.reporting.reports import api as reports_api
from services.reporting.reports.handlers import OwnCurrency, Reports
from services.reporting.reports.store import ReportStore
from services.reporting.rows import api as rows_api
from services.reporting.rows.bulk import Bulk
from services.reporting.rows.handlers import Rows
from services.reporting.rows.store import RowStore
from services.reporting.scope import Scope
from services.reporting.traffic import Traffic
from shared import topics
from shared.clickhouse import ClickHouse, open_clickhouse
from shared.clock import SystemClock
from shared.config import load
from shared.events import partner_key
from shared.hangup import HangUp
from shared.http import AsgiApp, IdentityCheck, new_app
from shared.identity import IdentitySigner
from shared.postgres import Pool, migrate, open_pool
from shared.projection import Projection
from shared.runtime import Lifecycle, Service

CLOCK = SystemClock()


def build(settings: ReportingSettings | None = None) -> Service:
    """The service, by the environment if no settings are given; opens nothing."""
    chosen = settings or load(ReportingSettings)
    metrics = ReportingMetrics()

    @asynccontextmanager
    async def open_(lifecycle: Lifecycle) -> AsyncIterator[AsgiApp]:
        async with AsyncExitStack() as stack:
            yield await _opened(stack, lifecycle, chosen, metrics)

    return Service("reporting", chosen, open_, metrics.render)


async def _opened(
    stack: AsyncExitStack,
    lifecycle: Lifecycle,
    settings: ReportingSettings,
    metrics: ReportingMetrics,
) -> AsgiApp:
    pool = await stack.enter_async_context(
        open_pool(
            settings.database_url.get_secret_value(),
            schema=settings.db_schema,
            application="portico-reporting",
        )
    )
    await migrate(pool, "services.reporting.migrations")
    url = settings.clickhouse_url
    clickhouse = await stack.enter_async_context(
        open_clickhouse(
            path=settings.clickhouse_path,
            database=settings.clickhouse_database,
            url=url.get_secret_value() if url is not None else None,
            readers=settings.queries_max,
            query_seconds=settings.query_seconds,
            whose=lambda values: (values.get("network"), values.get("partner")),
            spent=metrics.spent,
        )
    )
    generations = Generations(clickhouse)
    await generations.resume()
    await operating.prepared(settings)(clickhouse)
    facts = projections.of_facts(settings, clickhouse, metrics)
    rates = projections.of_rates(settings, clickhouse, metrics)
    things = projections.of_things(settings, pool, metrics)
    for name, projection in (("facts", facts), ("rates", rates), ("catalog", things)):
        lifecycle.run_task(name, projection.run)
        lifecycle.ready_when(name, projection.missing)
        lifecycle.on_drain(projection.drain)
    identity = IdentityCheck(IdentitySigner(settings.identity_secrets.get_secret_value()), CLOCK)
    app = new_app("Portico reporting", "Partners' reads: reports, conversions, clicks, offers.")
    store = catalog_store.Store(pool)
    reports = Reports(
        ReportStore(clickhouse, metrics.read_seconds, rates.through_all),
        projections.through(facts, rates),
        _own_currency(store),
        CLOCK,
        has_header_if_empty=settings.export_header_if_empty,
        kept_days=min(settings.clicks_days, settings.impressions_days, settings.conversions_days),
    )
    app.include_router(reports_api.router(reports, identity))
    _add_rows(app, clickhouse, metrics, reports, identity)
    changes = ChangeStore(clickhouse, metrics.read_seconds)
    _add_changes(app, changes, facts, identity, kept_days=settings.conversions_days)
    _add_things(app, store, things, Traffic(reports, CLOCK), identity)
    referrals = Referrals(ReferralStore(pool), things.through_all)
    app.include_router(referrals_api.router(referrals, identity))
    _add_exports(
        app,
        lifecycle,
        settings,
        pool=pool,
        clickhouse=clickhouse,
        through=reports.through,
        identity=identity,
    )
    operating.add(
        lifecycle, app, clickhouse, generations, facts, settings=settings, metrics=metrics
    )
    app.add_middleware(HangUp)
    return app


def _own_currency(store: catalog_store.Store) -> OwnCurrency:
    async def own_currency(scope: Scope) -> str:
        profile = await store.network(scope)
        return profile.currency_id if profile is not None else ""

    return own_currency


def _add_rows(
    app: FastAPI,
    clickhouse: ClickHouse,
    metrics: ReportingMetrics,
    reports: Reports,
    identity: IdentityCheck,
) -> None:
    rows = Rows(
        RowStore(clickhouse, metrics.read_seconds), Bulk(clickhouse), reports.through, CLOCK
    )
    app.include_router(rows_api.router(rows, identity))


def _add_changes(
    app: FastAPI,
    store: ChangeStore,
    facts: Projection[None],
    identity: IdentityCheck,
    *,
    kept_days: int,
) -> None:
    topic = topics.CONVERSIONS.name

    def horizon(scope: Scope) -> Horizon:
        key = partner_key(scope.network_id, scope.network_affiliate_id)
        stored = facts.stored(topic, facts.partition_of(topic, key))
        return Horizon(facts.topic_id(topic), stored.offset, stored.through_ms)

    changes = Changes(store, horizon, CLOCK, kept_days=kept_days)
    app.include_router(changes_api.router(changes, identity))


def _add_exports(
    app: FastAPI,
    lifecycle: Lifecycle,
    settings: ReportingSettings,
    *,
    pool: Pool,
    clickhouse: ClickHouse,
    through: Through,
    identity: IdentityCheck,
) -> None:
    bounds = Bounds(
        file_bytes_max=settings.exports_file_bytes_max,
        total_bytes_max=settings.exports_total_bytes_max,
        kept_seconds=settings.exports_kept_days * 86_400,
    )
    folder = Folder(settings.exports_path or settings.clickhouse_path.parent / "exports")
    bulk = Bulk(clickhouse, settings=LOW_PRIORITY)
    worker = Worker(WorkStore(pool), folder, bulk, bounds, CLOCK)
    lifecycle.run_task("exports", worker.run)
    lifecycle.on_drain(worker.drain)
    exports = Exports(
        ExportStore(pool),
        folder,
        wake=worker.wake,
        through=through,
        clock=CLOCK,
        kept_seconds=bounds.kept_seconds,
    )
    app.include_router(exports_api.router(exports, identity))


def _add_things(
    app: FastAPI,
    store: catalog_store.Store,
    things: Projection[Change],
    traffic: Traffic,
    identity: IdentityCheck,
) -> None:
    offers = catalog.Catalog(store, things.through_all, traffic.today)
    app.include_router(catalog_api.router(offers, identity))
    app.include_router(meta_api.router(Lists(traffic.names, CLOCK), identity))
