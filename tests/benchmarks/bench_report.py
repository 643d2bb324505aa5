"""Partners' reads over ten million clicks, through the HTTP path of the service, beside baselines.

One partner holds half of the clicks of thirty days. Each report is asked for in turns with plain
Postgres and DuckDB on the same rows, first with all parts merged, then while 2,000 clicks a second
come in. That the three agree to the click and the cent is checked on the way. A percentile is that
of one partner asking, one request after another.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from shared import routes, topics
from tests.backends import ROOT
from tests.benchmarks import facts_data
from tests.benchmarks.context import Context
from tests.benchmarks.facts_baselines import GROUPS, Asked, Duck, Postgres
from tests.benchmarks.figures import Figure
from tests.benchmarks.reporting_service import (
    CLICKS,
    CONVERSIONS,
    TABLE,
    Asking,
    at_the_end,
    live_clicks,
    open_service,
    p95,
    report_body,
)

ROWS = int(os.environ.get("PORTICO_BENCH_ROWS", "10000000"))
"""Clicks of the thirty days, and again of the year; a smaller number for trying things out."""
ROUNDS = 20
POSTGRES_ROUNDS = 5
AT_ONCE = 20
LIVE_PER_SECOND = 2_000
STREAM = "/v1/affiliates/reporting/clicks/stream"
COLUMNS = {
    "date": ("date",),
    "offer": ("offer",),
    "country_device": ("country", "device_type"),
    "offer_sub1": ("offer", "sub1"),
    "unique_sub": ("sub3",),
}
NAMES = (
    *(
        f"report.{name}.{what}"
        for name in COLUMNS
        for what in (
            "p95_ms",
            "speedup_vs_postgres",
            "ratio_vs_duckdb",
            "under_ingest_p95_ms",
            "under_ingest_ratio_vs_duckdb",
        )
    ),
    "report.small_partner.p95_ms",
    "report.year_by_month.p95_ms",
    "report.twenty_at_once.p95_ms",
    "conversions.last_page_ratio",
    "clicks.first_byte_ms",
    "clicks.by_id_p95_ms",
    "facts.bytes_per_click",
)

Timed = Callable[[], Awaitable[float]]


async def run(context: Context) -> list[Figure]:
    """Every figure."""
    end = int(time.time()) // facts_data.DAY * facts_data.DAY
    load = facts_data.Load(ROWS, end)
    folder = context.folder / "facts"
    made = await _made(folder, load)
    await topics.apply(context.kafka_bootstrap)
    duck = Duck(folder)
    postgres = await Postgres.filled(context.database_url, duck, folder)
    try:
        starts = await at_the_end(context)
        async with open_service(context, folder, starts=starts) as asking:
            bench = _Bench(load, asking, duck, postgres)
            figures = [Figure("facts.bytes_per_click", made["bytes_per_click"], "bytes")]
            figures += await bench.merged()
            figures += await bench.single_reads(made["click_ids"])
            async with live_clicks(context, LIVE_PER_SECOND):
                figures += await bench.under_ingest()
    finally:
        await postgres.aclose()
        duck.close()
    return figures


async def _made(folder: Path, load: facts_data.Load) -> dict[str, Any]:
    """What the process that makes the facts says of them."""
    command = ["-m", "tests.benchmarks.facts_process", str(folder), str(load.rows), str(load.end)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, "the facts were not made"
    found: dict[str, Any] = json.loads(out)
    return found


class _Bench:
    """The service and the baselines over one set of facts."""

    def __init__(
        self, load: facts_data.Load, asking: Asking, duck: Duck, postgres: Postgres
    ) -> None:
        self._load = load
        self._asking = asking
        self._duck = duck
        self._postgres = postgres
        self._asked = Asked(facts_data.NETWORK, facts_data.BIG, load.begin, load.end - 1)

    async def merged(self) -> list[Figure]:
        """The five reports with all parts merged, compared with both baselines."""
        figures: list[Figure] = []
        for name in COLUMNS:
            await self._agree(name)
            ours, duck = await _in_turns(
                ROUNDS, lambda name=name: self._ours(name), self._ducks(name)
            )
            (plain,) = await _in_turns(
                POSTGRES_ROUNDS, lambda name=name: self._postgres.timed(name, self._asked)
            )
            figures += [
                _p95(f"report.{name}.p95_ms", ours, p95(duck)),
                Figure(f"report.{name}.speedup_vs_postgres", p95(plain) / p95(ours), "x"),
                Figure(f"report.{name}.ratio_vs_duckdb", p95(ours) / p95(duck), "x"),
            ]
        return figures

    async def under_ingest(self) -> list[Figure]:
        """The five reports while clicks come in, with those of today in them."""
        figures: list[Figure] = []
        until = self._load.end + facts_data.DAY
        for name in COLUMNS:
            ours, duck = await _in_turns(
                ROUNDS, lambda name=name: self._ours(name, until), self._ducks(name)
            )
            figures += [
                _p95(f"report.{name}.under_ingest_p95_ms", ours, p95(duck)),
                Figure(f"report.{name}.under_ingest_ratio_vs_duckdb", p95(ours) / p95(duck), "x"),
            ]
        return figures

    async def single_reads(self, click_ids: Sequence[str]) -> list[Figure]:
        """What is not compared with another database."""
        figures = [
            await self._alone("report.small_partner.p95_ms", partner=facts_data.SMALL),
            await self._year(),
            await self._at_once(),
            await self._pages(),
            await self._by_id(click_ids),
        ]
        if any(row.template == STREAM for row in routes.ROUTES):
            figures.append(await self._first_byte())
        return figures

    def _ours(self, name: str, until: int | None = None) -> Awaitable[float]:
        return self._asking.timed("POST", TABLE, self._body(COLUMNS[name], until=until))

    def _ducks(self, name: str) -> Timed:
        return lambda: self._duck.timed(name, self._asked)

    def _body(
        self, columns: Sequence[str], days: int = 30, until: int | None = None
    ) -> Mapping[str, Any]:
        begin = self._load.end - days * facts_data.DAY
        return report_body(columns, since=begin, until=(until or self._load.end) - 1)

    async def _agree(self, name: str) -> None:
        """All three answer the same totals, in as many rows."""
        _, raw = await self._asking.answered("POST", TABLE, self._body(COLUMNS[name]))
        rows = json.loads(raw, parse_float=Decimal, parse_int=Decimal)["table"]
        metrics = ("unique_click", "duplicate_click", "invalid_click", "cv", "revenue")
        ours = [sum(row["reporting"][metric] for row in rows) for metric in metrics]
        width = len(GROUPS[name])
        for other in (self._duck, self._postgres):
            _, found = await other.answered(name, self._asked)
            kept = [row[width:] for row in found[:10_000]]
            theirs = [sum(map(Decimal, column)) for column in zip(*kept, strict=True)]
            same = (len(rows), ours) == (len(kept), theirs)
            assert same, f"{name}: {type(other).__name__} says {theirs}, ours {ours}"

    async def _alone(self, name: str, *, partner: int, rounds: int = 3 * ROUNDS) -> Figure:
        body = self._body(("date",))
        (samples,) = await _in_turns(
            rounds, lambda: self._asking.timed("POST", TABLE, body, partner=partner)
        )
        return _p95(name, samples)

    async def _year(self) -> Figure:
        body = self._body(("month",), 365)
        who = {"network": facts_data.YEAR_NETWORK, "partner": facts_data.YEARLY}
        _, raw = await self._asking.answered("POST", TABLE, body, **who)
        found = json.loads(raw)["table"]
        total = sum(row["reporting"][m] for row in found for m in ("total_click", "invalid_click"))
        assert total == self._load.rows, f"{total} clicks of {self._load.rows}"
        (samples,) = await _in_turns(ROUNDS, lambda: self._asking.timed("POST", TABLE, body, **who))
        return _p95("report.year_by_month.p95_ms", samples)

    async def _at_once(self) -> Figure:
        """Twenty partners ask at once, again and again; a fair share is twenty times alone."""
        alone = await self._alone("report.twenty_at_once.p95_ms", partner=2)
        body = self._body(("date",))

        async def asks(partner: int) -> list[float]:
            return [
                await self._asking.timed("POST", TABLE, body, partner=partner) for _ in range(10)
            ]

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(asks(partner)) for partner in range(2, 2 + AT_ONCE)]
        samples = [each for task in asked for each in task.result()]
        return _p95(alone.name, samples, AT_ONCE * alone.value)

    async def _pages(self) -> Figure:
        """Page 1 and the last page of the big partner's conversions."""
        body = self._body(())
        _, raw = await self._asking.answered("POST", f"{CONVERSIONS}?page_size=50", body)
        last = -(-json.loads(raw)["paging"]["total_count"] // 50)

        def page(number: int) -> Timed:
            path = f"{CONVERSIONS}?page={number}&page_size=50"
            return lambda: self._asking.timed("POST", path, body)

        first_page, last_page = await _in_turns(ROUNDS, page(1), page(last))
        ratio = p95(last_page) / p95(first_page)
        return Figure("conversions.last_page_ratio", ratio, "x", rounds=ROUNDS)

    async def _by_id(self, click_ids: Sequence[str]) -> Figure:
        samples = [await self._asking.timed("GET", f"{CLICKS}/{each}") for each in click_ids]
        return _p95("clicks.by_id_p95_ms", samples)

    async def _first_byte(self) -> Figure:
        """Fourteen days of the big partner's clicks as a stream."""
        body = self._body((), 14)

        async def first_byte() -> float:
            began = time.perf_counter()
            async with self._asking.request("POST", STREAM, body) as answer:
                assert answer.status == 200, await answer.text()
                await answer.content.readany()
                found = (time.perf_counter() - began) * 1_000
                await answer.read()
            return found

        (samples,) = await _in_turns(ROUNDS, first_byte)
        return _p95("clicks.first_byte_ms", samples)


async def _in_turns(rounds: int, *timed: Timed) -> list[list[float]]:
    """Samples of each, taken in turns after one that warms up."""
    for each in timed:
        await each()
    samples: list[list[float]] = [[] for _ in timed]
    for _ in range(rounds):
        for each, found in zip(timed, samples, strict=True):
            found.append(await each())
    return samples


def _p95(name: str, samples: Sequence[float], baseline: float | None = None) -> Figure:
    value = p95(samples)
    return Figure(
        name,
        value,
        "ms",
        baseline=baseline,
        ratio=value / baseline if baseline else None,
        rounds=len(samples),
        spread=(max(samples) - min(samples)) / value,
    )
