"""Wires what operators see of the facts and do with them."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from services.reporting import operations_api
from services.reporting.config import ReportingSettings
from services.reporting.facts.generations import Generations
from services.reporting.facts.intake import check_fact
from services.reporting.facts.operations import Operations
from services.reporting.facts.rebuild import Rebuild
from services.reporting.facts.recount import Recount
from services.reporting.facts.replay import Replay, open_replay
from services.reporting.facts.retention import Retention, keep
from services.reporting.facts.tables import TABLE_OF_TOPIC, prepare
from services.reporting.facts.upkeep import Upkeep
from services.reporting.metrics import ReportingMetrics
from shared.clickhouse import ClickHouse
from shared.clock import SystemClock, rfc3339
from shared.projection import Projection
from shared.runtime import Lifecycle

CLOCK = SystemClock()


def prepared(settings: ReportingSettings) -> Callable[[ClickHouse], Awaitable[None]]:
    """What makes a generation ready: its tables and views, and how long they keep facts."""

    async def prepared_(clickhouse: ClickHouse) -> None:
        await prepare(clickhouse, settings.clickhouse_engine)
        await keep(clickhouse, _retention(settings))

    return prepared_


def add(
    lifecycle: Lifecycle,
    app: FastAPI,
    clickhouse: ClickHouse,
    generations: Generations,
    facts: Projection[None],
    *,
    settings: ReportingSettings,
    metrics: ReportingMetrics,
) -> None:
    """Run upkeep and operations beside the server, and answer operators."""
    upkeep = Upkeep(clickhouse, metrics, facts.through_all, CLOCK)
    operations = _operations(settings, clickhouse, generations)
    lifecycle.run_task("upkeep", upkeep.run)
    lifecycle.run_task("operations", operations.run)
    app.include_router(operations_api.router(operations, lambda: _state(upkeep, facts)))


def _operations(
    settings: ReportingSettings, clickhouse: ClickHouse, generations: Generations
) -> Operations:
    def replay() -> AbstractAsyncContextManager[Replay]:
        return open_replay(settings.kafka_bootstrap, list(TABLE_OF_TOPIC), check_fact)

    rebuild = Rebuild(clickhouse, generations, prepared(settings), replay)
    recount = Recount(clickhouse, replay, _retention(settings), CLOCK)
    return Operations({"rebuild": rebuild.run, "recount": recount.run}, CLOCK)


def _retention(settings: ReportingSettings) -> Retention:
    return Retention(settings.clicks_days, settings.impressions_days, settings.conversions_days)


def _state(upkeep: Upkeep, facts: Projection[None]) -> dict[str, Any]:
    lags = facts.lags()
    return {
        "database": upkeep.database,
        "through": rfc3339(facts.through_all()),
        "lag": {
            "records": sum(lag.records for lag in lags.values()),
            "seconds": max((lag.seconds for lag in lags.values()), default=0.0),
        },
        "tables": upkeep.latest,
    }
