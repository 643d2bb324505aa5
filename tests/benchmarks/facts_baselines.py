"""The same reports from plain Postgres with its best indexes, and from DuckDB over Parquet files.

Both answer the sums that a report has, over clicks and conversions, grouped and ordered alike, and
cut at 10,000 rows; neither speaks HTTP, makes JSON, guards against duplicates or knows how fresh it
is. Postgres has for each report an index that holds all it reads, so that no heap page is touched
after VACUUM, and may use two workers.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import duckdb

GROUPS: Final = {
    "date": ("ts - ts % 86400",),
    "offer": ("offer_id", "offer_name"),
    "country_device": ("country", "device"),
    "offer_sub1": ("offer_id", "offer_name", "sub1"),
    "unique_sub": ("sub3",),
}
"""Reports by name, with the expressions that they group by."""

_KEY: Final = "network_id, partner_id, ts"
INDEXES: Final = {
    "clicks_by_time": f"clicks ({_KEY}) INCLUDE (is_unique, error_code)",
    "clicks_by_offer": f"clicks ({_KEY}) INCLUDE (offer_id, offer_name, is_unique, error_code)",
    "clicks_by_place": f"clicks ({_KEY}) INCLUDE (country, device, is_unique, error_code)",
    "clicks_by_sub1": f"clicks ({_KEY}) INCLUDE (offer_id, offer_name, sub1, is_unique, error_code)",
    "clicks_by_sub3": f"clicks ({_KEY}) INCLUDE (sub3, is_unique, error_code)",
    "conversions_by_time": f"conversions ({_KEY})",
}
"""What Postgres is given; one covering index for each report."""
_COLUMNS: Final = {
    "clicks": "network_id int, partner_id int, ts int, offer_id int, offer_name text, country text,"
    " device text, sub1 text, sub3 text, is_unique int2, error_code int4",
    "conversions": "network_id int, partner_id int, ts int, offer_id int, offer_name text,"
    " country text, device text, sub1 text, sub3 text, status text, revenue numeric(18,6)",
}
_SETTINGS: Final = {
    "max_parallel_workers_per_gather": "2",
    "work_mem": "'256MB'",
    "maintenance_work_mem": "'512MB'",
    "effective_cache_size": "'8GB'",
    "random_page_cost": "1.1",
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose report, of which seconds, both ends included."""

    network: int
    partner: int
    since: int
    until: int


def report_sql(
    name: str, asked: Asked, clicks: str = "clicks", conversions: str = "conversions"
) -> str:
    """A report in words that both databases understand."""
    keys = [f"k{i}" for i in range(len(GROUPS[name]))]
    named = ", ".join(f"{each} AS {key}" for each, key in zip(GROUPS[name], keys, strict=True))
    group = ", ".join(keys)
    whose = (
        f"network_id = {asked.network} AND partner_id = {asked.partner}"
        f" AND ts BETWEEN {asked.since} AND {asked.until}"
    )
    return f"""
SELECT {group}, sum(u) u, sum(d) d, sum(i) i, sum(cv) cv, sum(revenue) revenue FROM (
    SELECT {named}, count(*) FILTER (WHERE error_code = 0 AND is_unique = 1) u,
        count(*) FILTER (WHERE error_code = 0 AND is_unique = 0) d,
        count(*) FILTER (WHERE error_code <> 0) i, 0 cv, 0::numeric(18, 6) revenue
    FROM {clicks} WHERE {whose} GROUP BY {group}
    UNION ALL
    SELECT {named}, 0, 0, 0, count(*), sum(revenue)
    FROM {conversions} WHERE {whose} AND status = 'approved' GROUP BY {group}
) facts GROUP BY {group} ORDER BY sum(u) + sum(d) DESC, sum(revenue) DESC, {group} LIMIT 10001"""


class Duck:
    """DuckDB over the Parquet files of `folder`, with two threads."""

    def __init__(self, folder: Path) -> None:
        self._database = duckdb.connect(config={"threads": 2})
        self._files = [f"read_parquet('{folder / name}.parquet')" for name in _COLUMNS]

    async def timed(self, name: str, asked: Asked) -> float:
        """Milliseconds until all rows are there."""
        return (await self.answered(name, asked))[0]

    async def answered(self, name: str, asked: Asked) -> tuple[float, Sequence[Any]]:
        """Milliseconds, and the rows."""
        sql = report_sql(name, asked, *self._files)
        began = time.perf_counter()
        rows = await asyncio.to_thread(lambda: self._database.execute(sql).fetchall())
        return (time.perf_counter() - began) * 1_000, rows

    def csv(self, table: str, target: Path) -> None:
        """Write a table's rows for COPY."""
        source = self._files[list(_COLUMNS).index(table)]
        self._database.execute(f"COPY (FROM {source}) TO '{target}' (HEADER false)")

    def close(self) -> None:
        """Let go of the files."""
        self._database.close()


class Postgres:
    """A plain Postgres with the indexes of `INDEXES`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def filled(cls, url: str, duck: Duck, folder: Path) -> "Postgres":
        """Connect, copy the rows in, build the indexes, vacuum."""
        connection = await asyncpg.connect(url)
        for name, value in _SETTINGS.items():
            await connection.execute(f"SET {name} = {value}")
        for table, columns in _COLUMNS.items():
            await connection.execute(f"DROP TABLE IF EXISTS {table}")
            await connection.execute(f"CREATE UNLOGGED TABLE {table} ({columns})")
            rows = folder / f"{table}.csv"
            await asyncio.to_thread(duck.csv, table, rows)
            await connection.copy_to_table(table, source=rows, format="csv", timeout=900)
            rows.unlink()
        for name, index in INDEXES.items():
            await connection.execute(f"CREATE INDEX {name} ON {index}", timeout=900)
        await connection.execute("VACUUM ANALYZE clicks", timeout=900)
        await connection.execute("VACUUM ANALYZE conversions", timeout=900)
        return cls(connection)

    async def answered(self, name: str, asked: Asked) -> tuple[float, Sequence[Any]]:
        """Milliseconds, and the rows."""
        began = time.perf_counter()
        rows = await self._connection.fetch(report_sql(name, asked), timeout=300)
        return (time.perf_counter() - began) * 1_000, rows

    async def timed(self, name: str, asked: Asked) -> float:
        """Milliseconds until all rows are there."""
        return (await self.answered(name, asked))[0]

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.close()
