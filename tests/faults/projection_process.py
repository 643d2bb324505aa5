"""A projection in a process of its own, to be killed.

    python -m tests.faults.projection_process KIND BOOTSTRAP GROUP TOPIC WHERE

KIND is `postgres` (WHERE: database URL and schema, separated by a space) or `clickhouse` (WHERE:
folder and database). It runs until it is killed; `PORTICO_CRASH_AT` says where it kills itself.
"""

import asyncio
import sys
from pathlib import Path

from services.reporting.facts.tables import CLICKS, prepare
from shared.clickhouse import open_clickhouse
from shared.postgres import open_pool
from shared.projection import ClickHouseSink
from tests.projection_parts import postgres_sink, projection, tracked_topic


async def main(kind: str, bootstrap: str, group: str, topic: str, where: str) -> None:
    """Run the projection."""
    place, name = where.split(" ")
    topics = [tracked_topic(topic)]
    if kind == "postgres":
        async with open_pool(place, schema=name, application="child") as pool:
            await projection(bootstrap, group, topics, postgres_sink(pool)).run()
    else:
        async with open_clickhouse(path=Path(place), database=name) as clickhouse:
            await prepare(clickhouse)
            sink = ClickHouseSink(clickhouse, {topic: CLICKS})
            await projection(bootstrap, group, topics, sink).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
