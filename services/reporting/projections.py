"""What the service reads from the log, and how far it is: facts, rates, things."""

from collections.abc import Sequence
from typing import Final

from services.reporting.asking.answers import Through
from services.reporting.catalog import handlers as catalog
from services.reporting.catalog import store as catalog_store
from services.reporting.catalog.domain import Change
from services.reporting.config import ReportingSettings
from services.reporting.facts.intake import check_fact, check_rate
from services.reporting.facts.tables import RATES, TABLE_OF_TOPIC
from services.reporting.metrics import ReportingMetrics
from services.reporting.scope import Scope
from shared import topics
from shared.clickhouse import ClickHouse
from shared.clock import SystemClock
from shared.events import partner_key
from shared.postgres import Pool
from shared.projection import ClickHouseSink, Limits, PostgresSink, Projection

CLOCK = SystemClock()
BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
"""A batch of facts closes with so many bytes: fewer and larger inserts are merged less often."""


def through(facts: Projection[None], rates: Projection[None]) -> Through:
    """How fresh tables are: of facts the partner's partition, of rates all."""
    topic_of_table = {table: topic for topic, table in TABLE_OF_TOPIC.items()}

    def known(scope: Scope, tables: Sequence[str]) -> float:
        key = partner_key(scope.network_id, scope.network_affiliate_id)
        read = [topic_of_table[table] for table in tables if table != RATES]
        found = [facts.through(topic, facts.partition_of(topic, key)) for topic in read]
        return min([*found, rates.through_all()] if RATES in tables else found)

    return known


def of_facts(
    settings: ReportingSettings, clickhouse: ClickHouse, metrics: ReportingMetrics
) -> Projection[None]:
    """Clicks, impressions and conversions, into ClickHouse."""
    return Projection(
        settings.kafka_bootstrap,
        group=f"{settings.db_schema}.facts",
        topics=tuple(topics.TRACKING.values()),
        check=check_fact,
        sink=ClickHouseSink(clickhouse, TABLE_OF_TOPIC),
        metrics=metrics.projection,
        limits=Limits(
            records_max=settings.batch_records_max,
            bytes_max=BATCH_BYTES_MAX,
            age_seconds_max=settings.batch_seconds,
        ),
        clock=CLOCK,
    )


def of_rates(
    settings: ReportingSettings, clickhouse: ClickHouse, metrics: ReportingMetrics
) -> Projection[None]:
    """Daily rates of currencies, into ClickHouse."""
    topic = topics.NETWORK_RATES
    return Projection(
        settings.kafka_bootstrap,
        group=f"{settings.db_schema}.rates",
        topics=(topic,),
        check=check_rate,
        sink=ClickHouseSink(clickhouse, {topic.name: RATES}),
        metrics=metrics.projection,
        clock=CLOCK,
    )


def of_things(
    settings: ReportingSettings, pool: Pool, metrics: ReportingMetrics
) -> Projection[Change]:
    """Networks, partners and offers, into Postgres."""
    return Projection(
        settings.kafka_bootstrap,
        group=f"{settings.db_schema}.catalog",
        topics=catalog.TOPICS,
        check=catalog.Check(),
        sink=PostgresSink(pool, "catalog", catalog_store.apply),
        metrics=metrics.projection,
        clock=CLOCK,
    )
