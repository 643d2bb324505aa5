"""A projection whose process dies whenever it applies one certain record.

python -m tests.faults.poison_process BOOTSTRAP GROUP TOPIC "DATABASE SCHEMA" NUMBER
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from shared import events
from shared.postgres import Connection, open_pool
from shared.projection import Item, PostgresSink
from tests.projection_parts import note_effects, projection, tracked_topic


async def main(bootstrap: str, group: str, topic: str, where: str, number: str) -> None:
    """Run the projection."""
    url, schema = where.split(" ")

    async def apply(connection: Connection, items: Sequence[Item[events.Click]]) -> None:
        if any(int(item.event.transaction_id, 16) == int(number) for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        await note_effects(connection, items)

    async with open_pool(url, schema=schema, application="child") as pool:
        sink = PostgresSink(pool, "test", apply)
        await projection(bootstrap, group, [tracked_topic(topic)], sink).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
